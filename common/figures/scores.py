"""Figures of outcomes: scores, measures and divergence of every seed, mean scores against costs."""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit

from common.figures.style import STYLE, finished, look, new_figure, wrapped
from common.rows import schema
from common.rows.metric import ACCURACY, Primary

SURVIVAL = ListedColormap(["#f2f2f2", "#c9442b"])
"""Grey for trained, red for diverged."""


def final_scores(
    rows: pd.DataFrame, entries: list[str], title: str, caption: str, baseline: str | None = None, primary: Primary = ACCURACY
) -> Figure:
    """Test score of every seed as a dot; the mean as a bar with its 95 % interval over seeds.

    Trials that diverged are crosses, those that did not train triangles; arms at the common rate have hollow dots. The band is
    the baseline's mean ± one standard deviation over seeds.

    Args:
        entries: all arms of the experiment in order, then those at the common rate.
    """
    columns = rows.filter(["entry", "arm", "rate", "seed", primary.column])
    trials = columns.assign(diverged=rows["status"] == "diverged", untrained=_untrained(rows)).sort_values("seed")
    by_entry = dict(iter(trials.groupby("entry")))
    shown = [entry for entry in entries if entry in by_entry]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7, 1.5 + 0.42 * len(shown))
        axis = figure.subplots()
        floor = rows.loc[rows["entry"] == baseline, primary.column]
        if len(floor) > 1:
            caption += f"; band: mean ± one standard deviation of {baseline}"
            axis.axvspan(floor.mean() - floor.std(), floor.mean() + floor.std(), color="#888888", alpha=0.15, linewidth=0)
        low, high = rows[primary.column].min(), rows[primary.column].max()
        for y, entry in enumerate(shown):
            one = by_entry[entry]
            values, diverged, untrained = (one[name].to_numpy() for name in (primary.column, "diverged", "untrained"))
            colour = look(entries, one["arm"].iloc[0])["color"]
            shift = 0.3 * (np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1))
            filled, hollow = {"alpha": 0.6, "linewidths": 0}, {"facecolors": "none", "linewidths": 0.8}
            dots = {"s": 18, **(hollow if one["rate"].iloc[0] == schema.COMMON else filled)}
            triangles, crosses = {"s": 24, "marker": "v"}, {"s": 24, "marker": "x"}
            for which, marks in ((~(diverged | untrained), dots), (untrained, triangles), (diverged, crosses)):
                if which.any():
                    axis.scatter(values[which], y + shift[which], color=colour, **marks)
            axis.vlines(values.mean(), y - 0.4, y + 0.4, color=colour, linewidth=2)
            if len(values) > 1:
                half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
                axis.hlines(y, values.mean() - half, values.mean() + half, color=colour, linewidth=1)
        margin = 0.06 * max(high - low, 0.01)
        axis.set_xlim(low - margin, high + margin)  # a wide interval must not hide the dots
        axis.set_yticks(range(len(shown)), shown)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        marks = {"; ×: diverged": rows["status"] == "diverged", "; ▽: did not train": _untrained(rows)}
        marked = "".join(mark for mark, trials in marks.items() if trials.any())
        axis.set_xlabel(f"{primary.label()}, a dot per seed (mean, 95 % interval{marked})")
        axis.grid(axis="y", visible=False)
        return finished(figure, title, caption)


def _untrained(rows: pd.DataFrame) -> np.ndarray:
    """Whether each trial ended at chance on its training images, bool [n]; False in rows without the column `trained`."""
    trained = rows["trained"].astype(str) if "trained" in rows else pd.Series("", rows.index)
    return ((rows["status"] == "done") & (trained == "False")).to_numpy()


def measured(values: pd.DataFrame, arms: list[str], title: str, caption: str) -> Figure:
    """A panel per measure: a dot per seed, the mean as a bar.

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
                dots = values.loc[(values["name"] == name) & (values["arm"] == arm), "value"]
                colour = look(arms, arm)["color"]
                axis.plot(dots, np.full(len(dots), y), "o", color=colour, alpha=0.6, markersize=4)
                axis.vlines(dots.mean(), y - 0.35, y + 0.35, color=colour, linewidth=2)
            unit = next((unit for unit in values.loc[values["name"] == name, "unit"] if isinstance(unit, str)), "")
            axis.set_xlabel(wrapped(name + (f" ({unit})" if unit else ""), 36))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(shown)), shown)
        axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
        for axis in list(axes.flat)[len(names) :]:
            axis.set_visible(False)
        return finished(figure, title, caption)


def survival(rows: pd.DataFrame, entries: list[str], title: str, caption: str) -> Figure:
    """Which trials diverged: a row per arm, those at the common rate last, a column per seed."""
    shown = [entry for entry in entries if entry in set(rows["entry"])]
    by_seed = rows.assign(diverged=rows["status"] == "diverged").pivot_table(index="entry", columns="seed", values="diverged")
    table = by_seed.reindex(shown).to_numpy(float)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(max(5.0, 2.5 + 0.3 * table.shape[1]), 1.3 + 0.28 * len(shown))
        axis = figure.subplots()
        axis.imshow(table, cmap=SURVIVAL, vmin=0, vmax=1, aspect="auto")
        for y, x in np.argwhere(table == 1):
            axis.text(x, y, "×", ha="center", va="center", color="white")
        axis.set_yticks(range(len(shown)), shown)
        axis.set_xticks(range(table.shape[1]), [f"{seed}" for seed in by_seed.columns])
        axis.set_xlabel(f"seed (×: diverged{'; white: no row' if np.isnan(table).any() else ''})")
        return finished(figure, title, caption)


def cost(
    rows: pd.DataFrame, arms: list[str], column: str, label: str, title: str, caption: str, primary: Primary = ACCURACY
) -> Figure:
    """Mean test score against a cost, with ± one standard deviation of both; the dashed line is the Pareto front.

    Args:
        column: of the cost, whose name in words is `label`. Arms without it are left out.
    """
    shown = [arm for arm in arms if rows.loc[rows["arm"] == arm, column].notna().any()]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, max(3.8, 1.0 + 0.19 * len(shown)))
        axis = figure.subplots()
        points = []
        for arm in shown:
            trials = rows[rows["arm"] == arm]
            x, y = trials[column].mean(), trials[primary.column].mean()
            spread = {"xerr": trials[column].std(), "yerr": trials[primary.column].std()} if len(trials) > 1 else {}
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
        return finished(
            figure, title, f"{caption}; bars: ± one standard deviation over seeds; dashed: the best score up to a cost"
        )
