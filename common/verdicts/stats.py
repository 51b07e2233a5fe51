"""What rows say beyond their means: intervals, p-values and counts of seeds, each from one procedure. NumPy and SciPy alone."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

TOLERANCE = 1e-12
"""Below this share of a quantity its variance is rounding."""
MOST_SEEDS = 10_000
"""Beyond which nobody counts."""
SURE = 1e-12
"""The smallest p-value that is told."""


@dataclass(frozen=True)
class Estimate:
    """A difference and its uncertainty.

    The interval at level α is difference ± t √(Σ v), with t the mean of the sources' Student quantiles at 1 − α/2, weighted by
    their variances (Cochran & Cox 1957, section 4.14). A p-value is the level at which a bound of this interval touches a value,
    so that interval, p-value and verdict cannot disagree.

    Attributes:
        difference: the estimate.
        sources: (variance of the estimate, degrees of freedom) of each source of noise.
        unseen: how many observations agreed entirely, where there is no variance at all: one of the next may still differ.
    """

    difference: float
    sources: tuple[tuple[float, int], ...]
    unseen: int = 0

    def half_width(self, alpha: float) -> float:
        """Half the width of the interval of level 1 − α."""
        variance = sum(v for v, _ in self.sources)
        if not math.isfinite(variance) or any(freedom < 1 for _, freedom in self.sources):
            return math.inf
        if variance <= 0:  # as often as this, one of `unseen` would have differed (Clopper & Pearson 1934, nothing observed)
            return 1 - (alpha / 2) ** (1 / self.unseen) if self.unseen else 0.0
        return sum(v * special.stdtrit(freedom, 1 - alpha / 2) for v, freedom in self.sources) / math.sqrt(variance)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """The interval of level 1 − α."""
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def p_beyond(self, value: float) -> float:
        """The level at which the interval just touches a value: its two-sided p-value."""
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
    """Paired t: the mean of the seeds' differences, with variance s²/n and n − 1 degrees of freedom.

    Args:
        differences: one per seed.
        resolution: the smallest step of the metric. Seeds that all agree are taken to vary by half of it; where it is not
            known they tell nothing, and the interval is endless.
    """
    d = np.asarray(differences, float)
    n = len(d)
    variance = d.var(ddof=1) / n if n > 1 else math.inf
    if variance <= (TOLERANCE * max(abs(d).max(), TOLERANCE)) ** 2:
        variance = math.inf if resolution is None else _least(resolution, n)
    return Estimate(float(d.mean()), ((float(variance), n - 1),))


def _least(resolution: float, seeds: int) -> float:
    """The variance of a mean over seeds that differ by half of the metric's smallest step, if by anything."""
    return (resolution / 2) ** 2 / seeds


def two_way(differences: np.ndarray) -> Estimate:
    """The mean over seeds and test images, both taken as random: what other seeds and other images of the kind would give.

    Var = (MS_seed + max(MS_image − MS_residual, 0)) / (n m), the mean squares those of a two-way layout without replication.

    Args:
        differences: [n seeds, m images], of the outcomes (1 right, 0 wrong) of two arms.
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
    """A difference judged by the ranks of its seeds, for what is censored or diverged: Wilcoxon's signed ranks, exact.

    The interval runs between order statistics of the Walsh averages (Hodges & Lehmann 1963), the estimate is their median;
    with few seeds a high level has none, and the interval is endless.
    """

    differences: tuple[float, ...]

    @property
    def walsh(self) -> np.ndarray:
        d = self.differences
        return np.sort([(d[i] + d[j]) / 2 for i in range(len(d)) for j in range(i, len(d))])

    @property
    def difference(self) -> float:
        return float(np.median(self.walsh))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """The interval of level at least 1 − α."""
        averages, below = self.walsh, _signed_rank_cdf(len(self.differences))
        outside = int(np.searchsorted(below, alpha / 2, side="right"))  # values of the statistic whose tail is small enough
        if outside == 0:
            return -math.inf, math.inf
        return float(averages[outside - 1]), float(averages[-outside])

    def p_beyond(self, value: float) -> float:
        """The smallest level whose interval excludes a value."""
        averages, below = self.walsh, _signed_rank_cdf(len(self.differences))
        higher = int((averages > value).sum()) if self.difference > value else int((averages < value).sum())
        excluded = len(averages) - higher
        return float(min(1.0, 2 * below[excluded])) if self.difference != value else 1.0


def _signed_rank_cdf(n: int) -> np.ndarray:
    """P(W ≤ w) of the signed-rank statistic for w = 0 … n (n + 1) / 2, by counting sign patterns."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    return np.cumsum(counts) / 2.0**n


def survival_p(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact McNemar test that two arms survive equally often, paired by seed: binomial over the seeds on which they differ."""
    better = sum(a and not b for a, b in zip(first, second, strict=True))
    worse = sum(b and not a for a, b in zip(first, second, strict=True))
    from scipy import stats  # the slow part of SciPy to import

    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def seeds_needed(estimate: Estimate, margin: float, alpha: float) -> tuple[int, int] | None:
    """How many seeds would make the interval narrower than the margin: from the deviation seen, and from its upper 80 % limit.

    Never from the difference that was seen, which would promise an answer to whoever looks at noise. None where no number of
    seeds would: the test images alone leave it open.
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
    """Per p-value the level at which it is judged, and whether it passes (Holm 1979): the smallest at α/k, the next at α/(k − 1)
    if that passed, … All from the first that fails on are judged, and fail, at its level."""
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
    """The false discovery rate at which each would be called (Benjamini & Hochberg 1995)."""
    from scipy import stats

    return [float(q) for q in stats.false_discovery_control(p_values)] if len(p_values) else []


def subset_maximum(scores: Sequence[float], size: int) -> np.ndarray:
    """Probability [n] that each of n scores, sorted upwards, is the highest of a random subset of so many of them.

    P(i) = C(i, size - 1) / C(n, size), i counted from 0: the others of the subset come from the i lower ones.
    """
    n = len(scores)
    if not 1 <= size <= n:
        raise ValueError(f"size must be 1 … {n}. Received: {size}")
    return np.array([math.comb(i, size - 1) / math.comb(n, size) for i in range(n)])


def expected_best(scores: Sequence[float], size: int) -> float:
    """Mean of the highest score over all subsets of so many points (Dodge et al. 2019, without replacement)."""
    return float(subset_maximum(scores, size) @ np.sort(scores))


def chance_of_best(scores: dict[str, Sequence[float]], size: int) -> dict[str, float]:
    """For each arm the probability that its best of so many random points beats the others' best; ties are shared.

    With F the share of an arm's subsets whose best lies below a value and p that of those at the value, a tie of t others is
    won with probability 1 / (1 + t), which is the integral over z in 0 … 1 of the product of (F + p z) over the others.
    """
    weights = {}
    for arm, own in scores.items():
        at: dict[float, float] = {}
        for value, weight in zip(np.sort(own).tolist(), subset_maximum(own, size), strict=True):
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
    """Decades of a positive number over which a score lies at most so far below its best.

    Between neighbouring values the score is taken as linear in the number's logarithm.

    Args:
        values: positive, ascending; scores: one for each.
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
