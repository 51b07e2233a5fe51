"""The rows of one experiment in one setting, and what one trial's value of a metric is. Nothing here judges.

An *entry* is an arm at one rate, by the name that `schema.entry_name` gives it: the arm's name for its own rate.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from common import metrics
from common.files import read_arrays
from common.rows import schema, store
from common.rows.metric import DERIVED, Metric, Primary, of_column, of_measure

TARGETS_ARE_SHARES = 3
"""The first protocol in which a target is a share of what the baseline ends with."""


class NoData(Exception):
    """A claim that the rows cannot speak about, and why."""


@dataclass
class Table:
    """The rows of one experiment in one setting, as claims need them."""

    files: schema.Files
    rows: pd.DataFrame
    epochs: pd.DataFrame
    measures: pd.DataFrame
    arrays: dict[str, np.ndarray]
    declaration: dict
    undone: list[dict] = field(default_factory=list)
    """Rows, as text, of trials that failed or were unavailable."""

    def __post_init__(self):
        self.primary = Primary.of(self.declaration)
        absent = [self.primary.on(split) for split in ("train", "val", "test") if self.primary.on(split) not in self.rows]
        if absent:  # of a task whose metric no row has yet
            self.rows = self.rows.assign(**dict.fromkeys(absent, math.nan))
        self.rows, self.epochs, self.measures = map(_with_entries, (self.rows, self.epochs, self.measures))
        self.arms = list(self.declaration["arms"])
        self.arm_of = dict(zip(self.rows["entry"], self.rows["arm"], strict=True))
        """The arm of each entry that has rows."""
        common = self.rows[(self.rows["rate"] == schema.COMMON) & self.rows["arm"].isin(self.arms)]
        self.at_common_rate = set(common["entry"])
        self.entries = [*self.arms, *sorted(self.at_common_rate, key=lambda entry: self.arms.index(self.arm_of[entry]))]
        """All arms at their own rates, then those that have rows at the common one."""
        self.by_trial = {(row["entry"], row["seed"]): row for row in self.rows.to_dict("records")}
        self.places = self.epochs.groupby(["entry", "seed"]).indices if len(self.epochs) else {}
        self.columns = {name: self.epochs[name].to_numpy() for name in self.epochs if name not in (*schema.KEY, "entry")}
        self.outcomes: dict[tuple[str, int], np.ndarray | None] = {}

    @classmethod
    def read(cls, files: schema.Files) -> "Table":
        """Everything there is. Raises `Failure` for a damaged file."""
        undone = [row for row in store.read_rows(files) if row["status"] not in schema.FINAL]
        rows = store.read_frame(files)
        rows = rows[rows["status"].isin(schema.FINAL)]
        return cls(
            files,
            rows,
            store.read_epochs(files),
            store.read_measures(files),
            read_arrays(files.predictions),
            store.read_declaration(files),
            undone,
        )

    def of(self, entry: str, seed: int) -> dict:
        """The row of one trial."""
        return self.by_trial[entry, seed]

    def epochs_of(self, entry: str, seed: int) -> dict[str, np.ndarray]:
        """The columns of one trial's epochs; none where there are none."""
        places = self.places.get((entry, seed))
        return {} if places is None else {name: values[places] for name, values in self.columns.items()}

    def scores(self, entry: str, column: str) -> np.ndarray:
        """One column of an entry's trials, seed by seed, float [n]; blank where a trial has no such number."""
        own = sorted((seed, row.get(column, math.nan)) for (name, seed), row in self.by_trial.items() if name == entry)
        return np.array([value for _, value in own], float)

    def target(self, share: float, seeds: Sequence[int] | None = None) -> float:
        """What val must reach to be at a share of what the baseline (or the first arm) ends with, in the mean over its seeds.

        Of an error, less is better: it is 1 / share times that. Seeds in which that arm did not train do not count.

        Args:
            seeds: by default all that the arm has.

        Raises:
            NoData: that arm has no such row, or the rows are of a protocol whose targets were no shares.
        """
        if self.declaration.get("protocol", 0) < TARGETS_ARE_SHARES:
            raise NoData("its target is of an earlier protocol, and no share of what the baseline ends with: run it again")
        whose = self.declaration.get("baseline") or self.arms[0]
        rows = [row for (entry, seed), row in self.by_trial.items() if entry == whose and (seeds is None or seed in seeds)]
        finals = [row[self.primary.on("val")] for row in rows if row["status"] == "done" and str(row.get("trained")) != "False"]
        if not finals:
            raise NoData(f"no seed in which {whose} has trained, by which the target is set")
        return float(np.mean(finals) * share**self.primary.sign)

    def seeds_of(self, entries: list[str]) -> list[int]:
        """Seeds that all the entries have, from 0 on without a gap: a later seed must not stand in for a missing one."""
        there = [{seed for name, seed in self.by_trial if name == entry} for entry in entries]
        shared = set.intersection(*there) if there else set()
        return list(range(next(i for i in range(len(shared) + 1) if i not in shared)))

    def correct(self, entry: str, seed: int) -> np.ndarray | None:
        """Whether each test image was classified rightly, float [m]; None where that is not known, or no question of classes."""
        predicted, labels = self.predicted(entry, seed), self.labels(entry, seed)
        return None if predicted is None else (predicted == labels).astype(float)

    def by_image(self, entry: str, seed: int) -> np.ndarray | None:
        """What the primary metric is the mean of, float [m]; None where that is not known, or it is no mean over test images."""
        if (entry, seed) not in self.outcomes:
            found = self.correct(entry, seed) if self.primary.metric == "accuracy" else None
            if self.primary.metric == "error":
                said, truth = self.arrays.get(f"{entry}/{seed}"), self._truth(entry, seed)
                if said is not None and truth is not None and said.shape == truth.shape and said.ndim == 1:
                    found = np.abs(said.astype(float) - truth)
            self.outcomes[entry, seed] = found
        return self.outcomes[entry, seed]

    def _labels_key(self, entry: str, seed: int) -> str:
        row = self.of(entry, seed)
        setting = row.get("setting")
        classes = json.loads(setting).get("classes") if isinstance(setting, str) else None  # else an old row or none
        return schema.labels_key(str(row["data_checksum"]), classes)

    def _truth(self, entry: str, seed: int) -> np.ndarray | None:
        """What is kept of the labels of the test images that a trial was scored on."""
        return self.arrays.get(self._labels_key(entry, seed))

    def class_names(self, entry: str, seed: int) -> list[str]:
        """Of the classes that a trial told apart, in order; none where the declaration was written before it held them."""
        return self.declaration.get("class_names", {}).get(self._labels_key(entry, seed), [])

    def shared_class_names(self) -> list[str]:
        """Of the classes of all trials; none where these are of several datasets."""
        found = [self.class_names(entry, seed) for entry, seed in self.by_trial]
        return found[0] if found and all(names == found[0] for names in found) else []

    def labels(self, entry: str, seed: int) -> np.ndarray | None:
        """The classes of the test images that a trial was scored on; None where it is no question of classes."""
        labels = self._truth(entry, seed)
        return labels if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None

    def predicted(self, entry: str, seed: int) -> np.ndarray | None:
        """The class of each test image that a trial says; None where it or the labels are missing."""
        predicted, labels = self.arrays.get(f"{entry}/{seed}"), self.labels(entry, seed)
        return predicted if predicted is not None and labels is not None and predicted.shape == labels.shape else None

    def confusion(self, entry: str, seed: int) -> np.ndarray | None:
        """Counts [classes, classes] of one trial, rows true, columns predicted."""
        predicted, labels = self.predicted(entry, seed), self.labels(entry, seed)
        if predicted is None:
            return None
        return metrics.confusion(predicted.astype(int), labels.astype(int), 1 + int(max(labels.max(), predicted.max())))

    def metric(self, name: str) -> Metric:
        """A metric by its name: one of `metric.DERIVED`, a column of the rows or a measure. Raises `NoData`."""
        if name in DERIVED:
            return DERIVED[name]
        if name in self.rows:
            return of_column(name, self.primary)
        rows = self.measures[self.measures["name"] == name]
        if not len(rows):
            raise NoData(f"no column and no measure is called {name!r}")
        return of_measure(name, set(rows["unit"].dropna()), bool((rows["value"] % 1 == 0).all()))

    def measure(self, name: str, entry: str, seed: int) -> float:
        """What one trial recorded under a name; NaN where it did not."""
        measures = self.measures
        values = measures.loc[(measures["name"] == name) & (measures["entry"] == entry) & (measures["seed"] == seed), "value"]
        return float(values.iloc[0]) if len(values) else math.nan


def _with_entries(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column `entry`."""
    columns = zip(frame["arm"], frame["rate"], frame["point"], strict=True)
    return frame.assign(entry=[schema.entry_name(*values) for values in columns])
