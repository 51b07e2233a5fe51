import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest
from made import claim, declared

from common import files as atomic
from common.claims import DEFINING
from common.errors import Failure
from common.rows import schema, store
from common.rows.outcome import OUTCOME, load_outcome, save_outcome


def outcome(arm="baseline", seed=0, accuracy=0.5, predicted=(1, 2)):
    identity = {"experiment": "exp_90_x", "arm": arm, "seed": seed}
    return store.Outcome(
        row={**identity, "status": "done", "fingerprint": f"{arm}{seed}", "test_accuracy": accuracy},
        epochs=[{**identity, "stage": "fit", "epoch": 1, "train_loss": 0.25}],
        measures=[{**identity, "name": "norm", "value": 0.1, "unit": ""}],
        predicted=np.array(predicted, np.uint8),
        logits=np.zeros((2, 3), np.float32),
        samples=np.zeros((1, 2, 2, 1), np.uint8) if seed == 0 else None,
    )


@pytest.fixture
def files(tmp_path):
    return schema.Files(tmp_path / "digits", "exp_90_x")


ORDER = ["baseline", "b"]


def test_rows_are_sorted_by_seed_and_arm_whatever_the_order_of_storing(files, tmp_path):
    outcomes = [outcome("b", 1), outcome("baseline", 1), outcome("b", 0), outcome("baseline", 0)]
    for one in outcomes:
        store.store(files, one, ORDER)
    assert [(r["seed"], r["arm"]) for r in store.read_rows(files)] == [
        ("0", "baseline"),
        ("0", "b"),
        ("1", "baseline"),
        ("1", "b"),
    ]
    other = schema.Files(tmp_path / "other", "exp_90_x")
    for one in reversed(outcomes):
        store.store(other, one, ORDER)
    store.fold(other)
    for name in ("rows", "epochs", "measures", "predictions", "samples"):
        assert getattr(files, name).read_bytes() == getattr(other, name).read_bytes()


def test_a_new_outcome_replaces_the_old_one_in_all_files(files):
    store.store(files, outcome(accuracy=0.5), ORDER)
    store.store(files, outcome(accuracy=1 / 3, predicted=(0, 0)), ORDER)
    (row,) = store.read_rows(files)
    assert float(row["test_accuracy"]) == 1 / 3  # no digits are lost
    assert len(pd.read_csv(files.epochs)) == len(pd.read_csv(files.measures)) == 1
    assert atomic.read_arrays(files.predictions)["baseline/0"].tolist() == [0, 0]


def test_pandas_reads_every_file_without_arguments(files):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    for path, names in (
        (files.rows, schema.NAMES),
        (files.epochs, schema.EPOCH_NAMES),
        (files.measures, schema.MEASURE_NAMES),
    ):
        assert tuple(pd.read_csv(path).columns) == names
    store.write_declaration(files, declared())
    assert store.read(files.folder.parent)["test_accuracy"].tolist() == [0.5]


def test_a_path_that_is_no_text_is_kept_in_the_declaration(files):
    path = os.fsdecode(b"/photos/ph\xf6tos")
    store.write_declaration(files, declared(setting={"dataset": path}))
    assert store.read_declaration(files)["setting"]["dataset"] == path


def test_texts_that_look_like_numbers_or_truths_are_read_as_texts(files):
    for arm in ("True", "False"):
        one = outcome(arm, seed=1)
        one.row |= {"search": "557313953628", "weights": "0000123e45678901", "reason": "n/a"}
        store.store(files, one, ["True", "False"])
    frame = store.read_frame(files)
    assert frame["arm"].tolist() == ["True", "False"]
    assert set(frame["search"]) == {"557313953628"}
    assert set(frame["weights"]) == {"0000123e45678901"}
    assert set(frame["reason"]) == {"n/a"}
    assert frame["tuning"].isna().all()
    assert frame["test_nll"].isna().all()
    assert store.read_epochs(files)["arm"].tolist() == store.read_measures(files)["arm"].tolist() == ["True", "False"]


def test_columns_have_unique_names_and_known_kinds():
    assert {column.kind for column in schema.COLUMNS} == {"outcome", "setting", "measurement"}
    assert len(set(schema.NAMES)) == len(schema.NAMES)


def test_stale_rows_are_moved_with_their_epochs(files):
    store.store(files, outcome("baseline", 0), ORDER)
    store.store(files, outcome("b", 0), ORDER)
    stale = [row for row in store.read_rows(files) if row["arm"] == "b"]
    path = store.supersede(files, stale)
    assert path.parent.name == "superseded"
    assert [row["arm"] for row in store.read_rows(files)] == ["baseline"]
    assert pd.read_csv(path)["arm"].tolist() == ["b"]
    assert pd.read_csv(path.with_name("exp_90_x.1_epochs.csv"))["arm"].tolist() == ["b"]
    assert pd.read_csv(files.epochs)["arm"].tolist() == ["baseline"]
    assert list(atomic.read_arrays(files.predictions)) == ["baseline/0"]
    assert list(atomic.read_arrays(files.samples)) == ["baseline"]


def test_a_failed_outcome_deletes_earlier_predictions(files):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    store.store(files, store.Outcome(row={**outcome().row, "status": "failed"}), ORDER)
    store.fold(files)
    assert atomic.read_arrays(files.predictions) == atomic.read_arrays(files.samples) == {}
    assert not files.local("logits", "baseline", 0, ".npy").exists()


def test_numbers_of_test_images_are_stored_and_replaced_with_the_trial(files):
    one = outcome()
    one.of_images = {"test_nll": np.array([0.5, 2.0], np.float16)}
    store.store(files, one, ORDER)
    store.fold(files)
    key = schema.image_key("baseline", 0, "test_nll")
    assert store.read_predictions(files)[key].tolist() == [0.5, 2.0]
    store.store(files, outcome(), ORDER)
    store.fold(files)
    assert list(store.read_predictions(files)) == ["baseline/0"]


def test_columns_that_an_old_file_does_not_have_are_empty(files):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    frame = pd.read_csv(files.rows, dtype=str).drop(columns=["test_ece"])
    frame.to_csv(files.rows, index=False)
    assert store.read_rows(files)[0]["test_ece"] == ""
    store.store(files, outcome("b"), ORDER)
    store.fold(files)
    assert tuple(pd.read_csv(files.rows).columns) == schema.NAMES


def test_a_changed_byte_in_an_archive_is_a_failure_or_has_no_effect(files):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    whole, stored = files.predictions.read_bytes(), atomic.read_arrays(files.predictions)
    refused = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        files.predictions.write_bytes(damaged)
        try:
            arrays = atomic.read_arrays(files.predictions)
        except Failure:
            refused += 1
            continue
        for name in arrays:  # the byte has no effect, such as one of a time stamp
            assert np.array_equal(arrays[name], stored[name])
    assert refused > len(whole) / 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-40], r"line 2: \d+ fields instead of"),
        (lambda text: text[:-1], "line 2: the line is incomplete"),
        (lambda text: "\n", "line 1: the columns .* no experiment, arm, seed"),
        (lambda text: text.replace("test_accuracy", "acc"), "line 1: .*unknown 'acc'"),
        (lambda text: text.replace(",done,", ",fine,"), "line 2, column status: .* Received: 'fine'"),
        (lambda text: text.replace(",0,done", ",zero,done"), "line 2, column seed: .* Received: 'zero'"),
    ],
    ids=["cut", "newline", "empty", "other columns", "status", "seed"],
)
def test_a_damaged_file_of_rows_is_named_with_the_line(files, damage, message):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    whole = files.rows.read_text()
    before = damage(whole)
    files.rows.write_text(before)
    store.store(files, outcome("b"), ORDER)
    for access in (store.fold, store.read_rows):
        with pytest.raises(Failure, match=message) as caught:
            access(files)
        assert str(files.rows) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files.rows.read_text() == before  # the file is not changed
    files.rows.write_text(whole)
    assert [row["arm"] for row in store.read_rows(files)] == ORDER  # the trial stored meanwhile is not lost


def _store_many(folder, arm):
    files = schema.Files(folder, "exp_90_x")
    for seed in range(15):
        store.store(files, outcome(arm, seed), ORDER)


def test_two_processes_lose_no_row(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_store_many, args=(tmp_path, arm)) for arm in ORDER]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    files = schema.Files(tmp_path, "exp_90_x")
    assert len(store.read_rows(files)) == len(atomic.read_arrays(files.predictions)) == 30


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    atomic.write_atomic(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(Failure, match=r"cannot write .*rows.csv \(No space left on device\)"):
        atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_saved_outcome_is_loaded_and_a_damaged_one_is_none(tmp_path):
    one = outcome()
    save_outcome(tmp_path, one)
    back = load_outcome(tmp_path)
    assert (back.row, back.epochs, back.measures) == (one.row, one.epochs, one.measures)
    assert np.array_equal(back.predicted, one.predicted)
    path = tmp_path / OUTCOME
    path.write_bytes(path.read_bytes()[:-30])
    assert load_outcome(tmp_path) is None
    assert load_outcome(tmp_path / "none") is None


# --- claims that were changed after rows were written ---


@pytest.fixture
def declare(files):
    """f(*claims) that writes a declaration beside existing rows. Returns the ids of claims that are marked as changed."""
    store.store(files, outcome(), ORDER)

    def declare(*claims, **fields):
        store.write_declaration(files, declared(claims=claims, **fields))
        return store.read_declaration(files).get("changed_claims", [])

    declare(claim(), claim("b beats a"))
    return declare


def test_the_text_and_other_datasets_of_a_claim_may_change(declare):
    assert declare(claim("a does better than b", id="a-beats-b", datasets=["mnist"], tomorrow=1), claim("b beats a")) == []
    assert declare(claim(datasets=["mnist", "cifar10"]), claim("b beats a")) == []


def test_a_claim_that_comes_to_be_about_the_dataset_is_marked(declare):
    assert declare(claim(datasets=["cifar10"]), claim("b beats a")) == ["a-beats-b"]
    in_own = {"datasets": {"a": "cifar10", "b": "cifar10"}, "protocol": 4}
    assert declare(claim(datasets=["mnist"]), **in_own) == []
    assert declare(claim(datasets=["mnist", "cifar10"]), **in_own) == ["a-beats-b"]


def test_claims_that_are_judged_at_an_easier_level_are_marked(declare):
    first, *others = claim(), claim("b beats a"), claim("c beats a")
    assert declare(first, *others, claim("c beats b"), protocol=4) == []
    assert declare(first, *others[::-1], claim("c beats b"), protocol=4) == []
    assert declare(first, *others, protocol=4) == ["b-beats-a", "c-beats-a"]  # which share the level with one claim less
    assert declare(first, *others, claim("c beats b"), protocol=5) == []
    assert declare(others[0], first, others[1], claim("c beats b"), protocol=5) == ["b-beats-a"]
    assert declare(others[1], protocol=5) == ["c-beats-a"]


OTHERS = {
    **{"better": ["a", "c"], "worse": "c", "margin": 0.03, "kind": "same", "metric": "gap"},
    **{"lower_is_better": True, "within": 0.1, "target": 0.5},
}


@pytest.mark.parametrize("field", DEFINING)
def test_a_claim_whose_definition_changes_is_marked_and_stays_so(declare, field):
    assert declare(claim(**{field: OTHERS[field]}), claim("b beats a")) == ["a-beats-b"]
    assert declare(claim("in other words", id="a-beats-b"), claim("b beats a")) == ["a-beats-b"]
    assert declare(claim(), claim("b beats a"), claim("c beats a", margin=1)) == ["a-beats-b", "c-beats-a"]


def test_a_claim_with_a_new_id_is_marked(declare):
    assert declare(claim(), claim("b beats a", id="b-wins"), claim("c beats a")) == ["b-wins", "c-beats-a"]


def test_a_new_protocol_starts_without_marks(declare):
    assert declare(claim(margin=0.03), protocol=3) == ["a-beats-b"]
    assert declare(claim(margin=0.04), claim("c beats a"), protocol=4) == []
    assert declare(claim(margin=0.05), claim("c beats a"), protocol=4) == ["a-beats-b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (content, "is empty or damaged")
            for content in ("", '{"experiment": "exp_90_x", "cla', "{}", "[]", "null", "7", '"setting_name"')
        ),
        ('{"setting_name": "full", "claims": 7}', "has no question, arms, claims, protocol, seeds, demonstration, setting"),
    ],
)
def test_an_empty_or_damaged_declaration_is_written_again(declare, files, content, message):
    files.declaration.write_text(content)
    with pytest.raises(Failure, match=f"exp_90_x.json {message}: run the experiment again to write it; finished trials are not"):
        store.read_declaration(files)
    assert declare(claim()) == []
    assert store.read_declaration(files)["claims"] == [claim()]


def test_a_declaration_of_an_earlier_version_is_refused(declare, files):
    files.declaration.write_text('{"claims": []}')
    with pytest.raises(Failure, match="exp_90_x.json was written by an earlier version: move the folder away"):
        store.read_declaration(files)
