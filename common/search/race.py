"""The rules of the race by which a search chooses a point, and the variance that the choice adds: functions of arrays of scores.

All points run with a few seeds, the contenders, up to three of the best, with more. The contender with the highest mean wins,
after a penalty for rates whose next higher rate is worse.

A score is the task's metric on val, negated where lower is better. The last axis of an array of means is that of the points, and
axes before it are those of independent races.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATE = "learning_rate"
CONTENDERS = 3
"""Largest number of contenders per arm."""
WITHIN = 0.10
"""Largest difference between a contender and the best point: in accuracy; for other metrics as a fraction of the difference
between the best point and a constant prediction."""
RISK = 0.035
"""Weight of the penalty, an estimate of the probability that a seed does at a rate what others do at the next higher one: in 107
grids of the digits experiments whose best rate was the highest that trained, 3.6 % of new seeds did not train."""
DRAWS = 200
"""Simulated races behind a tuning variance."""


# --- rules -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What decides a race besides scores.

    Attributes:
        rates: learning rate of each point, float [points]; 0 where none is searched.
        following: for each point the index of that with the next higher rate, int [points]; −1 without one. See `next_rates`.
        constant: score of the best constant prediction, which a seed that did not train has.
        metric: name of the task's metric.
    """

    rates: np.ndarray
    following: np.ndarray
    constant: float
    metric: str

    def order(self, scores: np.ndarray, nll: np.ndarray) -> np.ndarray:
        """Indices [..., points] of the points, the best first: by score, then the lower NLL, then the lower rate.

        Args:
            scores, nll: means over seeds, float [..., points]; NaN counts as the worst.
        """
        worst_last = -np.nan_to_num(scores, nan=-math.inf)
        return np.lexsort([np.broadcast_to(self.rates, scores.shape), np.nan_to_num(nll, nan=math.inf), worst_last], axis=-1)

    def contenders(self, scores: np.ndarray, nll: np.ndarray) -> np.ndarray:
        """Which points are contenders, bool [..., points]: the best three (`CONTENDERS`) that are near the best (`WITHIN`).

        Args:
            scores, nll: see `order`.
        """
        ranked = self.order(scores, nll)[..., :CONTENDERS]
        ordered = np.take_along_axis(np.nan_to_num(scores, nan=-math.inf), ranked, axis=-1)
        highest = ordered[..., :1]
        within = WITHIN if self.metric == "accuracy" else WITHIN * np.maximum(highest - self.constant, 0.0)
        chosen = np.zeros(scores.shape, bool)
        np.put_along_axis(chosen, ranked, ordered >= highest - within, axis=-1)
        return chosen

    def winner(self, scores: np.ndarray, nll: np.ndarray, contending: np.ndarray) -> np.ndarray:
        """Index [...] of the contender with the highest mᵢ − `RISK` · max(0, mᵢ − mⱼ), m the scores, j the next higher rate.

        Args:
            scores, nll: see `order`; contending: bool [..., points], see `contenders`.
        """
        loss = np.where(self.following < 0, 0.0, np.maximum(scores - scores[..., self.following], 0.0))
        penalised = np.where(contending, scores - RISK * np.nan_to_num(loss), -math.inf)
        return self.order(penalised, nll)[..., 0]

    def race(self, scores: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Whole races without ties: index [...] of the winner, and bool [..., points] of the contenders.

        Args:
            scores: of each seed, float [..., points, seeds]; the constant prediction for a seed that did not train.
            first: number of the seeds in which all points run; the others count for contenders alone.
        """
        few = scores[..., :first].mean(axis=-1)
        level = np.zeros_like(few)
        contending = self.contenders(few, level)
        return self.winner(np.where(contending, scores.mean(axis=-1), few), level, contending), contending


def next_rates(points: Sequence[dict]) -> np.ndarray:
    """For each point the index of that with the next higher learning rate and otherwise equal values; −1 without one."""
    following = np.full(len(points), -1)
    for i, point in enumerate(points):
        higher = [
            (other[RATE], j)
            for j, other in enumerate(points)
            if RATE in point and other[RATE] > point[RATE] and {**other, RATE: 0} == {**point, RATE: 0}
        ]
        following[i] = min(higher)[1] if higher else -1
    return following


# --- the variance of the choice --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A model of the scores of an arm's seeds: normal around the mean of the point, or the constant prediction.

    Attributes:
        means: of the seeds that trained, float [..., points]; the constant prediction where none did.
        deviation: standard deviation over seeds, pooled over the points, float [...]; 0 if no point has two trained seeds.
        collapse: share of the seeds that did not train, float [..., points].
        constant: score of the best constant prediction.
    """

    means: np.ndarray
    deviation: np.ndarray
    collapse: np.ndarray
    constant: float

    @classmethod
    def of(cls, scores: np.ndarray, trained: np.ndarray, constant: float) -> "Curve":
        """The curve of an arm's trials.

        Args:
            scores: float [..., points, seeds], NaN without a trial; trained: bool [..., points, seeds].
        """
        known = ~np.isnan(scores)
        counted = known & trained
        count = counted.sum(axis=-1)
        means = np.where(count > 0, np.where(counted, scores, 0.0).sum(axis=-1) / np.maximum(count, 1), constant)
        squares = np.where(counted, (scores - means[..., None]) ** 2, 0.0).sum(axis=(-2, -1))
        freedom = np.maximum(count - 1, 0).sum(axis=-1)
        return cls(means, np.sqrt(squares / np.maximum(freedom, 1)), 1 - count / np.maximum(known.sum(axis=-1), 1), constant)

    def draw(self, generator: np.random.Generator, races: int, seeds: int) -> np.ndarray:
        """Scores of new seeds, float [..., races, points, seeds]."""
        shape = (*self.means.shape[:-1], races, self.means.shape[-1], seeds)
        noise = self.deviation[..., None, None, None] * generator.standard_normal(shape, np.float32)
        collapsed = generator.random(shape, np.float32) < self.collapse[..., None, :, None]
        return np.where(collapsed, self.constant, self.means[..., None, :, None] + noise)


def tuning_variance(rules: Rules, curve: Curve, chosen: np.ndarray, first: int, more: int) -> np.ndarray:
    """τ², float [...]: the mean over simulated races (`DRAWS`) of (m at the point then chosen − m at the point chosen)².

    m are the means of the curve, from which the races are drawn, with equal random numbers at every call.

    Args:
        chosen: index of the point that the race has chosen, int [...].
        first, more: number of seeds of all points, and of further ones of the contenders.
    """
    then, _ = rules.race(curve.draw(np.random.default_rng(0), DRAWS, first + more), first)
    differences = np.take_along_axis(curve.means, then, axis=-1) - np.take_along_axis(curve.means, chosen[..., None], axis=-1)
    return (differences**2).mean(axis=-1)
