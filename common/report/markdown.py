"""The report for a code host, and README's table of results."""

import html

import numpy as np

from common.errors import Misuse
from common.figures import draw
from common.report.section import Section
from common.text import interval, signed
from common.verdicts import ledger
from common.verdicts.kinds import REFUTED

BEGIN, END = "<!-- results: written by make report RESULTS=results/reference -->", "<!-- end of results -->"


def page(sections: list[Section], found: list[ledger.Entry], broken: list[str]) -> str:
    """The report for a code host."""
    lines = ["# What the rows say", "", "| claim | experiment | data | verdict |", "|---|---|---|---|"]
    for entry in found:
        lines.append(f"| {_cell(entry.verdict.text)} | {entry.experiment} | {entry.folder} | {_cell(entry.verdict.status)} |")
    refuted = [entry.verdict for entry in found if entry.verdict.status == REFUTED]
    if refuted:
        lines += ["", "## What disagrees with what was claimed", ""]
        lines += [f"- {_cell(verdict.text)}: {verdict.disagreement()} ({_cell(verdict.numbers())})" for verdict in refuted]
    for section in sections:
        lines += ["", f"## {section.files.experiment}, {section.files.folder.name}", "", f"{_cell(section.question)}", ""]
        if "Expect" in section.notes:
            lines += [f"Expected: {_cell(section.notes['Expect'])}", ""]
        lines += [_cell(section.answer), "", f"| arm | seeds | {section.primary.label()} | difference to the baseline |"]
        lines += ["|---|---|---|---|"]
        for row in section.summary.itertuples():
            spread = f" ± {row.deviation:.4f}" if row.seeds > 1 else ""
            difference = ""
            if not np.isnan(row.difference):
                difference = f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"
            lines.append(f"| {_cell(row.arm)} | {row.seeds} | {row.score:.4f}{spread} | {difference} |")
        lines += [""] + [f"- {_cell(verdict.sentence())}" for verdict in section.verdicts]
        there = [(kind.name, draw.path(section.files, kind)) for kind in draw.KINDS]
        lines += [part for name, path in there if path.exists() for part in ("", f"![{name}]({path.parent.name}/{path.name})")]
    lines += [""] + [f"- not read: {_cell(line)}" for line in broken]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def table(sections: list[Section]) -> str:
    """README's results: of experiments whose rows decide the first claim and its verdict, then what demonstrations say."""
    deciding = [section for section in sections if not section.table.declaration["demonstration"]]
    lines = []
    if deciding:
        lines = ["| experiment | data | first claim | effect, interval | verdict | seeds |", "|---|---|---|---|---|---|"]
        lines += [_first_claim(section) for section in deciding]
    shown = [section for section in sections if section not in deciding]
    if deciding and shown:
        lines += ["", "Demonstrations, which decide nothing:", ""]
    if shown:
        lines += ["| experiment | data | question | what the rows say |", "|---|---|---|---|"]
    for s in shown:
        lines.append(f"| {s.files.experiment[4:6]} | {s.files.folder.name} | {_cell(s.question)} | {_cell(s.answer)} |")
    return "\n".join(lines)


def _first_claim(section: Section) -> str:
    """A row of README's table: the claim that answers an experiment's question, and what the rows say of it."""
    number, folder = section.files.experiment[4:6], section.files.folder.name
    if not section.verdicts:
        return f"| {number} | {folder} | {_cell(section.question)} | {_cell(section.answer)} | | |"
    verdict = section.verdicts[0]
    effect = ""
    if verdict.difference is not None:
        effect = f"{signed(verdict.difference, '+.4g')}, {interval(verdict.low, verdict.high, '+.4g')}"
    said = f"{verdict.text} (by {verdict.margin:g}, {verdict.metric})"
    return f"| {number} | {folder} | {_cell(said)} | {effect} | {_cell(verdict.status)} | {verdict.seeds} |"


def with_results(text: str, table: str) -> str:
    """README with the table between its markers. Raises `Misuse` where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise Misuse(f"README needs its two markers, {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
