"""Writes, reads, merges and moves rows.

An experiment in a setting folder has the files `<name>.csv` (a row per trial), `<name>_epochs.csv`, `<name>_measures.csv`,
`<name>_predictions.npz`, `<name>_samples.npz` and `<name>.json` (its declaration). The outcome of a trial is appended to
`<name>.journal`. That is folded into these files from time to time during a run, at its end, and when they are next read: they
are replaced atomically, under a lock, the rows last, and then the journal is deleted. So a trial with a row is complete, a reader
sees either the old file or the new one, and folding that was killed starts again, with the same result.
"""

import contextlib
import io
import json
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from common.claims import DEFINING
from common.errors import Failure
from common.files import array_bytes, array_names, changed_archive, damaged, locked, read_arrays, sync_folder, write_atomic
from common.rows import journal, merging, reading
from common.rows.merging import Logged
from common.rows.outcome import Outcome, from_bytes, to_bytes
from common.rows.schema import HASHES, NAMES, OBJECTS, TABLES, TEXTS, Files, entry_of, identity

LAG_SECONDS, LAG_SECONDS_PER_MB = 2.0, 1.0
"""How long the files may lag behind the journal during a run: a constant, and per MB (10⁶ bytes) of files. Folding takes some 3 %
of it."""
SCORES = ("test_accuracy", "test_f1", "test_error")
"""Primary metrics of the tasks."""
DECLARED = {
    **{"question": str, "arms": dict, "claims": list, "protocol": int, "seeds": int},
    **{"setting_name": str, "demonstration": bool, "setting": dict},
}
"""Field of a declaration -> its type, for all versions."""
AS_TEXT = (*TEXTS, *HASHES, *OBJECTS)
"""Columns of a frame that are texts whatever they look like: an arm may be called "True", a hash consist of digits."""
Content = TypeVar("Content")


# --- outcomes --------------------------------------------------------------------------------------------------------


def store(files: Files, outcome: Outcome, order: list[str]) -> None:
    """Append a trial's outcome to the journal of its experiment, to be merged into the files in place of an earlier one.

    Args:
        order: the arms. Rows are sorted by seed and by arm in this order, so that files do not depend on the order of writing.
    """
    entry = json.dumps(order).encode() + b"\n" + to_bytes(merging.as_text(outcome))
    with locked(files.folder):
        logits = _logits(files, outcome.row)
        if outcome.logits is not None:
            write_atomic(logits, array_bytes(outcome.logits))
        else:
            logits.unlink(missing_ok=True)
        journal.append(files.journal, entry)


def _logits(files: Files, row: dict) -> pathlib.Path:
    return files.local("logits", entry_of(row), row["seed"], ".npy")


def outcomes_in(path: pathlib.Path, entries: Iterable[bytes]) -> list[Logged]:
    """The outcomes in entries of a journal. Raises `Failure` if another version of the project has written them."""
    outcomes = []
    for entry in entries:
        order, _, content = entry.partition(b"\n")
        try:
            outcomes.append(Logged(from_bytes(content), json.loads(order)))
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from error
    return outcomes


def fold(files: Files) -> None:
    """Merge the journal into the files, if there is one. Raises `Failure` if they are damaged or cannot be written."""
    if files.journal.exists():
        with locked(files.folder):
            _fold(files)


def _fold(files: Files) -> None:
    """Merge the journal into the files, under the folder's lock. Repeated after a kill, it gives the same files."""
    logged = outcomes_in(files.journal, journal.read(files.journal).entries)
    if logged:
        tables = {part: merging.merged_table(_rows_in(files, part), part, logged) for part in TABLES}
        _change(files.predictions, merging.predictions(logged))
        _change(files.samples, merging.samples(logged))
        for part, content in tables.items():
            if content is not None:
                write_atomic(files.table(part), content)
        sync_folder(files.folder)
    files.journal.unlink(missing_ok=True)


def lags(files: Files) -> bool:
    """Whether the files lag so far behind the journal that a run should fold it."""
    if not files.journal.exists():
        return False
    stats = [path.stat() for path in files.folded if path.exists()]
    megabytes = sum(stat.st_size for stat in stats) / 1e6
    last = max((stat.st_mtime for stat in stats), default=0.0)
    return time.time() - last > LAG_SECONDS + LAG_SECONDS_PER_MB * megabytes


def up_to_date(files: Files) -> None:
    """Fold the journal, unless the files cannot be written, such as in a read-only folder."""
    with contextlib.suppress(Failure):
        fold(files)


def _rows_in(files: Files, part: str) -> Iterable[dict[str, str]]:
    """The rows that the file of a table (a key of `TABLES`) has."""
    if part == "rows":
        return reading.read_trials(files.rows).rows
    return (line.row for line in reading.lines(files.table(part), TABLES[part]) if line.row is not None)


def _change(path: pathlib.Path, changes: dict[str, np.ndarray | None]) -> None:
    """Replace, add or (None) remove arrays of an archive."""
    write = changed_archive(path, changes)
    if write is not None:
        write_atomic(path, write)


def supersede(files: Files, stale: list[dict]) -> pathlib.Path:
    """Move the given rows, with their epochs and measures, to a new file in `superseded/`. Returns its path.

    Their predictions and samples are deleted.
    """
    with locked(files.folder):
        _fold(files)
        folder = files.folder / "superseded"
        number = 1
        while (folder / f"{files.experiment}.{number}.csv").exists():
            number += 1
        target, trials = Files(folder, f"{files.experiment}.{number}"), set(map(identity, stale))
        for part in TABLES:
            kept, moved = [], []
            for row in _rows_in(files, part):
                (moved if identity(row) in trials else kept).append(merging.to_line(row.values()))
            if moved:
                write_atomic(target.table(part), merging.table_bytes(part, moved))
                write_atomic(files.table(part), merging.table_bytes(part, kept))
        without_arrays = [Logged(Outcome(row), []) for row in stale]
        _change(files.predictions, merging.predictions(without_arrays))
        _change(files.samples, merging.samples(without_arrays))
        for row in stale:
            _logits(files, row).unlink(missing_ok=True)
    return target.rows


def write_labels(files: Files, key: str, labels: np.ndarray) -> None:
    """Write the test labels to the file of predictions, so that rows can be judged without the dataset.

    Args:
        key: see `common.rows.schema.labels_key`.
    """
    with locked(files.folder):
        if key not in array_names(files.predictions):
            whole = np.issubdtype(labels.dtype, np.integer)
            _change(files.predictions, {key: labels.astype(np.min_scalar_type(int(labels.max()))) if whole else labels})


# --- reading ---------------------------------------------------------------------------------------------------------


def read_rows(files: Files) -> list[dict[str, str]]:
    """The rows of an experiment in a setting folder as text, in the order of the file. Raises `Failure`."""
    return _read(files, "rows")[0].rows


def check_scores(files: Files) -> None:
    """Raises `Failure` for a row with the status done and without a score."""
    _check_scores(files, _read(files, "rows")[0])


def _check_scores(files: Files, read: reading.Read) -> None:
    for number, row in zip(read.lines, read.rows, strict=True):
        column = next((name for name in SCORES if row[name]), SCORES[0])
        if row["status"] == "done" and not row["point"] and row[column] in ("", *reading.NO_NUMBERS):
            where = f"{files.rows} line {number}, column {column}"
            raise Failure(f"{where}: a finished trial must have a score. {reading.REMEDY}. Received: {row[column]!r}")


def read_predictions(files: Files) -> dict[str, np.ndarray]:
    """The predictions of the trials by `entry/seed`, and test labels by `schema.labels_key`. Raises `Failure`."""
    return _read_arrays(files, files.predictions, merging.predictions)


def read_samples(files: Files) -> dict[str, np.ndarray]:
    """Augmented training images by entry. Raises `Failure`."""
    return _read_arrays(files, files.samples, merging.samples)


def _read_arrays(files: Files, path: pathlib.Path, changes: Callable[[Sequence[Logged]], dict]) -> dict[str, np.ndarray]:
    arrays = _merged(files, lambda logged: read_arrays(path) | changes(logged))
    return {key: array for key, array in arrays.items() if array is not None}


def read(folder: str | pathlib.Path):
    """All rows below a folder as a pandas frame, with the setting folder of each in the column `folder`."""
    import pandas as pd

    frames = []
    for path in sorted(pathlib.Path(folder).rglob("exp_*.json")):
        files = Files(path.parent, path.stem)
        frame = read_frame(files)
        if len(frame):
            frames.append(frame.assign(folder=path.parent.relative_to(pathlib.Path(folder).parent).as_posix()))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*NAMES, "folder"])


def read_frame(files: Files):
    """The rows of an experiment as a pandas frame. Raises `Failure`, also for a finished trial without a score."""
    rows, content = _read(files, "rows")
    _check_scores(files, rows)
    return _frame(files, "rows", rows, content)


def read_measures(files: Files):
    """The measures of an experiment as a pandas frame."""
    return _frame(files, "measures", *_read(files, "measures"))


def read_epochs(files: Files):
    """The rows of an experiment's epochs as a pandas frame."""
    return _frame(files, "epochs", *_read(files, "epochs"))


def _frame(files: Files, part: str, read: reading.Read, content: bytes | None):
    """A table that `_read` has read as a pandas frame, with pandas' types."""
    import pandas as pd

    if not read.rows:
        return pd.DataFrame(columns=TABLES[part])
    if read.edited:
        content = merging.table_bytes(part, (merging.to_line(row.values()) for row in read.rows))
    texts = [name for name in TABLES[part] if name in AS_TEXT]
    missing = {name: [""] if name in texts else ["", "nan"] for name in TABLES[part]}
    source = files.table(part) if content is None else io.BytesIO(content)
    frame = pd.read_csv(source, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=missing)
    for name, value in reading.DEFAULTS.items():
        frame[name] = frame[name].fillna(value) if name in frame else value
    return frame


def _read(files: Files, part: str) -> tuple[reading.Read, bytes | None]:
    """The rows of a table, and its content, or None if that is in the file."""

    def read(logged: Sequence[Logged]) -> tuple[reading.Read, bytes | None]:
        content = merging.merged_table(_rows_in(files, part), part, logged) if logged else None
        if part == "rows":
            return reading.read_trials(files.rows, content), content
        return reading.read(files.table(part), TABLES[part], content), content

    return _merged(files, read)


def _merged(files: Files, read: Callable[[Sequence[Logged]], Content]) -> Content:
    """The content of files, with the outcomes of the journal if it cannot be folded.

    Args:
        read: f(outcomes to merge) -> the content.
    """
    up_to_date(files)
    while True:
        before = files.stamp()
        content = read(outcomes_in(files.journal, journal.read(files.journal).entries))
        if files.stamp() == before:  # else another process has folded the journal, perhaps between reading it and the files
            return content


# --- declarations ----------------------------------------------------------------------------------------------------


def write_declaration(files: Files, declaration: dict) -> None:
    """Write a script's declaration. If rows exist, `changed_claims` lists the ids of claims that have changed since."""
    if files.declaration.exists() and (files.rows.exists() or files.journal.exists()):
        earlier = _parsed(files.declaration)
        if earlier and "setting_name" not in earlier:
            read_declaration(files)  # raises the error about an earlier version
        changed = [] if _damage(earlier) else _changed_claims(earlier, declaration)
        if changed:
            declaration = {**declaration, "changed_claims": changed}
    text = json.dumps(declaration, indent=1, ensure_ascii=False) + "\n"
    content = text.encode(errors="backslashreplace")  # of bytes of a path that are no characters, as JSON writes them
    if not files.declaration.exists() or files.declaration.read_bytes() != content:
        write_atomic(files.declaration, content)


def _parsed(path: pathlib.Path) -> dict:
    """The object in a JSON file; empty if the file holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _damage(declaration: dict) -> str:
    """The fields of `DECLARED` that a declaration lacks, as a predicate for an error; empty if it has all."""
    wrong = [name for name, kind in DECLARED.items() if not isinstance(declaration.get(name), kind)]
    return f"has no {', '.join(wrong)}" if declaration and wrong else "is empty or damaged" if wrong else ""


def _changed_claims(earlier: dict, declaration: dict) -> list[str]:
    """Ids of the claims that differ from the earlier declaration, or are marked as changed there.

    A claim differs if a field of `DEFINING` does, or whether it is about the dataset of its arms. It may also be easier to
    decide: the first one, if it was not the first before, and the others, which share a level, if a claim is no longer there.

    With another protocol there are none, since all rows will be written anew.
    """
    if earlier["protocol"] != declaration["protocol"]:
        return []
    claims, before = json.loads(json.dumps(declaration["claims"])), earlier["claims"]

    def defining(claim: dict) -> list:
        arm = claim["better"] if isinstance(claim["better"], str) else claim["better"][0]
        dataset = declaration.get("datasets", {}).get(arm, declaration["setting"]["dataset"])
        return [*(claim.get(name) for name in DEFINING), dataset in (claim.get("datasets") or [dataset])]

    known = {claim["id"]: defining(claim) for claim in before}
    ids, ids_before = [claim["id"] for claim in claims], [claim["id"] for claim in before]
    changed = {claim["id"] for claim in claims if known.get(claim["id"]) != defining(claim)}
    changed.update(earlier.get("changed_claims", ()))
    changed.update(ids[:1] if ids[:1] != ids_before[:1] else ())
    changed.update(() if set(ids_before) <= set(ids) else ids[1:])
    return [one for one in ids if one in changed]


def read_declaration(files: Files) -> dict:
    """The declaration of the script. Raises `Failure` if it is missing, damaged or of an earlier version."""
    try:
        declaration = _parsed(files.declaration)
    except OSError as error:
        raise Failure(f"cannot read {files.declaration} ({error}): run the experiment again to write it") from error
    if declaration and "setting_name" not in declaration:
        raise Failure(f"{files.declaration} was written by an earlier version: move the folder away and run again")
    if damage := _damage(declaration):
        raise Failure(f"{files.declaration} {damage}: run the experiment again to write it; finished trials are not repeated")
    return declaration


def setting_name(files: Files) -> str:
    """Name of the setting in an experiment's declaration; empty if the declaration cannot be read."""
    try:
        return read_declaration(files)["setting_name"]
    except Failure:
        return ""


# --- folders ---------------------------------------------------------------------------------------------------------


def setting_folders(results: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a results folder that hold a declaration, sorted."""
    return sorted({path.parent for path in pathlib.Path(results).glob("*/exp_*.json")})


def experiments(folder: pathlib.Path) -> list[Files]:
    """The experiments with a declaration in a setting folder, sorted."""
    return [Files(folder, path.stem) for path in sorted(folder.glob("exp_*.json"))]


def copies(results: pathlib.Path) -> dict[Files, Files]:
    """Copy -> original, for experiments in copied folders.

    A copy has no trials but those of its original, with the same fingerprints and end times. The original is the one with more
    trials; of equals the one whose folder has the shorter name. Files that cannot be read are ignored.
    """
    all_files = [files for folder in setting_folders(results) for files in experiments(folder)]
    counts = Counter(files.experiment for files in all_files)
    ended: dict[Files, set] = {}
    for files in (files for files in all_files if counts[files.experiment] > 1):  # others have no copies
        with contextlib.suppress(Failure):
            read_declaration(files)
            ended[files] = {(row["fingerprint"], row["finished"]) for row in read_rows(files) if row["finished"]}
    copy_of, originals = {}, []
    for files in sorted(ended, key=lambda files: (-len(ended[files]), len(files.folder.name), files.folder.name)):
        of = next((one for one in originals if one.experiment == files.experiment and ended[files] <= ended[one]), None)
        if of is not None and ended[files]:
            copy_of[files] = of
        else:
            originals.append(files)
    return copy_of
