"""Figure of the differences and verdicts of claims."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from common.figures.style import STYLE, finished, new_figure, wrapped
from common.verdicts.verdict import NO_VERDICT, OPEN, REFUTED, SUPPORTED, Verdict

SHADES = {SUPPORTED: "#009E73", REFUTED: "#D55E00", OPEN: "#555555", NO_VERDICT: "#999999"}
LINE, BETWEEN = 0.17, 0.21
"""Inches: height of a line of a claim's text, and the space between two claims."""
MOST_DECADES = 4
"""Largest difference shown, as a power of ten of the margin."""


def forest(verdicts: Sequence[Verdict], title: str, caption: str, names: Sequence[str] | None = None) -> Figure:
    """Forest plot: each claim's difference with its interval, in units of the claim's margin, and its verdict.

    The axis is linear within ± 1 and logarithmic beyond; intervals that leave it end in an arrow.

    Args:
        names: of the claims, by default their texts.
    """
    named = zip(verdicts, names or [verdict.text for verdict in verdicts], strict=True)
    labels = {i: wrapped(name, 38) for i, (verdict, name) in enumerate(named) if verdict.difference is not None}
    shown = [verdicts[i] for i in labels]
    ends = [abs(end / verdict.margin) for verdict in shown for end in (verdict.difference, verdict.low, verdict.high)]
    widest = max([10.0, *(end for end in ends if math.isfinite(end))])
    reach = 10 ** min(math.ceil(math.log10(widest) - 1e-9), MOST_DECADES)
    heights = np.array([LINE * (label.count("\n") + 1) + BETWEEN for label in labels.values()])
    bottoms = np.cumsum(heights)
    middles = bottoms - heights / 2
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 1.4 + sum(heights))
        axis = figure.subplots()
        for y, verdict in zip(middles, shown, strict=True):
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
        axis.set_yticks(middles, list(labels.values()))
        axis.set_ylim(bottoms[-1], 0)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("difference in margins (dotted: the margin; logarithmic beyond ± 1)")
        return finished(figure, title, caption)
