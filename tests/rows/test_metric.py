import numpy as np
import pytest
from made import Made, declared

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
