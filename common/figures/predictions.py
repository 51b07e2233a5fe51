"""Figures of stored predictions and logits: confusion matrices, reliability diagrams, misclassified images."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common import metrics
from common.data.cache import cached_test_images
from common.figures import fonts
from common.figures.style import COLOURS, STYLE, columns, finished, look, new_figure, shortened, wrapped
from common.rows.table import Table

RELIABILITY_BINS, LEAST = 10, 10
"""Number of bins of confidence, and of test images that a bin must hold to be shown."""
MOST_CLASSES = 10
"""Classes that a confusion matrix can show."""
SHOWN_MISTAKES = 8
"""Images per arm."""
NAME_COLUMNS = 16
"""Width of a class' name along an axis, in columns."""


class Mistake(NamedTuple):
    """A test image that an arm misclassifies."""

    image: np.ndarray
    """uint8 [h, w, c]"""
    label: str
    predicted: str
    confidence: float


def total_confusions(table: Table, arms: list[str]) -> dict[str, np.ndarray]:
    """Confusion matrices, summed over seeds, of the baseline and the best other arm; empty with more than `MOST_CLASSES`."""
    baseline = table.declaration.get("baseline")
    totals = {}
    for arm, seed in table.by_trial:
        counts = table.confusion(arm, seed) if arm in arms else None
        if counts is not None and len(counts) <= MOST_CLASSES:
            totals[arm] = totals.get(arm, 0) + counts
    if baseline not in totals or len(totals) < 2 or len({counts.shape for counts in totals.values()}) > 1:
        return {}
    hits = {arm: counts.trace() / counts.sum() for arm, counts in totals.items()}
    other = max((arm for arm in arms if arm in totals and arm != baseline), key=lambda arm: hits[arm])
    return {baseline: totals[baseline], other: totals[other]}


def shares(table: Table, arm: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Predicted probabilities [seeds, n, classes] and labels [seeds, n] of the arm's trials whose logits are stored.

    None if there are no logits, or they differ in shape.
    """
    parts = []
    for seed in sorted(seed for name, seed in table.by_trial if name == arm):
        path, labels = table.files.local("logits", arm, seed, ".npy"), table.labels(arm, seed)
        if labels is None or not path.exists():
            continue
        logits = np.load(path)
        if logits.ndim == 2 and len(logits) == len(labels) and labels.max() < logits.shape[1] and np.isfinite(logits).all():
            parts.append((np.exp(metrics.log_softmax(logits)), labels))
    if not parts or len({q.shape for q, _ in parts}) > 1:
        return None
    return tuple(np.stack(part) for part in zip(*parts, strict=True))


def confidence_bins(table: Table, arms: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Arm -> mean confidence and accuracy of each bin, over all seeds and images; without arms that have no logits."""
    bins = {}
    for arm in arms:
        stored = shares(table, arm)
        if stored is None:
            continue
        probabilities, labels = stored
        confidence, hit = probabilities.max(axis=2).ravel(), (probabilities.argmax(axis=2) == labels).ravel()
        place = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        filled = [b for b in range(RELIABILITY_BINS) if (place == b).sum() >= LEAST]
        bins[arm] = tuple(np.array([values[place == b].mean() for b in filled]) for values in (confidence, hit))
    return bins


def surest_mistakes(table: Table, arms: list[str]) -> dict[str, list[Mistake]]:
    """The misclassified test images of the highest probability, of the baseline and the best other arm.

    Probabilities are means over seeds. Arms whose logits or test images are not on this machine are left out.
    """
    scores = table.rows[table.rows["entry"].isin(arms)].groupby("arm")["test_accuracy"].mean()
    baseline = table.declaration.get("baseline")
    ranked = [arm for arm in scores.sort_values(ascending=False, kind="stable").index if arm != baseline]
    chosen = [baseline, *ranked[:1]] if baseline in scores.index else ranked[:2]
    mistakes = {}
    for arm in chosen:
        stored = shares(table, arm)
        if stored is None or (stored[1] != stored[1][0]).any():
            continue
        seed = min(seed for name, seed in table.by_trial if name == arm)
        images = cached_test_images(str(table.of(arm, seed)["data_checksum"]), stored[1][0])
        if images is None:
            continue
        mean, labels = stored[0].mean(axis=0), stored[1][0]
        predicted, confidence = mean.argmax(axis=1), mean.max(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
        pictures, names = images[0], fonts.class_names(images[1])
        if len(order):
            mistakes[arm] = [
                Mistake(np.asarray(pictures[i]), names[labels[i]], names[predicted[i]], float(confidence[i])) for i in order
            ]
    return mistakes


def confusions(counts: dict[str, np.ndarray], title: str, caption: str, names: Sequence[str] = ()) -> Figure:
    """Left the confusion matrix of the first arm in percent of each true class, right the second arm's minus it.

    Args:
        counts: [classes, classes] of two arms, rows true, columns predicted, summed over seeds.
        names: of the classes; by default their numbers.
    """
    labels = _ticks(names)
    (first, a), (second, b) = counts.items()
    shares = [100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1) for table in (a, b)]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(10, 4.6)
        axes = figure.subplots(1, 2)
        panels = ((shares[0], first, "cividis", 0, 100), (shares[1] - shares[0], f"{second} minus {first}", "PuOr_r", None, None))
        for axis, (table, name, colours, low, high) in zip(axes, panels, strict=True):
            most = max(abs(table).max(), 1)
            limits = (low, high) if high is not None else (-most, most)
            image = axis.imshow(table, cmap=colours, vmin=limits[0], vmax=limits[1])
            for (y, x), value in np.ndenumerate(table):
                if round(value):
                    dark = value < 50 if high is not None else abs(value) > 0.6 * most
                    style = {"fontsize": 7, "color": "white" if dark else "black", "in_layout": False}
                    axis.text(x, y, f"{value:.0f}", ha="center", va="center", **style)
            axis.set_title(wrapped(name, 42), pad=9)
            axis.set_xlabel("predicted class")
            axis.set_ylabel("true class")
            ticks = range(len(table))
            shown = labels[: len(table)] if len(labels) >= len(table) else [str(number) for number in ticks]
            slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(columns, shown)) > 2 else {}
            axis.set_xticks(ticks, shown, **slanted)
            axis.set_yticks(ticks, shown)
            figure.colorbar(image, label="% of the true class", shrink=0.8)
        return finished(figure, title, caption)


def _ticks(names: Sequence[str]) -> list[str]:
    """Class names along an axis, shortened; with their number where two would be equal."""
    whole = fonts.class_names(names)
    short = [name if columns(name) <= NAME_COLUMNS else f"{shortened(name, NAME_COLUMNS - 1)}…" for name in whole]
    return [name if short.count(name) == 1 else f"{number} {name}" for number, name in enumerate(short)]


def reliability(bins: dict[str, tuple[np.ndarray, np.ndarray]], arms: list[str], title: str, caption: str) -> Figure:
    """Reliability diagram: accuracy against confidence, equal on the dotted diagonal.

    Args:
        bins: see `confidence_bins`.
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


def most_confident(wrong: dict[str, list[Mistake]], title: str, caption: str) -> Figure:
    """Per arm a row of misclassified test images, highest probability first, with true and predicted class."""
    across = max(map(len, wrong.values()))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(1.6 + 1.05 * across, 0.8 + 1.55 * len(wrong))
        axes = figure.subplots(len(wrong), across, squeeze=False)
        for line, (arm, mistakes) in zip(axes, wrong.items(), strict=True):
            for axis in line:
                axis.set_axis_off()
            for axis, one in zip(line, mistakes, strict=False):
                axis.imshow(one.image.squeeze(-1) if one.image.shape[-1] == 1 else one.image, cmap="gray", vmin=0, vmax=255)
                text = f"true {shortened(one.label, 12)}\npred. {shortened(one.predicted, 12)}\n{one.confidence:.3f}"
                axis.text(0.5, -0.05, text, ha="center", va="top", fontsize=7, transform=axis.transAxes)
            line[0].text(-0.15, 0.5, wrapped(arm, 16), ha="right", va="center", transform=line[0].transAxes)
        return finished(figure, title, caption)
