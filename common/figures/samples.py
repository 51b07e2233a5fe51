"""Figure of training images."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.figures.style import STYLE, columns, finished, new_figure, wrapped


def sample_sheet(samples: dict[str, np.ndarray], arms: list[str], title: str, caption: str) -> Figure:
    """The first training images as augmented in the first epoch, a row per arm; arms with the same images share one.

    Args:
        samples: uint8 [n, h, w, c] per arm.
    """
    lines: dict[tuple, list[str]] = {}
    for arm in (arm for arm in arms if arm in samples):
        lines.setdefault((samples[arm].shape, samples[arm].tobytes()), []).append(arm)
    shown = {}
    for same in lines.values():
        others = f" and {len(same) - 1} other{'s' if len(same) > 2 else ''}" if len(same) > 1 else ""
        shown["every arm" if len(lines) == 1 and others else same[0] + others] = samples[same[0]]
    most = max(map(len, shown.values()))
    names = [wrapped(name, 24) for name in shown]
    width = max(columns(part) for name in names for part in name.split("\n"))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(0.3 + 0.085 * width + 0.8 * most, 0.9 + 0.8 * len(shown))
        axis = figure.subplots()  # one for all images: a grid of axes takes seconds to lay out
        for line, images in enumerate(shown.values()):
            gap = max(1, images.shape[2] // 14)
            spaced = np.pad(images, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
            strip = np.concatenate(list(spaced), axis=1)
            strip = strip.squeeze(-1) if strip.shape[-1] == 1 else strip
            place = (0, len(spaced), line + 1, line)
            axis.imshow(strip, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="none")
        axis.set_xlim(0, most)
        axis.set_ylim(len(shown), 0)
        axis.set_yticks(np.arange(len(shown)) + 0.5, names)
        axis.set_xticks([])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        return finished(figure, title, caption)
