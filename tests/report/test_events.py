"""TensorBoard's event files, read back with its EventAccumulator."""

import io
import json

import numpy as np
import pytest
from made import Made, around, declared
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from common.report import tensorboard
from common.rows import schema, store
from common.rows.table import Table

ARMS = {
    "a": {"l2": 0.0, "norm": None, "sizes": [3], "never": None},
    "次/b": {"l2": 0.1, "norm": 2, "sizes": "none", "never": None},
}


def rows(folder, number="90", arms=ARMS, **columns):
    """Rows of an experiment of two seeds per arm, the last of which diverged."""
    made = Made(folder)
    made.files = schema.Files(folder / "mnist", f"exp_{number}_made")
    for arm, arguments in arms.items():
        statuses = {1: "diverged"} if arm == "次/b" else {}
        made.add(arm, around(0.9, 2), arguments=arguments, statuses=statuses, total_seconds=[10.0, 20.0], **columns)
    store.write_declaration(made.files, declared(arms=made.arms, baseline="a"))
    return made.files


def accumulated(folder):
    return EventAccumulator(str(folder)).Reload()


def content(accumulator, tag):
    return accumulator.summary_metadata[tag].plugin_data.content


def test_a_trial_is_a_run_with_its_epochs_numbers_and_hyperparameters(tmp_path):
    files = rows(tmp_path, finished=["2026-11-27T12:00:00+00:00"] * 2)
    assert tensorboard.write_runs(Table.read(files)) == (4, 4)
    root = files.folder / "tensorboard" / "exp_90_made"
    assert sorted(f"{path.parent.relative_to(root)}" for path in root.rglob("events.*")) == ["a/0", "a/1", "次_b/0", "次_b/1"]
    run = accumulated(root / "a" / "0")
    assert [(event.step, event.value) for event in run.Scalars("accuracy/val")] == [
        (epoch, pytest.approx(0.77 + 0.03 * epoch)) for epoch in range(1, 6)
    ]
    (last,) = run.Scalars("trial/test_accuracy")
    assert (last.step, last.value, last.wall_time) == (5, pytest.approx(0.9), 1795780800.0)
    assert "loss/train" in run.scalars.Keys() and "epoch" not in run.scalars.Keys()
    start = metadata.parse_session_start_info_plugin_data(content(run, metadata.SESSION_START_INFO_TAG))
    assert (start.group_name, start.start_time_secs) == ("exp_90_made/a, mnist", 1795780790.0)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values == {
        **{"experiment": "exp_90_made", "folder": "mnist", "arm": "a", "dataset": "mnist"},
        **{"l2": 0.0, "norm": "none", "sizes": "[3]"},
    }
    end = metadata.parse_session_end_info_plugin_data(content(accumulated(root / "次_b" / "1"), metadata.SESSION_END_INFO_TAG))
    assert end.status == 2  # failure
    ended = metadata.parse_session_end_info_plugin_data(content(run, metadata.SESSION_END_INFO_TAG))
    assert ended.status == 1  # success


def test_measures_and_images_are_shown_and_stages_beside_the_predictors_are_named(tmp_path):
    files = schema.Files(tmp_path / "mnist", "exp_90_made")
    identity = {"experiment": files.experiment, "arm": "a", "seed": 0}
    row = {**identity, "status": "done", "stage": "fit", "test_accuracy": 0.5, "data_checksum": "c" * 64, "final_epoch": 1}
    epochs = [
        {**identity, "stage": stage, "epoch": e + 1, "train_loss": loss - e, "seconds": 2.0}
        for stage, loss in (("pretrain", 9.0), ("fit", 5.0))
        for e in range(2)
    ]
    measures = [{**identity, "name": "size", "value": 7, "unit": "kB"}, {**identity, "name": "count", "value": 3}]
    images = np.arange(3 * 14 * 14 * 3).reshape(3, 14, 14, 3).astype(np.uint8)
    store.store(files, store.Outcome(row=row, epochs=epochs, measures=measures, samples=images), ["a"])
    store.write_declaration(files, declared(arms={"a": {}}))
    tensorboard.write_runs(Table.read(files))
    run = accumulated(files.folder / "tensorboard" / "exp_90_made" / "a" / "0")
    assert [event.value for event in run.Scalars("loss/train")] == [5.0, 4.0]
    assert [event.value for event in run.Scalars("loss/train (pretrain)")] == [9.0, 8.0]
    assert [event.wall_time for event in run.Scalars("loss/train")] == [6.0, 8.0]
    assert (run.Scalars("measures/size (kB)")[0].value, run.Scalars("measures/count")[0].value) == (7.0, 3.0)
    (tag,) = run.images.Keys()
    shown = np.asarray(Image.open(io.BytesIO(run.Images(tag)[0].encoded_image_string)))
    assert shown.shape == (14, 3 * 15, 3)
    assert np.array_equal(shown[:, 15:29], images[1])


def test_only_what_has_changed_is_written_and_what_has_no_row_is_deleted(tmp_path):
    files = rows(tmp_path)
    tensorboard.write_runs(Table.read(files))
    root = files.folder / "tensorboard" / "exp_90_made"
    (root / "a" / "0" / "notes.txt").write_text("the user's")
    before = {path: path.read_bytes() for path in root.rglob("events.*")}
    table = Table.read(files)
    assert tensorboard.write_runs(table) == (4, 0)
    next(iter(before)).write_bytes(b"")  # as after a power failure
    assert tensorboard.write_runs(table) == (4, 1)
    table.by_trial["a", 1]["test_accuracy"] = 0.1
    del table.by_trial["次/b", 1], table.by_trial["次/b", 0], table.by_trial["a", 0]
    assert tensorboard.write_runs(table) == (1, 1)
    after = {path: path.read_bytes() for path in root.rglob("events.*")}
    ((path, _),) = after.items()
    assert path.parent == root / "a" / "1" and path not in before
    assert accumulated(path.parent).Scalars("trial/test_accuracy")[0].value == pytest.approx(0.1)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()) == ["a", "a/0", "a/1"]
    assert tensorboard.write_runs(Table.read(files)) == (4, 4)
    assert {path: path.read_bytes() for path in root.rglob("events.*")} == before


def columns(results, tables):
    """Column -> whether it differs, and the metrics, of the view of some experiments; and its folder."""
    view = tensorboard.write_view(results, "some", tables)
    experiment = metadata.parse_experiment_plugin_data(content(accumulated(view), metadata.EXPERIMENT_TAG))
    return {info.name: info for info in experiment.hparam_infos}, [info.display_name for info in experiment.metric_infos], view


def test_a_view_of_one_experiment_has_its_arguments_as_columns_and_of_several_what_all_have(tmp_path):
    one, other = (Table.read(rows(tmp_path, number)) for number in ("90", "91"))
    third = Table.read(rows(tmp_path, "92", {"c": {"l2": 0.5, "depth": 3}}))
    for table in (one, other, third):
        tensorboard.write_runs(table)
    infos, metrics, view = columns(tmp_path, [one])
    assert list(infos) == ["arm", "l2", "norm", "sizes"]
    assert (list(infos["l2"].domain_discrete), infos["l2"].differs, infos["l2"].type) == ([0.0, 0.1], True, 3)
    assert list(infos["sizes"].domain_discrete) == ["[3]", "none"]
    assert list(infos["norm"].domain_discrete) == ["2", "none"]
    assert metrics[:3] == ["test accuracy", "validation accuracy", "training accuracy"]
    assert (view / "exp_90_made" / "a" / "0").is_dir()
    infos, _, view = columns(tmp_path, [one, third])
    assert list(infos) == ["experiment", "arm", "l2"]
    assert sorted(path.name for path in view.iterdir() if path.is_dir()) == ["exp_90_made", "exp_92_made"]
    assert (one.files.folder / "tensorboard" / "exp_91_made" / "a" / "0").is_dir()  # links are replaced, runs are kept


def test_a_view_of_several_settings_has_their_folders_in_the_names_of_runs(tmp_path):
    one = Table.read(rows(tmp_path))
    copied = one.files._replace(folder=tmp_path / "other")
    copied.folder.mkdir()
    for path in one.files.folder.iterdir():
        (copied.folder / path.name).write_bytes(path.read_bytes())
    tables = [one, Table.read(copied)]
    for table in tables:
        tensorboard.write_runs(table)
    infos, _, view = columns(tmp_path, tables)
    assert "folder" in infos
    assert (view / "other" / "exp_90_made" / "a" / "1").is_dir() and (view / "mnist" / "exp_90_made" / "a" / "1").is_dir()


@pytest.mark.parametrize(("entry", "name"), [("..", "__"), (".", "_"), ("a/b", "a_b"), ("l2=1e-4", "l2=1e-4"), ("次", "次")])
def test_an_arm_is_a_folder_below_its_experiment(entry, name):
    assert tensorboard.folder_name(entry) == name


def test_rows_of_early_versions_without_arguments_are_written(tmp_path):
    files = schema.Files(tmp_path / "mnist", "exp_90_made")
    row = {"experiment": files.experiment, "arm": "a", "seed": 0, "status": "done", "test_accuracy": 0.5}
    store.store(files, store.Outcome(row=row), ["a"])
    store.write_declaration(files, declared(arms={"a": {}}))
    table = Table.read(files)
    assert tensorboard.write_runs(table) == (1, 1)
    infos, metrics, _ = columns(tmp_path, [table])
    assert (list(infos), metrics) == (["arm"], ["test accuracy"])
    assert json.dumps(list(tensorboard.hparams(table)["a"])) == '["experiment", "folder", "arm"]'
