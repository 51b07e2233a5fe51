"""Figures of searches with keras-tuner: the best score by number of points, and scores by hyperparameter."""

import pathlib
from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common import space
from common.figures.style import STYLE, finished, log_ticks, look, new_figure, save, wrapped
from common.rows import schema, store
from common.rows.metric import ACCURACY, Primary
from common.rows.points import read_table
from common.verdicts import stats

LONGEST_LABELS = 40
"""Characters of the labels below a panel, if all were as long as the longest, above which they are vertical."""


def draw_sweep(files: schema.Files, *, svg: bool = False) -> list[pathlib.Path]:
    """Draw the figures of an experiment's sweeps, separately for tuners that searched the same arms. Returns their paths."""
    if not read_table(files.points):  # also checks every line
        return []
    declaration = store.read_declaration(files)
    points = pd.read_csv(files.points, dtype={"arm": str, "search": str})  # a hash may consist of digits
    hashes = {arm: space.space_hash(searched) for arm, searched in _spaces(declaration).items()}
    points = points[points["status"].isin(schema.FINAL) & (points["search"] == points["arm"].map(hashes))]
    if not len(points):
        return []
    searched_twice = (points.groupby("arm")["tuner"].nunique() > 1).any()
    tuners = sorted(points["tuner"].unique())
    groups = [[tuner] for tuner in tuners] if searched_twice else [tuners]
    drawn = []
    for group in groups:
        for kind, figure in _sweep_figures(points[points["tuner"].isin(group)], files, declaration, group):
            drawn.append(save(files.folder / f"{files.search_stem}_{'+'.join(group)}_{kind}.png", figure, svg=svg))
    return drawn


def paths(files: schema.Files) -> list[tuple[str, pathlib.Path]]:
    """Name, such as `halton_progress`, and path of each existing figure of an experiment's sweeps."""
    there = sorted(files.folder.glob(f"{files.search_stem}_*.png"))
    return [(path.stem.removeprefix(f"{files.search_stem}_"), path) for path in there]


def _sweep_figures(
    points: pd.DataFrame, files: schema.Files, declaration: dict, tuners: list[str]
) -> Iterator[tuple[str, object]]:
    """Kind, `progress` or `sensitivity`, and figure of each that the points allow."""
    spaces = _spaces(declaration)
    order = dict.fromkeys([*declaration["arms"], *spaces])  # those that only a sweep searches come last
    arms, primary = [arm for arm in order if arm in set(points["arm"])], Primary.of(declaration)
    whole = points[points["epochs"] == points.groupby("arm")["epochs"].transform("max")]
    tried = whole[~whole["untuned"]]
    names = {arm: arm + (" (under-searched)" if _under_searched(whole[whole["arm"] == arm], spaces[arm]) else "") for arm in arms}
    title = f"{files.search_stem}: {declaration['question']}"
    sweeps = points["sweep"].nunique()
    counts = tried.groupby(["arm", "sweep"]).size()
    caption = (
        f"{files.folder.name}: {' and '.join(tuners)}, {counts.min()} points of {int(whole['epochs'].max())} epochs per arm"
        f"{f' in each of {sweeps} sweeps' if sweeps > 1 else ''}; expectation over subsets of up to half of the points"
    )
    if counts.min() >= 2:
        curves = _search_curves(tried, arms)
        untuned = whole[whole["untuned"]].groupby("arm")["score"].mean().to_dict()
        yield "progress", progress(curves, untuned, names, title, caption, primary)
    scales = {
        name: "choice" if isinstance(entry, space.Choice) else "log" if entry.log else "linear"
        for arm in arms
        for name, entry in spaces[arm].items()
    }
    yield "sensitivity", sensitivity(points, scales, names, title, caption.partition(";")[0], primary)


def _spaces(declaration: dict) -> dict[str, space.Space]:
    """Arm -> its search space; that of the first arm includes the shared one."""
    return {arm: space.of_json(searched) for arm, searched in declaration["search"].items()}


def _search_curves(tried: pd.DataFrame, arms: list[str]) -> dict[str, pd.DataFrame]:
    """Arm -> expected best score and chance of being the best arm, per number of points and sweep; see `progress`."""
    lines: dict[str, list] = {arm: [] for arm in arms}
    for _, one in tried.groupby("sweep"):
        scores = {arm: one.loc[one["arm"] == arm, "score"].tolist() for arm in arms}
        for size in range(1, min(map(len, scores.values())) // 2 + 1):
            chances = stats.chance_of_best(scores, size)
            for arm in arms:
                lines[arm].append((size, stats.expected_best(scores[arm], size), chances[arm]))
    return {arm: pd.DataFrame(rows, columns=["points", "expected", "chance"]) for arm, rows in lines.items()}


def _under_searched(points: pd.DataFrame, searched: space.Space) -> bool:
    """Whether the best point lies at the edge of a range."""
    best = points.sort_values(["score", "nll"], ascending=[False, True], kind="stable").iloc[0]
    return bool(space.at_edges(searched, best.to_dict()))


def progress(
    curves: dict[str, pd.DataFrame],
    untuned: dict[str, float],
    names: dict[str, str],
    title: str,
    caption: str,
    primary: Primary = ACCURACY,
) -> Figure:
    """Expected best validation score (left) and chance of being the best arm (right) against the number of points.

    Args:
        curves: arm -> frame with `points`, `expected` and `chance`, a row per number of points and sweep; the line is the
            mean over sweeps, the band their range.
        untuned: arm -> validation score of its defaults, drawn at 0 points.
        names: arm -> its label in the legend.
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
        axes[0].set_ylabel(wrapped(f"expected best {primary.higher_is_better_label('val')}", 40))
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


def sensitivity(
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
        scales: hyperparameter -> "log", "linear" or "choice".
        names: arm -> its label in the legend.
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
                tried = points[(points["arm"] == arm) & values.notna()]
                style = look(arms, arm)
                x = tried[name]
                if scale == "choice":  # side by side, so that no arm hides another
                    x = tried[name].map(kinds.index).astype(float) + 0.5 * ((i + 0.5) / len(arms) - 0.5)
                axis.scatter(x, tried["score"], s=16, color=style["color"], marker=style["marker"], alpha=0.7, linewidths=0)
            if scale == "choice":
                # Where some arms have no value, pandas reads whole numbers as floats.
                labels = [f"{kind:g}" if isinstance(kind, float) else str(kind) for kind in kinds]
                axis.set_xticks(
                    range(len(kinds)), labels, rotation=90 if len(labels) * (1 + max(map(len, labels))) > LONGEST_LABELS else 0
                )
                axis.set_xlim(-0.6, len(kinds) - 0.4)
            elif scale == "log":
                axis.set_xscale("log")
                log_ticks(axis)
            axis.set_xlabel(name)
        for axis in axes[:, 0]:
            axis.set_ylabel(wrapped(primary.higher_is_better_label("val"), 30))
        for axis in list(axes.flat)[len(scales) :]:
            axis.set_visible(False)
        handles = [Line2D([], [], markersize=4, label=names[arm], **{**look(arms, arm), "linestyle": ""}) for arm in arms]
        figure.legend(handles=handles, loc="outside right center")
        return finished(figure, title, caption)
