"""Style of all figures: colours and markers of arms, ticks, wrapped texts, title and caption; and how figures are saved."""

import io
import math
import pathlib
import textwrap
import unicodedata

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from common.figures import fonts
from common.files import write_changed

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
"""Okabe & Ito's palette for all kinds of colour vision, its yellow (unreadable on white) replaced by brown."""
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X"
BAND = "band: ± one standard deviation over seeds"
"""Part of the caption of a figure with bands."""
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Format -> metadata without what would differ between two days."""
FILLER = "\ue000"
"""Placeholder, from the private use area, for the second column of a wide character while text is wrapped."""
OF_THE_MACHINE = (
    "backend",
    "interactive",
    "toolbar",
    "timezone",
    "webagg",
    "figure.max_open",
    "figure.raise",
    "savefig.directory",
    "tk.",
    "date.epoch",
)
"""Prefixes of Matplotlib's rcParams that do not affect a figure."""
DEFAULTS = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith(OF_THE_MACHINE)}
"""Matplotlib's default rcParams, so that neither a matplotlibrc nor a style of the user's has an effect."""
STYLE = {
    **DEFAULTS,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # names may hold dollar signs
}


def look(arms: list[str], arm: str) -> dict:
    """Colour, line style and marker of an arm, the same in all figures of an experiment and distinct in greyscale.

    Args:
        arms: all arms of the experiment in order.
    """
    i = arms.index(arm)
    again = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + again) % len(LINES)],
        "marker": MARKERS[(i + again) % len(MARKERS)],
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def log_ticks(axis, values: list[float] = ()) -> None:
    """Set at most six ticks in plain numbers along a logarithmic x axis.

    Args:
        values: the values drawn, ascending, which are the ticks where their labels have room.
    """
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


def columns(text: str) -> int:
    """Width of a text in columns: 2 for a wide (Chinese, Japanese, Korean) character, 0 for a combining mark, else 1."""
    return sum(2 if _wide(c) else unicodedata.category(c) not in ("Mn", "Me", "Cf") for c in text)


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


def wrapped(text: str, width: int) -> str:
    """A drawable text (see `fonts.drawable`) in lines of at most `width` columns."""
    doubled = "".join(c + FILLER if _wide(c) else c for c in fonts.drawable(text))
    return "\n".join(textwrap.wrap(doubled, width)).replace(FILLER, "")


def shortened(text: str, width: int) -> str:
    """The longest prefix of a text that is at most `width` columns wide."""
    return next((text[:end] for end in range(len(text), 0, -1) if columns(text[:end]) <= width), "")


def finished(figure: Figure, title: str, caption: str) -> Figure:
    """The figure with title and caption, wrapped to its width, and all texts in fonts that draw them."""
    texts = figure.findobj(Text)
    if not all(fonts.families(text.get_text()) for text in texts):
        _rewrite(figure)
        texts = figure.findobj(Text)
    width = figure.get_figwidth()
    title, caption = wrapped(title, int(10.5 * width)), fonts.drawable(caption)
    if any(fonts.ESCAPE.search(text) for text in (title, caption, *(text.get_text() for text in texts))):
        caption += "; \\u…: a character that no installed font has"
    caption = wrapped(caption, int(15 * width))
    texts.append(figure.suptitle(title, fontsize=10, x=0.01, ha="left"))
    texts.append(figure.supxlabel(caption, fontsize=7.5, color="#555555", x=0.01, ha="left"))
    for text in texts:
        families = fonts.families(text.get_text())
        if len(families) > len(text.get_fontfamily()):
            text.set_fontfamily(families)
    return figure


def _rewrite(figure: Figure) -> None:
    """Replace texts that no font draws by escapes, tick labels in their axis."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_majorticklabels()]
        if isinstance(axis.get_major_locator(), FixedLocator) and not all(map(fonts.families, labels)):
            axis.set_ticks(axis.get_majorticklocs(), [fonts.drawable(label) for label in labels])
    for text in figure.findobj(Text):
        text.set_text(fonts.drawable(text.get_text()))


def save(path: pathlib.Path, figure: Figure, *, svg: bool = False, pdf: bool = False) -> pathlib.Path:
    """Write a figure as PNG and, if asked for, as SVG and PDF: the same bytes for the same rows. Returns the path of the PNG.

    A PNG that holds the figure already is not written. Without `svg` an earlier SVG, which would be out of date, is removed.
    """
    with matplotlib.rc_context({**DEFAULTS, "svg.hashsalt": path.stem, "image.composite_image": False}):
        png = io.BytesIO()
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        write_changed(path, png.getvalue())
        for kind in [kind for kind, asked in {"svg": svg, "pdf": pdf}.items() if asked]:
            figure.set_layout_engine(None)  # the layout is that of the PNG
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=UNDATED[kind], backend=kind)
            write_changed(path.with_suffix(f".{kind}"), content.getvalue())
        if not svg:
            path.with_suffix(".svg").unlink(missing_ok=True)
    return path
