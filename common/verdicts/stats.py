"""Statistics: intervals, p-values, numbers of seeds, multiple testing, results of searches. NumPy and SciPy alone."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

TOLERANCE = 1e-12
"""A standard error below this share of the values is taken as rounding."""
MOST_SEEDS = 10_000
"""Cap on the search for a number of seeds."""
SURE = 1e-12
"""The smallest p-value reported."""


@dataclass(frozen=True)
class Estimate:
    """A difference with an interval from one or more independent sources of noise.

    The interval of level 1 − α is difference ± t √(Σ v), with t the mean of the sources' Student quantiles at 1 − α/2, weighted
    by their variances v (Cochran & Cox 1957, section 4.14). A p-value is the α at which a bound of this interval reaches a value,
    so that interval, p-value and verdict agree.

    Attributes:
        difference: the estimate.
        sources: (variance of the estimate, degrees of freedom) of each source of noise.
        unseen: number of observations where all of them agree and the variance is 0; another one may still differ.
    """

    difference: float
    sources: tuple[tuple[float, int], ...]
    unseen: int = 0

    def half_width(self, alpha: float) -> float:
        """Half the width of the interval of level 1 − α."""
        variance = sum(v for v, _ in self.sources)
        if not math.isfinite(variance) or any(freedom < 1 for _, freedom in self.sources):
            return math.inf
        if variance <= 0:  # upper bound on the rate of differing observations, 0 of `unseen` seen (Clopper & Pearson 1934)
            return 1 - (alpha / 2) ** (1 / self.unseen) if self.unseen else 0.0
        return sum(v * special.stdtrit(freedom, 1 - alpha / 2) for v, freedom in self.sources) / math.sqrt(variance)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound of the interval of level 1 − α."""
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def p_beyond(self, value: float) -> float:
        """The two-sided p-value of a value: the α at which a bound of the interval reaches it, by bisection."""
        distance = abs(self.difference - value)
        if not self.half_width(1.0) < distance:
            return 1.0
        if self.half_width(SURE) < distance:
            return SURE
        low, high = math.log(SURE), 0.0
        for _ in range(60):
            middle = (low + high) / 2
            if self.half_width(math.exp(middle)) < distance:
                high = middle
            else:
                low = middle
        return math.exp(high)


def paired(differences: Sequence[float], resolution: float | None = None) -> Estimate:
    """The mean of the seeds' differences, with variance s²/n and n − 1 degrees of freedom (paired t).

    Args:
        differences: one per seed.
        resolution: the smallest step of the metric. Differences that are all equal are taken to have a standard deviation of
            half of it; without one, the interval is infinite.
    """
    d = np.asarray(differences, float)
    n = len(d)
    variance = d.var(ddof=1) / n if n > 1 else math.inf
    if variance <= (TOLERANCE * max(abs(d).max(), TOLERANCE)) ** 2:
        variance = math.inf if resolution is None else _least(resolution, n)
    return Estimate(float(d.mean()), ((float(variance), n - 1),))


def _least(resolution: float, seeds: int) -> float:
    """The variance of a mean over seeds, each with a standard deviation of half of the metric's smallest step."""
    return (resolution / 2) ** 2 / seeds


def two_way(differences: np.ndarray) -> Estimate:
    """The mean over seeds and test images, both random effects.

    Var = (MS_seed + max(MS_image − MS_residual, 0)) / (n m), the mean squares those of a two-way layout without replication.

    Args:
        differences: [n seeds, m images], between the outcomes of two arms (1 right, 0 wrong).
    """
    d = np.asarray(differences, float)
    n, m = d.shape
    mean = d.mean()
    if n < 2:
        return Estimate(float(mean), ((math.inf, 0),))
    of_seed, of_image = d.mean(axis=1), d.mean(axis=0)
    seed = m * ((of_seed - mean) ** 2).sum() / (n - 1)
    image = n * ((of_image - mean) ** 2).sum() / (m - 1)
    residual = ((d - of_seed[:, None] - of_image[None, :] + mean) ** 2).sum() / ((n - 1) * (m - 1))
    sources = ((max(seed / (n * m), _least(1 / m, n)), n - 1), (max(image - residual, 0.0) / (n * m), m - 1))
    if seed + image <= TOLERANCE:
        return Estimate(float(mean), ((0.0, n - 1), (0.0, m - 1)), unseen=m)
    return Estimate(float(mean), sources)


@dataclass(frozen=True)
class Ranked:
    """A difference judged by Wilcoxon's exact signed-rank test over seeds, for censored metrics and diverged trials.

    The estimate is the median of the Walsh averages, the interval lies between order statistics of them (Hodges & Lehmann 1963).
    It is infinite where there are too few seeds for the level.
    """

    differences: tuple[float, ...]

    @property
    def walsh(self) -> np.ndarray:
        """The Walsh averages (dᵢ + dⱼ) / 2, i ≤ j, in ascending order."""
        d = self.differences
        return np.sort([(d[i] + d[j]) / 2 for i in range(len(d)) for j in range(i, len(d))])

    @property
    def difference(self) -> float:
        """The Hodges-Lehmann estimate."""
        return float(np.median(self.walsh))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound of the interval of level at least 1 − α."""
        averages, below = self.walsh, _signed_rank_cdf(len(self.differences))
        outside = int(np.searchsorted(below, alpha / 2, side="right"))  # values of the statistic whose tail is small enough
        if outside == 0:
            return -math.inf, math.inf
        return float(averages[outside - 1]), float(averages[-outside])

    def p_beyond(self, value: float) -> float:
        """The two-sided p-value of a value: the smallest α whose interval excludes it."""
        averages, below = self.walsh, _signed_rank_cdf(len(self.differences))
        higher = int((averages > value).sum()) if self.difference > value else int((averages < value).sum())
        excluded = len(averages) - higher
        return float(min(1.0, 2 * below[excluded])) if self.difference != value else 1.0


def _signed_rank_cdf(n: int) -> np.ndarray:
    """P(W ≤ w) of the signed-rank statistic W of n differences, for w = 0 … n (n + 1) / 2, by counting sign patterns."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    return np.cumsum(counts) / 2.0**n


def survival_p(first: Sequence[bool], second: Sequence[bool]) -> float:
    """P-value of McNemar's exact test that two arms survive equally often: binomial over the seeds in which one of them does."""
    better = sum(a and not b for a, b in zip(first, second, strict=True))
    worse = sum(b and not a for a, b in zip(first, second, strict=True))
    from scipy import stats  # the slow part of SciPy to import

    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def seeds_needed(estimate: Estimate, margin: float, alpha: float) -> tuple[int, int] | None:
    """Numbers of seeds whose interval has a half width of at most the margin, up to `MOST_SEEDS`.

    The first number assumes the observed variance over seeds, the second its upper 80 % confidence limit; the observed difference
    is not used. None if the variance over test images alone makes the interval wider.
    """
    (of_seeds, freedom), *others = estimate.sources
    n = freedom + 1
    upper = of_seeds * freedom / special.chdtri(freedom, 0.8)

    def half(variance, seeds):
        return Estimate(0.0, ((variance * n / seeds, seeds - 1), *others)).half_width(alpha)

    def needed(variance):
        low, high = 2, MOST_SEEDS
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if half(variance, middle) <= margin else (middle + 1, high)
        return low

    if estimate.unseen or (others and half(0.0, MOST_SEEDS) > margin):
        return None
    return needed(of_seeds), needed(upper)


def holm(p_values: Sequence[float], alpha: float) -> list[tuple[float, bool]]:
    """For each of k p-values the level at which it is tested, and whether it is below it (Holm 1979).

    The smallest is tested at α/k, the next at α/(k − 1) if the former passes, and so on. From the first that fails on, all fail
    at its level.
    """
    order = np.argsort(p_values, kind="stable")
    judged: list[tuple[float, bool]] = [(alpha, False)] * len(order)
    standing, level = True, alpha
    for position, index in enumerate(order):
        if standing:
            level = alpha / (len(order) - position)
            standing = p_values[index] < level
        judged[index] = (level, standing)
    return judged


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The q-value of each p-value: the lowest false discovery rate at which it is a discovery (Benjamini & Hochberg 1995)."""
    from scipy import stats

    return [float(q) for q in stats.false_discovery_control(p_values)] if len(p_values) else []


def subset_maximum(scores: Sequence[float], size: int) -> np.ndarray:
    """Probability [n] that each of n scores, in ascending order, is the highest of a random subset of `size` of them.

    P(i) = C(i, size − 1) / C(n, size), i from 0: the other members of the subset are among the i lower scores.
    """
    n = len(scores)
    if not 1 <= size <= n:
        raise ValueError(f"size must be 1 … {n}. Received: {size}")
    return np.array([math.comb(i, size - 1) / math.comb(n, size) for i in range(n)])


def expected_best(scores: Sequence[float], size: int) -> float:
    """Mean of the highest score over all subsets of `size` scores (Dodge et al. 2019, without replacement)."""
    return float(subset_maximum(scores, size) @ np.sort(scores))


def chance_of_best(scores: dict[str, Sequence[float]], size: int) -> dict[str, float]:
    """For each arm the probability that the best of `size` of its points, drawn at random, is the best of all arms.

    A tie with t other arms counts 1 / (1 + t). With F the probability that another arm's best is below a value, and p that it
    equals it, the probability of winning with that value is the integral over z in 0 … 1 of the product of (F + p z) over the
    other arms.
    """
    weights = {}
    for arm, points in scores.items():
        at: dict[float, float] = {}
        for value, weight in zip(np.sort(points).tolist(), subset_maximum(points, size), strict=True):
            at[value] = at.get(value, 0.0) + weight
        weights[arm] = at
    chances = {}
    for arm, at in weights.items():
        total = 0.0
        for value, weight in at.items():
            product = np.polynomial.Polynomial([1.0])
            for other, theirs in weights.items():
                if other != arm:
                    below = sum(w for v, w in theirs.items() if v < value)
                    product *= np.polynomial.Polynomial([below, theirs.get(value, 0.0)])
            total += weight * float(product.integ()(1.0))
        chances[arm] = total
    return chances


def decades_within(values: Sequence[float], scores: Sequence[float], within: float) -> float:
    """Decades of a positive number over which a score is at most `within` below its best.

    The score is interpolated linearly in the logarithm of the number.

    Args:
        values: of the number, ascending; scores: one for each value.
    """
    x, y = np.log10(np.asarray(values, float)), np.asarray(scores, float)
    floor = y.max() - within
    total = 0.0
    for (x0, x1), (y0, y1) in zip(itertools.pairwise(x), itertools.pairwise(y), strict=True):
        if min(y0, y1) >= floor:
            total += x1 - x0
        elif max(y0, y1) >= floor:
            total += (x1 - x0) * (max(y0, y1) - floor) / abs(y1 - y0)
    return float(total)
