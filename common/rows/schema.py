"""The columns of rows, and the names of their files."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from common.files import PROJECT
from common.text import file_name, listed

REFERENCE = PROJECT / "results" / "reference"
STATUSES = ("done", "diverged", "failed", "unavailable")
FINAL = ("done", "diverged")
"""Statuses of trials that are not run again."""
OWN, COMMON = "own", "common"
"""Values of the column `rate`."""
EACH_SEED = "for each seed"
"""Part of the column `tuning` where each seed has values from a search of its own."""


class Column(NamedTuple):
    """A column of the rows."""

    name: str
    kind: str
    """`setting` and `outcome` are equal whenever a trial is repeated; a `measurement` may differ."""
    meaning: str


COLUMNS = (
    Column("experiment", "setting", "script, without .py"),
    Column("arm", "setting", "the choice compared"),
    Column("rate", "setting", "own: the arm's learning rate; common: the one that is best over all arms"),
    Column("point", "setting", "values of the searched arguments in a search trial, JSON; else empty"),
    Column("seed", "setting", "0 … n-1"),
    Column("status", "outcome", ", ".join(STATUSES)),
    Column("reason", "outcome", "why a trial is not done"),
    Column("fingerprint", "setting", "hash of arm, rate, arguments, setting, seed, data, the experiment's code and the protocol"),
    Column("protocol", "setting", "version of training and scoring in common/"),
    Column("arguments", "setting", "arguments of train(), JSON"),
    Column("search", "setting", "hash of the searched space; empty if no argument was searched"),
    Column("tuning", "setting", "how the searched arguments were chosen"),
    Column("setting", "setting", "all fields of the arm's setting, JSON"),
    Column("dataset", "setting", "name"),
    Column("data_checksum", "setting", "SHA-256 of all its images and labels"),
    Column("train_size", "setting", "number of training examples"),
    Column("full_size", "setting", "number of the setting's training examples, of which an arm may take a part"),
    Column("val_size", "setting", "number of validation examples"),
    Column("test_size", "setting", "number of test examples"),
    Column("epochs", "setting", "epochs of a full training"),
    Column("batch_size", "setting", "global batch size"),
    Column("precision", "setting", "Keras dtype policy"),
    Column("replicas", "setting", "devices that share a batch"),
    Column("workers", "setting", "processes with these devices, one per machine"),
    Column("threads", "setting", "CPU threads within an operation"),
    Column("deterministic", "setting", "whether TensorFlow's operations are deterministic"),
    Column("parameters", "outcome", "number of the model's parameters"),
    Column("weights", "outcome", "SHA-256 of the final weights, first 16 digits"),
    Column("steps", "outcome", "number of updates"),
    Column("final_epoch", "outcome", "number of finished epochs"),
    Column("stage", "outcome", "stage of training that the predictor comes from"),
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
    *(Column(f"{name}_f1", "outcome", "macro F1, if it is the primary metric") for name in ("train", "val")),
    *(Column(f"{name}_error", "outcome", "mean absolute error of a regression") for name in ("train", "val", "test")),
    *(
        Column(f"best_{name}", "outcome", "weights of the best epoch")
        for name in ("val_f1", "test_f1", "val_error", "test_error")
    ),
    Column("trained", "outcome", "finite, and on train better than a constant prediction by a tenth of what is possible"),
    Column("val_constant", "outcome", "primary metric on val of the best constant prediction, the score of an untrained trial"),
    Column("compile_seconds", "measurement", "first calls of the compiled functions"),
    Column("input_seconds", "measurement", "gathering batches"),
    Column("train_seconds", "measurement", "updates"),
    Column("eval_seconds", "measurement", "validation and scoring"),
    Column("total_seconds", "measurement", "the whole trial, with all its resumes"),
    Column("images_per_second", "measurement", "training images per input and train second"),
    Column("beside", "measurement", "largest number of other trials at the same time"),
    Column("peak_memory_mb", "measurement", "of the worker during the trial, MB of 10⁶ bytes"),
    Column("commit", "measurement", "git commit of the project"),
    Column("dirty", "measurement", "whether the code differed from it"),
    Column("versions", "measurement", "Python and packages"),
    Column("device", "measurement", "processor or GPU, and its kind"),
    Column("kind", "measurement", "maker, instructions and oneDNN, or model of the GPU: the last bits of results depend on it"),
    Column("resumes", "measurement", "number of times the trial was resumed after a kill"),
    Column("finished", "measurement", "time at the end, UTC"),
)
NAMES = tuple(column.name for column in COLUMNS)
TIMES = tuple(name for name in NAMES if name.endswith(("_seconds", "images_per_second")))
"""Columns that depend on what else the machine did."""
REMOVED = ("untrained",)
"""Columns of earlier versions, which are ignored."""
KEY = ("experiment", "arm", "rate", "point", "seed")
"""Columns that identify a row."""
INTEGERS = (
    *("seed", "protocol", "train_size", "full_size", "val_size", "test_size", "epochs", "batch_size"),
    *("replicas", "workers", "threads"),
    *("parameters", "steps", "final_epoch", "best_epoch", "beside", "resumes", "epoch"),
)
"""Columns of whole numbers, in rows and epochs."""
FRACTIONS = (
    *(f"{split}_{score}" for split in ("train", "val", "test", "best_val", "best_test") for score in ("accuracy", "f1")),
    *("test_precision", "test_recall", "test_ece"),
)
"""Columns of numbers between 0 and 1."""
BOOLEANS = ("deterministic", "trained", "dirty")
HASHES = ("fingerprint", "search", "data_checksum", "weights", "commit")
TEXTS = (
    *("experiment", "arm", "rate", "status", "reason", "tuning", "dataset", "precision"),
    *("stage", "versions", "device", "kind", "finished", "name", "unit"),
)
OBJECTS = ("point", "arguments", "setting")
"""Columns of JSON objects."""
EPOCH_NAMES = (
    *KEY,
    *("stage", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_nll"),
    *("val_f1", "val_error", "learning_rate", "gradient_norm", "steps", "seconds"),
)
SHIFTED = tuple(f"{name}_accuracy" for name in ("brightness", "contrast", "rotation", "scale", "noise", "blur", "shifted"))
"""Measures of shifted test images (`common.data.corruptions`), the last of all shifts."""
OF_IMAGES = ("test_nll", "confidence", *SHIFTED)
"""Numbers that are stored for each test image, if a claim or the setting asks for them: NLL, top probability, share of the levels
of a shift at which it is classified correctly."""
MEASURE_NAMES = (*KEY, "name", "value", "unit")
TABLES = {"epochs": EPOCH_NAMES, "measures": MEASURE_NAMES, "rows": NAMES}
"""Table of an experiment, an attribute of `Files` -> its columns; in the order in which they are written."""


def entry_name(arm: str, rate: str = OWN, point: str = "") -> str:
    """Name of an arm at a rate or point, in figures, tables and archives; at the arm's learning rate its name."""
    if point:
        return f"{arm} @ {listed(json.loads(point))}"
    return f"{arm}, common rate" if rate == COMMON else arm


def entry_of(row: dict) -> str:
    """`entry_name` of a row; rows of earlier versions have no columns `rate` and `point`."""
    return entry_name(row["arm"], row.get("rate") or OWN, row.get("point") or "")


def identity(row: dict) -> tuple[str, str, str, int]:
    """Arm, rate, point and seed of a row, which identify it within its file."""
    return row["arm"], row.get("rate") or OWN, row.get("point") or "", int(row["seed"])


def labels_key(checksum: str, classes: Sequence[int] | None = None) -> str:
    """Key of the test labels of a dataset, or of some of its classes, in the file of predictions."""
    return f"labels/{checksum[:12]}" + (f" {'+'.join(map(str, classes))}" if classes else "")


def image_key(entry: str, seed: int | str, name: str) -> str:
    """Key of the numbers in `OF_IMAGES` of a trial, in the file of predictions."""
    return f"{entry}/{seed}/{name}"


def _beside(ending: str) -> property:
    """Property for the path of a file of the experiment, from the end of its name."""
    return property(lambda files: files.folder / f"{files.experiment}{ending}")


class Files(NamedTuple):
    """Paths of the files of one experiment in one setting folder."""

    folder: pathlib.Path
    experiment: str

    rows = _beside(".csv")
    epochs = _beside("_epochs.csv")
    measures = _beside("_measures.csv")
    predictions = _beside("_predictions.npz")
    samples = _beside("_samples.npz")
    declaration = _beside(".json")
    journal = _beside(".journal")

    def table(self, part: str) -> pathlib.Path:
        """Path of a table, a key of `TABLES`."""
        return getattr(self, part)

    @property
    def folded(self) -> tuple[pathlib.Path, ...]:
        """Paths of the files that the journal is merged into."""
        return *map(self.table, TABLES), self.predictions, self.samples

    def stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever the rows are replaced; None without rows."""
        try:
            stat = self.rows.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    @property
    def trials(self) -> "Files":
        """Paths of the files for the trials of its search."""
        return self._replace(experiment=f"{self.search_stem}_trials")

    @property
    def search_stem(self) -> str:
        """Start of the names of its search's files."""
        return self.experiment.replace("exp_", "sweep_", 1)

    @property
    def points(self) -> pathlib.Path:
        """Path of the table of points of a sweep."""
        return self.folder / f"{self.search_stem}.csv"

    @property
    def tuned(self) -> pathlib.Path:
        """Path of the best values of a sweep."""
        return self.folder / f"{self.experiment.replace('exp_', 'tuned_', 1)}.json"

    @property
    def state(self) -> pathlib.Path:
        """Folder of checkpoints and outcomes of unfinished trials."""
        return self.folder / ".state" / self.experiment

    def local(self, kind: str, entry: str, seed: int, suffix: str) -> pathlib.Path:
        """Path of a file of one trial that is not committed.

        Args:
            kind: "logits", "models" or "logs"; entry: see `entry_name`.
        """
        return self.folder / kind / self.experiment / f"{file_name(entry)}-{seed}{suffix}"
