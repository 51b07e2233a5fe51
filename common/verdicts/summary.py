"""What one experiment's rows come to in one setting: a table of its arms, differences between any two, and an answer in one
sentence. All intervals here are exploratory: no verdict rests on them."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from common.rows.table import Table
from common.text import seeds
from common.verdicts import stats

ALPHA = 0.05
"""Of the intervals in tables."""
MOST_COMPARED = 64
"""Arms of which any two are compared; beyond, each with the baseline alone."""

Differences = dict[tuple[str, str], tuple[float, float, float]]
"""(arm, reference) -> the difference in the primary metric, and its interval."""


def summarize(table: Table, differences: Differences | None = None) -> pd.DataFrame:
    """A row per arm: seeds, how many diverged, mean test score and its interval, and the paired difference to the baseline.

    Intervals are those of level 95 %: Student's over seeds for a mean, that of `against` for a difference. Blank where one seed
    tells nothing. A trial without the primary metric is not counted.
    """
    baseline, primary = table.declaration.get("baseline"), table.primary
    differences = contrasts(table) if differences is None else differences
    lines = []
    for arm in table.entries:
        scores = table.scores(arm, primary.column)
        counted = ~np.isnan(scores)
        scores, n = scores[counted], int(counted.sum())
        if not n:
            continue
        deviation = scores.std(ddof=1) if n > 1 else math.nan
        half = stdtrit(n - 1, 1 - ALPHA / 2) * deviation / math.sqrt(n) if n > 1 else math.nan
        line = {
            "arm": arm,
            "seeds": n,
            "diverged": sum(row["status"] == "diverged" for (name, _), row in table.by_trial.items() if name == arm),
            "score": scores.mean(),
            "deviation": deviation,
            "low": scores.mean() - half,
            "high": scores.mean() + half,
            "gap": _mean(primary.sign * (table.scores(arm, primary.on("train"))[counted] - scores)),
            "nll": _mean(table.scores(arm, "test_nll")),
            "seconds": _mean(table.scores(arm, "total_seconds"), np.median),
        }
        found = differences.get((arm, baseline), (math.nan,) * 3)
        lines.append(line | dict(zip(("difference", "difference_low", "difference_high"), found, strict=True)))
    return pd.DataFrame(lines)


def _mean(values: np.ndarray, of: Callable = np.mean) -> float:
    """The mean of the numbers that are there; blank where none is."""
    there = values[~np.isnan(values)]
    return float(of(there)) if len(there) else math.nan


def contrasts(table: Table) -> Differences:
    """The differences between any two arms that share seeds enough, each pair in both directions."""
    arms = [entry for entry in table.entries if table.seeds_of([entry])]
    pairs = list(itertools.combinations(arms, 2))
    if len(arms) > MOST_COMPARED:
        pairs = [pair for pair in pairs if table.declaration.get("baseline") in pair]
    found = {}
    for reference, arm in pairs:
        estimate = against(table, arm, reference)
        if estimate is not None:
            low, high = estimate.bounds(ALPHA)
            found[arm, reference] = (estimate.difference, low, high)
            found[reference, arm] = (-estimate.difference, -high, -low)
    return found


def against(table: Table, arm: str, reference: str) -> stats.Estimate | None:
    """The difference in the primary metric between two arms, paired by seed; None with fewer than two shared seeds.

    It is `stats.two_way`, over seeds and images, where predictions are there and nothing diverged, else paired Student's.
    """
    seeds = table.seeds_of([arm, reference])
    if len(seeds) < 2:
        return None
    outcomes = [[table.by_image(name, seed) for seed in seeds] for name in (arm, reference)]
    diverged = any(table.of(name, seed)["status"] == "diverged" for name in (arm, reference) for seed in seeds)
    whole = all(right is not None for side in outcomes for right in side)
    by_image = whole and len({len(right) for side in outcomes for right in side}) == 1
    if by_image and not diverged:
        return stats.two_way(np.array(outcomes[0]) - np.array(outcomes[1]))
    column = table.primary.column
    d = [float(table.of(arm, seed)[column]) - float(table.of(reference, seed)[column]) for seed in seeds]
    if not np.isfinite(d).all():
        return None
    return stats.paired(d, table.metric(column).step(table))


def answer(table: Table, summary: pd.DataFrame, differences: Differences) -> str:
    """One sentence, from the rows alone."""
    if not len(summary):
        return "No arm could be run here." if table.undone else "There are no rows yet."
    primary, own = table.primary, summary[~summary["arm"].isin(table.at_common_rate)]
    ranked = own.loc[(primary.sign * own["score"]).sort_values(ascending=False, kind="stable").index]
    best = ranked.iloc[0]
    said = f"{best['arm']} has the {primary.extreme} mean {primary.name()}, {best['score']:.4f} over {seeds(best['seeds'])}"
    baseline = table.declaration.get("baseline")
    other = baseline if baseline in set(own["arm"]) and best["arm"] != baseline else None
    if other is None and len(ranked) > 1:
        second = ranked.iloc[1]
        other = second["arm"]
        said += f", before {other} with {second['score']:.4f}"
    if other is not None and (best["arm"], other) in differences:
        difference, low, high = differences[best["arm"], other]
        beside = f"{difference:+.4f} against {other} (" if other == baseline else "("
        said += f"{', ' if other == baseline else ' '}{beside}exploratory 95 % interval"
        said += f" {low:+.4f} to {high:+.4f})" if other == baseline else f" of the difference {low:+.4f} to {high:+.4f})"
    diverged = int(summary["diverged"].sum())
    return said + (f"; {diverged} trial{'s' if diverged > 1 else ''} diverged." if diverged else ".")
