"""Which figures are drawn of an experiment's rows. Reads rows alone, without TensorFlow."""

import pathlib
from collections.abc import Iterator

import pandas as pd

from common.experiment import COMMON
from common.figures import curves, predictions, samples, scores, sensitivity, verdicts
from common.figures.style import save
from common.files import read_arrays
from common.rows import schema
from common.rows.table import Table
from common.verdicts.judge import judge

MOST_LINES = 12
"""Arms that a figure of costs or reliability can tell apart."""


def draw(files: schema.Files) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting, as PNG and SVG beside its rows. Returns the paths of the PNGs."""
    stem = files.folder / files.experiment
    return [save(stem.with_name(f"{stem.name}_{kind}.png"), figure) for kind, figure in _figures(files)]


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
    yield "accuracy", scores.final_scores(rows, arms, title, caption, declaration.get("baseline"), primary)
    if len(table.epochs):
        epochs, stage = curves.compared_epochs(table.epochs, own_rate)
        yield "curves", curves.learning_curves(epochs, own_rate, title, caption + stage, primary)
    number, groups = sensitivity.varied_number(declaration, set(rows["arm"]))
    if len(groups) > 1 and len({tuple(sorted(own.values())) for own in groups.values()}) == 1:
        pairs = {arm: (name, value) for name, own in groups.items() for arm, value in own.items()}
        yield "crossed", sensitivity.crossed(rows, pairs, number, title, caption, primary)
    if groups:
        within = next((c["within"] for c in declaration.get("claims", ()) if c["kind"] == "flatness"), None)
        note = caption
        if within is not None:
            groups = {sensitivity.with_flatness(name, own, rows, within, primary): own for name, own in groups.items()}
            note = f"{caption}; decades over which it stays within {within:g} of its best"
        yield "sensitivity", sensitivity.sensitivity(rows, groups, number, title, note, primary)
    judged = [verdict for verdict in judge(table) if verdict.difference is not None]
    if judged:
        yield "verdicts", verdicts.forest(judged, title, f"{caption}; intervals at the level that each claim is judged at")
    if (rows["status"] == "diverged").any():
        yield "survival", scores.survival(rows, arms, title, caption)
    values = table.measures[table.measures["name"].isin({claim["metric"] for claim in declaration.get("claims", ())})]
    if len(values):
        yield "measures", scores.measured(values, own_rate, title, f"{caption}; a dot per seed, the bar their mean")
    targets, said = curves.targets(table, rows, asked)
    trials = curves.updates_to_targets(table, rows, own_rate, targets)
    if len(trials):
        yield "steps", curves.steps_to_target(trials, own_rate, title, f"{caption}; {said}", primary.name("val"))
    few = 1 < len(own_rate) <= MOST_LINES
    if few and rows["parameters"].nunique() > 1:
        yield "parameters", scores.cost(rows, own_rate, "parameters", "parameters", title, caption, primary)
    if few and rows["train_seconds"].notna().any():
        beside = "alone" if (rows["beside"] == 0).all() else "beside other trials"
        yield "seconds", scores.cost(rows, own_rate, "train_seconds", f"seconds of training, {beside}", title, caption, primary)
    counts = predictions.total_confusions(table, own_rate)
    if counts:
        yield "confusion", predictions.confusions(counts, title, f"{caption}; summed over seeds")
    bins = predictions.confidence_bins(table, own_rate) if few else {}
    if bins:
        note = f"{caption}; {predictions.RELIABILITY_BINS} bins over all seeds, those of {predictions.LEAST} predictions or more"
        yield "reliability", predictions.reliability(bins, own_rate, title, note)
    wrong = predictions.surest_mistakes(table, own_rate) if "mistakes" in asked else {}
    if wrong:
        note = f"{caption}; the mistakes with the highest probability, mean over seeds"
        yield "mistakes", predictions.most_confident(wrong, title, note)
    images = read_arrays(files.samples)
    if images:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield "samples", samples.sample_sheet(images, own_rate, title, note)


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
