"""Writes, reads, merges and moves rows.

An experiment in a setting folder has the files `<name>.csv` (a row per trial), `<name>_epochs.csv`, `<name>_measures.csv`,
`<name>_predictions.npz`, `<name>_samples.npz` and `<name>.json` (its declaration). Files are replaced atomically, under a lock,
and the rows last. So a trial with a row is complete, and a reader sees either the old file or the new one.
"""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from common.claims import DEFINING
from common.errors import Failure
from common.files import archive_bytes, array_bytes, locked, read_arrays, write_atomic
from common.rows import reading
from common.rows.schema import EPOCH_NAMES, MEASURE_NAMES, NAMES, OWN, STATUSES, Files, entry_of
from common.text import did_you_mean

OUTCOME = "outcome.npz"
ARRAYS = ("predicted", "logits", "samples")
SCORES = ("test_accuracy", "test_f1", "test_error")
"""Primary metrics of the tasks."""
PLANNED = ("fingerprint", "arguments", "setting", "epochs")
"""Columns that must not be empty, as they identify a trial."""
DECLARED = {
    **{"question": str, "arms": dict, "claims": list, "protocol": int, "seeds": int},
    **{"setting_name": str, "demonstration": bool, "setting": dict},
}
"""Field of a declaration -> its type, for all versions."""


@dataclass
class Outcome:
    """The results of one trial."""

    row: dict
    epochs: list[dict] = field(default_factory=list)
    measures: list[dict] = field(default_factory=list)
    predicted: np.ndarray | None = None
    """Predictions for the test images: classes, int [n]; or, depending on the task, 0 and 1 [n, labels] or numbers [n]."""
    logits: np.ndarray | None = None
    """Logits of the test images, float32 [n, classes]."""
    samples: np.ndarray | None = None
    """A few augmented training images, uint8 [n, height, width, channels]."""


# --- outcomes on disk ------------------------------------------------------------------------------------------------


def save_outcome(folder: pathlib.Path, outcome: Outcome) -> None:
    """Write an outcome to its trial's folder, atomically."""
    fields = dataclasses.asdict(outcome)
    arrays = {name: fields.pop(name) for name in ARRAYS}
    named = {name: array for name, array in arrays.items() if array is not None}
    named["fields"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    write_atomic(folder / OUTCOME, lambda file: np.savez(file, **named))


def load_outcome(folder: pathlib.Path) -> Outcome | None:
    """The outcome in a trial's folder; None if there is none or it is damaged."""
    try:
        named = read_arrays(folder / OUTCOME)
        if not named:
            return None
        return Outcome(**json.loads(named.pop("fields").tobytes()), **named)
    except (Failure, ValueError, KeyError, TypeError):
        return None


# --- tables --------------------------------------------------------------------------------------------------------


def _csv(rows: list[dict], names: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read_rows(files: Files) -> list[dict[str, str]]:
    """The rows of an experiment in a setting folder as text, in the order of the file. Raises `Failure`."""
    return _read_rows(files).rows


def _read_rows(files: Files) -> reading.Read:
    """The rows without duplicates. Raises `Failure`, also for two different rows of one trial."""
    all_rows, edited, lines = reading.read(files.rows, NAMES)
    rows: dict[tuple, tuple[int, dict]] = {}
    for number, row in zip(lines, all_rows, strict=True):
        if row["status"] not in STATUSES:
            known = ", ".join(STATUSES)
            where = f"{files.rows} line {number}, column status"
            hint = did_you_mean(row["status"], STATUSES)
            raise Failure(f"{where}: must be one of {known}. {reading.REMEDY}. Received: {row['status']!r}{hint}")
        if not row["seed"]:
            raise Failure(f"{files.rows} line {number}, column seed: must be a whole number. {reading.REMEDY}. Received: ''")
        blank = next((name for name in PLANNED if row["protocol"] and not row[name]), None)
        if blank:
            raise Failure(f"{files.rows} line {number}, column {blank}: must not be empty. {reading.REMEDY}. Received: ''")
        first, same = rows.setdefault(_identity(row), (number, row))
        if same != row:
            raise Failure(f"{files.rows} lines {first} and {number}: a trial must have one row: remove one of the two")
    return reading.Read(
        [row for _, row in rows.values()], edited or len(rows) < len(all_rows), [number for number, _ in rows.values()]
    )


def check_scores(files: Files) -> None:
    """Raises `Failure` for a row with the status done and without a score."""
    _check_scores(files, _read_rows(files))


def _check_scores(files: Files, read: reading.Read) -> None:
    for number, row in zip(read.lines, read.rows, strict=True):
        column = next((name for name in SCORES if row[name]), SCORES[0])
        if row["status"] == "done" and not row["point"] and row[column] in ("", *reading.NO_NUMBERS):
            where = f"{files.rows} line {number}, column {column}"
            raise Failure(f"{where}: a finished trial must have a score. {reading.REMEDY}. Received: {row[column]!r}")


def _identity(row: dict) -> tuple:
    """Arm, rate, point and seed of a row, which identify it within its file."""
    return row["arm"], row.get("rate") or OWN, row.get("point") or "", int(row["seed"])


def store(files: Files, outcome: Outcome, order: list[str]) -> None:
    """Merge a trial's outcome into the files of its experiment, in place of an earlier one.

    Args:
        order: the arms. Rows are sorted by seed and by arm in this order, so that files do not depend on the order of writing.
    """

    def position(row):
        arm = row["arm"]
        return int(row["seed"]), row["rate"] != OWN, order.index(arm) if arm in order else len(order), arm, row["point"]

    with locked(files.folder):
        for path, names, new in (
            (files.epochs, EPOCH_NAMES, outcome.epochs),
            (files.measures, MEASURE_NAMES, outcome.measures),
            (files.rows, NAMES, [outcome.row]),
        ):
            if names is NAMES:  # before the rows, which come last
                _store_arrays(files, outcome)
            old = read_rows(files) if names is NAMES else reading.read(path, names).rows
            others = [row for row in old if _identity(row) != _identity(outcome.row)]
            if new or len(others) != len(old):
                write_atomic(path, _csv(sorted([*others, *(reading.DEFAULTS | row for row in new)], key=position), names))


def _store_arrays(files: Files, outcome: Outcome) -> None:
    """Write the arrays of an outcome, and delete those of an earlier one that it does not have."""
    entry, seed = entry_of(outcome.row), outcome.row["seed"]
    logits = files.local("logits", entry, seed, ".npy")
    if outcome.logits is not None:
        write_atomic(logits, array_bytes(outcome.logits))
    else:
        logits.unlink(missing_ok=True)
    _replace_array(files.predictions, f"{entry}/{seed}", outcome.predicted)
    if int(seed) == 0:
        _replace_array(files.samples, entry, outcome.samples)


def _replace_array(path: pathlib.Path, key: str, array: np.ndarray | None) -> None:
    """Write an array into an archive; for None remove its key."""
    arrays = read_arrays(path)
    if array is not None:
        write_atomic(path, archive_bytes({**arrays, key: array}))
    elif arrays.pop(key, None) is not None:
        write_atomic(path, archive_bytes(arrays))


def supersede(files: Files, stale: list[dict]) -> pathlib.Path:
    """Move the given rows, with their epochs and measures, to a new file in `superseded/`. Returns its path.

    Their predictions and samples are deleted.
    """
    with locked(files.folder):
        folder = files.folder / "superseded"
        number = 1
        while (folder / f"{files.experiment}.{number}.csv").exists():
            number += 1
        target = Files(folder, f"{files.experiment}.{number}")
        identities = {_identity(row) for row in stale}
        for path, new_path, names in (
            (files.epochs, target.epochs, EPOCH_NAMES),
            (files.measures, target.measures, MEASURE_NAMES),
            (files.rows, target.rows, NAMES),
        ):
            rows = reading.read(path, names).rows
            moved = [row for row in rows if _identity(row) in identities]
            if moved:
                write_atomic(new_path, _csv(moved, names))
                write_atomic(path, _csv([row for row in rows if row not in moved], names))
        for row in stale:
            _store_arrays(files, Outcome(row=row))
    return target.rows


def write_declaration(files: Files, declaration: dict) -> None:
    """Write a script's declaration. If rows exist, `changed_claims` lists the ids of claims that have changed since."""
    if files.declaration.exists() and files.rows.exists():
        earlier = _parsed(files.declaration)
        if earlier and "setting_name" not in earlier:
            read_declaration(files)  # raises the error about an earlier version
        changed = [] if _damage(earlier) else _changed_claims(earlier, declaration)
        if changed:
            declaration = {**declaration, "changed_claims": changed}
    content = (json.dumps(declaration, indent=1, ensure_ascii=False) + "\n").encode()
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
    """Ids of the claims that differ from the earlier declaration in a field of `DEFINING`, or are marked as changed there.

    With another protocol there are none, since all rows will be written anew.
    """
    if earlier["protocol"] != declaration["protocol"]:
        return []
    claims = json.loads(json.dumps(declaration["claims"]))

    def defining(claim):
        return [claim.get(name) for name in DEFINING]

    known = {claim["id"]: defining(claim) for claim in earlier["claims"]}
    marked = earlier.get("changed_claims", ())
    return [claim["id"] for claim in claims if claim["id"] in marked or known.get(claim["id"]) != defining(claim)]


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


# --- frames --------------------------------------------------------------------------------------------------------


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


def write_labels(files: Files, key: str, labels: np.ndarray) -> None:
    """Write the test labels to the file of predictions, so that rows can be judged without the dataset.

    Args:
        key: see `common.rows.schema.labels_key`.
    """
    with locked(files.folder):
        if key not in read_arrays(files.predictions):
            whole = np.issubdtype(labels.dtype, np.integer)
            _replace_array(files.predictions, key, labels.astype(np.min_scalar_type(int(labels.max()))) if whole else labels)


def read_frame(files: Files):
    """The rows of an experiment as a pandas frame. Raises `Failure`, also for a finished trial without a score."""
    content = _read_rows(files)
    _check_scores(files, content)
    return _frame(files.rows, NAMES, content)


def read_measures(files: Files):
    """The measures of an experiment as a pandas frame."""
    return _frame(files.measures, MEASURE_NAMES, reading.read(files.measures, MEASURE_NAMES))


def read_epochs(files: Files):
    """The rows of an experiment's epochs as a pandas frame."""
    return _frame(files.epochs, EPOCH_NAMES, reading.read(files.epochs, EPOCH_NAMES))


def _frame(path: pathlib.Path, names: tuple[str, ...], read: reading.Read):
    """A file that was read and checked as a pandas frame, with pandas' types."""
    import pandas as pd

    if not read.rows:
        return pd.DataFrame(columns=names)
    frame = pd.read_csv(io.BytesIO(_csv(read.rows, names)) if read.edited else path, dtype={"point": str})
    for name, value in reading.DEFAULTS.items():
        frame[name] = frame[name].fillna(value) if name in frame else value
    return frame
