"""Rows to figures: `make plots`, or `python -m common.report --results DIR`. Reads rows alone, so TensorFlow is not needed."""

import argparse
import io
import pathlib
import re
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from common import plots, results, space, stats, sweep
from common.errors import Failure, Misuse
from common.experiment import COMMON
from common.files import read_arrays, write_atomic


def draw(files: results.Files) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting, as PNG beside its rows. Returns their paths."""
    return [_save(path, figure) for path, figure in _figures(files)]


def _figures(files: results.Files) -> Iterator[tuple[pathlib.Path, object]]:
    declaration = results.read_declaration(files)
    kept = [row for row in results.read_rows(files) if row["status"] in results.FINAL]
    if not kept:
        return
    rows = pd.read_csv(files.rows)
    rows = rows[rows["status"].isin(results.FINAL)]
    arms = list(declaration["arms"])
    own_rate = [arm for arm in arms if not arm.endswith(COMMON)]
    title = f"{files.experiment}: {declaration['question']}"
    caption = _caption(files, rows)

    def path(kind):
        return files.folder / f"{files.experiment}_{kind}.png"

    yield path("accuracy"), plots.final_accuracy(rows, arms, title, caption)
    epochs = results.read_epochs(files)
    if len(epochs):
        yield path("curves"), plots.learning_curves(epochs, own_rate, title, caption)
    number, groups = _numbers(declaration, set(rows["arm"]))
    if groups:
        within = next((c["within"] for c in declaration.get("claims", ()) if c["kind"] == "flatness"), None)
        note = caption
        if within is not None:
            groups = {_with_flatness(name, own, rows, within): own for name, own in groups.items()}
            note = f"{caption}; decades over which it stays within {within:g} of its best"
        yield path("sensitivity"), plots.sensitivity(rows, groups, number, title, note)
    samples = read_arrays(files.samples)
    if samples:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield path("samples"), plots.sample_sheet(samples, own_rate, title, note)


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
    points = points[points["status"].isin(results.FINAL)]
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
    whole = points[points["epochs"] == points["epochs"].max()]
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the figures of all experiments that have rows.")
    parser.add_argument("--results", default="results", help="folder that holds the setting folders")
    folder = pathlib.Path(parser.parse_args().results)
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
