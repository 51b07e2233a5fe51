"""What a row is: its columns, what tells rows apart, and what the files are called that hold them."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from common.files import PROJECT
from common.text import file_name, listed

REFERENCE = PROJECT / "results" / "reference"
STATUSES = ("done", "diverged", "failed", "unavailable")
FINAL = ("done", "diverged")
"""Statuses that are not tried again."""
OWN, COMMON = "own", "common"
"""Values of the column `rate`."""


class Column(NamedTuple):
    name: str
    kind: str
    """outcome and setting are equal whenever a trial is run again; a measurement may differ."""
    meaning: str


COLUMNS = (
    Column("experiment", "setting", "script, without .py"),
    Column("arm", "setting", "the choice compared"),
    Column("rate", "setting", "own: the arm's own learning rate; common: the one that suits all arms best"),
    Column("point", "setting", "values that a search tries, JSON; blank in a result"),
    Column("seed", "setting", "0 … n-1"),
    Column("status", "outcome", ", ".join(STATUSES)),
    Column("reason", "outcome", "why a trial is not done"),
    Column("fingerprint", "setting", "of arm, rate, arguments, setting, seed, data, the experiment's code and the protocol"),
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
    Column("stage", "outcome", "of training that the predictor comes from"),
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
    Column("trained", "outcome", "finite, and on train a tenth of the way or more from a constant prediction to a perfect one"),
    Column(
        "val_constant", "outcome", "primary metric of the best constant prediction on val, as which an untrained trial counts"
    ),
    Column("compile_seconds", "measurement", "first calls of the compiled functions"),
    Column("input_seconds", "measurement", "gathering batches"),
    Column("train_seconds", "measurement", "updates"),
    Column("eval_seconds", "measurement", "validation and scoring"),
    Column("total_seconds", "measurement", "all of the trial, over all its resumes"),
    Column("images_per_second", "measurement", "trained images over input and train seconds"),
    Column("beside", "measurement", "most trials that ran at the same time"),
    Column("peak_memory_mb", "measurement", "of the worker during the trial, MB of 10⁶ bytes"),
    Column("commit", "measurement", "git commit of the project"),
    Column("dirty", "measurement", "whether the code differed from it"),
    Column("versions", "measurement", "Python and packages"),
    Column("device", "measurement", "processor or GPU, and its kind"),
    Column("kind", "measurement", "instruction set and oneDNN, or the GPU's model: on what the last bits depend"),
    Column("resumes", "measurement", "times it went on after a kill"),
    Column("finished", "measurement", "UTC"),
)
NAMES = tuple(column.name for column in COLUMNS)
FORMER = ("untrained",)
"""Columns of earlier versions, which are left out where such rows are read."""
KEY = ("experiment", "arm", "rate", "point", "seed")
"""What tells rows apart."""
WHOLE = (
    *("seed", "protocol", "train_size", "val_size", "test_size", "epochs", "batch_size", "replicas", "workers", "threads"),
    *("parameters", "steps", "final_epoch", "best_epoch", "beside", "resumes", "epoch"),
)
"""Columns of whole numbers, here and in epochs."""
SHARES = (
    *(f"{split}_{score}" for split in ("train", "val", "test", "best_val", "best_test") for score in ("accuracy", "f1")),
    *("test_precision", "test_recall", "test_ece"),
)
"""Columns whose numbers lie between 0 and 1."""
TRUTHS = ("deterministic", "trained", "dirty")
HASHES = ("fingerprint", "search", "data_checksum", "weights", "commit")
WORDS = (
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
MEASURE_NAMES = (*KEY, "name", "value", "unit")


def entry_name(arm: str, rate: str = OWN, point: str = "") -> str:
    """How an arm is called where rows of it at several rates or points stand side by side: in figures, tables and archives."""
    if point:
        return f"{arm} @ {listed(json.loads(point))}"
    return f"{arm}, common rate" if rate == COMMON else arm


def entry_of(row: dict) -> str:
    """What `entry_name` calls a row's arm. A row without the columns was written before there were any, at its own rate."""
    return entry_name(row["arm"], row.get("rate") or OWN, row.get("point") or "")


def labels_key(checksum: str, classes: Sequence[int] | None = None) -> str:
    """Where the test labels of a dataset, or of some of its classes, lie among an experiment's predictions."""
    return f"labels/{checksum[:12]}" + (f" {'+'.join(map(str, classes))}" if classes else "")


def _beside(ending: str) -> property:
    """A file of an experiment, by how its name ends."""
    return property(lambda files: files.folder / f"{files.experiment}{ending}")


class Files(NamedTuple):
    """Where one experiment's rows lie in one setting folder."""

    folder: pathlib.Path
    experiment: str

    rows = _beside(".csv")
    epochs = _beside("_epochs.csv")
    measures = _beside("_measures.csv")
    predictions = _beside("_predictions.npz")
    samples = _beside("_samples.npz")
    declaration = _beside(".json")

    @property
    def trials(self) -> "Files":
        """Of the trials of its search, rows like all others."""
        return self._replace(experiment=f"{self.search_stem}_trials")

    @property
    def search_stem(self) -> str:
        """What the files of its search are called by."""
        return self.experiment.replace("exp_", "sweep_", 1)

    @property
    def points(self) -> pathlib.Path:
        """What a search with keras-tuner tried."""
        return self.folder / f"{self.search_stem}.csv"

    @property
    def tuned(self) -> pathlib.Path:
        """What it found."""
        return self.folder / f"{self.experiment.replace('exp_', 'tuned_', 1)}.json"

    @property
    def state(self) -> pathlib.Path:
        """Checkpoints of unfinished trials."""
        return self.folder / ".state" / self.experiment

    def local(self, what: str, entry: str, seed: int, suffix: str) -> pathlib.Path:
        """A file of one trial that is not committed: logits, models, logs. `entry` is what `entry_name` calls its arm."""
        return self.folder / what / self.experiment / f"{file_name(entry)}-{seed}{suffix}"
