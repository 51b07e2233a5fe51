"""Figure of the effects of arms, over several experiments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory

from common.figures.style import STYLE, finished, new_figure, wrapped
from common.rows import schema
from common.verdicts.effects import Comparison, Effect

WIDTH = 9.0
"""Of the figure, in inches."""
LINE = 0.18
"""Height of a line of text, in inches."""
NAME, HEADING, NUMBERS = 34, 112, 48
"""Columns of an arm's name, of a heading and of an effect in numbers."""
BETTER, WORSE, NEITHER, OTHER = "#009E73", "#D55E00", "#666666", "#0072B2"
"""Colours of an interval on the better or worse side of 0, around 0, or beside 0 where neither side is better."""
TALL = 50
"""Lines above which the ticks of a panel also stand above it."""
WIDEST = 20
"""Largest difference in units of the usual one, above which the axis is logarithmic away from 0."""


@dataclass(frozen=True)
class _Line:
    """A line of a panel, from the top: a heading, or an arm with its effects."""

    text: str
    comparison: Comparison
    effects: tuple[Effect, ...] = ()
    bold: bool = False

    @property
    def height(self) -> int:
        return self.text.count("\n") + 1


def effects(comparisons: Sequence[Comparison], title: str, caption: str) -> Figure:
    """The difference of each arm to its experiment's baseline, with its interval, one experiment below the other.

    A panel per metric. The band is ± the experiment's margin; arms at the common rate are hollow dots. If a panel has differences
    of very different sizes, its axis is logarithmic away from 0.

    Args:
        comparisons: in the order of `common.verdicts.effects.ordered`.
    """
    panels: dict[str, list[Comparison]] = {}
    for one in comparisons:
        panels.setdefault(one.label, []).append(one)
    lines = {label: [line for one in same for line in _lines(one)] for label, same in panels.items()}
    heights = [sum(line.height for line in panel) for panel in lines.values()]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.0 + LINE * sum(heights) + 0.5 * len(panels))
        figure.get_layout_engine().set(rect=(0, 0, 0.97, 1))  # the numbers at the right are wider in SVG and PDF than in the PNG
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, (label, panel) in zip(axes, lines.items(), strict=True):
            _panel(axis, label, panel, figure)
        return finished(figure, title, caption)


def _lines(comparison: Comparison) -> list[_Line]:
    """The lines of an experiment: its question, its baseline, its arms."""
    lines = [
        _Line(wrapped(f"{comparison.number}  {comparison.question}", HEADING), comparison, bold=True),
        _Line(wrapped(comparison.against(), HEADING + 10), comparison),
    ]
    arms = dict.fromkeys(effect.arm for effect in comparison.effects)
    of_arm = {arm: tuple(effect for effect in comparison.effects if effect.arm == arm) for arm in arms}
    return lines + [_Line(wrapped(arm, NAME), comparison, same) for arm, same in of_arm.items()]


def _panel(axis: Axes, label: str, lines: Sequence[_Line], figure: Figure) -> None:
    """Draw the lines of one metric."""
    shown = [effect for line in lines for effect in line.effects if not effect.reason]
    _scale(axis, shown, [line.comparison.margin for line in lines if line.comparison.margin])
    across = blended_transform_factory(figure.transFigure, axis.transData)
    ticks, names, top = [], [], 0.0
    for line in lines:
        middle, bottom = top + line.height / 2, top + line.height
        if line.effects:
            margin = line.comparison.margin
            if margin:
                axis.add_patch(Rectangle((-margin, top), 2 * margin, line.height, color="#888888", alpha=0.15, linewidth=0))
            axis.vlines(0, top, bottom, color="#000000", linewidth=1)
            ticks.append(middle)
            names.append(line.text)
            _draw(axis, line, middle)
        else:
            band = Rectangle((0, top), 1, line.height, transform=across, color="#f0f0f0", linewidth=0, clip_on=False, zorder=3)
            band.set_in_layout(False)
            axis.add_patch(band)
            look = {"weight": "bold"} if line.bold else {"size": 7.5, "color": "#444444"}
            text = axis.text(0.01, middle, line.text, transform=across, va="center", zorder=4, **look)
            text.set_in_layout(False)
        top = bottom
    axis.set_yticks(ticks, names)
    axis.set_ylim(top, 0)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    if top > TALL:
        axis.tick_params(axis="x", top=True, labeltop=True)
    better = {1: ", higher is better", -1: ", lower is better", 0: ""}[lines[0].comparison.direction]
    axis.set_xlabel(f"difference in {label}{better}")


def _draw(axis: Axes, line: _Line, y: float) -> None:
    """Draw the effects of one arm, and write the first in numbers at the right."""
    for effect in line.effects:
        if effect.reason:
            continue
        at_common = effect.rate == schema.COMMON
        place = y + (0.24 if at_common else -0.12 if len(line.effects) > 1 else 0.0)
        colour = _colour(effect, line.comparison.direction)
        if math.isfinite(effect.low):
            axis.hlines(place, effect.low, effect.high, color=colour, linewidth=0.8 if at_common else 2)
        face = {"markerfacecolor": "white", "markersize": 3.5, "markeredgewidth": 0.8} if at_common else {"markersize": 5}
        axis.plot(effect.difference, place, "o", color=colour, zorder=3, **face)
    first, *more = wrapped(line.effects[0].words(line.comparison.form), NUMBERS).split("\n")
    look = {"va": "center", "fontsize": 7.5, "color": "#444444"}
    axis.annotate(first + (" …" if more else ""), (1.01, y), xycoords=("axes fraction", "data"), **look)


def _colour(effect: Effect, direction: int) -> str:
    """The colour of an effect, by the side of 0 on which its interval lies."""
    if not (effect.low > 0 or effect.high < 0):
        return NEITHER
    return OTHER if direction == 0 else BETTER if effect.difference * direction > 0 else WORSE


def _scale(axis: Axes, shown: Sequence[Effect], margins: Sequence[float]) -> None:
    """Set the scale and the limits of the x axis, so that all intervals and the bands of the margins are seen."""
    ends = [end for e in shown for end in (e.difference, e.low, e.high) if math.isfinite(end)]
    ends += [0.0, *(sign * 1.2 * margin for margin in margins for sign in (-1, 1))]
    sizes = [abs(e.difference) for e in shown if e.difference]
    low, high = min(ends), max(ends)
    usual = 2 * min(margins) if margins else float(np.median(sizes)) if sizes else 1.0
    if max(-low, high) > WIDEST * usual:
        linear = 10.0 ** round(math.log10(usual))
        axis.set_xscale("symlog", linthresh=linear)
        powers = [linear * 10.0**power for power in range(math.floor(math.log10(max(-low, high) / linear)) + 1)]
        ticks = [tick for tick in (*(-power for power in powers[::-1]), 0.0, *powers) if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
        axis.set_xlim(1.3 * low - linear / 10, 1.3 * high + linear / 10)
    else:
        pad = 0.04 * (high - low) or 1.0
        axis.set_xlim(low - pad, high + pad)
