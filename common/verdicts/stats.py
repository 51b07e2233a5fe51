"""Statistics of searches: the best of a random subset of points, and the range over which a score stays near its best."""

import math
from collections.abc import Sequence

import numpy as np


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


def decades_within(values: Sequence[float], scores: np.ndarray | Sequence, within: float) -> np.ndarray | float:
    """Decades [...] of a positive number over which a score is at most `within` below its best.

    The score is interpolated linearly in the logarithm of the number.

    Args:
        values: n of the number, ascending; scores: one for each value, [n, ...].
    """
    x, y = np.log10(np.asarray(values, float)), np.asarray(scores, float)
    floor = y.max(axis=0) - within
    low, high = np.minimum(y[:-1], y[1:]), np.maximum(y[:-1], y[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(low >= floor, 1.0, np.clip((high - floor) / (high - low), 0.0, 1.0))
    return np.tensordot(np.diff(x), shares, axes=1)[()]
