"""The chance that more seeds decide a claim, given what is seen and an assumed truth. Arrays in, arrays out."""

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from common.verdicts.intervals import Estimate
from common.verdicts.rules import MOST_LOST, Sample

NODES = 24
"""Number of equally probable values over which a normal variable is averaged."""
Ranges = tuple[list[tuple], list[tuple]]
"""Ranges (low, high) of the difference in which a claim is supported, and in which it is refuted."""


def superiority(margin: float, half: np.ndarray) -> Ranges:
    """The deciding ranges of `rules.superiority` with an interval of a half width."""
    return [(np.maximum(half, margin), math.inf)], [(-math.inf, margin - half)]


def not_worse(margin: float, half: np.ndarray) -> Ranges:
    """The deciding ranges of `rules.not_worse`."""
    return [(half - margin, math.inf)], [(-math.inf, -margin - half)]


def same(margin: float, half: np.ndarray) -> Ranges:
    """The deciding ranges of `rules.same`."""
    return [(half - margin, np.maximum(margin - half, half - margin))], [(-math.inf, -margin - half), (margin + half, math.inf)]


def of_sample(
    sample: Sample,
    seeds: int,
    alphas: dict[int, float],
    truth: float | None,
    decides: Callable[[float, np.ndarray], Ranges],
    margin: float,
    apart: bool = False,
) -> float | np.ndarray | tuple | None:
    """The chance that a contrast is decided at one of the looks to come; None for one judged by ranks or counts.

    The seeds so far stay, with their effects; new ones have the observed variance, and train as often as those so far. What all
    seeds have in common, the effects of test images and of the search, is drawn given the difference seen and the truth. So few
    or many seeds change nothing about it.

    Args:
        seeds: number of seeds now; alphas: look to come -> level of the claim.
        truth: the true difference; None for the one seen.
        decides: f(margin, half width) -> deciding ranges.
        apart: whether to return the chances of being supported and refuted, not their sum.
    """
    estimate = sample.estimate
    if not isinstance(estimate, Estimate) or not np.isfinite(sum(variance for variance, _ in estimate.sources)).all():
        return None
    (of_seeds, freedom), *others = ((np.asarray(variance, float)[..., None, None], f) for variance, f in estimate.sources)
    seen = np.asarray(estimate.difference, float)[..., None, None]
    theta, common = seen if truth is None else truth, sum(variance for variance, _ in others) + np.zeros_like(of_seeds)
    counted, nodes = freedom + 1, special.ndtri((np.arange(NODES) + 0.5) / NODES)
    share, single = counted / seeds, of_seeds * counted
    weight = np.divide(common, common + of_seeds, out=np.zeros_like(common), where=common > 0)
    centre = theta + weight * (seen - theta) + np.sqrt((1 - weight) * common) * nodes[:, None]
    chances, undecided, count, mean = [np.zeros(()), np.zeros(())], 1.0, counted, seen
    for look in sorted(alphas):
        more = look * share - count
        level = np.asarray(sample.level(alphas[look]), float)[..., None, None]
        half = Estimate(seen, ((single / (count + more), count + more - 1), *others)).half_width(level)
        mean = (count * mean + more * centre) / (count + more)
        deviation = np.sqrt(single * more) / (count + more)
        ranges = [[_reached(low, high, sample.lost) for low, high in one] for one in decides(margin, half)]
        if look == max(alphas):
            for i in range(2):
                chances[i] = chances[i] + undecided * sum(_between(low, high, mean, deviation) for low, high in ranges[i])
            break
        mean = mean + deviation * nodes
        inside = [np.any([(mean > low) & (mean < high) for low, high in one], axis=0) for one in ranges]
        chances = [chance + undecided * within for chance, within in zip(chances, inside, strict=True)]
        undecided = undecided * ~(inside[0] | inside[1])
        count = count + more
    supported, refuted = (chance.mean(axis=(-2, -1))[()] for chance in chances)
    return (supported, refuted) if apart else supported + refuted


def _reached(low: np.ndarray, high: np.ndarray, lost: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A range in which the difference decides, as the counts of trained seeds allow; an empty one where they do not.

    A side that lost more seeds than the other does not win. In a range without −∞ and ∞ the two are the same: neither may.

    Args:
        lost: see `Sample.lost`.
    """
    first_wins, second_wins = np.ndim(high) == 0 and high == math.inf, np.ndim(low) == 0 and low == -math.inf
    lost = np.asarray(lost)[..., None, None]
    never = (lost > MOST_LOST) & (not second_wins) | (-lost > MOST_LOST) & (not first_wins)
    return np.where(never, math.inf, low), np.where(never, math.inf, high)


def _between(low: np.ndarray, high: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The probability that a normal variable lies in a range."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = [
            special.ndtr(np.where(deviation > 0, (end - mean) / deviation, np.sign(end - mean) * np.inf)) for end in (low, high)
        ]
    return np.maximum(ends[1] - ends[0], 0.0)
