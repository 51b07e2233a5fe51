"""The scores of a search: of one trial, of all trials of an arm, and the result that the race makes of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.running.plan import Variant
from common.search.race import RATE, Curve, Rules, next_rates, tuning_variance
from common.tasks import Task

FIRST_SEED = 1000
SEEDS = (1000, 1001, 1002, 1003, 1004)
"""The seeds of a race."""
DIGITS = 6
"""Significant digits of a tuning variance, which are the same on every machine."""


@dataclass(frozen=True)
class Score:
    """Scores of a trial, or their means."""

    value: float
    """The task's primary metric on val, negated if lower is better."""
    nll: float
    """NLL on val, which decides between equal values; 0 for a task without one."""

    @property
    def rank(self) -> tuple[float, float]:
        """(value, −NLL) for comparisons, higher is better, with −∞ for NaN."""
        return tuple(-math.inf if math.isnan(number) else number for number in (self.value, -self.nll))

    @classmethod
    def of(cls, row: dict, task: Task) -> "Score":
        """The scores of a search trial's row. A trial that did not train counts as the best constant prediction."""
        column = "val_constant" if row["trained"] == "False" else f"val_{task.metric}"
        return cls(task.better(float(row[column])), float(row["val_nll"] or 0))


@dataclass(frozen=True)
class SearchResult:
    """The values that a search chose for an arm."""

    values: dict
    tuning: str
    """How they were chosen; a column of the rows."""
    tau2: float | None = None
    """τ², the variance that the choice adds to the arm's score, see `race.tuning_variance`; None if it is not known."""
    trained: bool = True
    """Whether any trial of the search trained."""


class Scores:
    """The scores of an arm's search trials.

    Args:
        rows: those of the trials; rows of other points and seeds are ignored.
        points: the values of each point.
        seeds: of each point, its seeds of the race, first those in which all points run.
        first: how many those are.
    """

    def __init__(self, rows: Sequence[dict], points: Sequence[dict], seeds: Sequence[Sequence[int]], first: int, task: Task):
        self.points, self.first, self.seeds = list(points), first, [tuple(one) for one in seeds]
        known = {(row["point"], int(row["seed"])): row for row in rows}
        names = [Variant.search_point("", values).point for values in points]
        trials = [[known.get((name, seed)) for seed in of_point] for name, of_point in zip(names, self.seeds, strict=True)]
        missing = Score(math.nan, math.nan)
        scored = [[Score.of(row, task) if row else missing for row in of_point] for of_point in trials]
        self.values = np.array([[score.value for score in of_point] for of_point in scored], float)
        """Float [points, seeds]; NaN without a trial."""
        self.nll = np.array([[score.nll for score in of_point] for of_point in scored], float)
        self.trained = np.array([[bool(row) and row["trained"] != "False" for row in of_point] for of_point in trials])
        """Bool [points, seeds]."""
        constants = [float(row["val_constant"]) for of_point in trials for row in of_point if row and row["val_constant"]]
        self.rules = Rules(
            np.array([float(values.get(RATE, 0)) for values in points]),
            next_rates(points),
            task.better(constants[0]) if constants else 0.0,
            task.metric,
        )

    def means(self, contending: Sequence[bool] | None = None) -> list[Score]:
        """The mean scores of each point over its first seeds; over all its seeds for contenders that have them."""
        means = []
        for i in range(len(self.points)):
            whole = contending is not None and contending[i] and not np.isnan(self.values[i]).any()
            count = len(self.seeds[i]) if whole else self.first
            means.append(Score(*(statistics.fmean(of[i, :count]) for of in (self.values, self.nll))))
        return means

    def best(self) -> int:
        """Index of the best point over the first seeds."""
        return int(self.rules.order(*_arrays(self.means()))[0])

    def contenders(self) -> np.ndarray:
        """Which points are contenders, bool [points]: none if no trial trained."""
        return self.rules.contenders(*_arrays(self.means())) & self.trained.any()

    def winner(self, contending: np.ndarray) -> int:
        """Index of the point that the race chooses.

        Args:
            contending: bool [points], see `contenders`; without any the best point wins.
        """
        return int(self.rules.winner(*_arrays(self.means(contending)), contending)) if contending.any() else self.best()

    def result(self, contending: np.ndarray, how: str) -> SearchResult:
        """The result of the race.

        Args:
            contending: bool [points], see `contenders`; how: start of the text of the column `tuning`.
        """
        chosen, more = self.winner(contending), len(self.seeds[0]) - self.first
        if not self.trained.any():
            return SearchResult(self.points[chosen], f"{how}; none trained", tau2=0.0, trained=False)
        if not contending.any():
            return SearchResult(self.points[chosen], how)
        seen = np.where(contending[:, None] | (np.arange(self.first + more) < self.first), self.values, np.nan)
        curve = Curve.of(seen, self.trained, self.rules.constant)
        tau2 = float(tuning_variance(self.rules, curve, np.array(chosen), self.first, more))
        how = f"{how}; {contending.sum()} of them with {more} more"
        return SearchResult(self.points[chosen], how, float(f"{tau2:.{DIGITS}g}"))


def _arrays(scores: Sequence[Score]) -> tuple[np.ndarray, np.ndarray]:
    """Values and NLLs, float [points]."""
    return np.array([score.value for score in scores]), np.array([score.nll for score in scores])
