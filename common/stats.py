"""What rows say beyond their means. NumPy and SciPy alone."""

import itertools
import math
from collections.abc import Sequence

import numpy as np


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
