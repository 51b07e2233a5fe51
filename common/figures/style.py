"""What all figures share: colours, the look of an arm, size, ticks, title and caption, and how they are saved."""

import io
import math
import pathlib
import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from common.files import write_atomic

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
"""Okabe & Ito's palette for all kinds of colour vision, its yellow (unreadable on white) replaced by brown."""
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def look(arms: list[str], arm: str) -> dict:
    """Colour, line and marker of an arm, at whatever rate: the same in all figures of an experiment, distinct also in grey."""
    i = arms.index(arm)
    again = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + again) % len(LINES)],
        "marker": MARKERS[(i + again) % len(MARKERS)],
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def log_ticks(axis, values: list[float] = ()) -> None:
    """At most six plain numbers along a logarithmic x axis: the sorted values drawn, where they leave room for their labels."""
    low, high = axis.get_xlim()
    room = np.diff(np.log(values)) > 0.08 * math.log(high / low)
    if 0 < len(values) <= 6 and room.all():
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.xaxis.set_minor_locator(NullLocator())
        return
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= 6:
            break
    ticks = ticks[:: -(-len(ticks) // 6)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())


def wrapped(text: str, width: int) -> str:
    """A text in lines of so many characters."""
    return "\n".join(textwrap.wrap(text, width))


def finished(figure: Figure, title: str, caption: str) -> Figure:
    """A figure with its title and caption, each as wide as it."""
    width = figure.get_figwidth()
    title = wrapped(title, int(10.5 * width))
    caption = wrapped(caption, int(15 * width))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.supxlabel(caption, fontsize=7.5, color="#555555", x=0.01, ha="left")
    return figure


def save(path: pathlib.Path, figure) -> pathlib.Path:
    """Write a figure as PNG and SVG, the same bytes for the same rows."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "image.composite_image": False}):
        for kind, about in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=about)
            figure.set_layout_engine("none")  # laid out once is enough
            write_atomic(path.with_suffix(f".{kind}"), buffer.getvalue())
    return path
