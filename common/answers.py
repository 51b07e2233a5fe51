"""Figures that judge: verdicts, costs, failures and mistakes. Rows in, matplotlib `Figure` out; the look is that of `plots`."""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from common.plots import COLOURS, STYLE, finished, look, new_figure, wrapped
from common.verdicts import NO_DATA, OPEN, REFUTED, SUPPORTED, Verdict

SHADES = {SUPPORTED: "#009E73", REFUTED: "#D55E00", OPEN: "#555555", NO_DATA: "#999999"}
GREYS = ListedColormap(["#f2f2f2", "#c9442b"])


def forest(verdicts: list[Verdict], title: str, caption: str) -> Figure:
    """Each claim's difference with its interval, 0 and the margin marked, and the verdict in words.

    Differences are shown in units of the claim's margin, so that claims about different metrics stand side by side; an
    interval that leaves ± 10 margins ends in an arrow.
    """
    shown = [verdict for verdict in verdicts if verdict.difference is not None]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 1.4 + 0.55 * len(shown))
        axis = figure.subplots()
        reach = 10.0
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
        axis.set_xlim(-reach, reach)
        axis.set_yticks(range(len(shown)), [wrapped(verdict.text, 38) for verdict in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("difference in margins (dotted: the margin)")
        return finished(figure, title, caption)


def cost(rows: pd.DataFrame, arms: list[str], column: str, label: str, title: str, caption: str) -> Figure:
    """Mean test accuracy against what it costs, crosses of ± one standard deviation; a line joins what nothing beats in both."""
    shown = [arm for arm in arms if arm in set(rows["arm"])]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, max(3.8, 1.0 + 0.19 * len(shown)))
        axis = figure.subplots()
        points = []
        for arm in shown:
            own = rows[rows["arm"] == arm]
            x, y = own[column].mean(), own["test_accuracy"].mean()
            spread = {"xerr": own[column].std(), "yerr": own["test_accuracy"].std()} if len(own) > 1 else {}
            style = look(arms, arm)
            marks = {"color": style["color"], "marker": style["marker"], "markersize": 5, "linestyle": "", "linewidth": 1}
            axis.errorbar(x, y, **spread, **marks, label=arm)
            points.append((x, y))
        best, front = -math.inf, []
        for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
            if y > best:
                best = y
                front.append((x, y))
        axis.step(*zip(*front, strict=True), where="post", color="#000000", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xlabel(label)
        axis.set_ylabel("test accuracy")
        figure.legend(loc="outside right center")
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


def crossed(rows: pd.DataFrame, arms: dict[str, tuple], number: str, title: str, caption: str) -> Figure:
    """Mean test accuracy over a number and what it is crossed with; `arms` gives each arm's group and number."""
    first, second = (list(dict.fromkeys(pair[i] for pair in arms.values())) for i in (0, 1))
    table = np.full((len(first), len(second)), np.nan)
    for arm, (a, b) in arms.items():
        own = rows.loc[rows["arm"] == arm, "test_accuracy"]
        if len(own):
            table[first.index(a), second.index(b)] = own.mean()
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(max(5.5, 2.2 + 0.62 * len(second)), max(2.6, 1.5 + 0.34 * len(first)))
        axis = figure.subplots()
        image = axis.imshow(table, cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table):
            if not np.isnan(value):
                axis.text(
                    x, y, f"{value:.3f}", ha="center", va="center", fontsize=7.5, color="black" if value > middle else "white"
                )
        axis.set_yticks(range(len(first)), [str(value) for value in first])
        axis.set_xticks(range(len(second)), [f"{v:g}" if isinstance(v, float) else str(v) for v in second])
        axis.set_xlabel(number)
        figure.colorbar(image, label="test accuracy")
        return finished(figure, title, caption)


def confusions(counts: dict[str, np.ndarray], title: str, caption: str) -> Figure:
    """Left the mistakes of the first arm in percent of each true class, right how the second differs from it.

    Args:
        counts: [classes, classes] of two arms, rows true, columns predicted, summed over seeds.
    """
    (first, a), (second, b) = counts.items()
    shares = [100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1) for table in (a, b)]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(10, 4.6)
        axes = figure.subplots(1, 2)
        panels = ((shares[0], first, "cividis", 0, 100), (shares[1] - shares[0], f"{second}, less {first}", "PuOr_r", None, None))
        for axis, (table, name, colours, low, high) in zip(axes, panels, strict=True):
            most = max(abs(table).max(), 1e-9)
            limits = (low, high) if high is not None else (-most, most)
            image = axis.imshow(table, cmap=colours, vmin=limits[0], vmax=limits[1])
            for (y, x), value in np.ndenumerate(table):
                if round(value):
                    dark = value < 50 if high is not None else abs(value) > 0.6 * most
                    axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
            axis.set_title(wrapped(name, 42))
            axis.set_xlabel("predicted class")
            axis.set_ylabel("true class")
            axis.set_xticks(range(len(table)))
            axis.set_yticks(range(len(table)))
            figure.colorbar(image, label="% of the true class", shrink=0.8)
        return finished(figure, title, caption)


def reliability(bins: dict[str, tuple[np.ndarray, np.ndarray]], arms: list[str], title: str, caption: str) -> Figure:
    """Accuracy against confidence: on the diagonal a model is right as often as it says.

    Args:
        bins: per arm the mean confidence and the accuracy of each bin that holds examples.
    """
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7, max(4.2, 1.2 + 0.19 * len(bins)))
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=COLOURS[0], linewidth=0.8, linestyle=":")
        for arm, (confidence, accuracy) in bins.items():
            axis.plot(confidence, accuracy, label=arm, markersize=4, **look(arms, arm))
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("confidence")
        axis.set_ylabel("accuracy")
        figure.legend(loc="outside right center")
        return finished(figure, title, caption)
