"""Summary of one experiment in one setting: a table of its arms, the differences between any two, and its answer.

The intervals of the table and the differences are exploratory: verdicts do not use them.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from common.rows.table import Table
from common.text import seeds
from common.verdicts.contrasts import difference, estimate
from common.verdicts.intervals import Estimate, paired
from common.verdicts.verdict import Verdict

ALPHA = 0.05
"""1 − level of the intervals in tables."""
MOST_COMPARED = 64
"""Number of arms up to which any two are compared; with more, each is compared with the baseline alone."""

DIVERGED = "interval over seeds alone where a trial diverged"

Differences = dict[tuple[str, str], tuple[float, float, float]]
"""(arm, reference) -> difference in the primary metric, lower and upper bound of its interval."""


def summarize(table: Table, differences: Differences | None = None) -> pd.DataFrame:
    """A row per arm: seeds, how many diverged, mean test score with interval, and paired difference to the baseline.

    Intervals have a level of 95 %: Student's over seeds for a mean, see `against` for a difference; NaN with one seed. Trials
    without the primary metric are left out.
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
        contrast = differences.get((arm, baseline), (math.nan,) * 3)
        lines.append(line | dict(zip(("difference", "difference_low", "difference_high"), contrast, strict=True)))
    return pd.DataFrame(lines)


def _mean(values: np.ndarray, of: Callable = np.mean) -> float:
    """The mean, or another statistic, of the values that are not NaN; NaN if there is none."""
    there = values[~np.isnan(values)]
    return float(of(there)) if len(there) else math.nan


def contrasts(table: Table) -> Differences:
    """The differences between any two arms with at least two common seeds, each pair in both directions."""
    arms = [entry for entry in table.entries if table.seeds_of([entry])]
    pairs = list(itertools.combinations(arms, 2))
    if len(arms) > MOST_COMPARED:
        pairs = [pair for pair in pairs if table.declaration.get("baseline") in pair]
    differences = {}
    for reference, arm in pairs:
        found = against(table, arm, reference) if len(table.seeds_of([arm, reference])) > 1 else None
        if found is not None:
            low, high = found[0].bounds(ALPHA)
            differences[arm, reference] = (found[0].difference, low, high)
            differences[reference, arm] = (-found[0].difference, -high, -low)
    return differences


def against(table: Table, arm: str, reference: str, metric: str | None = None) -> tuple[Estimate, list[str]] | None:
    """The difference in a metric between two arms, paired by seed, and notes on what its interval leaves out.

    None without common seeds, or if a value is missing.

    Over seeds and, for metrics of test images, the images (`contrasts.estimate`); over seeds alone if a trial diverged. With one
    seed the interval is infinite.

    Args:
        metric: by default the primary one; see `Table.metric`.

    Raises:
        NoData: no column and no measure has this name.
    """
    seeds, name = table.seeds_of([arm, reference]), metric or table.primary.column
    if not seeds:
        return None
    compared, terms = table.metric(name), ((1.0, arm), (-1.0, reference))
    d = [difference(compared, table, terms, seed, None) for seed in seeds]
    if not np.isfinite(d).all():
        return None
    diverged = any(table.of(one, seed)["status"] == "diverged" for one in (arm, reference) for seed in seeds)
    if diverged:
        return paired(d, compared.step(table)), [DIVERGED] if compared.by_image or compared.weighted else []
    of_difference, _, notes = estimate(table, compared, terms, seeds, d)
    return of_difference, notes


def answering(table: Table, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that answer the experiment's question: on the first claim about each metric that the question is about.

    The declaration names these metrics (`about`), by default that of the first claim, with which they begin.

    Args:
        verdicts: on all claims of the table, in their order.
    """
    metrics = [claim["metric"] for claim in table.declaration.get("claims", ())]
    about = [name for name in table.declaration.get("about", ()) if name in metrics] or metrics[:1]
    return [verdicts[metrics.index(name)] for name in about]


def answer(table: Table, summary: pd.DataFrame, verdicts: Sequence[Verdict]) -> str:
    """What the rows say about the experiment's question: the sentences of the verdicts that answer it.

    Without claims each arm's mean primary metric with its interval.

    Args:
        summary: see `summarize`; verdicts: see `answering`.
    """
    if verdicts:
        return " ".join(verdict.sentence() for verdict in answering(table, verdicts))
    if not len(summary):
        return "No arm could be run here." if table.unfinished else "There are no rows yet."
    arms = summary[~summary["arm"].isin(table.at_common_rate)]
    if not len(arms):
        return "There are only rows of the common rate yet."
    means = "; ".join(f"{row.arm} {row.score:.4f}{_bounds(row)}" for row in arms.itertuples())
    few, many = arms["seeds"].min(), arms["seeds"].max()
    counts = seeds(many) if few == many else f"{few} to {seeds(many)}"
    mark = "Demonstration: mean" if table.declaration["demonstration"] else "Mean"
    diverged = int((table.rows["status"] == "diverged").sum())
    ended = f"; {diverged} trial{'s' if diverged != 1 else ''} diverged" if diverged else ""
    return f"{mark} {table.primary.name()} over {counts} (95 % interval): {means}{ended}."


def _bounds(row) -> str:
    """The interval of an arm's mean; empty with one seed."""
    return "" if math.isnan(row.low) else f" ({row.low:.4f} to {row.high:.4f})"
