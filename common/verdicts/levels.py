"""Levels of significance: looks, Holm's procedure, the level at which a claim would be decided, false discovery rates."""

import math
from collections.abc import Callable, Sequence

import numpy as np

ALPHA = 0.05
"""Level of an experiment's first claim, over all looks; its other claims share another one."""
LEVELS = {5: 0.010, 10: 0.015, 20: 0.025}
"""Number of seeds at which a verdict is read -> level of the look. Their sum is `ALPHA`, whatever stops a run."""
LOOKS = tuple(LEVELS)
SURE = 1e-12
"""The smallest p-value reported."""


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


def smallest_level(decided: Callable[[float], bool]) -> float:
    """The p-value of a claim: the smallest level at which it is decided, between `SURE` and 1, by bisection.

    Args:
        decided: f(level) -> whether the claim is decided; true from some level on.
    """
    if decided(SURE):
        return SURE
    low, high = math.log(SURE), 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(math.exp(middle)) else (middle, high)
    return math.exp(high)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The q-value of each p-value: the lowest false discovery rate at which it is a discovery (Benjamini & Hochberg 1995)."""
    from scipy import stats

    return [float(q) for q in stats.false_discovery_control(p_values)] if len(p_values) else []
