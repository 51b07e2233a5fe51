"""Metrics of rows: the value for one trial, the direction, the smallest step; and a task's primary metric.

Functions of a metric take a `rows.table.Table`, which is built on this module.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SPOKEN = {"f1": "F1", "val": "validation", "train": "training"}
"""What people call a metric or a split, where not as it is."""


class Primary(NamedTuple):
    """A task's primary metric, measured on each split."""

    metric: str = "accuracy"
    lower_is_better: bool = False
    said: str = "accuracy"
    """What figures call it."""

    @classmethod
    def of(cls, declaration: dict) -> "Primary":
        """That of an experiment's task; one that declares none is classification."""
        task = declaration.get("task") or {}
        metric, unit = task.get("metric", "accuracy"), task.get("unit")
        said = SPOKEN.get(metric, metric) + (f" ({unit})" if unit else "")
        return cls(metric, task.get("lower_is_better", False), said)

    @property
    def column(self) -> str:
        """Of the rows: the score on the test split."""
        return self.on("test")

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return -1.0 if self.lower_is_better else 1.0

    @property
    def extreme(self) -> str:
        """What the best arm's value is among all."""
        return "lowest" if self.lower_is_better else "highest"

    def on(self, split: str) -> str:
        """Its column for train, val or test."""
        return f"{split}_{self.metric}"

    def name(self, split: str = "test") -> str:
        """In a sentence."""
        return f"{SPOKEN.get(split, split)} {SPOKEN.get(self.metric, self.metric)}"

    def label(self, split: str = "test") -> str:
        """On an axis."""
        return f"{SPOKEN.get(split, split)} {self.said}"

    def turned(self, split: str) -> str:
        """On an axis whose values are turned so that more is better."""
        return f"minus {self.label(split)}" if self.lower_is_better else self.label(split)

    def gap(self, row) -> float:
        """How much better a trial, or a frame of them, does on what it was trained on; blank where it has no such score."""
        return self.sign * (row.get(self.on("train"), math.nan) - row.get(self.column, math.nan))


ACCURACY = Primary()


TIMED_UNITS = ("s", "ms", "images/s", "log2 images/s")
"""Units of measures that other trials at the same time would spoil."""


def _no_step(table) -> None:
    """A metric without a smallest step, or none that is known."""


@dataclass(frozen=True)
class Metric:
    """A number by which trials are compared.

    Args:
        value: f(table, entry, seed, target) -> one trial's value; NaN where it has none.
        lower_is_better: known for a task's primary metric and for updates to a target; of others a claim says it.
        ranked: whether it is censored where training ends first, so that trials are judged by their ranks.
        timed: whether other trials at the same time would spoil it.
        step: f(table) -> the smallest step that it can change by; None where that is not known.
        at_epoch: f(row, epoch, epochs) -> the value of a trial that reaches its target at the end of that epoch; epochs are the
            columns of its epochs, where they are known.
    """

    value: Callable[..., float]
    lower_is_better: bool = False
    ranked: bool = False
    timed: bool = False
    step: Callable[..., float | None] = _no_step
    at_epoch: Callable[..., float] = lambda row, epoch, epochs=None: epoch


def _per(size: str) -> Callable[..., float]:
    """The step of a mean over so many examples, the number of which is a column."""
    return lambda table: 1 / float(table.rows[size].iloc[0])


def _worst_class(table, entry, seed, _) -> float:
    right, labels = table.correct(entry, seed), table.labels(entry, seed)
    return math.nan if right is None else min(right[labels == c].mean() for c in np.unique(labels))


def _worst_class_step(table) -> float | None:
    labels = next((array for key, array in table.arrays.items() if key.startswith("labels/")), None)
    return None if labels is None else 1 / float(np.bincount(labels).max())


def _seconds(table, entry, seed, _) -> float:
    row = table.of(entry, seed)
    return float(row["train_seconds"]) + float(row["input_seconds"]) if row["beside"] == 0 else math.nan


def _steps(row: dict, epoch: float, epochs: dict | None = None) -> float:
    """Updates until the end of an epoch: as its own row says, which not all do, else at the trial's mean rate."""
    counted = np.asarray((epochs or {}).get("steps", ()), float)
    if epoch <= len(counted) and np.isfinite(counted[int(epoch) - 1]):
        return float(counted[int(epoch) - 1])
    return epoch * (row["steps"] / max(row["final_epoch"], 1))


def _own_stage(row: dict, epochs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The epochs of the stage that the predictor comes from, not those of a teacher or of pretraining.

    A row that does not say which that is has the stage `fit`, if there is one, else the last.
    """
    stages = epochs.get("stage", ())
    if not len(stages):
        return epochs
    named = row.get("stage")
    stage = named if named in set(stages) else "fit" if "fit" in set(stages) else stages[-1]
    return {name: values[stages == stage] for name, values in epochs.items()}


def _until_target(at_epoch: Callable[..., float]) -> Metric:
    """What it takes until val reaches a target, as `at_epoch` counts it; infinite where it never does.

    It counts from the beginning of the stage that the predictor comes from.
    """

    def value(table, entry, seed, target):
        row = table.of(entry, seed)
        epochs = _own_stage(row, table.epochs_of(entry, seed))
        seen = np.asarray(epochs.get(table.primary.on("val"), ()), float)
        reached = np.flatnonzero(table.primary.sign * seen >= table.primary.sign * target)
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
"""Metrics that are no column and no measure."""
SIZES = {"test_accuracy": "test_size", "best_test_accuracy": "test_size", "val_accuracy": "val_size"}
"""Columns that are means over examples, and the column with their number."""


def of_column(name: str, primary: Primary) -> Metric:
    """The metric that a column of the rows is."""
    return Metric(
        lambda table, entry, seed, _: float(table.of(entry, seed)[name]),
        lower_is_better=name == primary.column and primary.lower_is_better,
        step=_per(SIZES[name]) if name in SIZES else _no_step,
    )


def of_measure(name: str, units: set[str], whole: bool) -> Metric:
    """The metric that a measure is, of some units; `whole` if it counts something: bytes, say."""
    timed = not units.isdisjoint(TIMED_UNITS)

    def value(table, entry, seed, _):
        measure = table.measure(name, entry, seed)
        return math.nan if timed and table.of(entry, seed)["beside"] != 0 else measure

    return Metric(value, timed=timed, step=lambda table: 1.0 if whole else None)
