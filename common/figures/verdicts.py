"""Figure of the differences and verdicts of claims."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from common.figures.style import STYLE, finished, new_figure, wrapped
from common.verdicts.verdict import NO_VERDICT, OPEN, REFUTED, SUPPORTED, Verdict

SHADES = {SUPPORTED: "#009E73", REFUTED: "#D55E00", OPEN: "#555555", NO_VERDICT: "#999999"}
WIDTH = 38
"""Characters of a line of a claim's text."""
LINE, BETWEEN = 0.17, 0.21
"""Inches: height of a line of a claim's text, and the space between two claims."""
MOST_DECADES = 4
"""Largest difference shown, as a power of ten of the margin."""


class _Line(NamedTuple):
    """A line of the figure: a claim, or a half of one."""

    label: str
    at: float
    low: float
    high: float
    status: str
    marks: tuple[int, ...]
    """Where the margin is."""

    @property
    def height(self) -> float:
        return LINE * (self.label.count("\n") + 1) + BETWEEN


def forest(verdicts: Sequence[Verdict], title: str, caption: str, names: Sequence[str] | None = None) -> Figure:
    """Forest plot: each claim's difference with its interval, in units of the claim's margin, and its verdict.

    Of a claim of two halves each has a line. The margin is at 1; of a claim that an arm is not worse at −1, of sameness at both.
    The axis is linear within ± 1 and logarithmic beyond; intervals that leave it end in an arrow.

    Args:
        names: of the claims, by default their texts.
    """
    named = zip(verdicts, names or [verdict.text for verdict in verdicts], strict=True)
    lines = [line for verdict, name in named for line in _lines(verdict, name)]
    ends = [abs(end) for line in lines for end in (line.at, line.low, line.high)]
    widest = max([10.0, *(end for end in ends if math.isfinite(end))])
    reach = 10 ** min(math.ceil(math.log10(widest) - 1e-9), MOST_DECADES)
    heights = np.array([line.height for line in lines])
    bottoms = np.cumsum(heights)
    middles = bottoms - heights / 2
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 1.4 + sum(heights))
        axis = figure.subplots()
        for y, line in zip(middles, lines, strict=True):
            colour = SHADES[line.status]
            axis.hlines(y, max(line.low, -reach), min(line.high, reach), color=colour, linewidth=2)
            for end, beyond, marker in ((-reach, line.low < -reach, "<"), (reach, line.high > reach, ">")):
                if beyond:
                    axis.plot(end, y, marker=marker, color=colour, markersize=5, clip_on=False)
            axis.plot(np.clip(line.at, -reach, reach), y, "o", color=colour, markersize=6)
            for mark in line.marks:
                axis.vlines(mark, y - line.height / 2, y + line.height / 2, color="#000000", linewidth=1, linestyles=":")
            axis.annotate(line.status, (1.02, y), xycoords=("axes fraction", "data"), va="center", color=colour)
        axis.axvline(0, color="#000000", linewidth=1)
        axis.set_xscale("symlog", linthresh=1, linscale=0.7)
        right = [10**decade for decade in range(MOST_DECADES + 1) if 10**decade <= reach]
        ticks = [*(-tick for tick in right[::-1]), 0, *right]
        axis.set_xticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(-reach, reach)
        axis.set_yticks(middles, [line.label for line in lines])
        axis.set_ylim(bottoms[-1], 0)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("difference in margins (dotted: the margin; logarithmic beyond ± 1)")
        return finished(figure, title, caption)


def _lines(verdict: Verdict, name: str) -> list[_Line]:
    """The line of a claim, those of its halves, or none without a difference."""
    if verdict.difference is None:
        return []
    if len(verdict.changes) < 2:
        at, low, high = (value / verdict.margin for value in (verdict.difference, verdict.low, verdict.high))
        marks = verdict.changes[0].marks if verdict.changes else (1,)
        return [_Line(wrapped(name, WIDTH), at, low, high, verdict.status, marks)]
    halves = [
        _Line(wrapped(change.unit.quantity, WIDTH), *change.in_margins, change.status, change.marks) for change in verdict.changes
    ]
    first = halves[0]._replace(label=f"{wrapped(f'{name} ({verdict.status})', WIDTH)}:\n{halves[0].label}")
    return [first, *halves[1:]]
