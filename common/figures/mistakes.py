"""Figures of what was predicted: confusions, calibration, mistakes. Arrays in, matplotlib `Figure` out."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.figures.plots import COLOURS, STYLE, finished, look, new_figure, wrapped


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
            most = max(abs(table).max(), 1)
            limits = (low, high) if high is not None else (-most, most)
            image = axis.imshow(table, cmap=colours, vmin=limits[0], vmax=limits[1])
            for (y, x), value in np.ndenumerate(table):
                if round(value):
                    dark = value < 50 if high is not None else abs(value) > 0.6 * most
                    axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
            axis.set_title(wrapped(name, 42), pad=9)
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


class Mistake(NamedTuple):
    """A test image that an arm gets wrong."""

    image: np.ndarray
    """uint8 [h, w, c]"""
    label: str
    predicted: str
    confidence: float


def most_confident(wrong: dict[str, list[Mistake]], title: str, caption: str) -> Figure:
    """Per arm a line of test images, the surest mistake first: what they are, and what they were taken for."""
    columns = max(map(len, wrong.values()))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(1.6 + 1.05 * columns, 0.8 + 1.55 * len(wrong))
        axes = figure.subplots(len(wrong), columns, squeeze=False)
        for line, (arm, own) in zip(axes, wrong.items(), strict=True):
            for axis in line:
                axis.set_axis_off()
            for axis, one in zip(line, own, strict=False):
                axis.imshow(one.image.squeeze(-1) if one.image.shape[-1] == 1 else one.image, cmap="gray", vmin=0, vmax=255)
                said = f"true {one.label[:12]}\nsaid {one.predicted[:12]}\n{one.confidence:.3f}"
                axis.text(0.5, -0.05, said, ha="center", va="top", fontsize=7, transform=axis.transAxes)
            line[0].text(-0.15, 0.5, wrapped(arm, 16), ha="right", va="center", transform=line[0].transAxes)
        return finished(figure, title, caption)
