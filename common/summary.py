"""What one experiment's rows come to in one setting: a table of its arms, and an answer in one sentence."""

import math

import numpy as np
import pandas as pd
from scipy.stats import t

from common import stats
from common.experiment import COMMON
from common.verdicts import Table

ALPHA = 0.05
"""Of the intervals in tables, which are exploratory: no verdict rests on them."""


def summarize(table: Table) -> pd.DataFrame:
    """A row per arm: seeds, how many diverged, mean test accuracy and its interval, and the paired difference to the baseline.

    Intervals are those of level 95 %: Student's over seeds for a mean, `stats.two_way` (seeds and images) for a difference where
    predictions are there and nothing diverged, else paired Student's. Blank where one seed tells nothing.
    """
    baseline = table.declaration.get("baseline")
    lines = []
    for arm in table.declaration["arms"]:
        own = table.rows[table.rows["arm"] == arm]
        if not len(own):
            continue
        scores = own["test_accuracy"].to_numpy(float)
        half = t.ppf(1 - ALPHA / 2, len(own) - 1) * scores.std(ddof=1) / math.sqrt(len(own)) if len(own) > 1 else math.nan
        line = {
            "arm": arm,
            "seeds": len(own),
            "diverged": int((own["status"] == "diverged").sum()),
            "accuracy": scores.mean(),
            "deviation": scores.std(ddof=1) if len(own) > 1 else math.nan,
            "low": scores.mean() - half,
            "high": scores.mean() + half,
            "gap": (own["train_accuracy"] - own["test_accuracy"]).mean(),
            "nll": own["test_nll"].mean() if "test_nll" in own else math.nan,
            "seconds": own["total_seconds"].median() if "total_seconds" in own else math.nan,
        }
        line |= dict.fromkeys(("difference", "difference_low", "difference_high"), math.nan)
        if baseline is not None and arm != baseline:
            estimate = against(table, arm, baseline)
            if estimate is not None:
                low, high = estimate.bounds(ALPHA)
                line |= {"difference": estimate.difference, "difference_low": low, "difference_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def against(table: Table, arm: str, baseline: str) -> stats.Estimate | None:
    """The difference in test accuracy between two arms, paired by seed; None with fewer than two shared seeds."""
    seeds = table.seeds_of([arm, baseline])
    if len(seeds) < 2:
        return None
    outcomes = [[table.correct(name, seed) for seed in seeds] for name in (arm, baseline)]
    diverged = any(table.of(name, seed)["status"] == "diverged" for name in (arm, baseline) for seed in seeds)
    if diverged or any(right is None for side in outcomes for right in side):
        d = [float(table.of(arm, s)["test_accuracy"]) - float(table.of(baseline, s)["test_accuracy"]) for s in seeds]
        return stats.paired(d, 1 / float(table.rows["test_size"].iloc[0]))
    return stats.two_way(np.array(outcomes[0]) - np.array(outcomes[1]))


def answer(table: Table, summary: pd.DataFrame) -> str:
    """One sentence, from the rows alone."""
    if not len(summary):
        return "There are no rows yet."
    own = summary[~summary["arm"].str.endswith(COMMON)]
    best = own.loc[own["accuracy"].idxmax()]
    said = f"{best['arm']} has the highest mean test accuracy, {best['accuracy']:.4f} over {seeds(best['seeds'])}"
    baseline = table.declaration.get("baseline")
    if baseline is None or best["arm"] == baseline or math.isnan(best["difference"]):
        rest = own[own["arm"] != best["arm"]]
        if len(rest):
            second = rest.loc[rest["accuracy"].idxmax()]
            said += f", before {second['arm']} with {second['accuracy']:.4f}"
    else:
        low, high = best["difference_low"], best["difference_high"]
        said += f", {best['difference']:+.4f} against {baseline} (95 % interval {low:+.4f} to {high:+.4f})"
    diverged = int(summary["diverged"].sum())
    return said + (f"; {diverged} trial{'s' if diverged > 1 else ''} diverged." if diverged else ".")


def seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def to_csv(summary: pd.DataFrame) -> str:
    """The table for a spreadsheet."""
    return summary.to_csv(index=False, float_format="%.6g")


def to_tex(summary: pd.DataFrame) -> str:
    """The table for a paper; needs the package booktabs."""

    def escaped(text: str) -> str:
        named = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
        return "".join(f"\\{c}" if c in "&%$#_{}" else named.get(c, c) for c in text)

    lines = [r"\begin{tabular}{lrrr}", r"\toprule", r"arm & seeds & test accuracy & difference \\", r"\midrule"]
    for row in summary.itertuples():
        accuracy = f"{row.accuracy:.4f}" + (f" $\\pm$ {row.deviation:.4f}" if not math.isnan(row.deviation) else "")
        difference = ""
        if not math.isnan(row.difference):
            difference = f"{row.difference:+.4f} [{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
        lines.append(rf"{escaped(row.arm)} & {row.seeds} & {accuracy} & {difference} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
