"""The number that an experiment's arms are compared by first: its columns, its direction, and what axes and sentences call it."""

import math
from typing import NamedTuple

NAMES = {"f1": "F1", "val": "validation", "train": "training"}
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
        said = NAMES.get(metric, metric) + (f" ({unit})" if unit else "")
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
        return f"{NAMES.get(split, split)} {NAMES.get(self.metric, self.metric)}"

    def label(self, split: str = "test") -> str:
        """On an axis."""
        return f"{NAMES.get(split, split)} {self.said}"

    def turned(self, split: str) -> str:
        """On an axis whose values are turned so that more is better."""
        return f"minus {self.label(split)}" if self.lower_is_better else self.label(split)

    def gap(self, row) -> float:
        """How much better a trial, or a frame of them, does on what it was trained on; blank where it has no such score."""
        return self.sign * (row.get(self.on("train"), math.nan) - row.get(self.column, math.nan))


ACCURACY = Primary()
