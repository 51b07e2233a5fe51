"""Which figures are drawn of an experiment's rows. Reads rows alone, without TensorFlow."""

import io
import itertools
import math
import pathlib
import re
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
import pandas as pd

from common import space
from common.experiment import COMMON
from common.figures import answers, mistakes, plots, predictions
from common.files import read_arrays, write_atomic
from common.rows import schema, store
from common.rows.metric import Primary
from common.rows.points import read_table
from common.rows.table import Table
from common.verdicts import stats
from common.verdicts.judge import judge

OF_BEST = 0.95
"""Share of a final score that is a target where no claim sets one."""
MOST_LINES = 12
"""Arms that a figure of costs or reliability can tell apart."""


def draw(files: schema.Files) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting, as PNG and SVG beside its rows. Returns the paths of the PNGs."""
    stem = files.folder / files.experiment
    return [_save(stem.with_name(f"{stem.name}_{kind}.png"), figure) for kind, figure in _figures(files)]


def _figures(files: schema.Files) -> Iterator[tuple]:
    """Kind and figure of each that the rows allow."""
    table = Table.read(files)
    primary, declaration = table.primary, table.declaration
    rows = table.rows.dropna(subset=[primary.column])
    if not len(rows):
        return
    arms = list(declaration["arms"])
    own_rate = [arm for arm in arms if not arm.endswith(COMMON)]
    asked = declaration.get("figures") or ()
    title = f"{files.experiment}: {declaration['question']}"
    caption = _caption(files, rows)
    yield "accuracy", plots.final_scores(rows, arms, title, caption, declaration.get("baseline"), primary)
    if len(table.epochs):
        epochs, stage = _compared_epochs(table.epochs, own_rate)
        yield "curves", plots.learning_curves(epochs, own_rate, title, caption + stage, primary)
    number, groups = _numbers(declaration, set(rows["arm"]))
    if len(groups) > 1 and len({tuple(sorted(own.values())) for own in groups.values()}) == 1:
        pairs = {arm: (name, value) for name, own in groups.items() for arm, value in own.items()}
        yield "crossed", answers.crossed(rows, pairs, number, title, caption, primary)
    if groups:
        within = next((c["within"] for c in declaration.get("claims", ()) if c["kind"] == "flatness"), None)
        note = caption
        if within is not None:
            groups = {_with_flatness(name, own, rows, within, primary): own for name, own in groups.items()}
            note = f"{caption}; decades over which it stays within {within:g} of its best"
        yield "sensitivity", plots.sensitivity(rows, groups, number, title, note, primary)
    verdicts = [verdict for verdict in judge(table) if verdict.difference is not None]
    if verdicts:
        yield "verdicts", answers.forest(verdicts, title, f"{caption}; intervals at the level that each claim is judged at")
    if (rows["status"] == "diverged").any():
        yield "survival", answers.survival(rows, arms, title, caption)
    values = table.measures[table.measures["name"].isin({claim["metric"] for claim in declaration.get("claims", ())})]
    if len(values):
        yield "measures", answers.measured(values, own_rate, title, f"{caption}; a dot per seed, the bar their mean")
    targets, said = _targets(table, rows, asked)
    trials = _steps(table, rows, own_rate, targets)
    if len(trials):
        yield "steps", answers.steps_to_target(trials, own_rate, title, f"{caption}; {said}", primary.name("val"))
    few = 1 < len(own_rate) <= MOST_LINES
    if few and rows["parameters"].nunique() > 1:
        yield "parameters", answers.cost(rows, own_rate, "parameters", "parameters", title, caption, primary)
    if few and rows["train_seconds"].notna().any():
        beside = "alone" if (rows["beside"] == 0).all() else "beside other trials"
        yield "seconds", answers.cost(rows, own_rate, "train_seconds", f"seconds of training, {beside}", title, caption, primary)
    counts = predictions.confusions(table, own_rate)
    if counts:
        yield "confusion", mistakes.confusions(counts, title, f"{caption}; summed over seeds")
    bins = predictions.reliability(table, own_rate) if few else {}
    if bins:
        note = f"{caption}; {predictions.RELIABILITY_BINS} bins over all seeds, those of {predictions.LEAST} predictions or more"
        yield "reliability", mistakes.reliability(bins, own_rate, title, note)
    wrong = predictions.mistakes(table, own_rate) if "mistakes" in asked else {}
    if wrong:
        note = f"{caption}; the mistakes with the highest probability, mean over seeds"
        yield "mistakes", mistakes.most_confident(wrong, title, note)
    samples = read_arrays(files.samples)
    if samples:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield "samples", plots.sample_sheet(samples, own_rate, title, note)


def _targets(table: Table, rows: pd.DataFrame, asked: Sequence[str]) -> tuple[list[float], str]:
    """Validation scores whose reaching is drawn, and what the caption says of them.

    Those of claims; without any, and where the script asks, one that is set by the baseline alone, so that no other arm moves it.
    """
    targets = sorted({c["target"] for c in table.declaration.get("claims", ()) if c.get("target") is not None})
    if targets:
        return targets, "targets set beforehand"
    if "steps" not in asked:
        return [], ""
    primary, baseline = table.primary, table.declaration.get("baseline")
    finals = rows.groupby("arm")[primary.on("val")].mean().dropna()
    if not len(finals):
        return [], ""
    whose = baseline if baseline in finals.index else (primary.sign * finals).idxmax()
    target = float(finals[whose]) * OF_BEST**primary.sign
    said = f"target: {100 * OF_BEST:.0f} % of" if primary.sign > 0 else f"target: 1/{OF_BEST:g} of"
    return [float(f"{target:.3g}")], f"{said} what {whose} ends with, in the mean"


def _steps(table: Table, rows: pd.DataFrame, arms: list[str], targets: list[float]) -> pd.DataFrame:
    """Per trial and target the updates that it took, as `answers.steps_to_target` wants them; without trials that count none."""
    lines = []
    for row in rows[rows["arm"].isin(arms) & rows["steps"].notna()].to_dict("records"):
        arm, seed = row["arm"], row["seed"]
        for target in targets if len(table.epochs_of(arm, seed)) else ():
            steps = table.metric("steps_to_target").value(table, arm, seed, target)
            reached = math.isfinite(steps)
            found = {"arm": arm, "seed": seed, "target": target, "steps": steps if reached else float(row["steps"])}
            lines.append({**found, "reached": reached, "diverged": row["status"] == "diverged"})
    return pd.DataFrame(lines)


def _compared_epochs(epochs: pd.DataFrame, arms: list[str]) -> tuple[pd.DataFrame, str]:
    """The arms' epochs, of several stages those of the one that all arms have, `fit` before others; and what to say of that."""
    own = epochs[epochs["arm"].isin(arms)]
    stages = set(own["stage"])
    shared = stages.intersection(*(set(one) for _, one in own.groupby("arm")["stage"]))
    stage = "fit" if "fit" in shared else min(shared, default=None)
    if len(stages) == 1 or stage is None or (len(shared) > 1 and stage != "fit"):
        return own, ""
    return own[own["stage"] == stage], f"; stage {stage}, which all arms have"


def _numbers(declaration: dict, there: set[str]) -> tuple[str, dict[str, dict[str, float]]]:
    """The number that the arms vary, if any does: its name, and per group of arms alike in all else each arm's value."""
    arms = {arm: own for arm, own in declaration["arms"].items() if arm in there and not arm.endswith(COMMON)}
    best: tuple[str, dict] = ("", {})
    for number in dict.fromkeys(name for own in arms.values() for name in own):
        groups: dict[str, dict[str, float]] = {}
        for arm, own in arms.items():
            value = own.get(number)
            if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
                others = repr({name: v for name, v in own.items() if name != number})
                groups.setdefault(others, {})[arm] = value
        groups = {_shared_name(own, number): own for own in groups.values() if len({v for v in own.values() if v > 0}) >= 3}
        if sum(map(len, groups.values())) > sum(map(len, best[1].values())):
            best = (number, groups)
    return best


def _shared_name(arms: dict[str, float], number: str) -> str:
    """What a group's arms are called but for their number, as in `Adam, 0.1`, `l2=1e-4` or `dropout 0.2, longer`."""
    names = [arm for arm, value in arms.items() if value > 0]
    before = _shared_start(names)
    after = _shared_start([name[len(before) :][::-1] for name in names])[::-1]
    head, tail = re.sub(r"[\s,=:]*[\d.e+-]*$", "", before), re.sub(r"^[\d.e+-]*\s*(%|:1$)?", "", after).lstrip()
    return (head + " " * tail[:1].isalnum() + tail).lstrip(" ,") or number


def _shared_start(names: list[str]) -> str:
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _with_flatness(name: str, arms: dict[str, float], rows: pd.DataFrame, within: float, primary: Primary) -> str:
    """What the legend says of a group: also over how many decades it does well."""
    order = sorted(arms, key=arms.get)
    table = rows[rows["arm"].isin(arms)].pivot_table(index="seed", columns="arm", values=primary.column)[order].dropna()
    numbers = [arms[arm] for arm in order]
    decades = [stats.decades_within(numbers, primary.sign * scores, within) for scores in table.to_numpy()]
    return f"{name}: {np.mean(decades):.1f} decades" if decades else name


def draw_sweep(files: schema.Files) -> list[pathlib.Path]:
    """Draw the figures of an experiment's sweeps, one set per tuner that searched the same arms. Returns their paths."""
    table = read_table(files.points)
    if not table:
        return []
    declaration = store.read_declaration(files)
    points = pd.read_csv(files.points)
    hashes = {arm: space.space_hash(space.of_json(own)) for arm, own in declaration["search"].items()}
    points = points[points["status"].isin(schema.FINAL) & (points["search"] == points["arm"].map(hashes))]
    if not len(points):
        return []
    searched_twice = (points.groupby("arm")["tuner"].nunique() > 1).any()
    tuners = sorted(points["tuner"].unique())
    groups = [[tuner] for tuner in tuners] if searched_twice else [tuners]
    paths = []
    for group in groups:
        own = points[points["tuner"].isin(group)]
        stem = files.folder / f"{files.points.stem}_{'+'.join(group)}"
        for kind, figure in _sweep_figures(own, files, declaration, group):
            paths.append(_save(stem.with_name(f"{stem.name}_{kind}.png"), figure))
    return paths


def _sweep_figures(
    points: pd.DataFrame, files: schema.Files, declaration: dict, tuners: list[str]
) -> Iterator[tuple[str, object]]:
    spaces = {arm: space.of_json(own) for arm, own in declaration["search"].items()}
    arms, primary = [arm for arm in declaration["arms"] if arm in set(points["arm"])], Primary.of(declaration)
    whole = points[points["epochs"] == points.groupby("arm")["epochs"].transform("max")]
    tried = whole[~whole["untuned"]]
    names = {arm: arm + (" (under-searched)" if _under_searched(whole[whole["arm"] == arm], spaces[arm]) else "") for arm in arms}
    title = f"{files.experiment.replace('exp_', 'sweep_', 1)}: {declaration['question']}"
    sweeps = points["sweep"].nunique()
    counts = tried.groupby(["arm", "sweep"]).size()
    caption = (
        f"{files.folder.name}: {' and '.join(tuners)}, {counts.min()} points of {int(whole['epochs'].max())} epochs an arm"
        f"{f' in each of {sweeps} sweeps' if sweeps > 1 else ''}; expectation over subsets, up to half of the points"
    )
    if counts.min() >= 2:
        curves = _search_curves(tried, arms)
        untuned = whole[whole["untuned"]].groupby("arm")["score"].mean().to_dict()
        yield "progress", plots.search_progress(curves, untuned, names, title, caption, primary)
    scales = {
        name: "choice" if isinstance(entry, space.Choice) else "log" if entry.log else "linear"
        for arm in arms
        for name, entry in spaces[arm].items()
    }
    yield "sensitivity", plots.search_sensitivity(points, scales, names, title, caption.partition(";")[0], primary)


def _search_curves(tried: pd.DataFrame, arms: list[str]) -> dict[str, pd.DataFrame]:
    lines: dict[str, list] = {arm: [] for arm in arms}
    for _, one in tried.groupby("sweep"):
        scores = {arm: one.loc[one["arm"] == arm, "score"].tolist() for arm in arms}
        for size in range(1, min(map(len, scores.values())) // 2 + 1):
            chances = stats.chance_of_best(scores, size)
            for arm in arms:
                lines[arm].append((size, stats.expected_best(scores[arm], size), chances[arm]))
    return {arm: pd.DataFrame(own, columns=["points", "expected", "chance"]) for arm, own in lines.items()}


def _under_searched(points: pd.DataFrame, searched: space.Space) -> bool:
    best = points.sort_values(["score", "nll"], ascending=[False, True], kind="stable").iloc[0]
    return bool(space.at_edges(searched, best.to_dict()))


def _caption(files: schema.Files, rows: pd.DataFrame) -> str:
    counts = rows.groupby("arm").size()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"

    def span(column):
        values = sorted(rows[column].dropna().unique())
        ends = [f"{value:g}" if value < 1e5 else f"{value:.0f}" for value in (values[0], values[-1])] if values else ["?"]
        return ends[0] if len(set(ends)) == 1 else f"{ends[0]}–{ends[1]}"

    return (
        f"{files.folder.name}: {seeds} seeds per arm, {span('train_size')} training images, {span('epochs')} epochs, "
        f"batch {span('batch_size')}, {span('test_size')} test images"
    )


def _save(path: pathlib.Path, figure) -> pathlib.Path:
    """Write a figure as PNG and SVG, the same bytes for the same rows."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "image.composite_image": False}):
        for kind, about in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=about)
            figure.set_layout_engine("none")  # laid out once is enough
            write_atomic(path.with_suffix(f".{kind}"), buffer.getvalue())
    return path
