"""Tables of effects over several experiments, and of their first claims, as CSV, LaTeX and Markdown."""

import html
import io
import math
import re
from collections.abc import Sequence

import pandas as pd

from common.report.tables import escaped
from common.rows import schema
from common.text import interval, number_of, signed
from common.verdicts.effects import Comparison, Effect
from common.verdicts.judge import Verdict

MARKS = re.compile(r"[\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would not print as it is: not `_` within a word."""
BETTER = {1: "higher", -1: "lower", 0: ""}
"""Direction of a metric -> which values are better."""


def effects_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row per effect."""
    lines = []
    for one in comparisons:
        about = {"experiment": one.experiment, "dataset": one.dataset, "metric": one.metric, "better": BETTER[one.direction]}
        for effect in one.effects:
            numbers = {name: getattr(effect, name) for name in ("mean", "reference_mean", "difference", "low", "high")}
            line = {**about, "arm": effect.arm, "rate": effect.rate, "reference": effect.reference, "margin": one.margin}
            counts = {"seeds": effect.seeds, "diverged": effect.diverged, "untrained": effect.untrained}
            lines.append({**line, **numbers, **counts, "reason": effect.reason})
    return pd.DataFrame(lines)


def claims_frame(verdicts: Sequence[tuple[str, Verdict]]) -> pd.DataFrame:
    """A row per experiment and verdict on its first claim."""
    names = ("text", "metric", "margin", "status", "difference", "low", "high", "level", "seeds", "reason")
    return pd.DataFrame(
        [{"experiment": experiment, **{name: getattr(verdict, name) for name in names}} for experiment, verdict in verdicts]
    ).rename(columns={"text": "claim", "status": "verdict"})


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, float_format="%.6g")
    return buffer.getvalue()


def effects_markdown(comparisons: Sequence[Comparison], title: str, notes: Sequence[str]) -> str:
    """Effects as Markdown: a table per metric, with a line per experiment above those of its arms."""
    lines = [f"# {_cell(title)}", ""]
    for label in dict.fromkeys(one.label for one in comparisons):
        better = next(BETTER[one.direction] for one in comparisons if one.label == label)
        heading = _cell(label) + (f", {better} is better" if better else "")
        lines += [f"| arm | seeds | {heading} | difference (95 % interval) |", "|---|---|---|---|"]
        for one in (one for one in comparisons if one.label == label):
            question = _cell(f"{one.number} {one.question}")
            lines.append(f"| **{question}** | | {_number(one.reference_mean)} | {_cell(_heading(one))} |")
            lines += [f"| {_cell(_name(e))} | {e.seeds} | {_number(e.mean)} | {_cell(e.words(one.form))} |" for e in one.effects]
        lines.append("")
    return "\n".join([*lines, *(f"- {_cell(note)}" for note in notes)]).rstrip() + "\n"


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
    lines = [f"# {_cell(title)}", "", "| | first claim | metric | margin | verdict | difference (interval) | seeds |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [f"| {' | '.join(map(_cell, _claim(*one)))} |" for one in verdicts]
    return "\n".join([*lines, "", *(f"- {_cell(note)}" for note in notes)]).rstrip() + "\n"


def claims_tex(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """The verdicts on first claims as a LaTeX table, which needs the packages booktabs and longtable."""
    lines = [r"\begin{longtable}{rp{0.35\linewidth}lrlp{0.25\linewidth}r}", r"\toprule"]
    lines += [r" & first claim & metric & margin & verdict & difference (interval) & seeds \\", r"\midrule", r"\endhead"]
    lines += [rf"{' & '.join(map(escaped, _claim(*one)))} \\" for one in verdicts]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])


def _claim(experiment: str, verdict: Verdict) -> list[str]:
    """The cells of a first claim."""
    numbers = ""
    if verdict.difference is not None:
        numbers = f"{signed(verdict.difference, '+.4g')} ({interval(verdict.low, verdict.high, '+.4g')})"
    status = verdict.status + ("; changed after rows were written" if verdict.changed else "")
    return [number_of(experiment), verdict.text, verdict.metric, f"{verdict.margin:g}", status, numbers, f"{verdict.seeds}"]


def _name(effect: Effect) -> str:
    return schema.entry_name(effect.arm, effect.rate)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _heading(one: Comparison) -> str:
    """The reference of a comparison, and the margin."""
    return one.against() + (f"; margin {one.margin:g}" if one.margin else "")


def _cell(text: str) -> str:
    """A name as Markdown shows it in a table, on one line."""
    marked = MARKS.sub(r"\\\g<0>", html.escape(text, quote=False))
    return marked.replace("$", "&#36;").replace("\n", " ")
