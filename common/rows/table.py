"""`Table`: the rows of one experiment in one setting, with the values of metrics for each trial.

An *entry* is an arm at one rate, by its name from `schema.entry_name`. Only arms that are scored on the same test images are
compared: `Table.parts` separates those on other datasets or other classes.
"""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from common import metrics
from common.rows import schema, store
from common.rows.metric import DERIVED, Metric, Primary, of_column, of_measure, unit_of
from common.text import Unit, file_name

TARGETS_ARE_SHARES = 3
"""The first protocol in which a target is a share of the baseline's final score."""


class NoData(Exception):
    """The rows do not have the data for a claim; the message is the reason."""


@dataclass
class Table:
    """The rows of one experiment in one setting."""

    files: schema.Files
    rows: pd.DataFrame
    epochs: pd.DataFrame
    measures: pd.DataFrame
    arrays: dict[str, np.ndarray]
    declaration: dict
    unfinished: list[dict] = field(default_factory=list)
    """Rows of failed and unavailable trials, as text."""
    part: str = ""
    """Dataset or classes that tell a part of a table from the others, see `parts`; empty for a whole table."""

    def __post_init__(self):
        self.primary = Primary.of(self.declaration)
        absent = [self.primary.on(split) for split in ("train", "val", "test") if self.primary.on(split) not in self.rows]
        if absent:
            self.rows = self.rows.assign(**dict.fromkeys(absent, math.nan))
        self.rows, self.epochs, self.measures = map(_with_entries, (self.rows, self.epochs, self.measures))
        self.arms = list(self.declaration["arms"])
        self.arm_of = dict(zip(self.rows["entry"], self.rows["arm"], strict=True))
        """Entry with rows -> its arm."""
        common = self.rows[(self.rows["rate"] == schema.COMMON) & self.rows["arm"].isin(self.arms)]
        self.at_common_rate = set(common["entry"])
        self.entries = [*self.arms, *sorted(self.at_common_rate, key=lambda entry: self.arms.index(self.arm_of[entry]))]
        """All arms, then the entries at the common rate that have rows."""
        self.by_trial = {(row["entry"], row["seed"]): row for row in self.rows.to_dict("records")}
        self.places = self.epochs.groupby(["entry", "seed"]).indices if len(self.epochs) else {}
        self.columns = {name: self.epochs[name].to_numpy() for name in self.epochs if name not in (*schema.KEY, "entry")}
        self.outcomes: dict[tuple[str, int], np.ndarray | None] = {}

    @property
    def dataset(self) -> str:
        """Name of the dataset, as in the declaration; of a table with several (see `parts`) that of the first arm with rows."""
        return self.dataset_of(next(iter(self.arm_of.values()), None))

    def dataset_of(self, arm: str | None) -> str:
        """Name of an arm's dataset, as in the declaration."""
        return self.declaration.get("datasets", {}).get(arm, self.declaration["setting"]["dataset"])

    def have_one_common_rate(self, entries: Collection[str]) -> bool:
        """Whether entries are at the common learning rate, all that were searched, and all rows at the same one."""
        rows = self.rows[self.rows["entry"].isin(entries)]
        common = rows["rate"] == schema.COMMON
        searched = rows["search"].map(_text) != ""
        rates = {json.loads(arguments).get("learning_rate") for arguments in rows.loc[common, "arguments"]}
        return bool(common[searched].all()) and len(rates) == 1

    @property
    def place(self) -> str:
        """Name of the setting folder, and of the part."""
        return ", ".join(filter(None, [self.files.folder.name, self.part]))

    @property
    def identity(self) -> str:
        """Setting folder, experiment and part, in characters that an address may have."""
        return "/".join(filter(None, [self.files.folder.name, self.files.experiment, file_name(self.part)]))

    @classmethod
    def read(cls, files: schema.Files) -> "Table":
        """Read all files of an experiment. Raises `Failure` for a damaged one."""
        unfinished = [row for row in store.read_rows(files) if row["status"] not in schema.FINAL]
        rows = store.read_frame(files)
        rows = rows[rows["status"].isin(schema.FINAL)]
        return cls(
            files,
            rows,
            store.read_epochs(files),
            store.read_measures(files),
            store.read_predictions(files),
            store.read_declaration(files),
            unfinished,
        )

    def of(self, entry: str, seed: int) -> dict:
        """The row of a trial."""
        return self.by_trial[entry, seed]

    def epochs_of(self, entry: str, seed: int) -> dict[str, np.ndarray]:
        """Column -> values over the epochs of a trial; empty if it has none."""
        places = self.places.get((entry, seed))
        return {} if places is None else {name: values[places] for name, values in self.columns.items()}

    def data_of(self, entry: str) -> tuple[str, tuple[int, ...]]:
        """Dataset and classes of an entry's test images; no classes for all of them."""
        row = next(row for (name, _), row in self.by_trial.items() if name == entry)
        return _text(row.get("dataset")), tuple(json.loads(_text(row.get("setting")) or "{}").get("classes") or ())

    def parts(self) -> list["Table"]:
        """A table for each dataset and choice of classes, with the arms that are scored on it; the table itself if there is one.

        Arms without rows are in the first, claims about arms of several in none.
        """
        groups: dict[tuple, list[str]] = {}
        for entry in (entry for entry in self.entries if entry in self.arm_of):
            groups.setdefault(self.data_of(entry), []).append(self.arm_of[entry])
        if len(groups) < 2:
            return [self]
        next(iter(groups.values())).extend(arm for arm in self.arms if arm not in self.arm_of.values())
        names = _names_of_parts(list(groups))
        return [self._of_arms(arms, name) for arms, name in zip(groups.values(), names, strict=True)]

    def _of_arms(self, arms: Sequence[str], part: str) -> "Table":
        """The table of some of the arms."""
        declaration, claims = self.declaration, self.declaration.get("claims", [])
        baseline = declaration.get("baseline")
        fields = {
            "arms": {arm: declaration["arms"][arm] for arm in self.arms if arm in arms},
            "baseline": baseline if baseline in arms else None,
            "claims": [claim for claim in claims if _arms_of(claim) <= set(arms)],
        }
        frames = (frame[frame["arm"].isin(arms)] for frame in (self.rows, self.epochs, self.measures))
        unfinished = [row for row in self.unfinished if row["arm"] in arms]
        return Table(self.files, *frames, self.arrays, {**declaration, **fields}, unfinished, part)

    def scores(self, entry: str, column: str) -> np.ndarray:
        """A column of an entry's trials, sorted by seed: float [n], NaN for missing values."""
        pairs = sorted((seed, row.get(column, math.nan)) for (name, seed), row in self.by_trial.items() if name == entry)
        return np.array([value for _, value in pairs], float)

    def target(self, share: float, seeds: Sequence[int] | None = None) -> float:
        """The score on val that is a share of the final one of the baseline (or the first arm), mean over seeds.

        For an error, where lower is better, it is 1 / share times the final one. Seeds in which that arm did not train are left
        out.

        Args:
            seeds: by default all seeds of the arm.

        Raises:
            NoData: the arm has no such rows, or they are of an early protocol, whose targets were not shares.
        """
        if self.declaration.get("protocol", 0) < TARGETS_ARE_SHARES:
            raise NoData("its target is of an earlier protocol, not a share of the baseline's final score: run it again")
        arm = self.declaration.get("baseline") or self.arms[0]
        trials = [(entry, seed) for entry, seed in self.by_trial if entry == arm and (seeds is None or seed in seeds)]
        finals = [self.of(*trial)[self.primary.on("val")] for trial in trials if self.trained(*trial)]
        if not finals:
            raise NoData(f"its target needs a seed in which {arm} has trained")
        return float(np.mean(finals) * share**self.primary.sign)

    def trained(self, entry: str, seed: int) -> bool:
        """Whether a trial has trained: it is finite, and better on train than a constant prediction by a tenth of what is
        possible. Rows of early protocols say only whether it is finite."""
        row = self.of(entry, seed)
        return row["status"] == "done" and str(row.get("trained")) != "False"

    def searched(self, arm: str) -> bool:
        """Whether an argument of an arm was searched, for the arm alone or for all, once for all seeds."""
        rows = [row for row in self.by_trial.values() if row["arm"] == arm and isinstance(row.get("search"), str)]
        return any(schema.EACH_SEED not in str(row.get("tuning")) for row in rows)

    def seeds_of(self, entries: list[str]) -> list[int]:
        """The seeds 0, 1, … that all the entries have, up to the first missing one."""
        seeds = [{seed for name, seed in self.by_trial if name == entry} for entry in entries]
        shared = set.intersection(*seeds) if seeds else set()
        return list(range(next(i for i in range(len(shared) + 1) if i not in shared)))

    def correct(self, entry: str, seed: int) -> np.ndarray | None:
        """1 for each test image that was classified correctly, else 0: float [m]; None without predictions or classes."""
        predicted, labels = self.predicted(entry, seed), self.labels(entry, seed)
        return None if predicted is None else (predicted == labels).astype(float)

    def by_image(self, entry: str, seed: int) -> np.ndarray | None:
        """The primary metric of each test image, whose mean is the score: float [m]; None if unknown or not such a mean."""
        if (entry, seed) not in self.outcomes:
            values = self.correct(entry, seed) if self.primary.metric == "accuracy" else None
            if self.primary.metric == "error":
                predicted, targets = self.arrays.get(f"{entry}/{seed}"), self._targets(entry, seed)
                if predicted is not None and targets is not None and predicted.shape == targets.shape and predicted.ndim == 1:
                    values = np.abs(predicted.astype(float) - targets)
            self.outcomes[entry, seed] = values
        return self.outcomes[entry, seed]

    def _labels_key(self, entry: str, seed: int) -> str:
        row = self.of(entry, seed)
        setting = row.get("setting")
        classes = json.loads(setting).get("classes") if isinstance(setting, str) else None  # early rows have no setting
        return schema.labels_key(str(row["data_checksum"]), classes)

    def _targets(self, entry: str, seed: int) -> np.ndarray | None:
        """Labels or targets of a trial's test images, if known."""
        return self.arrays.get(self._labels_key(entry, seed))

    def class_names(self, entry: str, seed: int) -> list[str]:
        """Names of a trial's classes, in order; empty for declarations of earlier versions."""
        return self.declaration.get("class_names", {}).get(self._labels_key(entry, seed), [])

    def shared_class_names(self) -> list[str]:
        """Class names of all trials; empty if trials differ in them."""
        all_names = [self.class_names(entry, seed) for entry, seed in self.by_trial]
        return all_names[0] if all_names and all(names == all_names[0] for names in all_names) else []

    def labels(self, entry: str, seed: int) -> np.ndarray | None:
        """Classes of a trial's test images, int [m]; None if the task has no classes."""
        labels = self._targets(entry, seed)
        return labels if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None

    def predicted(self, entry: str, seed: int) -> np.ndarray | None:
        """Predicted classes of a trial's test images, int [m]; None if they or the labels are unknown."""
        predicted, labels = self.arrays.get(f"{entry}/{seed}"), self.labels(entry, seed)
        return predicted if predicted is not None and labels is not None and predicted.shape == labels.shape else None

    def indicators(self, entry: str, seed: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Which classes or labels a trial predicts for each test image, and which there are: bool [m, classes], twice.

        None twice if predictions or labels are unknown.
        """
        predicted, targets = self.arrays.get(f"{entry}/{seed}"), self._targets(entry, seed)
        if predicted is None or targets is None or predicted.shape != targets.shape:
            return None, None
        if predicted.ndim == 2:
            return predicted > 0, targets > 0
        classes = np.arange(self.count_classes(entry, seed))
        return predicted[:, None] == classes, targets[:, None] == classes

    def count_classes(self, entry: str, seed: int) -> int:
        """Number of classes of a trial, also of those without a test image."""
        predicted, labels = self.arrays[f"{entry}/{seed}"], self._targets(entry, seed)
        return max(len(self.class_names(entry, seed)), 1 + int(max(predicted.max(), labels.max())))

    def stored(self, name: str, entry: str, seed: int) -> np.ndarray | None:
        """Numbers stored for each of a trial's test images, one of `schema.OF_IMAGES`: float [m]; None if they are not."""
        values = self.arrays.get(schema.image_key(entry, seed, name))
        return None if values is None else values.astype(float)

    def confusion(self, entry: str, seed: int) -> np.ndarray | None:
        """Confusion matrix of a trial: counts [classes, classes], rows are true classes, columns predicted ones."""
        predicted, labels = self.predicted(entry, seed), self.labels(entry, seed)
        if predicted is None:
            return None
        return metrics.confusion(predicted.astype(int), labels.astype(int), self.count_classes(entry, seed))

    def metric(self, name: str) -> Metric:
        """A metric by its name: a key of `metric.DERIVED`, a column of the rows or a measure. Raises `NoData`."""
        if name in DERIVED:
            return DERIVED[name]
        if name in self.rows:
            if not pd.api.types.is_numeric_dtype(self.rows[name]):
                raise NoData(f"the column {name!r} holds no numbers")
            return of_column(name, self.primary)
        rows = self.measures[self.measures["name"] == name]
        if not len(rows):
            raise NoData(f"no column and no measure is called {name!r}")
        whole = bool((rows["value"] % 1 == 0).all()) and bool((rows["value"].abs() > 1).any())  # of 0 and 1 it may be a share
        return of_measure(name, set(rows["unit"].dropna()), whole)

    def unit(self, name: str) -> Unit:
        """How numbers of a metric are written in sentences."""
        recorded = set(self.measures.loc[self.measures["name"] == name, "unit"].dropna())
        return unit_of(name, self.primary, recorded.pop() if len(recorded) == 1 else "")

    def measure(self, name: str, entry: str, seed: int) -> float:
        """Value of a measure of a trial; NaN if it has none."""
        measures = self.measures
        values = measures.loc[(measures["name"] == name) & (measures["entry"] == entry) & (measures["seed"] == seed), "value"]
        return float(values.iloc[0]) if len(values) else math.nan


def _text(value) -> str:
    """A cell's text; empty for a missing one."""
    return value if isinstance(value, str) else ""


def _arms_of(claim: dict) -> set[str]:
    """The arms of a declared claim."""
    sides = (claim["better"], claim["worse"])
    return {arm for side in sides for arm in ([side] if isinstance(side, str) else side)}


def _names_of_parts(data: list[tuple[str, tuple[int, ...]]]) -> list[str]:
    """For each dataset and classes a name of what differs between them."""
    datasets, classes = (len(set(values)) > 1 for values in zip(*data, strict=True))

    def name(dataset: str, kept: tuple[int, ...]) -> str:
        of_classes = f"classes {'+'.join(map(str, kept))}" if kept else "all classes"
        return ", ".join([dataset] * datasets + [of_classes] * classes)

    return [name(*one) for one in data]


def _with_entries(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column `entry`."""
    columns = zip(frame["arm"], frame["rate"], frame["point"], strict=True)
    return frame.assign(entry=[schema.entry_name(*values) for values in columns])
