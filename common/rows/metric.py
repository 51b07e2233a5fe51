"""Metrics by which trials are compared, and the primary metric of a task.

The functions of a metric take a `common.rows.table.Table`, whose module imports this one.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common import metrics
from common.claims import HIGHER, LOWER, ends_with
from common.rows.schema import SHIFTED
from common.text import Unit

DISPLAY = {"f1": "F1", "nll": "NLL", "ece": "ECE", "val": "validation", "train": "training"}
"""Metric or split -> its name in texts and figures, if it is another."""
OF_SCORES = ("gap", "estimate_bias", "estimate_error")
"""Differences between scores, in the unit of the primary metric."""
UNITS = {
    **{"seconds": "s", "nll": "nats", "epochs_to_target": "epochs", "steps_to_target": "updates"},
    "log2 images/s": "doublings",
}
"""End of a metric's name, or unit in which it was recorded -> its unit in sentences."""
PLURALS = ("s", "ms", "bytes", "nats", "epochs", "updates", "decades", "degrees", "doublings")
"""Units that follow a number in sentences; others, such as `share of the updates`, describe what was recorded."""
QUANTITIES = {
    "survival": "share of seeds that train",
    "seconds": "training time",
    "epochs_to_target": "time to the target",
    "steps_to_target": "time to the target",
    "worst_class_accuracy": "test accuracy of the worst class",
    "estimate_bias": "bias of the estimate",
    "estimate_error": "error of the estimate",
    "memorised": "share of wrong labels that are learned",
}
"""Metric -> its name in sentences, if it is not that of its column."""


class Primary(NamedTuple):
    """The primary metric of a task."""

    metric: str = "accuracy"
    lower_is_better: bool = False
    display: str = "accuracy"
    """Its name with the unit, in figures."""
    unit: str = ""

    @classmethod
    def of(cls, declaration: dict) -> "Primary":
        """The primary metric of a declaration's task, by default of classification."""
        task = declaration.get("task") or {}
        metric, unit = task.get("metric", "accuracy"), task.get("unit")
        display = DISPLAY.get(metric, metric) + (f" ({unit})" if unit else "")
        return cls(metric, task.get("lower_is_better", False), display, (unit or "").partition(",")[0])

    @property
    def column(self) -> str:
        """Column of the rows for the test split."""
        return self.on("test")

    @property
    def sign(self) -> float:
        """1 if higher is better, else −1."""
        return -1.0 if self.lower_is_better else 1.0

    def on(self, split: str) -> str:
        """Column of the rows for train, val or test."""
        return f"{split}_{self.metric}"

    def name(self, split: str = "test") -> str:
        """Its name in a sentence, as in `test accuracy`."""
        return f"{DISPLAY.get(split, split)} {DISPLAY.get(self.metric, self.metric)}"

    def label(self, split: str = "test") -> str:
        """Label of an axis, with the unit."""
        return f"{DISPLAY.get(split, split)} {self.display}"

    def higher_is_better_label(self, split: str) -> str:
        """Label of an axis whose values are negated if lower is better."""
        return f"minus {self.label(split)}" if self.lower_is_better else self.label(split)

    def gap(self, row) -> float:
        """Score on train minus that on test (negated if lower is better) of a row or a frame; NaN without these columns."""
        return self.sign * (row.get(self.on("train"), math.nan) - row.get(self.column, math.nan))


ACCURACY = Primary()


TIMED_UNITS = ("s", "ms", "images/s", "log2 images/s")
"""Units of measures that are only valid for trials that ran alone."""


def _no_step(table) -> None:
    """Step of a metric without a known step."""


@dataclass(frozen=True)
class Metric:
    """A metric by which trials are compared.

    Args:
        value: f(table, entry, seed, target) -> value of a trial; NaN if it has none.
        lower_is_better: set for a task's primary metric and for times to a target; for other metrics claims define it.
        ranked: whether values may be infinite (the target is not reached), so that only their ranks are compared.
        timed: whether values are only valid for trials that ran alone.
        step: f(table) -> smallest possible difference of two values; None if it is unknown.
        by_image: f(table, entry, seed) -> array [m] over test images whose mean is the value; None if it is not known.
        weighted: f(table, entry, seed, weights) -> values of the metric on resamples of the test images, [resamples]; `weights`
            is f(m) -> how often each of m images is in each resample, [m, resamples]. None if it is not known. For metrics of
            the test images that are no means over them.
        tuned: whether it is in the unit of the primary metric on test, so that the variance of the search applies to it.
    """

    value: Callable[..., float]
    lower_is_better: bool = False
    ranked: bool = False
    timed: bool = False
    step: Callable[..., float | None] = _no_step
    by_image: Callable[..., np.ndarray | None] | None = None
    weighted: Callable[..., np.ndarray | None] | None = None
    tuned: bool = False


def _per(size: str) -> Callable[..., float]:
    """Step of a mean over examples: 1 / n, with n from the column `size`."""
    return lambda table: 1 / float(table.rows[size].iloc[0])


# --- metrics of test images ------------------------------------------------------------------------------------------


def _gap_by_image(table, entry, seed) -> np.ndarray | None:
    """The train score less the outcome of each image, negated if lower is better."""
    values, train = table.by_image(entry, seed), table.of(entry, seed)[table.primary.on("train")]
    return None if values is None else table.primary.sign * (train - values)


def _bias_by_image(table, entry, seed) -> np.ndarray | None:
    """An estimate of the test score less the outcome of each image."""
    values, score = table.by_image(entry, seed), table.of(entry, seed)[table.primary.column]
    return None if values is None else table.measure("estimate_bias", entry, seed) + score - values


def _weighted_error(table, entry, seed, weights) -> np.ndarray | None:
    """Absolute error of an estimate of the test score."""
    bias = _bias_by_image(table, entry, seed)
    return None if bias is None else np.abs(bias @ weights(len(bias)) / len(bias))


def _recall_by_image(table, entry, seed) -> np.ndarray | None:
    """1 for a right image, divided by its class's frequency times the number of classes, else 0: its mean is macro recall.

    A class without a test image counts as one of which none is recognised, as in the column.
    """
    right, labels = table.correct(entry, seed), table.labels(entry, seed)
    if right is None:
        return None
    return right * len(labels) / (table.count_classes(entry, seed) * np.bincount(labels)[labels])


def _stored_by_image(name: str) -> Callable[..., np.ndarray | None]:
    """The values of a metric that are stored for each test image."""
    return lambda table, entry, seed: table.stored(name, entry, seed)


def _worst_class(table, entry, seed, _) -> float:
    """Accuracy of the class with the lowest accuracy."""
    right, labels = table.correct(entry, seed), table.labels(entry, seed)
    return math.nan if right is None else min(right[labels == c].mean() for c in np.unique(labels))


def _worst_class_step(table) -> float | None:
    labels = next((array for key, array in table.arrays.items() if key.startswith("labels/")), None)
    return None if labels is None else 1 / float(np.bincount(labels).max())


def _weighted_worst_class(table, entry, seed, weights) -> np.ndarray | None:
    right, labels = table.correct(entry, seed), table.labels(entry, seed)
    if right is None:
        return None
    counts = weights(len(labels))
    return np.min([_ratio(right[there] @ counts[there], counts[there].sum(axis=0)) for there in _members(labels)], axis=0)


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """The positions of each value that there is."""
    return [np.flatnonzero(groups == value) for value in np.unique(groups)]


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The quotient of two arrays, 0 where the second is 0."""
    return np.divide(first, second, out=np.zeros(first.shape), where=second > 0)


def _weighted_f1(table, entry, seed, weights) -> np.ndarray | None:
    """Macro F1 over classes, or over the labels of a multi-label task."""
    counts = _weighted_counts(table, entry, seed, weights)
    return None if counts is None else _ratio(2 * counts[0], counts[1] + counts[2]).mean(axis=0)


def _weighted_precision(table, entry, seed, weights) -> np.ndarray | None:
    counts = _weighted_counts(table, entry, seed, weights)
    return None if counts is None else _ratio(counts[0], counts[1]).mean(axis=0)


def _weighted_counts(table, entry, seed, weights) -> list[np.ndarray] | None:
    """Numbers of right predictions, predictions and images of each class in each resample, [classes, resamples] each."""
    predicted, present = table.indicators(entry, seed)
    if predicted is None:
        return None
    counts = weights(len(predicted))
    return [there.T.astype(np.float32) @ counts for there in (predicted & present, predicted, present)]


def _weighted_ece(table, entry, seed, weights) -> np.ndarray | None:
    """Expected calibration error, see `common.metrics.ece`."""
    right, confidence = table.correct(entry, seed), table.stored("confidence", entry, seed)
    if right is None or confidence is None:
        return None
    counts = weights(len(right))
    gaps = [(right[there] - confidence[there]) @ counts[there] for there in _members(metrics.bin_of(confidence))]
    return np.abs(gaps).sum(axis=0) / len(right)


IMAGES = {
    "test_recall": {"by_image": _recall_by_image, "tuned": True},
    "test_nll": {"by_image": _stored_by_image("test_nll")},
    "best_test_accuracy": {"by_image": _stored_by_image("best_test_accuracy"), "tuned": True},  # so far not stored
    "test_f1": {"weighted": _weighted_f1, "tuned": True},
    "test_precision": {"weighted": _weighted_precision, "tuned": True},
    "test_ece": {"weighted": _weighted_ece},
    "estimate_bias": {"by_image": _bias_by_image},
    "estimate_error": {"weighted": _weighted_error},
    **{name: {"by_image": _stored_by_image(name), "tuned": True} for name in SHIFTED},
}
"""Columns and measures computed from test images -> how, as arguments of `Metric`."""


# --- metrics of trials -----------------------------------------------------------------------------------------------


def _seconds(table, entry, seed, _) -> float:
    """Seconds of training and input, of a trial that ran alone."""
    row = table.of(entry, seed)
    return float(row["train_seconds"]) + float(row["input_seconds"]) if row["beside"] == 0 else math.nan


def _steps(row: dict, epoch: float, epochs: dict) -> float:
    """Number of updates until the end of an epoch, from the epoch's row; if it has none, from the trial's mean per epoch."""
    counted = np.asarray(epochs.get("steps", ()), float)
    if epoch <= len(counted) and np.isfinite(counted[int(epoch) - 1]):
        return float(counted[int(epoch) - 1])
    return epoch * (row["steps"] / max(row["final_epoch"], 1))


def predictor_stage(row: dict, epochs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The epochs of the stage that trained the predictor, without those of a teacher or of pretraining.

    For a row without the column `stage` that is `fit` if there is one, else the last stage.
    """
    stages = epochs.get("stage", ())
    if not len(stages):
        return epochs
    named = row.get("stage")
    stage = named if named in set(stages) else "fit" if "fit" in set(stages) else stages[-1]
    return {name: values[stages == stage] for name, values in epochs.items()}


def _until_target(at_epoch: Callable[..., float]) -> Metric:
    """Metric for the time until the score on val reaches a target, from the start of the predictor's stage; infinite if never.

    Args:
        at_epoch: f(row, epoch, epochs) -> the time at the end of an epoch; `epochs` are the columns of the trial's epochs.
    """

    def value(table, entry, seed, target):
        row = table.of(entry, seed)
        epochs = predictor_stage(row, table.epochs_of(entry, seed))
        scores = np.asarray(epochs.get(table.primary.on("val"), ()), float)
        reached = np.flatnonzero(table.primary.sign * scores >= table.primary.sign * target)
        return float(at_epoch(row, reached[0] + 1, epochs)) if len(reached) else math.inf

    return Metric(value, lower_is_better=True, ranked=True)


DERIVED = {
    "gap": Metric(
        lambda table, entry, seed, _: float(table.primary.gap(table.of(entry, seed))),
        step=_per("test_size"),
        by_image=_gap_by_image,
        tuned=True,
    ),
    "survival": Metric(lambda table, entry, seed, _: float(table.trained(entry, seed))),
    "worst_class_accuracy": Metric(_worst_class, step=_worst_class_step, weighted=_weighted_worst_class, tuned=True),
    "seconds": Metric(_seconds, timed=True),
    "epochs_to_target": _until_target(lambda row, epoch, epochs: epoch),
    "steps_to_target": _until_target(_steps),
}
"""Metrics that are computed from several columns or arrays."""
SIZES = {"test_accuracy": "test_size", "best_test_accuracy": "test_size", "val_accuracy": "val_size"}
"""Column with a mean over examples -> column with their number."""


def of_column(name: str, primary: Primary) -> Metric:
    """The metric of a column of the rows."""
    is_primary = name == primary.column
    images = dict(IMAGES.get(name, {}))
    if is_primary and primary.metric in ("accuracy", "error"):
        images = {"by_image": lambda table, entry, seed: table.by_image(entry, seed), "tuned": True}
    return Metric(
        lambda table, entry, seed, _: float(table.of(entry, seed)[name]),
        lower_is_better=is_primary and primary.lower_is_better,
        step=_per(SIZES[name]) if name in SIZES else _no_step,
        **images,
    )


def of_measure(name: str, units: set[str], whole: bool) -> Metric:
    """The metric of a measure.

    Args:
        units: all units in which it was recorded; whole: whether all its values are integers.
    """
    timed = not units.isdisjoint(TIMED_UNITS)

    def value(table, entry, seed, _):
        measure = table.measure(name, entry, seed)
        return math.nan if timed and table.of(entry, seed)["beside"] != 0 else measure

    return Metric(value, timed=timed, step=lambda table: 1.0 if whole else None, **IMAGES.get(name, {}))


def unit_of(name: str, primary: Primary, recorded: str = "") -> Unit:
    """How numbers of a metric are written in sentences.

    Args:
        recorded: the unit in which a measure was recorded.
    """
    like = primary.column if name in OF_SCORES else name
    unit = recorded or (primary.unit if like == primary.column else "")
    unit = UNITS.get(unit, unit) or next((other for end, other in UNITS.items() if name.endswith(end)), "")
    words = " ".join(DISPLAY.get(word, word) for word in name.split("_") if word != unit)
    quantity = f"gap between training and {primary.name()}" if name == "gap" else QUANTITIES.get(name, words)
    return Unit(quantity, unit if unit in PLURALS else "")


def direction(name: str, claims: Iterable[dict], primary: Primary) -> int:
    """1 if higher values of a metric are better, −1 if lower ones are, 0 if that is unknown.

    Args:
        claims: of the experiment, as in its declaration; those about the metric decide unless it is the primary one, but not
            those of kind "same", which have no direction.
    """
    if name == primary.column:
        return int(primary.sign)
    for claim in claims:
        if claim.get("metric") == name and claim.get("kind") != "same":
            return -1 if claim.get("lower_is_better") else 1
    return 1 if ends_with(name, HIGHER) else -1 if ends_with(name, LOWER) else 0
