"""Differences of metrics between arms, with the interval that the rows allow."""

from collections.abc import Callable, Sequence

import numpy as np

from common.rows.metric import Metric
from common.rows.schema import TIMES
from common.rows.table import Table
from common.verdicts import tuning
from common.verdicts.intervals import Estimate, Ranked, image_weights, paired, resampled, two_way

Terms = Sequence[tuple[float, str]]
"""The arms of a difference, each with its sign."""
OVER_SEEDS = "interval over seeds alone: outcomes of the test images are not stored, or not finite"


def difference(metric: Metric, table: Table, terms: Terms, seed: int, target: float | None) -> float:
    """The signed sum of the arms' values in one seed; NaN, which is unknown, where neither of two arms reaches a target."""
    return float(sum(sign * metric.value(table, arm, seed, target) for sign, arm in terms))


def fault(name: str, metric: Metric, table: Table, arms: Sequence[str], seeds: Sequence[int]) -> str:
    """Why arms cannot be compared in a metric, in words; empty if they can."""
    if metric.ranked:
        return ""
    trials = [(arm, seed) for arm in arms for seed in seeds]
    values = [metric.value(table, arm, seed, None) for arm, seed in trials]
    beside = any(table.of(arm, seed)["beside"] != 0 for arm, seed in trials)
    if beside and ((metric.timed and not np.isfinite(values).all()) or (name in TIMES and np.isfinite(values).all())):
        return "only trials that ran alone count"
    if np.isnan(values).any():
        return "some rows lack it"
    return "" if np.isfinite(values).all() else "some rows have an infinite one"


def estimate(
    table: Table, metric: Metric, terms: Terms, seeds: Sequence[int], differences: Sequence[float], sign: float = 1.0
) -> tuple[Estimate | Ranked, str, list[str]]:
    """The estimate of a difference, the method in words, and notes.

    Over seeds and test images for metrics computed from them, if their outcomes are stored, with the variance of the search; by
    ranks where values may be infinite; else over seeds.

    Args:
        differences: those of the seeds, see `difference`, times `sign`.
    """
    if metric.ranked:
        return Ranked(tuple(differences)), "ranks", []
    step = metric.step(table)
    searched, notes = tuning.variance(table, terms) if metric.tuned else (None, [])
    if metric.by_image:
        images = _summed(terms, seeds, lambda arm, seed: metric.by_image(table, arm, seed))
        if images is not None:
            return two_way(sign * images).with_tuning(searched), "means over seeds and test images", notes
    if metric.weighted:
        again = _summed(terms, seeds, lambda arm, seed: metric.weighted(table, arm, seed, image_weights))
        if again is not None:
            both = resampled(np.array(differences), sign * again, step).with_tuning(searched)
            return both, "means over seeds and resampled test images", notes
    notes = [*notes, OVER_SEEDS] if metric.by_image or metric.weighted else notes
    return paired(differences, step).with_tuning(searched), "means over seeds", notes


def values_on_resamples(metric: Metric, table: Table, arm: str, seed: int) -> np.ndarray | None:
    """The values of a metric on resamples of the test images, [resamples]; None for another metric, or without outcomes."""
    if metric.by_image:
        values = metric.by_image(table, arm, seed)
        return None if values is None else values @ image_weights(len(values)) / len(values)
    return metric.weighted(table, arm, seed, image_weights) if metric.weighted else None


def _summed(terms: Terms, seeds: Sequence[int], values: Callable[[str, int], np.ndarray | None]) -> np.ndarray | None:
    """The signed sum of the arms' values in each seed, [seeds, …]; None if some are missing, infinite or differ in length.

    Args:
        values: f(arm, seed) -> array, or None.
    """
    lines = []
    for seed in seeds:
        of_arms = [(sign, values(arm, seed)) for sign, arm in terms]
        if any(value is None or not np.isfinite(value).all() for _, value in of_arms):
            return None
        if len({len(value) for _, value in of_arms}) > 1:
            return None
        lines.append(sum(sign * value for sign, value in of_arms))
    return np.array(lines) if len({len(line) for line in lines}) == 1 else None
