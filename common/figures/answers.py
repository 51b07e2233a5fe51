"""Figures that judge: verdicts, costs, failures, speed. Rows in, matplotlib `Figure` out; the look is that of `plots`."""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from common.figures.plots import STYLE, finished, log_ticks, look, new_figure, wrapped
from common.rows.metric import ACCURACY, Primary
from common.verdicts.judge import Verdict
from common.verdicts.kinds import NO_DATA, OPEN, REFUTED, SUPPORTED

SHADES = {SUPPORTED: "#009E73", REFUTED: "#D55E00", OPEN: "#555555", NO_DATA: "#999999"}
MOST_DECADES = 4
"""Of margins, either way, that a figure of verdicts spans."""
GREYS = ListedColormap(["#f2f2f2", "#c9442b"])


def forest(verdicts: list[Verdict], title: str, caption: str) -> Figure:
    """Each claim's difference with its interval, 0 and the margin marked, and the verdict in words.

    Differences are shown in units of the claim's margin, so that claims about different metrics stand side by side, beyond ± 1 by
    their logarithm; an interval that leaves the figure ends in an arrow.
    """
    shown = [verdict for verdict in verdicts if verdict.difference is not None]
    ends = [abs(end / verdict.margin) for verdict in shown for end in (verdict.difference, verdict.low, verdict.high)]
    widest = max([10.0, *(end for end in ends if math.isfinite(end))])
    reach = 10 ** min(math.ceil(math.log10(widest) - 1e-9), MOST_DECADES)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 1.4 + 0.55 * len(shown))
        axis = figure.subplots()
        for y, verdict in enumerate(shown):
            at, low, high = (value / verdict.margin for value in (verdict.difference, verdict.low, verdict.high))
            colour = SHADES[verdict.status]
            axis.hlines(y, max(low, -reach), min(high, reach), color=colour, linewidth=2)
            for end, beyond, marker in ((-reach, low < -reach, "<"), (reach, high > reach, ">")):
                if beyond:
                    axis.plot(end, y, marker=marker, color=colour, markersize=5, clip_on=False)
            axis.plot(np.clip(at, -reach, reach), y, "o", color=colour, markersize=6)
            axis.annotate(verdict.status, (1.02, y), xycoords=("axes fraction", "data"), va="center", color=colour)
        axis.axvline(0, color="#000000", linewidth=1)
        axis.axvline(1, color="#000000", linewidth=1, linestyle=":")
        axis.set_xscale("symlog", linthresh=1, linscale=0.7)
        right = [10**decade for decade in range(MOST_DECADES + 1) if 10**decade <= reach]
        ticks = [*(-tick for tick in right[::-1]), 0, *right]
        axis.set_xticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(-reach, reach)
        axis.set_yticks(range(len(shown)), [wrapped(verdict.text, 38) for verdict in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("difference in margins (dotted: the margin; logarithmic beyond ± 1)")
        return finished(figure, title, caption)


def cost(
    rows: pd.DataFrame, arms: list[str], column: str, label: str, title: str, caption: str, primary: Primary = ACCURACY
) -> Figure:
    """Mean test score against what it costs, crosses of ± one standard deviation; a line joins what nothing beats in both.

    An arm whose cost is not known is left out.
    """
    shown = [arm for arm in arms if rows.loc[rows["arm"] == arm, column].notna().any()]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, max(3.8, 1.0 + 0.19 * len(shown)))
        axis = figure.subplots()
        points = []
        for arm in shown:
            own = rows[rows["arm"] == arm]
            x, y = own[column].mean(), own[primary.column].mean()
            spread = {"xerr": own[column].std(), "yerr": own[primary.column].std()} if len(own) > 1 else {}
            style = look(arms, arm)
            marks = {"color": style["color"], "marker": style["marker"], "markersize": 5, "linestyle": "", "linewidth": 1}
            axis.errorbar(x, y, **spread, **marks, label=arm)
            points.append((x, y))
        best, front = -math.inf, []
        for x, y in sorted(points, key=lambda point: (point[0], -primary.sign * point[1])):
            if primary.sign * y > best:
                best = primary.sign * y
                front.append((x, y))
        axis.step(*zip(*front, strict=True), where="post", color="#000000", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xlabel(label)
        axis.set_ylabel(primary.label())
        figure.legend(loc="outside right center")
        return finished(figure, title, caption)


def measured(values: pd.DataFrame, arms: list[str], title: str, caption: str) -> Figure:
    """A panel per measure: every seed of an arm as a dot, the mean as a bar.

    Args:
        values: rows of `…_measures.csv`.
    """
    names = list(dict.fromkeys(values["name"]))
    shown = [arm for arm in arms if arm in set(values["arm"])]
    columns = min(len(names), 3)
    lines = -(-len(names) // columns)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(3.0 + 3.0 * columns, 1.0 + lines * (0.9 + 0.24 * len(shown)))
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axis, name in zip(axes.flat, names, strict=False):
            for y, arm in enumerate(shown):
                own = values.loc[(values["name"] == name) & (values["arm"] == arm), "value"]
                colour = look(arms, arm)["color"]
                axis.plot(own, np.full(len(own), y), "o", color=colour, alpha=0.6, markersize=4)
                axis.vlines(own.mean(), y - 0.35, y + 0.35, color=colour, linewidth=2)
            unit = next((unit for unit in values.loc[values["name"] == name, "unit"] if isinstance(unit, str)), "")
            axis.set_xlabel(wrapped(name + (f" ({unit})" if unit else ""), 36))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(shown)), shown)
        axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
        for axis in list(axes.flat)[len(names) :]:
            axis.set_visible(False)
        return finished(figure, title, caption)


def survival(rows: pd.DataFrame, arms: list[str], title: str, caption: str) -> Figure:
    """Which trials diverged: arms down, seeds across."""
    shown = [arm for arm in arms if arm in set(rows["arm"])]
    table = rows.assign(diverged=rows["status"] == "diverged").pivot_table(index="arm", columns="seed", values="diverged")
    table = table.reindex(shown).to_numpy(float)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(max(5.0, 2.5 + 0.3 * table.shape[1]), 1.3 + 0.28 * len(shown))
        axis = figure.subplots()
        axis.imshow(table, cmap=GREYS, vmin=0, vmax=1, aspect="auto")
        for y, x in np.argwhere(table == 1):
            axis.text(x, y, "×", ha="center", va="center", color="white")
        axis.set_yticks(range(len(shown)), shown)
        axis.set_xticks(range(table.shape[1]))
        axis.set_xlabel("seed (×: diverged)")
        return finished(figure, title, caption)


def crossed(
    rows: pd.DataFrame, arms: dict[str, tuple], number: str, title: str, caption: str, primary: Primary = ACCURACY
) -> Figure:
    """Mean test score over a number and what it is crossed with; `arms` gives each arm's group and number."""
    first, second = (list(dict.fromkeys(pair[i] for pair in arms.values())) for i in (0, 1))
    table = np.full((len(first), len(second)), np.nan)
    for arm, (a, b) in arms.items():
        own = rows.loc[rows["arm"] == arm, primary.column]
        if len(own):
            table[first.index(a), second.index(b)] = own.mean()
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(max(5.5, 2.2 + 0.62 * len(second)), max(2.6, 1.5 + 0.34 * len(first)))
        axis = figure.subplots()
        image = axis.imshow(table, cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table):
            if not np.isnan(value):
                text = f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"
                axis.text(x, y, text, ha="center", va="center", fontsize=7.5, color="black" if value > middle else "white")
        axis.set_yticks(range(len(first)), [str(value) for value in first])
        axis.set_xticks(range(len(second)), [f"{v:g}" if isinstance(v, float) else str(v) for v in second])
        axis.set_xlabel(number)
        figure.colorbar(image, label=primary.label())
        return finished(figure, title, caption)


def steps_to_target(trials: pd.DataFrame, arms: list[str], title: str, caption: str, name: str = "validation accuracy") -> Figure:
    """Updates until a target on val was first reached: a dot per seed, the median as a bar.

    A seed that never got there is an arrow where its training ended, a cross if it diverged; where it is half of them or
    more, so is the median, and the bar is dotted.

    Args:
        trials: `arm`, `seed`, `target`, `steps` (of the epoch that reached it, else of the last), `reached`, `diverged`.
        name: what the target is a value of.
    """
    shown = [arm for arm in arms if arm in set(trials["arm"])]
    targets = sorted(trials["target"].unique())
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7 if len(targets) == 1 else 3.4 + 3.4 * len(targets), 1.5 + 0.36 * len(shown))
        axes = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
        for axis, target in zip(axes, targets, strict=True):
            for y, arm in enumerate(shown):
                own = trials[(trials["arm"] == arm) & (trials["target"] == target)].sort_values("seed")
                if not len(own):
                    continue
                colour = look(arms, arm)["color"]
                at = y + 0.28 * (np.linspace(-1, 1, len(own)) if len(own) > 1 else np.zeros(1))
                steps, reached, diverged = (own[column].to_numpy() for column in ("steps", "reached", "diverged"))
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
        return finished(figure, title, f"{caption}; bar: median, ▷: not reached when training ended, ×: diverged before")
