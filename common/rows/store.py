"""How rows are written, read, merged and set aside.

One experiment in one setting folder owns five files: `<name>.csv` (a row per trial), `<name>_epochs.csv`,
`<name>_measures.csv`, `<name>_predictions.npz` and `<name>_samples.npz`; and `<name>.json`, its declaration. Each is
replaced whole, under a lock, the rows last: what has a row is complete, and a reader sees either the old file or the new one.
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
"""Columns by which a trial is known again."""
DECLARED = {
    **{"question": str, "arms": dict, "claims": list, "protocol": int, "seeds": int},
    **{"setting_name": str, "demonstration": bool, "setting": dict},
}
"""What a declaration says, whatever version wrote it."""


@dataclass
class Outcome:
    """All that one trial hands back."""

    row: dict
    epochs: list[dict] = field(default_factory=list)
    measures: list[dict] = field(default_factory=list)
    predicted: np.ndarray | None = None
    """Of every test image, int [n]: its predicted class; or what the task keeps: 0/1 [n, labels], or a number [n]."""
    logits: np.ndarray | None = None
    """Float32 [n, classes] of every test image."""
    samples: np.ndarray | None = None
    """A few training images as the model saw them, uint8 [n, h, w, c]."""


# --- outcomes on disk ------------------------------------------------------------------------------------------------


def save_outcome(folder: pathlib.Path, outcome: Outcome) -> None:
    """Write an outcome whole into its trial's folder."""
    fields = dataclasses.asdict(outcome)
    arrays = {name: fields.pop(name) for name in ARRAYS}
    named = {name: array for name, array in arrays.items() if array is not None}
    named["fields"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    write_atomic(folder / OUTCOME, lambda file: np.savez(file, **named))


def load_outcome(folder: pathlib.Path) -> Outcome | None:
    """The outcome that a trial left in its folder; None where there is none or it is damaged."""
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
    """The rows of one experiment in one setting folder as text, in the order of the file. Raises `Failure`."""
    return _read_rows(files).rows


def _read_rows(files: Files) -> reading.Read:
    """The rows, each trial's once. Raises `Failure`, also for two that are not the same."""
    found, edited, lines = reading.read(files.rows, NAMES)
    rows: dict[tuple, tuple[int, dict]] = {}
    for number, row in zip(lines, found, strict=True):
        if row["status"] not in STATUSES:
            known = ", ".join(STATUSES)
            where = f"{files.rows} line {number}, column status"
            hint = did_you_mean(row["status"], STATUSES)
            raise Failure(f"{where}: must be one of {known}. {reading.REMEDY}. Received: {row['status']!r}{hint}")
        if not row["seed"]:
            raise Failure(f"{files.rows} line {number}, column seed: a whole number is needed. {reading.REMEDY}. Received: ''")
        blank = next((name for name in PLANNED if row["protocol"] and not row[name]), None)
        if blank:
            raise Failure(f"{files.rows} line {number}, column {blank}: each trial has one. {reading.REMEDY}. Received: ''")
        first, same = rows.setdefault(_identity(row), (number, row))
        if same != row:
            raise Failure(f"{files.rows} lines {first} and {number}: two rows of one trial that differ: remove one of them")
    return reading.Read(
        [row for _, row in rows.values()], edited or len(rows) < len(found), [number for number, _ in rows.values()]
    )


def check_scores(files: Files) -> None:
    """Raises `Failure` for the row of a result that is done and has no score."""
    _check_scores(files, _read_rows(files))


def _check_scores(files: Files, read: reading.Read) -> None:
    for number, row in zip(read.lines, read.rows, strict=True):
        column = next((name for name in SCORES if row[name]), SCORES[0])
        if row["status"] == "done" and not row["point"] and row[column] in ("", *reading.NO_NUMBERS):
            where = f"{files.rows} line {number}, column {column}"
            raise Failure(f"{where}: a trial that is done has a score. {reading.REMEDY}. Received: {row[column]!r}")


def _identity(row: dict) -> tuple:
    """What tells a row apart from the others of its file."""
    return row["arm"], row.get("rate") or OWN, row.get("point") or "", int(row["seed"])


def store(files: Files, outcome: Outcome, order: list[str]) -> None:
    """Merge one trial's outcome into the files of its experiment: an earlier row of the same trial gives way.

    `order` lists the arms; rows are kept seed by seed, arms in that order, so that files of equal content are equal.
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
            if names is NAMES:  # the rows last: they are the commit
                _store_arrays(files, outcome)
            old = read_rows(files) if names is NAMES else reading.read(path, names).rows
            kept = [row for row in old if _identity(row) != _identity(outcome.row)]
            if new or len(kept) != len(old):
                write_atomic(path, _csv(sorted([*kept, *(reading.BLANK | row for row in new)], key=position), names))


def _store_arrays(files: Files, outcome: Outcome) -> None:
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
    """Put an array into an archive, or take its key out where there is none."""
    arrays = read_arrays(path)
    if array is not None:
        write_atomic(path, archive_bytes({**arrays, key: array}))
    elif arrays.pop(key, None) is not None:
        write_atomic(path, archive_bytes(arrays))


def supersede(files: Files, stale: list[dict]) -> pathlib.Path:
    """Move the given rows, with their epochs and measures, to the next free file in `superseded/`. Returns its path.

    Their predictions and samples are dropped.
    """
    with locked(files.folder):
        aside = files.folder / "superseded"
        number = 1
        while (aside / f"{files.experiment}.{number}.csv").exists():
            number += 1
        target = Files(aside, f"{files.experiment}.{number}")
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
    """Write what a script declares. `changed_claims` are the ids of claims that are not those under which rows were written."""
    if files.declaration.exists() and files.rows.exists():
        earlier = _parsed(files.declaration)
        if earlier and "setting_name" not in earlier:
            read_declaration(files)  # which says that an earlier version wrote it
        changed = [] if _damage(earlier) else _changed_claims(earlier, declaration)
        if changed:
            declaration = {**declaration, "changed_claims": changed}
    content = (json.dumps(declaration, indent=1, ensure_ascii=False) + "\n").encode()
    if not files.declaration.exists() or files.declaration.read_bytes() != content:
        write_atomic(files.declaration, content)


def _parsed(path: pathlib.Path) -> dict:
    """The object that a JSON file holds; an empty one where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _damage(declaration: dict) -> str:
    """What a declaration lacks, or has of another kind; blank where that is nothing."""
    wrong = [name for name, kind in DECLARED.items() if not isinstance(declaration.get(name), kind)]
    return f"has no {', '.join(wrong)}" if declaration and wrong else "is empty or cut short" if wrong else ""


def _changed_claims(earlier: dict, declaration: dict) -> list[str]:
    """Ids of the claims that differ from those of the earlier declaration in what they claim, or were marked there.

    Under another protocol there are none: its rows are yet to be written.
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
    """What the script declared. Raises `Failure` for one that is damaged, or that an earlier version wrote."""
    try:
        declaration = _parsed(files.declaration)
    except OSError as error:
        raise Failure(f"cannot read {files.declaration} ({error}): run the experiment again to write it") from error
    if declaration and "setting_name" not in declaration:
        raise Failure(f"{files.declaration} was written by an earlier version: move the folder away and run again")
    if damage := _damage(declaration):
        raise Failure(f"{files.declaration} {damage}: run the experiment again to write it; what is done is not trained again")
    return declaration


def setting_name(files: Files) -> str:
    """The name of the setting that an experiment was declared under; blank where the declaration cannot be read."""
    try:
        return read_declaration(files)["setting_name"]
    except Failure:
        return ""


# --- frames --------------------------------------------------------------------------------------------------------


def setting_folders(results: pathlib.Path) -> list[pathlib.Path]:
    """The setting folders below a results folder, by name: those that hold a declaration."""
    return sorted({path.parent for path in pathlib.Path(results).glob("*/exp_*.json")})


def experiments(folder: pathlib.Path) -> list[Files]:
    """The experiments that have a declaration in a setting folder, by name."""
    return [Files(folder, path.stem) for path in sorted(folder.glob("exp_*.json"))]


def copies(results: pathlib.Path) -> dict[Files, Files]:
    """The experiments of folders that somebody has copied, and those that they are copies of: the same trials, ended at the same
    times, and no others. Of two the one with more trials is the original, or else the one whose folder has the shorter name.

    A file that cannot be read is neither.
    """
    there = [files for folder in setting_folders(results) for files in experiments(folder)]
    counts = Counter(files.experiment for files in there)
    ended: dict[Files, set] = {}
    for files in (files for files in there if counts[files.experiment] > 1):  # the rows of all others need not be read
        with contextlib.suppress(Failure):
            read_declaration(files)
            ended[files] = {(row["fingerprint"], row["finished"]) for row in read_rows(files) if row["finished"]}
    found, originals = {}, []
    for files in sorted(ended, key=lambda files: (-len(ended[files]), len(files.folder.name), files.folder.name)):
        of = next((one for one in originals if one.experiment == files.experiment and ended[files] <= ended[one]), None)
        if of is not None and ended[files]:
            found[files] = of
        else:
            originals.append(files)
    return found


def read(folder: str | pathlib.Path):
    """All rows below a folder as one pandas frame; `folder` tells where each was found."""
    import pandas as pd

    frames = []
    for path in sorted(pathlib.Path(folder).rglob("exp_*.json")):
        files = Files(path.parent, path.stem)
        frame = read_frame(files)
        if len(frame):
            frames.append(frame.assign(folder=path.parent.relative_to(pathlib.Path(folder).parent).as_posix()))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*NAMES, "folder"])


def write_labels(files: Files, key: str, labels: np.ndarray) -> None:
    """Keep the test labels beside the predictions, so that whoever has the rows needs no dataset."""
    with locked(files.folder):
        if key not in read_arrays(files.predictions):
            whole = np.issubdtype(labels.dtype, np.integer)
            _replace_array(files.predictions, key, labels.astype(np.min_scalar_type(int(labels.max()))) if whole else labels)


def read_frame(files: Files):
    """The rows of one experiment as a pandas frame. Raises `Failure`, also for a trial that is done and has no score."""
    found = _read_rows(files)
    _check_scores(files, found)
    return _frame(files.rows, NAMES, found)


def read_measures(files: Files):
    """The measures of one experiment as a pandas frame."""
    return _frame(files.measures, MEASURE_NAMES, reading.read(files.measures, MEASURE_NAMES))


def read_epochs(files: Files):
    """The epoch rows of one experiment as a pandas frame."""
    return _frame(files.epochs, EPOCH_NAMES, reading.read(files.epochs, EPOCH_NAMES))


def _frame(path: pathlib.Path, names: tuple[str, ...], read: reading.Read):
    """A file as a pandas frame, its numbers as numbers, after its lines were read as text and checked."""
    import pandas as pd

    if not read.rows:
        return pd.DataFrame(columns=names)
    frame = pd.read_csv(io.BytesIO(_csv(read.rows, names)) if read.edited else path, dtype={"point": str})
    for name, value in reading.BLANK.items():
        frame[name] = frame[name].fillna(value) if name in frame else value
    return frame
