"""The rules by which a contrast and the counts of trained seeds decide: 1 supported, −1 refuted, 0 open. Arrays in, arrays out.

Two questions are asked of every arm: whether it trains, and how well given that it trained. The contrast is over the seeds in
which all compared arms trained; beside it stand the numbers of seeds in which only one side did.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.verdicts.intervals import Estimate, Ranked, Shares, mcnemar

LEAST_SEEDS = 5
"""Number of seeds in which all arms of a contrast trained, at least."""
MOST_LOST = 1
"""Largest excess of seeds in which only the other side trained, with which a contrast still decides."""
LEAST_COUNTED = 8
"""Number of seeds in which only one side trained, from which on these counts are tested too: fewer cannot reach the level."""
SHARE = 0.8
"""The contrast's share of the level where the counts are tested too."""


@dataclass(frozen=True)
class Sample:
    """What the seeds of a look show of one contrast, better minus worse.

    Attributes:
        estimate: over the seeds in which all its arms trained; None with fewer than `LEAST_SEEDS`.
        only_better, only_worse: numbers of seeds in which only that side trained, [...].
        difference: mean over the seeds in which all its arms trained, NaN without any, [...].
        overall: mean over all seeds, those without training scored as a constant prediction; NaN if unknown, [...].
    """

    estimate: Estimate | Ranked | Shares | None
    only_better: int | np.ndarray = 0
    only_worse: int | np.ndarray = 0
    difference: float | np.ndarray = math.nan
    overall: float | np.ndarray = math.nan

    def level(self, alpha: float | np.ndarray) -> float | np.ndarray:
        """The contrast's level, of the claim's level α."""
        return np.where(self._counted, SHARE * np.asarray(alpha), alpha)[()]

    def bounds(self, alpha: float | np.ndarray) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Lower and upper bound of the contrast at the claim's level α; infinite without a contrast."""
        return (-math.inf, math.inf) if self.estimate is None else self.estimate.bounds(self.level(alpha))

    @property
    def _counted(self) -> bool | np.ndarray:
        return np.add(self.only_better, self.only_worse) >= LEAST_COUNTED

    def more_often(self, alpha: float | np.ndarray) -> tuple[bool | np.ndarray, bool | np.ndarray]:
        """Whether McNemar's exact test says that the better side trains more often, and that it trains less often."""
        level = np.where(self._counted, (1 - SHARE) * np.asarray(alpha), 0.0)
        differ = mcnemar(self.only_better, self.only_worse) < level
        return differ & np.greater(self.only_better, self.only_worse), differ & np.less(self.only_better, self.only_worse)

    @property
    def lost(self) -> int | np.ndarray:
        """In how many more seeds only the worse side trained than only the better side."""
        return np.subtract(self.only_worse, self.only_better)


def superiority(sample: Sample, alpha: float | np.ndarray, margin: float) -> np.ndarray:
    """Better − worse is at least the margin.

    Supported: the interval lies above 0, the estimate is at least the margin, and the better side did not lose more than one
    seed; or it trains more often and the contrast is not below 0. Refuted: the interval lies below the margin, and the worse
    side did not lose more than one seed; or the better side trains less often and is worse over all seeds.
    """
    (low, high), (more, less) = sample.bounds(alpha), sample.more_often(alpha)
    supported = (low > 0) & (sample.difference >= margin) & (sample.lost <= MOST_LOST)
    supported |= more & ~np.less(sample.difference, 0) & np.greater(sample.overall, 0)
    refuted = (high < margin) & (-sample.lost <= MOST_LOST) | less & np.less(sample.overall, 0)
    return np.subtract(supported, refuted, dtype=int)


def not_worse(sample: Sample, alpha: float | np.ndarray, margin: float) -> np.ndarray:
    """Better is worse than worse by less than the margin, if at all: `superiority` with −margin for both 0 and the margin."""
    (low, high), (more, less) = sample.bounds(alpha), sample.more_often(alpha)
    supported = (low > -margin) & (sample.lost <= MOST_LOST)
    supported |= more & ~np.less(sample.difference, -margin) & np.greater(sample.overall, -margin)
    refuted = (high < -margin) & (-sample.lost <= MOST_LOST) | less & np.less(sample.overall, -margin)
    return np.subtract(supported, refuted, dtype=int)


def same(sample: Sample, alpha: float | np.ndarray, margin: float) -> np.ndarray:
    """The two differ by less than the margin, and train equally often.

    Supported: the interval lies within the margins, and neither side lost more than one seed more than the other. Refuted: the
    interval lies beyond a margin, and that side did not lose more than one seed; or one trains more often and the two differ by
    more than the margin over all seeds.
    """
    (low, high), (more, less) = sample.bounds(alpha), sample.more_often(alpha)
    supported = (-margin < low) & (high < margin) & (np.abs(sample.lost) <= MOST_LOST)
    refuted = (low > margin) & (sample.lost <= MOST_LOST) | (high < -margin) & (-sample.lost <= MOST_LOST)
    refuted |= more & np.greater(sample.overall, margin) | less & np.less(sample.overall, -margin)
    return np.subtract(supported, refuted, dtype=int)


def every(statuses: Sequence[np.ndarray]) -> np.ndarray:
    """A claim of several parts: supported if all are, refuted if one is."""
    return np.min(statuses, axis=0)


def best_of(rule: Callable, samples: Sequence[Sample], alpha: float | np.ndarray, margin: float) -> np.ndarray:
    """One of k arms does: supported if one is at level α/k (the choice is paid for), refuted if all are at level α."""
    chosen = np.max([rule(sample, np.asarray(alpha) / len(samples), margin) for sample in samples], axis=0)
    refuted = np.max([rule(sample, alpha, margin) for sample in samples], axis=0) == -1
    return np.where(chosen == 1, 1, -refuted.astype(int))
