"""Which figures are drawn of an experiment's rows. Reads rows alone, without TensorFlow."""

import pathlib
from collections.abc import Iterator

import pandas as pd

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
    arms = table.arms
    own = rows[rows["entry"].isin(arms)]  # at their own rates
    asked = declaration.get("figures") or ()
    title = f"{files.experiment}: {declaration['question']}"
    caption = _caption(files, rows)
    yield "accuracy", scores.final_scores(rows, table.entries, title, caption, declaration.get("baseline"), primary)
    if len(table.epochs):
        epochs, stage = curves.compared_epochs(table.epochs[table.epochs["entry"].isin(arms)])
        yield "curves", curves.learning_curves(epochs, arms, title, caption + stage, primary)
    number, groups = sensitivity.varied_number(declaration, set(own["arm"]))
    if len(groups) > 1 and len({tuple(sorted(numbers.values())) for numbers in groups.values()}) == 1:
        pairs = {arm: (name, value) for name, numbers in groups.items() for arm, value in numbers.items()}
        yield "crossed", sensitivity.crossed(own, pairs, number, title, caption, primary)
    if groups:
        within = next((c["within"] for c in declaration.get("claims", ()) if c["kind"] == "flatness"), None)
        note = caption
        if within is not None:
            groups = {sensitivity.with_flatness(name, numbers, own, within, primary): numbers for name, numbers in groups.items()}
            note = f"{caption}; decades over which it stays within {within:g} of its best"
        yield "sensitivity", sensitivity.sensitivity(own, groups, number, title, note, primary)
    judged = [verdict for verdict in judge(table) if verdict.difference is not None]
    if judged:
        yield "verdicts", verdicts.forest(judged, title, f"{caption}; intervals at the level that each claim is judged at")
    if (rows["status"] == "diverged").any():
        yield "survival", scores.survival(rows, table.entries, title, caption)
    values = table.measures[table.measures["entry"].isin(arms)]
    values = values[values["name"].isin({claim["metric"] for claim in declaration.get("claims", ())})]
    if len(values):
        yield "measures", scores.measured(values, arms, title, f"{caption}; a dot per seed, the bar their mean")
    targets, said = curves.targets(table, rows, asked)
    trials = curves.updates_to_targets(table, own, targets)
    if len(trials):
        yield "steps", curves.steps_to_target(trials, arms, title, f"{caption}; {said}", primary.name("val"))
    few = 1 < len(arms) <= MOST_LINES
    if few and own["parameters"].nunique() > 1:
        yield "parameters", scores.cost(own, arms, "parameters", "parameters", title, caption, primary)
    if few and own["train_seconds"].notna().any():
        beside = "alone" if (own["beside"] == 0).all() else "beside other trials"
        yield "seconds", scores.cost(own, arms, "train_seconds", f"seconds of training, {beside}", title, caption, primary)
    counts = predictions.total_confusions(table, arms)
    if counts:
        yield "confusion", predictions.confusions(counts, title, f"{caption}; summed over seeds")
    bins = predictions.confidence_bins(table, arms) if few else {}
    if bins:
        note = f"{caption}; {predictions.RELIABILITY_BINS} bins over all seeds, those of {predictions.LEAST} predictions or more"
        yield "reliability", predictions.reliability(bins, arms, title, note)
    wrong = predictions.surest_mistakes(table, arms) if "mistakes" in asked else {}
    if wrong:
        note = f"{caption}; the mistakes with the highest probability, mean over seeds"
        yield "mistakes", predictions.most_confident(wrong, title, note)
    images = read_arrays(files.samples)
    if images:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield "samples", samples.sample_sheet(images, arms, title, note)


def _caption(files: schema.Files, rows: pd.DataFrame) -> str:
    counts = rows.groupby("entry").size()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"

    def span(column):
        values = sorted(rows[column].dropna().unique())
        ends = [f"{value:g}" if value < 1e5 else f"{value:.0f}" for value in (values[0], values[-1])] if values else ["?"]
        return ends[0] if len(set(ends)) == 1 else f"{ends[0]}–{ends[1]}"

    return (
        f"{files.folder.name}: {seeds} seeds per arm, {span('train_size')} training images, {span('epochs')} epochs, "
        f"batch {span('batch_size')}, {span('test_size')} test images"
    )
