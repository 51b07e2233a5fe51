"""One function per kind of figure: rows in, matplotlib `Figure` out. Nothing here judges."""

import math
import textwrap

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from scipy.special import stdtrit

from common.experiment import COMMON
from common.rows.metric import ACCURACY, Primary

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
    """Colour, line and marker of an arm, the same in every figure of an experiment and distinct also in grey.

    An arm at the common rate has the look that it has at its own.
    """
    own = arm.removesuffix(COMMON)
    i = arms.index(own if own in arms else arm)
    again = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + again) % len(LINES)],
        "marker": MARKERS[(i + again) % len(MARKERS)],
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def learning_curves(epochs: pd.DataFrame, arms: list[str], title: str, caption: str, primary: Primary = ACCURACY) -> Figure:
    """Training loss and validation score over epochs: mean over seeds, band of ± one standard deviation within what was seen.

    Args:
        epochs: rows of `…_epochs.csv`.
        arms: all arms of the experiment, in order.
    """
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, max(3.8, 0.9 + 0.19 * len(arms)))
        panels = {"train_loss": "training loss", primary.on("val"): primary.label("val"), "val_loss": "validation loss"}
        panels = {name: label for name, label in panels.items() if name in epochs and epochs[name].notna().any()}
        panels = dict(list(panels.items())[:2]) or {"train_loss": "training loss"}
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (column, label) in zip(axes, panels.items(), strict=True):
            firsts = []
            for arm in [arm for arm in arms if arm in set(epochs["arm"])]:
                own = epochs[epochs["arm"] == arm].copy()
                own["at"] = own.groupby("seed").cumcount() + 1  # runs on over the stages of a trial
                own[column] = own[column].replace([np.inf, -np.inf], np.nan)
                by = own.groupby("at")[column]
                mean, spread = by.mean(), by.std().fillna(0.0)
                firsts += mean.dropna().tolist()[:1]
                style = look(arms, arm)
                axis.plot(mean.index, mean, label=arm, markevery=max(1, len(mean) // 6), markersize=4, **style)
                low, high = np.maximum(mean - spread, by.min()), np.minimum(mean + spread, by.max())
                axis.fill_between(mean.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
            axis.set_xlabel("epoch")
            axis.set_ylabel(label)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            # A diverging arm must not flatten the others: a loss is highest in the first epoch as a rule.
            bounded = column == primary.on("val") and not primary.lower_is_better
            most = 3 * np.quantile(firsts, 0.5, method="lower") if firsts else 0
            if not bounded and epochs[column].replace(np.inf, np.nan).max() > most > 0:
                axis.set_ylim(0, most)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        return finished(figure, title, caption)


def final_scores(
    rows: pd.DataFrame, arms: list[str], title: str, caption: str, baseline: str | None = None, primary: Primary = ACCURACY
) -> Figure:
    """Test score of every seed as a dot, diverged trials as crosses; the mean as a bar with its 95 % interval over seeds.

    Dots of arms at the common rate are hollow. The band is the noise floor: the baseline's mean ± one standard deviation over its
    seeds.
    """
    shown = [arm for arm in arms if arm in set(rows["arm"])]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7, 1.5 + 0.42 * len(shown))
        axis = figure.subplots()
        floor = rows.loc[rows["arm"] == baseline, primary.column]
        if len(floor) > 1:
            axis.axvspan(floor.mean() - floor.std(), floor.mean() + floor.std(), color="#888888", alpha=0.15, linewidth=0)
        low, high = rows[primary.column].min(), rows[primary.column].max()
        for y, arm in enumerate(shown):
            own = rows[rows["arm"] == arm].sort_values("seed")
            colour = look(arms, arm)["color"]
            shift = 0.3 * (np.linspace(-1, 1, len(own)) if len(own) > 1 else np.zeros(1))
            diverged = (own["status"] == "diverged").to_numpy()
            values = own[primary.column].to_numpy()
            filled = {"alpha": 0.6, "linewidths": 0}
            dots = {"facecolors": "none", "linewidths": 0.8} if arm.endswith(COMMON) else filled
            axis.scatter(values[~diverged], y + shift[~diverged], **{"s": 18, "color": colour, **dots})
            axis.scatter(values[diverged], y + shift[diverged], s=24, color=colour, marker="x")
            axis.vlines(values.mean(), y - 0.4, y + 0.4, color=colour, linewidth=2)
            if len(values) > 1:
                half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
                axis.hlines(y, values.mean() - half, values.mean() + half, color=colour, linewidth=1)
        margin = 0.06 * max(high - low, 0.01)
        axis.set_xlim(low - margin, high + margin)  # a wide interval must not hide the dots
        axis.set_yticks(range(len(shown)), shown)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.set_xlabel(
            f"{primary.label()}, a dot per seed (mean, 95 % interval"
            + ("; ×: diverged)" if (rows["status"] == "diverged").any() else ")")
        )
        axis.grid(axis="y", visible=False)
        return finished(figure, title, caption)


def sample_sheet(samples: dict[str, np.ndarray], arms: list[str], title: str, caption: str) -> Figure:
    """The first training images as each arm's model saw them in the first epoch, arms that saw the same in one line.

    Args:
        samples: uint8 [n, h, w, c] per arm.
    """
    lines: dict[tuple, list[str]] = {}
    for arm in (arm for arm in arms if arm in samples):
        lines.setdefault((samples[arm].shape, samples[arm].tobytes()), []).append(arm)
    shown = {}
    for own in lines.values():
        others = f" and {len(own) - 1} other{'s' if len(own) > 2 else ''}" if len(own) > 1 else ""
        shown["every arm" if len(lines) == 1 and others else own[0] + others] = samples[own[0]]
    columns = max(map(len, shown.values()))
    names = [wrapped(name, 24) for name in shown]
    width = max(len(part) for name in names for part in name.split("\n"))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(0.3 + 0.085 * width + 0.8 * columns, 0.9 + 0.8 * len(shown))
        axis = figure.subplots()  # one for all images: a grid of axes takes seconds to lay out
        for line, images in enumerate(shown.values()):
            gap = max(1, images.shape[2] // 14)
            spaced = np.pad(images, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
            strip = np.concatenate(list(spaced), axis=1)
            strip = strip.squeeze(-1) if strip.shape[-1] == 1 else strip
            place = (0, len(spaced), line + 1, line)
            axis.imshow(strip, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="none")
        axis.set_xlim(0, columns)
        axis.set_ylim(len(shown), 0)
        axis.set_yticks(np.arange(len(shown)) + 0.5, names)
        axis.set_xticks([])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        return finished(figure, title, caption)


def sensitivity(
    rows: pd.DataFrame,
    groups: dict[str, dict[str, float]],
    number: str,
    title: str,
    caption: str,
    primary: Primary = ACCURACY,
) -> Figure:
    """Test score against a number that the arms vary: mean over seeds, band of ± one standard deviation within what was seen.

    Args:
        groups: what the legend says -> arm -> its number; an arm whose number is 0 is a dashed line.
        number: its name.
    """
    names = list(groups)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7.5, max(3.8, 1.2 + 0.19 * len(names)))
        axis = figure.subplots()
        for name, arms in groups.items():
            style = look(names, name)
            own = rows[rows["arm"].isin(arms)].assign(at=rows["arm"].map(arms))
            by = own[own["at"] > 0].groupby("at")[primary.column]
            mean, spread = by.mean(), by.std().fillna(0.0)
            axis.plot(mean.index, mean, label=name, markersize=4, **style)
            low, high = np.maximum(mean - spread, by.min()), np.minimum(mean + spread, by.max())
            axis.fill_between(mean.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
            none = own.loc[own["at"] == 0, primary.column]
            if len(none):
                axis.axhline(none.mean(), color=style["color"], linestyle="--", linewidth=1, label=f"{number} 0")
        axis.set_xscale("log")
        log_ticks(axis, sorted({at for arms in groups.values() for at in arms.values() if at > 0}))
        axis.set_xlabel(number)
        axis.set_ylabel(primary.label())
        if len(axis.get_legend_handles_labels()[1]) > 1:
            figure.legend(loc="outside right center")
        return finished(figure, title, caption)


def search_progress(
    curves: dict[str, pd.DataFrame],
    untuned: dict[str, float],
    names: dict[str, str],
    title: str,
    caption: str,
    primary: Primary = ACCURACY,
) -> Figure:
    """Left the expected best validation score against the number of points, right each arm's chance of being the best.

    Args:
        curves: per arm a frame with `points`, `expected` and `chance`, a row per number of points and sweep; the line is the
            mean over sweeps, the band their range.
        untuned: per arm the validation score of its defaults.
        names: per arm what the legend says.
    """
    arms = list(names)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, max(3.8, 1.2 + 0.19 * len(arms)))
        axes = figure.subplots(1, 2)
        for axis, column in zip(axes, ("expected", "chance"), strict=True):
            for arm, curve in curves.items():
                by = curve.groupby("points")[column]
                style = look(arms, arm)
                axis.plot(by.mean().index, by.mean(), label=names[arm], markersize=4, **style)
                axis.fill_between(by.mean().index, by.min(), by.max(), color=style["color"], alpha=0.12, linewidth=0)
            axis.set_xlabel("points searched")
        most = max(int(curve["points"].max()) for curve in curves.values())
        axes[0].set_ylabel(wrapped(f"expected best {primary.turned('val')}", 40))
        for arm, value in untuned.items():
            axes[0].plot(0, value, markersize=5, markerfacecolor="none", **{**look(arms, arm), "linestyle": "none"})
        for axis, first in zip(axes, (0, 1), strict=True):
            ticks = sorted({first, *(int(t) for t in MaxNLocator(6, integer=True).tick_values(1, most) if 1 <= t <= most)})
            axis.set_xticks(ticks, ["un-\ntuned" if t == 0 else str(t) for t in ticks])
            axis.set_xlim(first - 0.04 * most, most * 1.03)
        axes[1].set_ylabel("chance of being the best arm")
        axes[1].set_ylim(-0.02, 1.02)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        return finished(figure, title, caption)


def search_sensitivity(
    points: pd.DataFrame,
    scales: dict[str, str],
    names: dict[str, str],
    title: str,
    caption: str,
    primary: Primary = ACCURACY,
) -> Figure:
    """Validation score of every point against each hyperparameter.

    Args:
        points: rows of `sweep_….csv`.
        scales: per hyperparameter "log", "linear" or "choice".
        names: per arm what the legend says.
    """
    arms = list(names)
    columns = min(3, len(scales))
    lines = -(-len(scales) // columns)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(2.2 + 3.4 * columns, max(0.9 + 2.9 * lines, 1.2 + 0.19 * len(arms)))
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axis, (name, scale) in zip(axes.flat, scales.items(), strict=False):
            values = points[name]
            kinds = sorted(values.dropna().unique(), key=str)
            for i, arm in enumerate(arms):
                own = points[(points["arm"] == arm) & values.notna()]
                style = look(arms, arm)
                x = own[name]
                if scale == "choice":  # side by side, so that no arm hides another
                    x = own[name].map(kinds.index) + 0.5 * ((i + 0.5) / len(arms) - 0.5)
                axis.scatter(x, own["score"], s=16, color=style["color"], marker=style["marker"], alpha=0.7, linewidths=0)
            if scale == "choice":
                axis.set_xticks(range(len(kinds)), [str(kind) for kind in kinds])
                axis.set_xlim(-0.6, len(kinds) - 0.4)
            elif scale == "log":
                axis.set_xscale("log")
                log_ticks(axis)
            axis.set_xlabel(name)
        for axis in axes[:, 0]:
            axis.set_ylabel(wrapped(primary.turned("val"), 30))
        for axis in list(axes.flat)[len(scales) :]:
            axis.set_visible(False)
        handles = [Line2D([], [], markersize=4, label=names[arm], **{**look(arms, arm), "linestyle": ""}) for arm in arms]
        figure.legend(handles=handles, loc="outside right center")
        return finished(figure, title, caption)


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
