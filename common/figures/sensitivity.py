"""Figures of scores against a number that the arms vary, and the search for that number in the declaration."""

import itertools
import re

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.figures.style import BAND, STYLE, finished, log_ticks, look, new_figure
from common.rows.metric import ACCURACY, Primary
from common.verdicts import stats


def sensitivity(
    rows: pd.DataFrame,
    groups: dict[str, dict[str, float]],
    number: str,
    title: str,
    caption: str,
    primary: Primary = ACCURACY,
) -> Figure:
    """Test score against a number that the arms vary: mean over seeds, band of ± one standard deviation within the seeds' range.

    Args:
        groups: label of a line in the legend -> arm -> its number; an arm whose number is 0 is a dashed horizontal line.
        number: its name.
    """
    names = list(groups)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7.5, max(3.8, 1.2 + 0.19 * len(names)))
        axis = figure.subplots()
        for name, arms in groups.items():
            style = look(names, name)
            trials = rows[rows["arm"].isin(arms)].assign(at=rows["arm"].map(arms))
            by = trials[trials["at"] > 0].groupby("at")[primary.column]
            mean, spread = by.mean(), by.std().fillna(0.0)
            axis.plot(mean.index, mean, label=name, markersize=4, **style)
            low, high = np.maximum(mean - spread, by.min()), np.minimum(mean + spread, by.max())
            axis.fill_between(mean.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
            none = trials.loc[trials["at"] == 0, primary.column]
            if len(none):
                axis.axhline(none.mean(), color=style["color"], linestyle="--", linewidth=1, label=f"{number} 0")
        axis.set_xscale("log")
        log_ticks(axis, sorted({at for arms in groups.values() for at in arms.values() if at > 0}))
        axis.set_xlabel(number)
        axis.set_ylabel(primary.label())
        if len(axis.get_legend_handles_labels()[1]) > 1:
            figure.legend(loc="outside right center")
        return finished(figure, title, f"{caption}; line: mean over seeds, {BAND}")


def crossed(
    rows: pd.DataFrame, arms: dict[str, tuple], number: str, title: str, caption: str, primary: Primary = ACCURACY
) -> Figure:
    """Heat map of mean test scores: a row per group of arms, a column per value of a number.

    Args:
        arms: arm -> its group and its number.
    """
    first, second = (list(dict.fromkeys(pair[i] for pair in arms.values())) for i in (0, 1))
    table = np.full((len(first), len(second)), np.nan)
    for arm, (a, b) in arms.items():
        scores = rows.loc[rows["arm"] == arm, primary.column]
        if len(scores):
            table[first.index(a), second.index(b)] = scores.mean()
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(max(5.5, 2.2 + 0.62 * len(second)), max(2.6, 1.5 + 0.34 * len(first)))
        axis = figure.subplots()
        image = axis.imshow(table, cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table):
            if not np.isnan(value):
                text = f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"
                style = {"fontsize": 7.5, "color": "black" if value > middle else "white", "in_layout": False}
                axis.text(x, y, text, ha="center", va="center", **style)
        axis.set_yticks(range(len(first)), [str(value) for value in first])
        axis.set_xticks(range(len(second)), [f"{v:g}" if isinstance(v, float) else str(v) for v in second])
        axis.set_xlabel(number)
        figure.colorbar(image, label=primary.label())
        return finished(figure, title, caption)


def varied_number(declaration: dict, there: set[str]) -> tuple[str, dict[str, dict[str, float]]]:
    """The number that most arms vary: its name, and group -> arm -> value, a group being arms equal in all else.

    Blank and empty if no number has three values above 0 in any group.
    """
    arms = {arm: fields for arm, fields in declaration["arms"].items() if arm in there}
    best: tuple[str, dict] = ("", {})
    for number in dict.fromkeys(name for fields in arms.values() for name in fields):
        groups: dict[str, dict[str, float]] = {}
        for arm, fields in arms.items():
            value = fields.get(number)
            if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
                others = repr({name: v for name, v in fields.items() if name != number})
                groups.setdefault(others, {})[arm] = value
        groups = {shared_name(one, number): one for one in groups.values() if len({v for v in one.values() if v > 0}) >= 3}
        if sum(map(len, groups.values())) > sum(map(len, best[1].values())):
            best = (number, groups)
    return best


def shared_name(arms: dict[str, float], number: str) -> str:
    """The common part of arm names without their number: `Adam` of `Adam, 0.1`, `dropout, 4E` of `dropout 0.2, 4E`."""
    names = [arm for arm, value in arms.items() if value > 0]
    before = _shared_start(names)
    after = _shared_start([name[len(before) :][::-1] for name in names])[::-1]
    head, tail = re.sub(r"[\s,=:]*[\d.e+-]*$", "", before), re.sub(r"^[\d.e+-]*\s*(%|:1$)?", "", after).lstrip()
    return (head + " " * tail[:1].isalnum() + tail).lstrip(" ,") or number


def _shared_start(names: list[str]) -> str:
    """The longest common prefix."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def with_flatness(name: str, arms: dict[str, float], rows: pd.DataFrame, within: float, primary: Primary) -> str:
    """A group's label in the legend: its name, and the mean number of decades within `within` of its best."""
    order = sorted(arms, key=arms.get)
    table = rows[rows["arm"].isin(arms)].pivot_table(index="seed", columns="arm", values=primary.column)[order].dropna()
    numbers = [arms[arm] for arm in order]
    decades = [stats.decades_within(numbers, primary.sign * scores, within) for scores in table.to_numpy()]
    return f"{name}: {np.mean(decades):.1f} decades" if decades else name
