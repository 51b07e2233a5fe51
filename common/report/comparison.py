"""Effects over several experiments, and their first claims, as figures and as tables in CSV, LaTeX and Markdown."""

import io
import math
import pathlib
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from common.figures.style import save
from common.figures.verdicts import forest
from common.files import write_changed
from common.report.tables import cell, escaped
from common.rows import schema
from common.rows.table import Table
from common.text import number_of
from common.verdicts.effects import Comparison, Effect
from common.verdicts.verdict import Verdict

SUFFIXES = (".png", ".svg", ".pdf", ".csv", ".tex", ".md")
"""Files of a comparison."""
BETTER = {1: "higher", -1: "lower", 0: ""}
"""Direction of a metric -> which values are better."""


def write_first_claims(
    folder: pathlib.Path, parts: Sequence[tuple[Table, Sequence[Verdict]]], left_out: dict[str, str]
) -> tuple[pathlib.Path | None, str]:
    """Write figure and tables of the first claim of each experiment, the largest difference in margins first.

    Without any difference to show, earlier ones are deleted.

    Args:
        folder: of the setting; parts: of its experiments (`Table.parts`), each with the verdicts on its claims; left_out: number
            of each experiment that cannot be judged -> reason.

    Returns:
        The path without suffix, None if there is no difference to show, and a line about what is left out.
    """
    judged, left_out = [], dict(left_out)
    for table, verdicts in parts:
        if verdicts and verdicts[0].difference is not None:
            judged.append((table.files.experiment, verdicts[0]))
        else:
            left_out[number_of(table.files.experiment)] = without_difference(verdicts[0]) if verdicts else "it claims nothing"
    judged.sort(key=lambda pair: (-pair[1].difference / pair[1].margin, pair[0]))
    shown = {number_of(experiment) for experiment, _ in judged}
    without, stem = left_out_line({number: why for number, why in left_out.items() if number not in shown}), folder / "compare"
    if not judged:
        for suffix in SUFFIXES:
            stem.with_name(stem.name + suffix).unlink(missing_ok=True)
        return None, without
    notes = [*notes_on([table for table, _ in parts]), *filter(None, [without])]
    title = f"{folder.name}: first claim of each experiment, the largest effect first"
    names = [f"{number_of(experiment)}  {verdict.text}" for experiment, verdict in judged]
    drawn = forest([verdict for _, verdict in judged], title, " ".join(["Intervals at the level of each claim.", *notes]), names)
    write(stem, drawn, claims_frame(judged), claims_tex(judged), claims_markdown(judged, title, notes))
    return stem, without


def without_difference(verdict: Verdict) -> str:
    """Why a verdict has no difference to show, in words."""
    return verdict.reason or ", ".join(filter(None, [verdict.status, verdict.counts]))


def notes_on(tables: Sequence[Table]) -> list[str]:
    """Whether tables are demonstrations, and of different datasets, in sentences."""
    notes, datasets = [], sorted({table.dataset for table in tables})
    if any(table.declaration["demonstration"] for table in tables):
        notes.append("Demonstrations, which decide no claim.")
    if len(datasets) > 1:
        notes.append(f"The experiments are of different datasets: {', '.join(datasets)}.")
    return notes


def left_out_line(left_out: dict[str, str]) -> str:
    """Which experiments are left out and why, in a sentence; blank for none.

    Args:
        left_out: number of an experiment -> reason.
    """
    by_reason = {why: [number for number, other in left_out.items() if other == why] for why in left_out.values()}
    reasons = "; ".join(f"{', '.join(same)} ({why})" for why, same in by_reason.items())
    return f"Left out are {reasons}." if left_out else ""


def write(stem: pathlib.Path, drawn: Figure, frame: pd.DataFrame, tex: str, markdown: str) -> None:
    """Write a figure and tables beside each other, as far as they have changed."""
    save(stem.with_name(f"{stem.name}.png"), drawn, svg=True, pdf=True)
    for suffix, text in ((".csv", to_csv(frame)), (".tex", tex), (".md", markdown)):
        write_changed(stem.with_name(stem.name + suffix), text.encode())


def effects_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row per effect."""
    lines = []
    for one in comparisons:
        about = {"experiment": one.experiment, "dataset": one.dataset, "metric": one.metric, "better": BETTER[one.direction]}
        for effect in one.effects:
            numbers = {name: getattr(effect, name) for name in ("mean", "reference_mean", "difference", "low", "high")}
            line = {**about, "arm": effect.arm, "rate": effect.rate, "reference": effect.reference, "margin": one.margin}
            counts = {name: getattr(effect, name) for name in ("seeds", "diverged", "untrained", "reference_untrained")}
            lines.append({**line, **numbers, **counts, "reason": effect.reason})
    return pd.DataFrame(lines)


def claims_frame(verdicts: Sequence[tuple[str, Verdict]]) -> pd.DataFrame:
    """A row per experiment and difference of its first claim, as it was measured: below 0 for a lower error."""
    lines = []
    for experiment, verdict in verdicts:
        about = {"experiment": experiment, "claim": verdict.text, "verdict": verdict.status}
        for change in verdict.changes:
            numbers = {name: getattr(change, name) for name in ("margin", "difference", "low", "high", "level")}
            lines.append({**about, "quantity": change.unit.quantity, **numbers, "seeds": verdict.seeds, "reason": verdict.reason})
    return pd.DataFrame(lines)


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, float_format="%.6g")
    return buffer.getvalue()


def effects_markdown(comparisons: Sequence[Comparison], title: str, notes: Sequence[str]) -> str:
    """Effects as Markdown: a table per metric, with a line per experiment above those of its arms."""
    lines = [f"# {cell(title)}", ""]
    for label in dict.fromkeys(one.label for one in comparisons):
        better = next(BETTER[one.direction] for one in comparisons if one.label == label)
        heading = cell(label) + (f", {better} is better" if better else "")
        lines += [f"| arm | seeds | {heading} | difference (95 % interval) |", "|---|---|---|---|"]
        for one in (one for one in comparisons if one.label == label):
            question = cell(f"{one.number} {one.question}")
            lines.append(f"| **{question}** | | {_number(one.reference_mean)} | {cell(_heading(one))} |")
            lines += [f"| {cell(_name(e))} | {e.seeds} | {_number(e.mean)} | {cell(e.words(one.form))} |" for e in one.effects]
        lines.append("")
    return "\n".join([*lines, *(f"- {cell(note)}" for note in notes)]).rstrip() + "\n"


def effects_tex(comparisons: Sequence[Comparison]) -> str:
    """Effects as a LaTeX table, which needs the packages booktabs and longtable."""
    lines = [r"\begin{longtable}{lrrl}", r"\toprule"]
    lines += [r"arm & seeds & mean & difference (95\,\% interval) \\", r"\midrule", r"\endhead"]
    for position, one in enumerate(comparisons):
        lines += [r"\midrule"] if position else []
        heading = rf"\textbf{{{escaped(f'{one.number} {one.question}')}}} {escaped(f'{one.label}; {_heading(one)}')}"
        lines.append(rf"\multicolumn{{4}}{{p{{\linewidth}}}}{{{heading}}} \\*")
        lines += [rf"{escaped(_name(e))} & {e.seeds} & {_number(e.mean)} & {escaped(e.words(one.form))} \\" for e in one.effects]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])


def claims_markdown(verdicts: Sequence[tuple[str, Verdict]], title: str, notes: Sequence[str]) -> str:
    """The verdicts on first claims as a Markdown table."""
    lines = [f"# {cell(title)}", "", "| | answer |", "|---|---|"]
    lines += [f"| {number_of(experiment)} | {cell(verdict.sentence())} |" for experiment, verdict in verdicts]
    return "\n".join([*lines, "", *(f"- {cell(note)}" for note in notes)]).rstrip() + "\n"


def claims_tex(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """The verdicts on first claims as a LaTeX table, which needs the packages booktabs and longtable."""
    lines = [r"\begin{longtable}{rp{0.85\linewidth}}", r"\toprule", r" & answer \\", r"\midrule", r"\endhead"]
    lines += [rf"{number_of(experiment)} & {escaped(verdict.sentence())} \\" for experiment, verdict in verdicts]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])


def _name(effect: Effect) -> str:
    return schema.entry_name(effect.arm, effect.rate)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _heading(one: Comparison) -> str:
    """The reference of a comparison, and the margin."""
    return one.against() + (f"; margin {one.margin:g}" if one.margin else "")
