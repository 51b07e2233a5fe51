"""Metrics by which trials are compared, and the primary metric of a task.

The functions of a metric take a `common.rows.table.Table`, whose module imports this one.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DISPLAY = {"f1": "F1", "val": "validation", "train": "training"}
"""Metric or split -> its name in texts and figures, if it is another."""


class Primary(NamedTuple):
    """The primary metric of a task."""

    metric: str = "accuracy"
    lower_is_better: bool = False
    display: str = "accuracy"
    """Its name with the unit, in figures."""

    @classmethod
    def of(cls, declaration: dict) -> "Primary":
        """The primary metric of a declaration's task, by default of classification."""
        task = declaration.get("task") or {}
        metric, unit = task.get("metric", "accuracy"), task.get("unit")
        display = DISPLAY.get(metric, metric) + (f" ({unit})" if unit else "")
        return cls(metric, task.get("lower_is_better", False), display)

    @property
    def column(self) -> str:
        """Column of the rows for the test split."""
        return self.on("test")

    @property
    def sign(self) -> float:
        """1 if higher is better, else −1."""
        return -1.0 if self.lower_is_better else 1.0

    @property
    def extreme(self) -> str:
        """The best value among arms: `highest` or `lowest`."""
        return "lowest" if self.lower_is_better else "highest"

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
        ranked: whether values are censored (the target may not be reached), so that only their ranks are compared.
        timed: whether values are only valid for trials that ran alone.
        step: f(table) -> smallest possible difference of two values; None if it is unknown.
        at_epoch: f(row, epoch, epochs) -> value of a trial that reaches the target at the end of the epoch; `epochs` are the
            columns of its epochs, if known.
    """

    value: Callable[..., float]
    lower_is_better: bool = False
    ranked: bool = False
    timed: bool = False
    step: Callable[..., float | None] = _no_step
    at_epoch: Callable[..., float] = lambda row, epoch, epochs=None: epoch


def _per(size: str) -> Callable[..., float]:
    """Step of a mean over examples: 1 / n, with n from the column `size`."""
    return lambda table: 1 / float(table.rows[size].iloc[0])


def _worst_class(table, entry, seed, _) -> float:
    """Accuracy of the class with the lowest accuracy."""
    right, labels = table.correct(entry, seed), table.labels(entry, seed)
    return math.nan if right is None else min(right[labels == c].mean() for c in np.unique(labels))


def _worst_class_step(table) -> float | None:
    labels = next((array for key, array in table.arrays.items() if key.startswith("labels/")), None)
    return None if labels is None else 1 / float(np.bincount(labels).max())


def _seconds(table, entry, seed, _) -> float:
    """Seconds of training and input, of a trial that ran alone."""
    row = table.of(entry, seed)
    return float(row["train_seconds"]) + float(row["input_seconds"]) if row["beside"] == 0 else math.nan


def _steps(row: dict, epoch: float, epochs: dict | None = None) -> float:
    """Number of updates until the end of an epoch, from the epoch's row; if it has none, from the trial's mean per epoch."""
    counted = np.asarray((epochs or {}).get("steps", ()), float)
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
        at_epoch: the unit of time, see `Metric`.
    """

    def value(table, entry, seed, target):
        row = table.of(entry, seed)
        epochs = predictor_stage(row, table.epochs_of(entry, seed))
        scores = np.asarray(epochs.get(table.primary.on("val"), ()), float)
        reached = np.flatnonzero(table.primary.sign * scores >= table.primary.sign * target)
        epoch = reached[0] + 1 if len(reached) else math.inf
        return float(at_epoch(row, epoch, epochs))

    return Metric(value, lower_is_better=True, ranked=True, at_epoch=at_epoch)


DERIVED = {
    "gap": Metric(lambda table, entry, seed, _: float(table.primary.gap(table.of(entry, seed))), step=_per("test_size")),
    "survival": Metric(lambda table, entry, seed, _: float(table.of(entry, seed)["status"] == "done")),
    "worst_class_accuracy": Metric(_worst_class, step=_worst_class_step),
    "seconds": Metric(_seconds, timed=True),
    "epochs_to_target": _until_target(lambda row, epoch, epochs=None: epoch),
    "steps_to_target": _until_target(_steps),
}
"""Metrics that are computed from several columns or arrays."""
HIGHER = ("accuracy", "f1", "precision", "recall", "survival", "images_per_second")
LOWER = ("nll", "ece", "error", "gap", "seconds")
"""Ends of names of metrics of which higher or lower values are better, where neither task nor claim says so."""
SIZES = {"test_accuracy": "test_size", "best_test_accuracy": "test_size", "val_accuracy": "val_size"}
"""Column with a mean over examples -> column with their number."""


def of_column(name: str, primary: Primary) -> Metric:
    """The metric of a column of the rows."""
    return Metric(
        lambda table, entry, seed, _: float(table.of(entry, seed)[name]),
        lower_is_better=name == primary.column and primary.lower_is_better,
        step=_per(SIZES[name]) if name in SIZES else _no_step,
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

    return Metric(value, timed=timed, step=lambda table: 1.0 if whole else None)


def direction(name: str, claims: Iterable[dict], primary: Primary) -> int:
    """1 if higher values of a metric are better, −1 if lower ones are, 0 if that is unknown.

    Args:
        claims: of the experiment, as in its declaration; those about the metric decide unless it is the primary one.
    """
    if name == primary.column:
        return int(primary.sign)
    for claim in claims:
        if claim.get("metric") == name:
            return -1 if claim.get("lower_is_better") else 1
    return 1 if name.endswith(HIGHER) else -1 if name.endswith(LOWER) else 0
