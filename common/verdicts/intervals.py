"""Differences with intervals: over seeds, over seeds and test images, by ranks, and of counts. NumPy and SciPy alone.

All functions take arrays whose leading axes are independent experiments, so that a simulation computes what a verdict does.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

RESAMPLES = 200
"""Number of resamples of the test images."""
ROUNDING = 1e-12
"""Differences that vary by less than this share of their size are taken as equal."""
TUNING_FREEDOM = 8
"""Degrees of freedom of the variance that the choice of learning rates adds."""


@dataclass(frozen=True)
class Estimate:
    """A difference with an interval from one or more independent sources of noise.

    The interval of level 1 − α is difference ± t √(Σ v), with t the mean of the sources' Student quantiles at 1 − α/2, weighted
    by their variances v (Cochran & Cox 1957, section 4.14).

    Attributes:
        difference: the estimate, [...].
        sources: (variance of the estimate [...], degrees of freedom) of each source of noise, that over seeds first.
        searched: whether the last source is the choice of learning rates.
    """

    difference: float | np.ndarray
    sources: tuple[tuple[float | np.ndarray, float], ...]
    searched: bool = False

    def half_width(self, alpha: float | np.ndarray) -> float | np.ndarray:
        """Half the width of the interval of level 1 − α, [...]."""
        total = sum(variance for variance, _ in self.sources)
        if any(freedom < 1 for _, freedom in self.sources):
            return np.full_like(total, math.inf, float)[()]
        tail = 1 - np.asarray(alpha) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            weighted = sum(variance * special.stdtrit(freedom, tail) for variance, freedom in self.sources)
            return np.where(total == 0, 0.0, np.where(np.isfinite(total), weighted / np.sqrt(total), math.inf))[()]

    def bounds(self, alpha: float | np.ndarray) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Lower and upper bound of the interval of level 1 − α, [...]."""
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def with_tuning(self, variance: float | np.ndarray | None) -> "Estimate":
        """The estimate with the variance that the choice of learning rates adds; unchanged for None."""
        if variance is None:
            return self
        return Estimate(self.difference, (*self.sources, (variance, TUNING_FREEDOM)), searched=True)


def paired(differences: np.ndarray | Sequence[float], resolution: float | None = None) -> Estimate:
    """The mean of the seeds' differences, with variance s²/n and n − 1 degrees of freedom (paired t).

    Args:
        differences: [..., n], one per seed.
        resolution: the smallest step of the metric: the differences are taken to have a standard deviation of at least half of
            it. Without one, the interval of differences that are all equal is infinite, unless they are 0, as then nothing
            differs.
    """
    d = np.asarray(differences, float)
    n, mean = d.shape[-1], d.mean(axis=-1)
    if n < 2:
        return Estimate(mean[()], ((np.full_like(mean, math.inf)[()], 0),))
    variance = d.var(axis=-1, ddof=1) / n
    if resolution:
        return Estimate(mean[()], ((np.maximum(variance, _least(resolution, n))[()], n - 1),))
    equal, zero = np.ptp(d, axis=-1) <= ROUNDING * np.abs(d).max(axis=-1), (d == 0).all(axis=-1)
    return Estimate(mean[()], ((np.where(equal & ~zero, math.inf, variance)[()], n - 1),))


def _least(resolution: float, seeds: int) -> float:
    """The variance of a mean over seeds, each with a standard deviation of half of the metric's smallest step."""
    return (resolution / 2) ** 2 / seeds


def two_way(differences: np.ndarray) -> Estimate:
    """The mean over seeds and test images, both random effects.

    Var = (MS_seed + max(MS_image − MS_residual, 0)) / (n m), the mean squares those of a two-way layout without replication.

    Args:
        differences: [..., n seeds, m images], between the outcomes of two arms (1 right, 0 wrong). What a seed adds to all its
            images, such as a difference in train accuracy, counts as variance over seeds.
    """
    d = np.asarray(differences, float)
    n, m = d.shape[-2:]
    of_seed, of_image, mean = d.mean(axis=-1), d.mean(axis=-2), d.mean(axis=(-2, -1))
    if n < 2:
        return paired(of_seed)
    residuals = d - of_seed[..., None] - of_image[..., None, :] + mean[..., None, None]
    image = n * ((of_image - mean[..., None]) ** 2).sum(axis=-1) / (m - 1)
    return of_mean_squares(of_seed, image, (residuals**2).sum(axis=(-2, -1)) / ((n - 1) * (m - 1)), m)


def of_mean_squares(of_seed: np.ndarray, image: np.ndarray, residual: np.ndarray, m: int) -> Estimate:
    """`two_way` from its mean squares.

    The variance is at least that of half an image per seed, and in all that of one image: where no outcome differs, the next
    image still may.

    Args:
        of_seed: means of the seeds over the images, [..., n]; image, residual: mean squares MS_image and MS_residual, [...].
        m: number of images.
    """
    n = of_seed.shape[-1]
    seeds = np.maximum(of_seed.var(axis=-1, ddof=1) / n, _least(1 / m, n))
    images = np.maximum(np.maximum(image - residual, 0.0) / (n * m), np.maximum(1 / m**2 - seeds, 0.0))
    return Estimate(of_seed.mean(axis=-1)[()], ((seeds[()], n - 1), (images[()], m - 1)))


def resampled(differences: np.ndarray, again: np.ndarray, resolution: float | None = None) -> Estimate:
    """The mean over seeds and test images of a metric that is no mean over images.

    As `two_way`, with the variance over images from resamples of them: the variance of the mean over seeds, less the share that
    is each seed's own and already in the variance over seeds.

    Args:
        differences: of the metric between two arms, [n seeds]; again: the same on each resample of the test images, equal
            resamples for all seeds, [n seeds, resamples].
        resolution: the smallest step of the metric, see `paired`.
    """
    estimate, (n, count) = paired(differences, resolution), again.shape
    if n < 2:
        return estimate
    mean = again.mean(axis=0)
    single = (again - mean).var(axis=1, ddof=1).sum() / (n - 1)
    images = max(float(mean.var(ddof=1) - single / n), 0.0)
    return Estimate(estimate.difference, (*estimate.sources, (images, count - 1)))


@functools.lru_cache(maxsize=4)
def image_weights(m: int) -> np.ndarray:
    """How often each of m test images is in each resample: [m, `RESAMPLES`], the same at each call."""
    generator = np.random.default_rng(0)
    return generator.multinomial(m, np.full(m, 1 / m), RESAMPLES).T.astype(np.float32)


@dataclass(frozen=True)
class Ranked:
    """A difference judged by Wilcoxon's exact signed-rank test over seeds, for metrics that may be infinite.

    The estimate is the median of the Walsh averages, the interval lies between order statistics of them (Hodges & Lehmann 1963).
    It is infinite where there are too few seeds for the level. A difference that is not known, as neither arm has reached the
    target, is NaN; its averages, and that of +∞ and −∞, count as −∞ for the lower bound and as +∞ for the upper bound.
    """

    differences: tuple[float, ...]

    @property
    def least_p(self) -> float:
        """The smallest p-value that so many differences can have: all on one side of 0."""
        return 2.0 ** (1 - len(self.differences))

    @functools.cached_property
    def _walsh(self) -> tuple[np.ndarray, np.ndarray]:
        """The Walsh averages (dᵢ + dⱼ) / 2, i ≤ j, in ascending order, for the lower and for the upper bound."""
        d = np.asarray(self.differences, float)
        first, second = np.triu_indices(len(d))
        with np.errstate(invalid="ignore"):
            averages = (d[first] + d[second]) / 2
        return tuple(np.sort(np.where(np.isnan(averages), end, averages)) for end in (-math.inf, math.inf))

    @property
    def difference(self) -> float:
        """The Hodges-Lehmann estimate; where the bounds do not agree on it the median of the known differences, or else NaN."""
        with np.errstate(invalid="ignore"):
            medians = [float(np.median(averages)) for averages in self._walsh]
        known = [d for d in self.differences if not math.isnan(d)]
        return medians[0] if medians[0] == medians[1] else float(np.median(known)) if known else math.nan

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound of the interval of level at least 1 − α."""
        below = _signed_rank_cdf(len(self.differences))
        outside = int(np.searchsorted(below, alpha / 2, side="right"))  # values of the statistic whose tail is small enough
        if outside == 0:
            return -math.inf, math.inf
        lower, upper = self._walsh
        return float(lower[outside - 1]), float(upper[-outside])


@functools.lru_cache(maxsize=32)
def _signed_rank_cdf(n: int) -> np.ndarray:
    """P(W ≤ w) of the signed-rank statistic W of n differences, for w = 0 … n (n + 1) / 2, by counting sign patterns."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    return np.cumsum(counts) / 2.0**n


@dataclass(frozen=True)
class Shares:
    """The difference between the shares of seeds in which two arms train.

    Where McNemar's exact test says that one trains more often, the interval is that of the share of seeds in favour among those
    that differ (Clopper & Pearson 1934), times their share of all seeds. Else it reaches from minus the upper bound on the share
    of seeds in which only the second trains to the upper bound on the share in which only the first does.

    Attributes:
        only_first, only_second: numbers of seeds in which only one of them trains; seeds: number of seeds.
    """

    only_first: int
    only_second: int
    seeds: int

    @property
    def difference(self) -> float:
        return (self.only_first - self.only_second) / self.seeds

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound of the interval of level at least 1 − α."""
        differing = self.only_first + self.only_second
        low, high = -_most(self.only_second, self.seeds, alpha / 2), _most(self.only_first, self.seeds, alpha / 2)
        if mcnemar(self.only_first, self.only_second) < alpha:
            share = differing / self.seeds
            if self.only_first > self.only_second:
                low = share * (1 - 2 * _most(self.only_second, differing, alpha / 2))
            else:
                high = share * (2 * _most(self.only_first, differing, alpha / 2) - 1)
        return low, high


def _most(count: int, of: int, alpha: float) -> float:
    """Upper bound of level 1 − α on a share of which `count` out of `of` were seen (Clopper & Pearson 1934)."""
    return 1.0 if count == of else float(special.betaincinv(count + 1, of - count, 1 - alpha))


def mcnemar(only_first: int | np.ndarray, only_second: int | np.ndarray) -> float | np.ndarray:
    """Two-sided p-value of McNemar's exact test: binomial over the seeds in which only one of two arms trains."""
    fewer, differing = np.minimum(only_first, only_second), np.add(only_first, only_second)
    return np.minimum(2 * special.bdtr(fewer, differing, 0.5), 1.0)[()]
