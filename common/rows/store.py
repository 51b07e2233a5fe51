"""Rows: their schema, and how they are written, read, merged and set aside.

One experiment in one setting folder owns five files: `<name>.csv` (a row per arm and seed), `<name>_epochs.csv`,
`<name>_measures.csv`, `<name>_predictions.npz` and `<name>_samples.npz`; and `<name>.json`, its declaration. Each is
replaced whole, under a lock, the rows last: what has a row is complete, and a reader sees either the old file or the new one.
"""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.errors import Failure
from common.files import PROJECT, archive_bytes, array_bytes, locked, read_arrays, write_atomic
from common.text import file_name

REFERENCE = PROJECT / "results" / "reference"
PROTOCOL = 1
"""Raised by hand whenever a change in `common/` may change a result; part of every fingerprint."""
STATUSES = ("done", "diverged", "failed", "unavailable")
FINAL = ("done", "diverged")
"""Statuses that are not tried again."""


class Column(NamedTuple):
    name: str
    kind: str
    """outcome and setting are equal whenever a trial is run again; a measurement may differ."""
    meaning: str


COLUMNS = (
    Column("experiment", "setting", "script, without .py"),
    Column("arm", "setting", "the choice compared"),
    Column("seed", "setting", "0 … n-1"),
    Column("status", "outcome", ", ".join(STATUSES)),
    Column("reason", "outcome", "why a trial is not done"),
    Column("fingerprint", "setting", "of arm, setting, seed, data, the experiment's code and the protocol"),
    Column("protocol", "setting", "number of common/'s way of training and scoring"),
    Column("arguments", "setting", "what the arm hands to train(), JSON"),
    Column("search", "setting", "hash of the space whose search chose some of the arguments; blank without one"),
    Column("tuning", "setting", "how that search went"),
    Column("setting", "setting", "all fields of the setting the arm ran under, JSON"),
    Column("dataset", "setting", "name"),
    Column("data_checksum", "setting", "SHA-256 of all its images and labels"),
    Column("train_size", "setting", "examples trained on"),
    Column("val_size", "setting", "examples validated on"),
    Column("test_size", "setting", "examples tested on"),
    Column("epochs", "setting", "budget"),
    Column("batch_size", "setting", "global batch"),
    Column("precision", "setting", "Keras dtype policy"),
    Column("replicas", "setting", "devices that share a batch"),
    Column("workers", "setting", "machines that the devices are on"),
    Column("threads", "setting", "CPU threads within an operation"),
    Column("deterministic", "setting", "whether TensorFlow's operations were made deterministic"),
    Column("parameters", "outcome", "numbers in the model's weights"),
    Column("weights", "outcome", "SHA-256 of the final weights, first 16 digits"),
    Column("steps", "outcome", "updates made"),
    Column("final_epoch", "outcome", "epochs finished"),
    Column("train_accuracy", "outcome", "final weights, inference mode, no augmentation"),
    Column("train_nll", "outcome", "nats"),
    Column("val_accuracy", "outcome", "final weights"),
    Column("val_nll", "outcome", "nats"),
    Column("test_accuracy", "outcome", "final weights: the primary metric"),
    Column("test_nll", "outcome", "nats"),
    Column("test_precision", "outcome", "macro"),
    Column("test_recall", "outcome", "macro"),
    Column("test_f1", "outcome", "macro"),
    Column("test_ece", "outcome", "expected calibration error, 15 equal bins"),
    Column("best_epoch", "outcome", "highest val accuracy, then lowest val NLL, then earliest; from 1"),
    Column("best_val_accuracy", "outcome", "weights of the best epoch"),
    Column("best_val_nll", "outcome", "weights of the best epoch, nats"),
    Column("best_test_accuracy", "outcome", "weights of the best epoch"),
    *(Column(f"{name}_f1", "outcome", "macro F1, where it is the primary metric") for name in ("train", "val")),
    *(Column(f"{name}_error", "outcome", "mean absolute error of a regression") for name in ("train", "val", "test")),
    *(Column(f"best_{name}", "outcome", "of the best epoch") for name in ("val_f1", "test_f1", "val_error", "test_error")),
    Column("untrained", "outcome", "no better on test than the majority class, or another constant prediction"),
    Column("compile_seconds", "measurement", "first calls of the compiled functions"),
    Column("input_seconds", "measurement", "gathering batches"),
    Column("train_seconds", "measurement", "updates"),
    Column("eval_seconds", "measurement", "validation and scoring"),
    Column("total_seconds", "measurement", "all of the trial, over all its resumes"),
    Column("images_per_second", "measurement", "trained images over input and train seconds"),
    Column("beside", "measurement", "most trials that ran at the same time"),
    Column("peak_memory_mb", "measurement", "of the worker during the trial, MB of 10⁶ bytes"),
    Column("commit", "measurement", "git commit of the project"),
    Column("dirty", "measurement", "whether tracked files differed from it"),
    Column("versions", "measurement", "Python and packages"),
    Column("device", "measurement", "processor or GPU"),
    Column("resumes", "measurement", "times it went on after a kill"),
    Column("finished", "measurement", "UTC"),
)
NAMES = tuple(column.name for column in COLUMNS)
REPRODUCIBLE = tuple(column.name for column in COLUMNS if column.kind != "measurement")
KEY = ("experiment", "arm", "seed")
EPOCH_NAMES = (
    *("experiment", "arm", "seed", "stage", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_nll"),
    *("val_f1", "val_error", "learning_rate", "gradient_norm", "seconds"),
)
OUTCOME = "outcome.npz"
ARRAYS = ("predicted", "logits", "samples")
MEASURE_NAMES = ("experiment", "arm", "seed", "name", "value", "unit")


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


def labels_key(checksum: str, classes: Sequence[int] | None = None) -> str:
    """Where the test labels of a dataset, or of some of its classes, lie among an experiment's predictions."""
    return f"labels/{checksum[:12]}" + (f" {'+'.join(map(str, classes))}" if classes else "")


class Files(NamedTuple):
    """Where one experiment's rows lie in one setting folder."""

    folder: pathlib.Path
    experiment: str

    @property
    def rows(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}.csv"

    @property
    def epochs(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}_epochs.csv"

    @property
    def measures(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}_measures.csv"

    @property
    def predictions(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}_predictions.npz"

    @property
    def samples(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}_samples.npz"

    @property
    def declaration(self) -> pathlib.Path:
        return self.folder / f"{self.experiment}.json"

    @property
    def state(self) -> pathlib.Path:
        """Checkpoints of unfinished trials."""
        return self.folder / ".state" / self.experiment

    def local(self, what: str, arm: str, seed: int, suffix: str) -> pathlib.Path:
        """A file of one trial that is not committed: logits, models, logs."""
        return self.folder / what / self.experiment / f"{file_name(arm)}-{seed}{suffix}"


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


def _table(path: pathlib.Path, names: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a file as text; a column that the file does not have yet is blank."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            unknown = [name for name in header if name not in names]
            if unknown or not set(header) >= set(KEY):
                wrong = f"knows no {unknown[0]!r}" if unknown else f"needs {', '.join(KEY)}"
                raise Failure(f"{path} line 1: not the columns of this version, which {wrong}. Move the file away and run again")
            rows = []
            for values in reader:
                if len(values) != len(header):
                    raise Failure(
                        f"{path} line {reader.line_num}: {len(values)} fields instead of {len(header)}. "
                        "Remove the line and run again: its trial is then repeated"
                    )
                rows.append(dict.fromkeys(names, "") | dict(zip(header, values, strict=True)))
        if not path.read_bytes().endswith(b"\n"):
            raise Failure(f"{path} line {len(rows) + 1}: cut short. Remove the line and run again: its trial is then repeated")
        return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"cannot read {path} ({error}). Move the file away and run again") from error


def read_rows(files: Files) -> list[dict[str, str]]:
    """The rows of one experiment in one setting folder as text, in the order of the file. Raises `Failure`."""
    rows = _table(files.rows, NAMES)
    for number, row in enumerate(rows, start=2):
        if row["status"] not in STATUSES or not row["seed"].isdigit():
            raise Failure(
                f"{files.rows} line {number}: status {row['status']!r} and seed {row['seed']!r} are not those of a row. "
                "Remove the line and run again: its trial is then repeated"
            )
    return rows


def _same(row: dict, other: dict) -> bool:
    return row["arm"] == other["arm"] and str(row["seed"]) == str(other["seed"])


def store(files: Files, outcome: Outcome, order: list[str]) -> None:
    """Merge one trial's outcome into the files of its experiment: any earlier row of that arm and seed gives way.

    `order` lists the arms; rows are kept seed by seed, arms in that order, so that files of equal content are equal.
    """

    def position(row):
        arm = row["arm"]
        return (int(row["seed"]), order.index(arm) if arm in order else len(order), arm)

    with locked(files.folder):
        for path, names, new in (
            (files.epochs, EPOCH_NAMES, outcome.epochs),
            (files.measures, MEASURE_NAMES, outcome.measures),
            (files.rows, NAMES, [outcome.row]),
        ):
            if names is NAMES:  # the rows last: they are the commit
                _store_arrays(files, outcome)
            old = read_rows(files) if names is NAMES else _table(path, names)
            kept = [row for row in old if not _same(row, outcome.row)]
            if new or len(kept) != len(old):
                write_atomic(path, _csv(sorted([*kept, *new], key=position), names))


def _store_arrays(files: Files, outcome: Outcome) -> None:
    arm, seed = outcome.row["arm"], outcome.row["seed"]
    logits = files.local("logits", arm, seed, ".npy")
    if outcome.logits is not None:
        write_atomic(logits, array_bytes(outcome.logits))
    else:
        logits.unlink(missing_ok=True)
    _replace_array(files.predictions, f"{arm}/{seed}", outcome.predicted)
    if int(seed) == 0:
        _replace_array(files.samples, arm, outcome.samples)


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
        for path, new_path, names in (
            (files.epochs, target.epochs, EPOCH_NAMES),
            (files.measures, target.measures, MEASURE_NAMES),
            (files.rows, target.rows, NAMES),
        ):
            rows = _table(path, names)
            moved = [row for row in rows if any(_same(row, s) for s in stale)]
            if moved:
                write_atomic(new_path, _csv(moved, names))
                write_atomic(path, _csv([row for row in rows if row not in moved], names))
        for row in stale:
            _store_arrays(files, Outcome(row=row))
    return target.rows


def write_declaration(files: Files, declaration: dict) -> None:
    """Write what a script declares. Claims that differ from those under which rows were written are named in `changed_claims`."""
    if files.declaration.exists() and files.rows.exists():
        earlier = read_declaration(files)

        def said(claim):  # a field of tomorrow changes no claim of today
            return {name: value for name, value in claim.items() if value is not None}

        claims = json.loads(json.dumps(declaration.get("claims", ())))
        known = [said(claim) for claim in earlier.get("claims", ())]
        new = [claim["text"] for claim in claims if said(claim) not in known]
        still = [text for text in earlier.get("changed_claims", ()) if text in {claim["text"] for claim in claims}]
        if new or still:
            declaration = {**declaration, "changed_claims": list(dict.fromkeys([*still, *new]))}
    content = (json.dumps(declaration, indent=1, ensure_ascii=False) + "\n").encode()
    if not files.declaration.exists() or files.declaration.read_bytes() != content:
        write_atomic(files.declaration, content)


def read_declaration(files: Files) -> dict:
    try:
        return json.loads(files.declaration.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {files.declaration} ({error}): run the experiment again to write it") from error


# --- frames --------------------------------------------------------------------------------------------------------


def setting_folders(results: pathlib.Path) -> list[pathlib.Path]:
    """The setting folders below a results folder, by name: those that hold a declaration."""
    return sorted({path.parent for path in pathlib.Path(results).glob("*/exp_*.json")})


def experiments(folder: pathlib.Path) -> list[Files]:
    """The experiments that have a declaration in a setting folder, by name."""
    return [Files(folder, path.stem) for path in sorted(folder.glob("exp_*.json"))]


def read(folder: str | pathlib.Path):
    """All rows below a folder as one pandas frame; `folder` tells where each was found."""
    import pandas as pd

    frames = []
    for path in sorted(pathlib.Path(folder).rglob("exp_*.json")):
        files = Files(path.parent, path.stem)
        if read_rows(files):
            frame = pd.read_csv(files.rows)
            frames.append(frame.assign(folder=path.parent.relative_to(pathlib.Path(folder).parent).as_posix()))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*NAMES, "folder"])


def write_labels(files: Files, key: str, labels: np.ndarray) -> None:
    """Keep the test labels beside the predictions, so that whoever has the rows needs no dataset."""
    with locked(files.folder):
        if key not in read_arrays(files.predictions):
            whole = np.issubdtype(labels.dtype, np.integer)
            _replace_array(files.predictions, key, labels.astype(np.min_scalar_type(int(labels.max()))) if whole else labels)


def read_measures(files: Files):
    """The measures of one experiment as a pandas frame."""
    import pandas as pd

    if not _table(files.measures, MEASURE_NAMES):
        return pd.DataFrame(columns=MEASURE_NAMES)
    return pd.read_csv(files.measures)


def read_epochs(files: Files):
    """The epoch rows of one experiment as a pandas frame."""
    import pandas as pd

    if not _table(files.epochs, EPOCH_NAMES):
        return pd.DataFrame(columns=EPOCH_NAMES)
    return pd.read_csv(files.epochs)
