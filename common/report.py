"""Rows to figures: `make plots`, or `python -m common.report --results DIR`. Reads rows alone, so TensorFlow is not needed."""

import io
import pathlib
import re
import sys
from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd

from common import answers, metrics, plots, results, space, stats, sweep
from common.errors import Failure, Misuse, OneLineParser
from common.experiment import COMMON
from common.files import read_arrays, write_atomic
from common.verdicts import Table, judge

RELIABILITY_BINS = 10
MOST_LINES = 12
"""Arms that a figure of costs or reliability can tell apart."""


def draw(files: results.Files) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting, as PNG and SVG beside its rows. Returns the paths of the PNGs."""
    stem = files.folder / files.experiment
    return [_save(stem.with_name(f"{stem.name}_{kind}.png"), figure) for kind, figure in _figures(files)]


def _figures(files: results.Files) -> Iterator[tuple]:
    """Kind and figure of each that the rows allow."""
    table = Table.read(files)
    rows, declaration = table.rows, table.declaration
    if not len(rows):
        return
    arms = list(declaration["arms"])
    own_rate = [arm for arm in arms if not arm.endswith(COMMON)]
    title = f"{files.experiment}: {declaration['question']}"
    caption = _caption(files, rows)
    yield "accuracy", plots.final_accuracy(rows, arms, title, caption, declaration.get("baseline"))
    if len(table.epochs):
        yield "curves", plots.learning_curves(table.epochs, own_rate, title, caption)
    number, groups = _numbers(declaration, set(rows["arm"]))
    if len(groups) > 1 and len({tuple(sorted(own.values())) for own in groups.values()}) == 1:
        pairs = {arm: (name, value) for name, own in groups.items() for arm, value in own.items()}
        yield "crossed", answers.crossed(rows, pairs, number, title, caption)
    if groups:
        within = next((c["within"] for c in declaration.get("claims", ()) if c["kind"] == "flatness"), None)
        note = caption
        if within is not None:
            groups = {_with_flatness(name, own, rows, within): own for name, own in groups.items()}
            note = f"{caption}; decades over which it stays within {within:g} of its best"
        yield "sensitivity", plots.sensitivity(rows, groups, number, title, note)
    verdicts = [verdict for verdict in judge(table) if verdict.difference is not None]
    if verdicts:
        yield "verdicts", answers.forest(verdicts, title, f"{caption}; intervals at the level that each claim is judged at")
    if (rows["status"] == "diverged").any():
        yield "survival", answers.survival(rows, arms, title, caption)
    few = 1 < len(own_rate) <= MOST_LINES
    if few and rows["parameters"].nunique() > 1:
        yield "parameters", answers.cost(rows, own_rate, "parameters", "parameters", title, caption)
    if few and rows["train_seconds"].notna().all():
        beside = "alone" if (rows["beside"] == 0).all() else "beside other trials"
        yield "seconds", answers.cost(rows, own_rate, "train_seconds", f"seconds of training, {beside}", title, caption)
    counts = _confusions(table, own_rate)
    if counts:
        yield "confusion", answers.confusions(counts, title, f"{caption}; summed over seeds")
    bins = _reliability(table, own_rate) if few else {}
    if bins:
        yield "reliability", answers.reliability(bins, own_rate, title, f"{caption}; {RELIABILITY_BINS} bins, over all seeds")
    samples = read_arrays(files.samples)
    if samples:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield "samples", plots.sample_sheet(samples, own_rate, title, note)


def _confusions(table: Table, arms: list[str]) -> dict[str, np.ndarray]:
    """Confusion counts, over all seeds, of the baseline and of the arm that differs most from it; at most 10 classes."""
    baseline = table.declaration.get("baseline")
    totals = {}
    for arm in arms:
        for (name, seed), _ in table.by_trial.items():
            labels, predicted = table.labels(name, seed), table.arrays.get(f"{name}/{seed}")
            if (
                name == arm
                and labels is not None
                and predicted is not None
                and len(labels) == len(predicted)
                and labels.max() < 10
            ):
                counts = metrics.confusion(predicted.astype(int), labels.astype(int), int(labels.max()) + 1)
                totals[arm] = totals.get(arm, 0) + counts
    if baseline not in totals or len(totals) < 2 or len({counts.shape for counts in totals.values()}) > 1:
        return {}
    hits = {arm: counts.trace() / counts.sum() for arm, counts in totals.items()}
    other = max((arm for arm in totals if arm != baseline), key=lambda arm: hits[arm])
    return {baseline: totals[baseline], other: totals[other]}


def _reliability(table: Table, arms: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per arm the mean confidence and the accuracy of each bin, from the logits of all seeds; none for an arm without."""
    bins = {}
    for arm in arms:
        confidences, right = [], []
        for name, seed in table.by_trial:
            path = table.files.local("logits", name, seed, ".npy")
            labels = table.labels(name, seed)
            if name == arm and labels is not None and path.exists():
                shares = np.exp(metrics.log_softmax(np.load(path)))
                confidences.append(shares.max(axis=1))
                right.append(shares.argmax(axis=1) == labels)
        if confidences:
            confidence, hit = np.concatenate(confidences), np.concatenate(right)
            place = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
            filled = [b for b in range(RELIABILITY_BINS) if (place == b).any()]
            bins[arm] = tuple(np.array([values[place == b].mean() for b in filled]) for values in (confidence, hit))
    return bins


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
    """What a group's arms are called but for their number, as in `Adam, 0.1` or `l2=1e-4`."""
    first = next(arm for arm, value in arms.items() if value > 0)
    return re.sub(r"[\s,=:]*[\d.e+-]+$", "", first) or number


def _with_flatness(name: str, arms: dict[str, float], rows: pd.DataFrame, within: float) -> str:
    """What the legend says of a group: also over how many decades it does well."""
    order = sorted(arms, key=arms.get)
    table = rows[rows["arm"].isin(arms)].pivot_table(index="seed", columns="arm", values="test_accuracy")[order].dropna()
    decades = [stats.decades_within([arms[arm] for arm in order], scores, within) for scores in table.to_numpy()]
    return f"{name}: {np.mean(decades):.1f} decades" if decades else name


def draw_sweep(files: results.Files) -> list[pathlib.Path]:
    """Draw the figures of an experiment's sweeps, one set per tuner that searched the same arms. Returns their paths."""
    table = sweep.read_table(sweep.table_path(files))
    if not table:
        return []
    declaration = results.read_declaration(files)
    points = pd.read_csv(sweep.table_path(files))
    hashes = {arm: space.space_hash(space.of_json(own)) for arm, own in declaration["search"].items()}
    points = points[points["status"].isin(results.FINAL) & (points["search"] == points["arm"].map(hashes))]
    if not len(points):
        return []
    searched_twice = (points.groupby("arm")["tuner"].nunique() > 1).any()
    tuners = sorted(points["tuner"].unique())
    groups = [[tuner] for tuner in tuners] if searched_twice else [tuners]
    paths = []
    for group in groups:
        own = points[points["tuner"].isin(group)]
        stem = files.folder / f"{sweep.table_path(files).stem}_{'+'.join(group)}"
        for kind, figure in _sweep_figures(own, files, declaration, group):
            paths.append(_save(stem.with_name(f"{stem.name}_{kind}.png"), figure))
    return paths


def _sweep_figures(
    points: pd.DataFrame, files: results.Files, declaration: dict, tuners: list[str]
) -> Iterator[tuple[str, object]]:
    spaces = {arm: space.of_json(own) for arm, own in declaration["search"].items()}
    arms = [arm for arm in declaration["arms"] if arm in set(points["arm"])]
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
        yield "progress", plots.search_progress(curves, untuned, names, title, caption)
    scales = {
        name: "choice" if isinstance(entry, space.Choice) else "log" if entry.log else "linear"
        for arm in arms
        for name, entry in spaces[arm].items()
    }
    yield "sensitivity", plots.search_sensitivity(points, scales, names, title, caption.partition(";")[0])


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


def _caption(files: results.Files, rows: pd.DataFrame) -> str:
    counts = rows.groupby("arm").size()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"

    def span(column):
        values = sorted(rows[column].unique())
        return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"

    return (
        f"{files.folder.name}: {seeds} seeds per arm, {span('train_size')} training images, {span('epochs')} epochs, "
        f"batch {span('batch_size')}, {rows['test_size'].iloc[0]} test images"
    )


def _save(path: pathlib.Path, figure) -> pathlib.Path:
    """Write a figure as PNG and SVG, the same bytes for the same rows."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        for kind, about in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=about)
            write_atomic(path.with_suffix(f".{kind}"), buffer.getvalue())
    return path


def main() -> None:
    parser = OneLineParser(description="Draw the figures of all experiments that have rows.")
    parser.add_argument("--results", default="results", help="folder that holds the setting folders")
    try:
        folder = pathlib.Path(parser.parse_args().results)
    except Misuse as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    status = 0
    if not folder.is_dir():
        print(f"results folder does not exist: run an experiment first. Received: {folder}", file=sys.stderr)
        sys.exit(Misuse.status)
    for setting in results.setting_folders(folder):
        for files in results.experiments(setting):
            try:
                for path in [*draw(files), *draw_sweep(files)]:
                    print(path)
            except Failure as error:
                print(error, file=sys.stderr)
                status = error.status
    sys.exit(status)


if __name__ == "__main__":
    main()
