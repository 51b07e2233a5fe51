"""The kinds of figures, and which of them an experiment's rows allow."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from common.figures import curves, predictions, profiles, samples, scores, sensitivity, verdicts
from common.figures.style import save
from common.rows import schema, store
from common.rows.table import Table
from common.text import file_name
from common.verdicts.judge import judge
from common.verdicts.verdict import Verdict

MOST_LINES = 12
"""Number of arms up to which figures of costs and reliability are drawn."""


class Material:
    """The data of the figures of one experiment in one setting, or of a part of it; each is read or computed once.

    Args:
        table: see `Table.parts`; whole: the table that it is a part of, by default itself.
    """

    def __init__(self, table: Table, whole: Table | None = None):
        self.table, self.whole = table, whole or table
        self.primary, self.declaration, self.arms = table.primary, table.declaration, table.arms
        self.rows = table.rows.dropna(subset=[self.primary.column])
        self.arm_rows = self.of_arms(self.rows)
        self.claims = self.declaration.get("claims", ())
        self.asked = self.declaration.get("figures") or ()
        self.few = 1 < len(self.arms) <= MOST_LINES
        self.title = f"{table.files.experiment}: {self.declaration['question']}"

    def of_arms(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a frame without those of arms at the common rate."""
        return frame[frame["entry"].isin(self.arms)]

    @functools.cached_property
    def caption(self) -> str:
        """The setting, the number of seeds and the sizes, for captions."""
        counts = self.rows.groupby("entry").size()
        seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"
        train, epochs, batch, test = map(self._span, ("train_size", "epochs", "batch_size", "test_size"))
        counts = f"{seeds} seeds per arm, {train} training images, {epochs} epochs, batch {batch}, {test} test images"
        return f"{self.table.place}: {counts}"

    def _span(self, column: str) -> str:
        """The value of a column in words, or its smallest and largest value."""
        values = sorted(self.rows[column].dropna().unique())
        ends = [f"{value:g}" if value < 1e5 else f"{value:.0f}" for value in (values[0], values[-1])] if values else ["?"]
        return ends[0] if len(set(ends)) == 1 else f"{ends[0]}–{ends[1]}"

    @functools.cached_property
    def judged(self) -> list[Verdict]:
        """The verdicts that have a difference. All claims of the experiment are judged together."""
        ids = {claim["id"] for claim in self.claims}
        return [verdict for verdict in judge(self.whole) if verdict.id in ids and verdict.difference is not None]

    @functools.cached_property
    def measures(self) -> pd.DataFrame:
        """The measures that are metrics of claims."""
        measures = self.of_arms(self.table.measures)
        return measures[measures["name"].isin({claim["metric"] for claim in self.claims})]

    @functools.cached_property
    def numbered(self) -> pd.DataFrame:
        """See `profiles.numbered`; empty if the experiment does not ask for the figure."""
        return profiles.numbered(self.of_arms(self.table.measures if "profiles" in self.asked else self.table.measures[:0]))

    @functools.cached_property
    def numbers(self) -> tuple[str, dict[str, dict[str, float]]]:
        """See `sensitivity.varied_number`."""
        return sensitivity.varied_number(self.declaration, set(self.arm_rows["arm"]))

    @functools.cached_property
    def targets(self) -> tuple[list[float], str]:
        """See `curves.targets`."""
        return curves.targets(self.table, self.asked)

    @functools.cached_property
    def updates(self) -> pd.DataFrame:
        """See `curves.updates_to_targets`."""
        return curves.updates_to_targets(self.table, self.arm_rows, self.targets[0])

    @functools.cached_property
    def confusions(self) -> dict:
        return predictions.total_confusions(self.table, self.arms)

    @functools.cached_property
    def bins(self) -> dict:
        return predictions.confidence_bins(self.table, self.arms)

    @functools.cached_property
    def mistakes(self) -> dict:
        return predictions.surest_mistakes(self.table, self.arms)

    @functools.cached_property
    def samples(self) -> dict:
        return store.read_samples(self.table.files)


def _accuracy(m: Material) -> Figure:
    baseline = m.declaration.get("baseline")
    return scores.final_scores(m.rows, m.table.entries, m.title, m.caption, baseline, m.primary)


def _verdicts(m: Material) -> Figure:
    return verdicts.forest(m.judged, m.title, f"{m.caption}; intervals at the level of each claim")


def _measures(m: Material) -> Figure:
    return scores.measured(m.measures, m.arms, m.title, f"{m.caption}; a dot per seed, bar: mean")


def _profiles(m: Material) -> Figure:
    return profiles.profiles(m.numbered, m.arms, m.title, m.caption)


def _curves(m: Material) -> Figure:
    epochs, stage = curves.compared_epochs(m.of_arms(m.table.epochs))
    return curves.learning_curves(epochs, m.arms, m.title, m.caption + stage, m.primary)


def _sensitivity(m: Material) -> Figure:
    (number, groups), note = m.numbers, m.caption
    within = next((claim["within"] for claim in m.claims if claim["kind"] == "flatness"), None)
    if within is not None:
        groups = {sensitivity.with_flatness(name, arms, m.arm_rows, within, m.primary): arms for name, arms in groups.items()}
        note = f"{m.caption}; decades: over which the score is within {within:g} of its best"
    return sensitivity.sensitivity(m.arm_rows, groups, number, m.title, note, m.primary)


def _is_crossed(m: Material) -> bool:
    """Whether several groups of arms vary the same values of a number."""
    groups = m.numbers[1].values()
    return len(groups) > 1 and len({tuple(sorted(arms.values())) for arms in groups}) == 1


def _crossed(m: Material) -> Figure:
    number, groups = m.numbers
    pairs = {arm: (name, value) for name, arms in groups.items() for arm, value in arms.items()}
    return sensitivity.crossed(m.arm_rows, pairs, number, m.title, m.caption, m.primary)


def _steps(m: Material) -> Figure:
    note = f"{m.caption}; {m.targets[1]}"
    return curves.steps_to_target(m.updates, m.arms, m.title, note, m.primary.name("val"))


def _survival(m: Material) -> Figure:
    return scores.survival(m.rows, m.table.entries, m.title, m.caption)


def _parameters(m: Material) -> Figure:
    return scores.cost(m.arm_rows, m.arms, "parameters", "parameters", m.title, m.caption, m.primary)


def _seconds(m: Material) -> Figure:
    beside = "alone" if (m.arm_rows["beside"] == 0).all() else "beside other trials"
    return scores.cost(m.arm_rows, m.arms, "train_seconds", f"seconds of training, {beside}", m.title, m.caption, m.primary)


def _confusion(m: Material) -> Figure:
    return predictions.confusions(m.confusions, m.title, f"{m.caption}; summed over seeds", m.table.shared_class_names())


def _reliability(m: Material) -> Figure:
    bins, least = predictions.RELIABILITY_BINS, predictions.LEAST
    note = f"{m.caption}; {bins} bins over all seeds, without those of fewer than {least} predictions"
    return predictions.reliability(m.bins, m.arms, m.title, note)


def _mistakes(m: Material) -> Figure:
    note = f"{m.caption}; misclassified images of the highest probability, mean over seeds"
    return predictions.most_confident(m.mistakes, m.title, note)


def _samples(m: Material) -> Figure:
    note = f"{m.table.place}, seed 0: the first training images, as augmented in the first epoch"
    return samples.sample_sheet(m.samples, m.arms, m.title, note)


class Kind(NamedTuple):
    """A kind of figure, drawn if `applies` is true of the material."""

    name: str
    applies: Callable[[Material], object]
    """Something true, or not empty, if there is something to draw."""
    draw: Callable[[Material], Figure]
    on_page: bool = True
    photographs: bool = False
    """Whether it shows photographs, which need many colours."""
    of_logits: bool = False
    """Whether it needs logits, which are not published."""


KINDS = (
    Kind("accuracy", lambda m: True, _accuracy, on_page=False),  # the page has an interactive one
    Kind("verdicts", lambda m: m.judged, _verdicts),
    Kind("measures", lambda m: len(m.measures), _measures),
    Kind("profiles", lambda m: len(m.numbered), _profiles),
    Kind("curves", lambda m: len(m.table.epochs), _curves),
    Kind("sensitivity", lambda m: m.numbers[1], _sensitivity),
    Kind("crossed", _is_crossed, _crossed),
    Kind("steps", lambda m: len(m.updates), _steps),
    Kind("survival", lambda m: (m.rows["status"] == "diverged").any(), _survival),
    Kind("parameters", lambda m: m.few and m.arm_rows["parameters"].nunique() > 1, _parameters),
    Kind("seconds", lambda m: m.few and m.arm_rows["train_seconds"].notna().any(), _seconds),
    Kind("confusion", lambda m: m.confusions, _confusion),
    Kind("reliability", lambda m: m.few and m.bins, _reliability, of_logits=True),
    Kind("mistakes", lambda m: "mistakes" in m.asked and m.mistakes, _mistakes, photographs=True, of_logits=True),
    Kind("samples", lambda m: m.samples, _samples, photographs=True),
)
"""All kinds of figures, in their order on the page."""


def suffix(part: str) -> str:
    """The end of the name of a file about a part of an experiment (`Table.parts`); empty for a whole one."""
    return f"-{file_name(part)}" if part else ""


def path(files: schema.Files, kind: Kind, part: str = "") -> pathlib.Path:
    """The path of a figure of an experiment, or of a part of it, as PNG."""
    return files.folder / f"{files.experiment}_{kind.name}{suffix(part)}.png"


def of_all_parts(files: schema.Files, kind: Kind) -> list[pathlib.Path]:
    """The path of a figure of an experiment, and of those of its parts that exist."""
    whole = path(files, kind)
    return [whole, *sorted(whole.parent.glob(f"{whole.stem}-*.png"))]


def draw(files: schema.Files, *, svg: bool = False) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting beside its rows, as `style.save` does. Returns the paths of the PNGs."""
    return [save(written, figure, svg=svg) for written, figure in figures(Table.read(files))]


def figures(table: Table) -> Iterator[tuple[pathlib.Path, Figure]]:
    """Path and figure of each that the rows allow, drawn lazily; of each part of the table (`Table.parts`) separately."""
    for part in table.parts():
        material = Material(part, table)
        for kind in KINDS:
            if len(material.rows) and kind.applies(material):
                yield path(table.files, kind, part.part), kind.draw(material)
