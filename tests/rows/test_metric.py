import numpy as np
import pytest
from made import Made, declared

from common.data.corruptions import SHIFTS
from common.metrics import macro_scores
from common.rows import schema, store
from common.rows.table import Table


def test_time_to_a_target_is_that_of_the_predictors_stage(tmp_path):
    made = Made(tmp_path)
    made.add("a", [0.9], stage=["fit"])
    identity = {"experiment": made.files.experiment, "arm": "a", "seed": 0}
    teacher = [{**identity, "stage": "teacher", "epoch": e, "val_accuracy": 0.99, "steps": 7 * e} for e in (1, 2)]
    student = [
        {**identity, "stage": "fit", "epoch": e, "val_accuracy": v, "steps": s}
        for e, v, s in [(1, 0.5, 4), (2, 0.8, 8), (3, 0.9, 9)]
    ]
    (row,) = store.read_rows(made.files)
    row |= {"steps": 23, "final_epoch": 5}

    def reached(stage, target, epochs):
        store.store(made.files, store.Outcome(row={**row, "stage": stage}, epochs=epochs), ["a"])
        store.write_declaration(made.files, declared(arms={"a": {}}))
        table = Table.read(made.files)
        return [table.metric(f"{name}_to_target").value(table, "a", 0, target) for name in ("epochs", "steps")]

    both = teacher + student
    assert reached("fit", 0.7, both) == [2, 8]
    assert reached("fit", 0.9, both) == [3, 9]  # a callback stopped in the third epoch
    assert reached("fit", 0.95, both) == [np.inf, np.inf]
    assert reached("teacher", 0.95, both) == [1, 7]
    assert reached("", 0.7, both) == [2, 8]  # a row without the column
    former = [{name: value for name, value in epoch.items() if name != "steps"} for epoch in both]
    assert reached("fit", 0.7, former) == [2, pytest.approx(2 * 23 / 5)]
    assert "stage" in schema.NAMES


def test_the_shifts_whose_outcomes_are_stored_are_those_that_there_are():
    assert tuple(f"{shift}_accuracy" for shift in (*SHIFTS, "shifted")) == schema.SHIFTED


def once(m):
    """The weights of m images, each once."""
    return np.ones((m, 1))


def test_metrics_of_test_images_on_the_images_as_they_are(tmp_path):
    made = Made(tmp_path)
    made.add("a", [0.7], train_accuracy=[0.95], test_f1=[0.0], test_precision=[0.0], test_recall=[0.0])
    store.write_declaration(made.files, declared(arms=made.arms))
    table = Table.read(made.files)
    precision, recall, f1 = macro_scores(table.predicted("a", 0).astype(int), table.labels("a", 0).astype(int), 10)
    for name, value in (("test_precision", precision), ("test_f1", f1)):
        assert table.metric(name).weighted(table, "a", 0, once) == pytest.approx([value], rel=1e-5)
    assert table.metric("test_recall").by_image(table, "a", 0).mean() == pytest.approx(recall)
    worst, gap = table.metric("worst_class_accuracy"), table.metric("gap")
    assert worst.weighted(table, "a", 0, once) == pytest.approx([worst.value(table, "a", 0, None)])
    assert gap.by_image(table, "a", 0).mean() == pytest.approx(0.95 - 0.7)


def test_the_error_of_an_estimate_on_the_images_as_they_are(tmp_path):
    made = Made(tmp_path)
    made.add("a", [0.7])
    (row,) = store.read_rows(made.files)
    identity = {"experiment": made.files.experiment, "arm": "a", "seed": 0}
    measures = [
        {**identity, "name": name, "value": value, "unit": ""}
        for name, value in (("estimate_bias", -0.1), ("estimate_error", 0.1))
    ]
    store.store(made.files, store.Outcome(row=row, measures=measures, predicted=store.read_predictions(made.files)["a/0"]), ["a"])
    store.write_declaration(made.files, declared(arms=made.arms))
    table = Table.read(made.files)
    assert table.metric("estimate_bias").by_image(table, "a", 0).mean() == pytest.approx(-0.1)
    assert table.metric("estimate_error").weighted(table, "a", 0, once) == pytest.approx([0.1])
