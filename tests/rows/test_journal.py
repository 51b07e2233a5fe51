"""The journal: whatever is killed, cut, full or shared, folding it gives the files of a plain merge of each outcome in turn."""

import csv
import io
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from conftest import PROJECT
from made import claim, declared

from common import files as atomic
from common.errors import Failure
from common.files import archive_bytes, read_arrays
from common.rows import journal, live, reading, schema, store
from common.rows.outcome import Outcome

ORDER = ["baseline", "b", "a, with a comma"]
POINT = '{"l2": 0.1}'


@pytest.fixture
def files(tmp_path):
    return schema.Files(tmp_path / "digits", "exp_90_x")


def outcome(arm="baseline", seed=0, *, rate="own", point="", status="done", epochs=2, measures=1, arrays=True, score=0.1):
    identity = {"experiment": "exp_90_x", "arm": arm, "rate": rate, "point": point, "seed": seed}
    generator = np.random.default_rng(seed)
    return Outcome(
        row={
            **identity,
            "status": status,
            "fingerprint": f"{arm}{seed}",
            "test_accuracy": score,
            "reason": 'a "quote", a line\nbreak',
        },
        epochs=[{**identity, "stage": "fit", "epoch": e + 1, "train_loss": score / (e + 1)} for e in range(epochs)],
        measures=[{**identity, "name": f"norm {i}", "value": score * i, "unit": None} for i in range(measures)],
        predicted=generator.integers(0, 10, 50).astype(np.uint8) if arrays else None,
        logits=np.full((2, 3), score, np.float32) if arrays else None,
        samples=np.full((1, 2, 2, 1), round(score * 255), np.uint8) if arrays and seed == 0 else None,
    )


def drawn(draws):
    """A random outcome of one of 24 trials."""
    rate, point = draws.choice([("own", ""), ("common", ""), ("own", POINT)])
    return outcome(
        draws.choice([*ORDER, "gone"]),
        draws.randrange(2),
        rate=rate,
        point=point,
        status=draws.choice(schema.STATUSES),
        epochs=draws.randrange(3),
        measures=draws.randrange(2),
        arrays=draws.random() < 0.7,
        score=draws.random(),
    )


def plain(outcomes):
    """The content of the five files after merging outcomes one by one; without those that would not be written."""

    def place(row):
        arm = row["arm"]
        return int(row["seed"]), row["rate"] != "own", ORDER.index(arm) if arm in ORDER else len(ORDER), arm, row["point"]

    def trial(row):
        return row["arm"], row["rate"], row["point"], int(row["seed"])

    tables, archives = {"epochs": [], "measures": [], "rows": []}, {"predictions": {}, "samples": {}}
    touched = set()
    for one in outcomes:
        for part, new in (("epochs", one.epochs), ("measures", one.measures), ("rows", [one.row])):
            others = [row for row in tables[part] if trial(row) != trial(one.row)]
            if new or len(others) < len(tables[part]):
                touched.add(part)
            tables[part] = sorted([*others, *new], key=place)
        entry, seed = schema.entry_of(one.row), one.row["seed"]
        for part, key, array in (("predictions", f"{entry}/{seed}", one.predicted), ("samples", entry, one.samples)):
            if part == "predictions" or seed == 0:
                if archives[part].pop(key, None) is not None or array is not None:
                    touched.add(part)
                archives[part] |= {} if array is None else {key: array}
    content = {part: archive_bytes(arrays) for part, arrays in archives.items() if part in touched}
    for part in touched & set(tables):
        text = io.StringIO()
        writer = csv.DictWriter(text, schema.TABLES[part], lineterminator="\n")
        writer.writeheader()
        writer.writerows(tables[part])
        content[part] = text.getvalue().encode()
    return content


def written(files):
    """The content of the five files; without those that do not exist."""
    paths = {part: getattr(files, part) for part in ("rows", "epochs", "measures", "predictions", "samples")}
    return {part: path.read_bytes() for part, path in paths.items() if path.exists()}


def read_all(files):
    """What the functions that read rows return."""
    frames = [store.read_frame(files), store.read_epochs(files), store.read_measures(files)]
    arrays = [store.read_predictions(files), store.read_samples(files)]
    return (
        store.read_rows(files),
        [frame.to_csv() for frame in frames],
        [{key: array.tolist() for key, array in sorted(one.items())} for one in arrays],
    )


@pytest.mark.parametrize("seed", range(12))
def test_folding_gives_the_bytes_of_merging_one_by_one(files, seed):
    draws = random.Random(seed)
    outcomes = [drawn(draws) for _ in range(40)]
    for one in outcomes:
        store.store(files, one, ORDER)
        if draws.random() < 0.15:
            store.fold(files)
    store.fold(files)
    expected = plain(outcomes)
    folded = written(files)
    assert folded["rows"] == expected["rows"]
    assert {part: folded.get(part) for part in expected} == expected
    # An archive whose arrays came and went between two foldings is not written at all.
    assert all(part in ("measures", "predictions", "samples") for part in set(folded) ^ set(expected))
    assert not files.journal.exists()


def test_an_outcome_is_one_write_and_no_file_is_rewritten(files, monkeypatch):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    before, writes = written(files), []
    monkeypatch.setattr(journal, "_write", lambda file, *parts: writes.append(file.write(b"".join(parts))))
    for seed in (1, 2):
        store.store(files, outcome(seed=seed), ORDER)
    assert len(writes) == 2
    assert written(files) == before
    assert [row["seed"] for row in store.read_rows(files)] == ["0", "1", "2"]


def test_an_unknown_column_is_refused_before_anything_is_written(files):
    with pytest.raises(ValueError, match="unknown columns \\['acc'\\]"):
        store.store(files, Outcome({**outcome().row, "acc": 1}), ORDER)
    assert not files.folder.exists()


# --- damage ---


def journal_of(files, count=3):
    """A journal of some outcomes. Returns its content, and the position after each entry."""
    ends = []
    for seed in range(count):
        store.store(files, outcome(seed=seed), ORDER)
        ends.append(files.journal.stat().st_size)
    return files.journal.read_bytes(), ends


def test_a_cut_at_any_byte_loses_the_incomplete_entries_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed
    path, entries, ends = tmp_path / "journal", [b"a" * 300, b"", bytes(range(256))], []
    for entry in entries:
        journal.append(path, entry)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        complete = entries[: sum(end <= cut for end in ends)]
        assert journal.read(path).entries == complete
        journal.append(path, b"next")
        assert journal.read(path).entries == [*complete, b"next"]


@pytest.mark.parametrize("content", [b"\0" * 500, b"\xff" * 3, os.urandom(300)], ids=["zeros", "short", "noise"])
def test_what_a_power_failure_leaves_of_the_last_entry_does_not_count(files, content):
    whole, _ = journal_of(files)
    entries = journal.read(files.journal).entries
    files.journal.write_bytes(whole + content)
    assert journal.read(files.journal).entries == entries
    store.store(files, outcome("b"), ORDER)
    assert [(row["arm"], row["seed"]) for row in store.read_rows(files)] == [("baseline", "0"), ("b", "0")] + [
        ("baseline", seed) for seed in "12"
    ]


def test_a_changed_bit_is_noticed_wherever_it_is(files):
    whole, ends = journal_of(files)
    entries = journal.read(files.journal).entries
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        files.journal.write_bytes(changed)
        if position < journal.TOKEN_BYTES:  # it only tells journals apart
            assert journal.read(files.journal).entries == entries
        elif position >= ends[-2]:
            assert journal.read(files.journal).entries == entries[:-1]
        else:
            with pytest.raises(Failure, match=r"exp_90_x.journal is damaged at byte \d+: move it away and run again") as caught:
                store.read_rows(files)
            assert "\n" not in str(caught.value)
    assert written(files) == {}


def test_a_journal_that_is_read_as_its_first_entry_is_written_is_empty(files):
    """The file exists before its first entry does; the entry is written between two reads of the same call."""
    whole, _ = journal_of(files)
    files.journal.write_bytes(b"")

    class File(io.FileIO):
        def read(self, *size):
            content = super().read(*size)
            files.journal.write_bytes(whole)
            return content

    class Path(type(files.journal)):
        def open(self, *_):
            return File(self)

    assert journal.read(Path(files.journal)) == journal.NONE


def test_a_journal_of_another_version_is_refused(files):
    journal_of(files)
    with atomic.locked(files.folder):
        journal.append(files.journal, b'["baseline"]\n{"row": {}}')
    with pytest.raises(Failure, match=r"cannot read .*exp_90_x.journal \(ValueError: .*\). Move the file away and run again"):
        store.fold(files)


# --- kills ---

WRITES = """
import pathlib, random, sys
from common.rows import schema, store
from test_journal import ORDER, outcome
files, draws = schema.Files(pathlib.Path(sys.argv[1]), "exp_90_x"), random.Random(int(sys.argv[2]))
print("begins", flush=True)
for seed in range(int(sys.argv[2]), 10**9):
    store.store(files, outcome("b", seed), ORDER)
    print(seed, flush=True)
    if draws.random() < 0.3:
        store.fold(files)
"""


def child(code, *arguments, **options):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "tests/rows")]),
    }
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment, **options)


def test_kills_at_random_instants_lose_no_row(files):
    draws, first, stored = random.Random(0), 0, set()
    for _ in range(6):
        process = child(WRITES, files.folder, first)
        process.stdout.readline()
        time.sleep(draws.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        stored |= set(map(int, process.communicate()[0].split()))
        first = max(stored, default=0) + 2  # the trial that was being stored may be there too
        there = {int(row["seed"]) for row in store.read_rows(files)}
        assert stored <= there
        assert len(there - stored) <= 1
        stored = there
    assert len(stored) > 10
    store.fold(files)
    assert written(files) == plain([outcome("b", seed) for seed in sorted(stored)])
    assert {path.suffix for path in files.folder.iterdir() if path.is_file()} <= {".csv", ".npz", "", ".tmp"}


class Killed(BaseException):
    """Stands for a kill."""


def killed_at(step, steps, call):
    """A function in place of another one that raises `Killed` at a step; it appends to the steps."""

    def counted(*arguments, **options):
        steps.append(call)
        if len(steps) == step:
            raise Killed
        return call(*arguments, **options)

    return counted


def test_folding_that_is_killed_at_any_step_starts_again(files, monkeypatch):
    outcomes = [outcome(seed=0), outcome("b", 0), outcome(seed=0, epochs=1, measures=0, score=0.2), outcome(seed=1, arrays=False)]
    earlier = [outcome(seed=1), outcome("b", 1)]
    for step in range(20):
        shutil.rmtree(files.folder, ignore_errors=True)
        for one in earlier:
            store.store(files, one, ORDER)
        store.fold(files)
        for one in outcomes:
            store.store(files, one, ORDER)
        steps = []
        with monkeypatch.context() as patch:
            for name in ("replace", "fsync", "unlink"):
                patch.setattr(os, name, killed_at(step, steps, getattr(os, name)))
            try:
                store.fold(files)
            except Killed:
                seen = {(row["arm"], row["seed"]) for row in live.LiveRows(files).all()}
                assert seen == {(one.row["arm"], str(one.row["seed"])) for one in [*earlier, *outcomes]}
        store.fold(files)
        assert written(files) == plain([*earlier, *outcomes])
        if step and len(steps) < step:
            return
    pytest.fail("folding has more steps than were tried")


# --- several processes ---


def _store_many(folder, arm, count):
    files = schema.Files(folder, "exp_90_x")
    for seed in range(count):
        store.store(files, outcome(arm, seed), ORDER)
        if seed % 7 == 0:
            store.fold(files)


def test_two_writers_and_a_reader_lose_no_row(files):
    context, count = multiprocessing.get_context("spawn"), 20
    writers = [context.Process(target=_store_many, args=(files.folder, arm, count)) for arm in ORDER[:2]]
    for writer in writers:
        writer.start()
    rows, before = live.LiveRows(files), set()
    while any(writer.is_alive() for writer in writers):
        seen = {(row["arm"], row["seed"]) for row in rows.all()}
        assert before <= seen
        before = seen | {(row["arm"], row["seed"]) for row in store.read_rows(files)}
        assert set(store.read_predictions(files)) >= {f"{arm}/{seed}" for arm, seed in before}
        time.sleep(0.1)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert rows.all() == store.read_rows(files)
    assert written(files) == plain([outcome(arm, seed) for arm in ORDER[:2] for seed in range(count)])


def test_experiments_in_one_folder_have_a_journal_each(files):
    other = files._replace(experiment="exp_91_y")
    store.store(files, outcome(), ORDER)
    store.store(other, outcome("b"), ORDER)
    store.fold(files)
    assert (files.journal.exists(), other.journal.exists()) == (False, True)
    assert [row["arm"] for row in store.read_rows(other)] == ["b"]


# --- a folder that is full or read-only ---


@pytest.fixture
def full(monkeypatch):
    """f(bytes) that limits the size of files, as a stand-in for a full disk; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_loses_no_row(files, full):
    whole, _ = journal_of(files)
    full(len(whole) + 1000)
    for _ in range(2):
        with pytest.raises(Failure, match=r"cannot write .*exp_90_x.journal \(File too large\): correct this and run again"):
            store.store(files, outcome(seed=3), ORDER)
    assert files.journal.read_bytes() == whole
    full(500)  # also too little for folding
    with pytest.raises(Failure, match=r"cannot write .* \(File too large\): correct this"):
        store.fold(files)
    assert [row["seed"] for row in store.read_rows(files)] == ["0", "1", "2"]
    full(-1)
    store.store(files, outcome(seed=3), ORDER)
    store.fold(files)
    assert written(files) == plain([outcome(seed=seed) for seed in range(4)])


READS = """
import json, os, pathlib, sys
from common.rows import schema
from test_journal import read_all
read_only, other = (schema.Files(pathlib.Path(folder), "exp_90_x") for folder in sys.argv[1:])
read_all(other)  # for its imports
if os.geteuid() == 0:
    os.setuid(65534)  # file modes do not restrict root
print(json.dumps(read_all(read_only)))
"""


def test_a_read_only_folder_is_read_with_its_journal(files):
    for one in (outcome("b"), outcome("b", 1)):
        store.store(files, one, ORDER)
    store.fold(files)
    for one in (outcome(), outcome("b", epochs=0, measures=0, arrays=False), outcome(seed=1, point=POINT)):
        store.store(files, one, ORDER)
    with tempfile.TemporaryDirectory() as folder:  # outside of pytest's, which are closed to other users
        copy = files._replace(folder=pathlib.Path(folder) / "copy")
        shutil.copytree(files.folder, copy.folder)
        for path in [copy.folder.parent, copy.folder, *copy.folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
        read = json.loads(child(READS, copy.folder, files.folder).communicate()[0])
        assert {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()} == before
        for path in [copy.folder.parent, copy.folder, *copy.folder.rglob("*")]:
            path.chmod(0o755)
    assert read == json.loads(json.dumps(read_all(files)))
    assert not files.journal.exists()


def test_rows_are_read_again_if_the_journal_is_folded_meanwhile(files, monkeypatch):
    store.store(files, outcome(score=0.1), ORDER)
    monkeypatch.setattr(store, "up_to_date", lambda _: None)  # as in a read-only folder
    read, calls = journal.read, []

    def read_then_fold(path):
        found = read(path)
        calls.append(path)
        if len(calls) == 1:  # another process
            store.store(files, outcome(score=0.2), ORDER)
            store.fold(files)
        return found

    monkeypatch.setattr(store.journal, "read", read_then_fold)
    assert [row["test_accuracy"] for row in store.read_rows(files)] == ["0.2"]


def test_reading_a_folder_without_a_journal_writes_nothing(files):
    store.store(files, outcome(), ORDER)
    store.fold(files)
    (files.folder / ".lock").unlink()
    before = sorted((path, path.stat().st_mtime_ns) for path in files.folder.rglob("*"))
    read_all(files)
    live.LiveRows(files).all()
    assert sorted((path, path.stat().st_mtime_ns) for path in files.folder.rglob("*")) == before
    assert read_all(files._replace(folder=files.folder / "none"))[0] == []
    assert not (files.folder / "none").exists()


# --- rows that are read while they are written ---


def test_live_rows_equal_those_of_the_files_and_read_only_what_is_new(files, monkeypatch):
    draws, rows, entries, whole = random.Random(0), live.LiveRows(files), [], []
    read, read_trials = journal.read, reading.read_trials

    def counted(path, since=None):
        found = read(path, since=since)
        entries.append(len(found.entries))
        return found

    monkeypatch.setattr(live.journal, "read", counted)
    monkeypatch.setattr(live.reading, "read_trials", lambda *given: whole.append(given) or read_trials(*given))
    for _ in range(60):
        action = draws.choice(["store"] * 5 + ["fold", "supersede", "edit"])
        expected = 0
        if action == "store":
            store.store(files, drawn(draws), ORDER)
            expected = 1
        elif action == "fold":
            store.fold(files)
        elif action == "supersede" and rows.all():
            store.supersede(files, rows.all()[:1])
        elif action == "edit" and files.rows.exists():
            files.rows.write_text(files.rows.read_text().replace("done", "failed"))
        entries.clear()
        whole.clear()
        now = rows.all()
        if action == "store":
            assert (entries, whole) == ([expected], [])
        copy = files._replace(folder=files.folder.with_name("copy"))
        if files.folder.exists():
            shutil.copytree(files.folder, copy.folder)
        assert now == store.read_rows(copy)
        shutil.rmtree(copy.folder, ignore_errors=True)
        entries.clear()
        whole.clear()
        assert [rows.get(schema.identity(row)) for row in now] == now
        assert (set(entries) <= {0}, whole) == (True, [])


def test_live_rows_go_on_after_an_entry_that_was_cut_off_again(files):
    store.store(files, outcome(), ORDER)
    before = files.journal.read_bytes()
    store.store(files, outcome(seed=1), ORDER)
    rows = live.LiveRows(files)
    rows.all()
    files.journal.write_bytes(before)  # as by `append` after an error
    for seed in (2, 3):
        store.store(files, outcome(seed=seed, epochs=9), ORDER)
        assert str(seed) in {row["seed"] for row in rows.all()}


def test_files_lag_until_their_age_is_that_of_their_size(files):
    assert not store.lags(files)
    store.store(files, outcome(), ORDER)
    assert store.lags(files)  # so the first row is there at once
    store.fold(files)
    store.store(files, outcome(seed=1), ORDER)
    assert not store.lags(files)
    for path in files.folded:
        if path.exists():
            os.utime(path, (time.time() - 2 * store.LAG_SECONDS,) * 2)
    assert store.lags(files)
    files.epochs.write_bytes(b" " * round(2e6 * store.LAG_SECONDS / store.LAG_SECONDS_PER_MB))
    os.utime(files.epochs, (time.time() - 2 * store.LAG_SECONDS,) * 2)
    assert not store.lags(files)


def test_rows_in_the_journal_are_superseded_with_the_others(files):
    for arm in ("baseline", "b"):
        store.store(files, outcome(arm), ORDER)
    path = store.supersede(files, [row for row in live.LiveRows(files).all() if row["arm"] == "b"])
    assert [row["arm"] for row in reading.read_trials(path).rows] == ["b"]
    assert written(files) == plain([outcome()])
    assert not files.local("logits", "b", 0, ".npy").exists()
    assert files.local("logits", "baseline", 0, ".npy").exists()


def test_labels_are_written_beside_predictions_of_the_journal(files):
    store.store(files, outcome(), ORDER)
    for _ in range(2):
        store.write_labels(files, "labels/c", np.arange(3))
    assert files.journal.exists()
    assert set(store.read_predictions(files)) == {"baseline/0", "labels/c"}
    assert read_arrays(files.predictions)["labels/c"].dtype == np.uint8


def test_a_claim_changed_after_a_row_in_the_journal_is_marked(files):
    store.write_declaration(files, declared(claims=[claim()]))
    store.store(files, outcome(), ORDER)
    store.write_declaration(files, declared(claims=[claim(margin=0.03)]))
    assert store.read_declaration(files)["changed_claims"] == ["a-beats-b"]
