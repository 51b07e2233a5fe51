"""Figure of measures over the number in their names, such as the norm of the gradient of each layer."""

import re

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from common.figures.style import BAND, STYLE, finished, look, new_figure, wrapped

NUMBERED = re.compile(r"(?P<what>.+?) (?:of|at) (?P<axis>\D+) (?P<at>\d+(?:\.\d+)?)(?P<when>, .+)?")
"""Names of measures that are drawn, such as `gradient norm of layer 3, untrained`."""
WIDE = 30
"""Ratio of the largest to the smallest mean from which the scale is logarithmic."""
FEW_DECADES = 300
"""The same ratio up to which a logarithmic scale has ticks at 3, 30, … too."""
MOST_TICKS = 8
"""Numbers up to which each has a tick."""


def numbered(measures: pd.DataFrame) -> pd.DataFrame:
    """The measures whose names hold a number, with its value `at`, its name `axis`, and the name without it, `panel`.

    Args:
        measures: rows of `…_measures.csv`.
    """
    parts = measures["name"].str.extract(NUMBERED)
    there = measures.assign(at=pd.to_numeric(parts["at"]), axis=parts["axis"], panel=parts["what"] + parts["when"].fillna(""))
    return there[there["at"].notna()]


def profiles(values: pd.DataFrame, arms: list[str], title: str, caption: str) -> Figure:
    """A panel per name, a line per arm: mean over seeds, band of ± one standard deviation within the seeds' range.

    Args:
        values: see `numbered`.
    """
    panels = list(dict.fromkeys(values["panel"]))
    shown = [arm for arm in arms if arm in set(values["arm"])]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(3.2 + 3.4 * len(panels), max(3.8, 1.2 + 0.19 * len(shown)))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        has_zeros = False
        for axis, panel in zip(axes, panels, strict=True):
            rows = values[values["panel"] == panel]
            means = []
            for arm in shown:
                by = rows[rows["arm"] == arm].groupby("at")["value"]
                mean, spread, style = by.mean(), by.std().fillna(0.0), look(arms, arm)
                axis.plot(mean.index, mean, label=arm, markersize=4, **style)
                low, high = np.maximum(mean - spread, by.min()), np.minimum(mean + spread, by.max())
                axis.fill_between(mean.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
                means += mean.tolist()
            positive = [mean for mean in means if mean > 0]
            if positive and min(means) >= 0 and max(means) > WIDE * min(positive):
                means = positive
                axis.set_yscale("log")
                has_zeros = _mark_zeros(axis, min(means)) or has_zeros
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 3) if max(means) < FEW_DECADES * min(means) else (1,)))
                axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.yaxis.set_minor_formatter(NullFormatter())
            places = sorted(rows["at"].unique())
            axis.xaxis.set_major_locator(FixedLocator(places) if len(places) <= MOST_TICKS else MaxNLocator(MOST_TICKS))
            axis.set_xlabel(rows["axis"].iloc[0])
            axis.set_ylabel(wrapped(panel, 40))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        return finished(figure, title, f"{caption}; line: mean over seeds, {BAND}" + ("; ▽: 0" if has_zeros else ""))


def _mark_zeros(axis, least: float) -> bool:
    """Draw the zeros of a logarithmic panel as triangles at its lower edge. Returns whether there are any.

    Args:
        least: the smallest positive mean.
    """
    edge, has_zeros = least / 3, False
    for line in axis.get_lines():
        zeros = line.get_xdata()[line.get_ydata() == 0]
        if len(zeros):
            axis.set_ylim(bottom=edge)
            marks = {"marker": "v", "markerfacecolor": "none", "markersize": 5, "linestyle": "", "clip_on": False}
            axis.plot(zeros, np.full(len(zeros), edge), color=line.get_color(), **marks)
            has_zeros = True
    return has_zeros
