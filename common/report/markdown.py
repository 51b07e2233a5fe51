"""The report for a code host, and the parts of README and docs that are written from rows.

A generated part stands between two markers: `<!-- generated: its name -->` and `<!-- end of generated -->`.
"""

import html
import re

import numpy as np

from common.errors import Failure
from common.figures import draw
from common.report.section import Section
from common.text import interval, signed
from common.verdicts import ledger
from common.verdicts.judge import Verdict
from common.verdicts.kinds import REFUTED

BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated -->"
PART = re.compile(r"<!-- generated: (?P<name>.+?) -->\n(?P<content>.*?)<!-- end of generated -->", re.DOTALL)
MARKER = re.compile(r"<!-- (?:generated: |end of generated)")


def page(sections: list[Section], entries: list[ledger.Entry], broken: list[str]) -> str:
    """The report for a code host: the claims that the rows decide, then demonstrations, then each experiment."""
    lines = ["# What the rows say", ""]
    for heading, demonstration in (("Claims", False), ("Demonstrations, which decide no claim", True)):
        listed = [entry for entry in entries if entry.demonstration is demonstration]
        if listed:
            lines += [f"## {heading}", "", "| claim | experiment | data | verdict |", "|---|---|---|---|"]
            lines += [
                f"| {_cell(entry.verdict.text)} | {entry.experiment} | {entry.folder} | {_cell(entry.verdict.status)} |"
                for entry in listed
            ]
            lines.append("")
    refuted = [entry.verdict for entry in entries if entry.verdict.status == REFUTED and not entry.demonstration]
    if refuted:
        lines += ["## What disagrees with what was claimed", ""]
        lines += [f"- {_cell(verdict.text)}: {verdict.disagreement()} ({_cell(verdict.numbers())})" for verdict in refuted]
        lines.append("")
    newest = max((protocol for section in sections for protocol in protocols(section)), default=0)
    for section in sections:
        lines += [f"## {section.files.experiment}, {section.place}", "", f"{_cell(section.question)}", ""]
        if "Expect" in section.notes:
            lines += [f"Expected: {_cell(section.notes['Expect'])}", ""]
        lines += [*_earlier(section, newest), _cell(section.answer), "", *arms(section), "", *claims(section)]
        there = [(kind.name, draw.path(section.files, kind, section.table.part)) for kind in draw.KINDS]
        lines += [line for name, path in there if path.exists() for line in ("", f"![{name}]({path.parent.name}/{path.name})")]
        lines.append("")
    lines += [f"- not read: {_cell(line)}" for line in broken]
    return "\n".join(lines).rstrip() + "\n"


def protocols(section: Section) -> list[int]:
    """The versions of training and scoring that a section's rows were made under."""
    return sorted({int(protocol) for protocol in section.table.rows["protocol"].dropna()})


def _earlier(section: Section, newest: int) -> list[str]:
    """A note where rows are of an earlier protocol than the newest in the report."""
    earlier = [f"{protocol}" for protocol in protocols(section) if protocol < newest]
    if not earlier:
        return []
    return [f"These rows were made under protocol {' and '.join(earlier)}, before {newest}: they are to be made again.", ""]


def arms(section: Section) -> list[str]:
    """A table of a section's arms."""
    lines = [f"| arm | seeds | {section.primary.label()} | difference to the baseline |", "|---|---|---|---|"]
    for row in section.summary.itertuples():
        spread = f" ± {row.deviation:.4f}" if row.seeds > 1 else ""
        difference = ""
        if not np.isnan(row.difference):
            difference = f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"
        lines.append(f"| {_cell(row.arm)} | {row.seeds} | {row.score:.4f}{spread} | {difference} |")
    return lines


def claims(section: Section) -> list[str]:
    """The verdicts of a section, each a line."""
    return [f"- {_cell(verdict.sentence())}" for verdict in section.verdicts]


def answers(sections: list[Section]) -> list[str]:
    """README's table: a line for each experiment whose rows decide, about its first claim."""
    deciding = [section for section in sections if _decides(section)]
    lines = ["| | data | first claim | verdict | difference (interval) | seeds |", "|---|---|---|---|---|---|"]
    return lines + [_answer(section) for section in deciding]


def _decides(section: Section) -> bool:
    """Whether a section's first claim is in the ledger; of one without claims, whether it is no demonstration."""
    if not section.verdicts:
        return not section.table.declaration["demonstration"]
    return not ledger.Entry.of(section.table, section.verdicts[0]).demonstration


def _answer(section: Section) -> str:
    """The first claim of an experiment, which answers its question, and its verdict; without claims its answer."""
    name, dataset = section.files.experiment, section.table.dataset
    head = f"| [{name[4:6]}](experiments/{name}.py) | {dataset}"
    if not section.verdicts:
        return f"{head} | {_cell(section.question)} | | {_cell(section.answer)} | | |"
    verdict = section.verdicts[0]
    cells = [_cell(verdict.text), _status(verdict), _effect(section, verdict), f"{verdict.seeds}"]
    return f"{head} | {' | '.join(cells)} |"


def _status(verdict: Verdict) -> str:
    return _cell(verdict.result + ("; changed after rows were written" if verdict.changed else ""))


def _effect(section: Section, verdict: Verdict) -> str:
    """The difference and its interval; blank where there are none."""
    if verdict.difference is None:
        return ""
    primary = verdict.metric == section.primary.column
    form, name = ("+.4f", "") if primary else ("+.4g", f"{verdict.metric} ")
    return f"{_cell(name)}{signed(verdict.difference, form)} ({interval(verdict.low, verdict.high, form)})"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def regenerated(text: str, parts: dict[str, list[str]], name: str) -> str:
    """A page with each generated part written again.

    Args:
        parts: the lines of each part, by name.
        name: of the page, for errors.

    Raises:
        Failure: a marker without the other one, or a part that nothing generates.
    """
    if 2 * len(PART.findall(text)) != len(MARKER.findall(text)):
        raise Failure(f"{name}: each {BEGIN.format('…')} needs its {END} below, and no other marker between them")

    def written(part: re.Match) -> str:
        if part["name"] not in parts:
            raise Failure(f"{name}: a generated part must be one that common/commands/report.py knows. Received: {part['name']}")
        return "\n".join([BEGIN.format(part["name"]), "", *parts[part["name"]], "", END])

    return PART.sub(written, text)
