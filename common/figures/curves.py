"""Figures of training: losses and scores by epoch, updates to a target."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.figures.style import BAND, STYLE, finished, log_ticks, look, new_figure
from common.rows.metric import ACCURACY, Primary
from common.rows.table import NoData, Table

OF_BASELINE = 0.95
"""Target as a share of the baseline's final score, where no claim sets one."""


def learning_curves(epochs: pd.DataFrame, arms: list[str], title: str, caption: str, primary: Primary = ACCURACY) -> Figure:
    """Training loss and validation score over epochs: mean over seeds, band of ± one standard deviation within the seeds' range.

    Where some seeds have ended, by early stopping or divergence, the others go on as thin lines: their mean would be of other
    seeds.

    Args:
        epochs: rows of `…_epochs.csv`.
        arms: all arms of the experiment, in order.
    """
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, max(3.8, 0.9 + 0.19 * len(arms)))
        panels = {"train_loss": "training loss", primary.on("val"): primary.label("val"), "val_loss": "validation loss"}
        panels = {name: label for name, label in panels.items() if name in epochs and epochs[name].notna().any()}
        panels = dict(list(panels.items())[:2]) or {"train_loss": "training loss"}
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        at = epochs.groupby(["arm", "seed"]).cumcount() + 1  # counts on over the stages of a trial
        shown = [arm for arm in arms if arm in set(epochs["arm"].unique())]
        has_ended = False
        for axis, (column, label) in zip(axes, panels.items(), strict=True):
            firsts = []
            values = epochs[column].replace([np.inf, -np.inf], np.nan)
            by = values.groupby([epochs["arm"], at])
            means, spreads, lowest, highest, counts = by.mean(), by.std().fillna(0.0), by.min(), by.max(), by.count()
            for arm in shown:
                last = counts[arm][counts[arm] == counts[arm].max()].index.max()
                mean, spread = means[arm][:last], spreads[arm][:last]
                firsts += mean.dropna().tolist()[:1]
                style = look(arms, arm)
                axis.plot(mean.index, mean, label=arm, markevery=max(1, len(mean) // 6), markersize=4, **style)
                for _, rest in values[(epochs["arm"] == arm) & (at >= last)].dropna().groupby(epochs["seed"]):
                    if len(rest) > 1:
                        axis.plot(at[rest.index], rest, color=style["color"], linewidth=0.6, alpha=0.6)
                        has_ended = True
                low, high = np.maximum(mean - spread, lowest[arm][:last]), np.minimum(mean + spread, highest[arm][:last])
                axis.fill_between(mean.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
            axis.set_xlabel("epoch")
            axis.set_ylabel(label)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            # A diverging arm must not flatten the others, whose loss is highest in the first epoch.
            bounded = column == primary.on("val") and not primary.lower_is_better
            most = 3 * np.quantile(firsts, 0.5, method="lower") if firsts else 0
            if not bounded and epochs[column].replace(np.inf, np.nan).max() > most > 0:
                axis.set_ylim(0, most)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        caption += f"; line: mean over seeds, {BAND}" + ("; thin: single seeds, after others have ended" if has_ended else "")
        return finished(figure, title, caption)


def steps_to_target(trials: pd.DataFrame, arms: list[str], title: str, caption: str, name: str = "validation accuracy") -> Figure:
    """Updates until a target on val was first reached: a dot per seed, the median as a bar.

    A seed that did not reach it is an arrow at the end of its training, or a cross if it diverged. The bar is dotted if the
    median seed did not reach it.

    Args:
        trials: `arm`, `seed`, `target`, `steps` (until the epoch that reached it, else until the last), `reached`, `diverged`.
        name: of the score that the target is a value of.
    """
    shown = [arm for arm in arms if arm in set(trials["arm"])]
    targets = sorted(trials["target"].unique())
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7 if len(targets) == 1 else 3.4 + 3.4 * len(targets), 1.5 + 0.36 * len(shown))
        axes = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
        for axis, target in zip(axes, targets, strict=True):
            for y, arm in enumerate(shown):
                rows = trials[(trials["arm"] == arm) & (trials["target"] == target)].sort_values("seed")
                if not len(rows):
                    continue
                colour = look(arms, arm)["color"]
                at = y + 0.28 * (np.linspace(-1, 1, len(rows)) if len(rows) > 1 else np.zeros(1))
                steps, reached, diverged = (rows[column].to_numpy() for column in ("steps", "reached", "diverged"))
                never = ~reached & ~diverged
                axis.scatter(steps[reached], at[reached], s=18, color=colour, alpha=0.6, linewidths=0)
                axis.scatter(steps[never], at[never], s=26, marker=">", facecolors="none", edgecolors=colour)
                axis.scatter(steps[~reached & diverged], at[~reached & diverged], s=24, color=colour, marker="x")
                median = np.median(np.where(reached, steps, np.inf))
                place = median if np.isfinite(median) else steps[~reached].max()
                axis.vlines(place, y - 0.4, y + 0.4, color=colour, linewidth=2, linestyles="-" if np.isfinite(median) else ":")
            if trials["steps"].max() > 20 * trials["steps"].min() > 0:
                axis.set_xscale("log")
                log_ticks(axis)
            else:
                axis.set_xlim(left=0)
            axis.set_xlabel(f"updates to {name} {target:g}")
            axis.grid(axis="y", visible=False)
        axes[0].set_yticks(range(len(shown)), shown)
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        return finished(
            figure, title, f"{caption}; bar: median, ▷: not reached by the end of training, ×: diverged before it was reached"
        )


def targets(table: Table, asked: Sequence[str]) -> tuple[list[float], str]:
    """The validation scores that `steps_to_target` shows as targets, and their part of the caption.

    The targets of claims, or `OF_BASELINE` where the experiment asks for the figure `steps`.
    """
    shares = sorted({c["target"] for c in table.declaration.get("claims", ()) if c.get("target") is not None})
    shares = shares or ([OF_BASELINE] if "steps" in asked else [])
    try:
        scores = [float(f"{table.target(share):.3g}") for share in shares]
    except NoData:
        return [], ""
    baseline = table.declaration.get("baseline") or table.arms[0]
    parts = " and ".join(f"{100 * share:.3g} %" if table.primary.sign > 0 else f"1/{share:g}" for share in shares)
    return scores, f"target: {parts} of the mean final score of {baseline}" if shares else ""


def updates_to_targets(table: Table, rows: pd.DataFrame, targets: list[float]) -> pd.DataFrame:
    """The updates that each trial needed for each target, as input of `steps_to_target`; trials without updates are left out."""
    lines = []
    for row in rows[rows["steps"].notna()].to_dict("records"):
        arm, seed = row["arm"], row["seed"]
        for target in targets if len(table.epochs_of(arm, seed)) else ():
            steps = table.metric("steps_to_target").value(table, arm, seed, target)
            reached = math.isfinite(steps)
            line = {"arm": arm, "seed": seed, "target": target, "steps": steps if reached else float(row["steps"])}
            lines.append({**line, "reached": reached, "diverged": row["status"] == "diverged"})
    return pd.DataFrame(lines)


def compared_epochs(epochs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The epochs of the stage to compare, and a note for the caption.

    Where trials have several stages: those of a stage that all arms have, preferably `fit`.
    """
    stages = set(epochs["stage"])
    shared = stages.intersection(*(set(one) for _, one in epochs.groupby("arm")["stage"]))
    stage = "fit" if "fit" in shared else min(shared, default=None)
    if len(stages) == 1 or stage is None or (len(shared) > 1 and stage != "fit"):
        return epochs, ""
    return epochs[epochs["stage"] == stage], f"; epochs of stage {stage}"
