"""The report for a code host, and the parts of README and docs that are written from rows.

A generated part stands between two markers: `<!-- generated: its name -->` and `<!-- end of generated -->`. A sentence cites
rows by a link to their section of REPORT.md, with the id of a claim or the name of an arm as its title: the text of the link is
generated.
"""

import html
import pathlib
import re
from collections import defaultdict

import numpy as np

from common.errors import Failure
from common.figures import draw
from common.report.families import FAMILIES
from common.report.section import Section
from common.report.tables import cell, counted
from common.verdicts import ledger
from common.verdicts.verdict import REFUTED, Verdict

BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated -->"
PART = re.compile(r"<!-- generated: (?P<name>.+?) -->\n(?P<content>.*?)<!-- end of generated -->", re.DOTALL)
MARKER = re.compile(r"<!-- (?:generated: |end of generated)")
CITATION = re.compile(r'\[[^\]]*\]\((?P<page>[^()\s]*REPORT\.md)#(?P<section>[\w-]+)\s+"(?P<of>[^"]+)"\s*\)')
"""As in `[refuted, +0.001 (-0.007 to +0.009)](results/reference/REPORT.md#exp_03_l2-small-cifar10 "l2-helps")`."""

EXPLAINED = (
    "An experiment's first claim, written before training, answers its question: the rows support it, refute it, or leave it "
    "open. Intervals cover seeds and, of scores, test images. Demonstrations, on tiny images or with other settings than "
    "declared, do not count."
)
"""What a reader must know to understand the answers."""
NO_FIGURES = (
    "The figures of each experiment are not stored here: `make report RESULTS=results/reference` draws them, into one page."
)


def page(sections: list[Section], entries: list[ledger.Entry], broken: list[str], *, figures: bool = True) -> str:
    """The report for a code host: the answers, then each experiment, then all claims.

    Args:
        figures: whether to show the figures of experiments, which are not published.
    """
    lines = ["# What the rows say", "", *(f"- {prose(what)}: {prose(counts)}" for what, counts in ledger.counts(entries))]
    lines += ["", EXPLAINED, "", *([] if figures else [NO_FIGURES, ""])]
    deciding, shown = ([one for one in sections if one.demonstration is demonstration] for demonstration in (False, True))
    folders = [list(dict.fromkeys(section.files.folder for section in same)) for same in (deciding, shown)]
    lines += _answered("Answers", deciding, folders[0])
    others = [folder for folder in folders[1] if folder not in folders[0]]
    lines += _answered("Demonstrations", shown, others, folded=bool(deciding))
    newest = max((protocol for section in sections for protocol in protocols(section)), default=0)
    for section in sections:
        lines += [f"## {_heading(section)}", "", f"{prose(section.question)}", ""]
        if "Expect" in section.notes:
            lines += [f"Expected: {prose(section.notes['Expect'])}", ""]
        lines += [*_earlier(section, newest), *(claims(section) or [prose(section.answer)]), "", *arms(section)]
        lines += ["", *(f"- {prose(line)}" for line in section.unfinished())] if section.unfinished() else []
        there = [(kind.name, draw.path(section.files, kind, section.table.part)) for kind in draw.KINDS] if figures else []
        lines += [line for name, path in there if path.exists() for line in ("", f"![{name}]({path.parent.name}/{path.name})")]
        lines.append("")
    for demonstration in (False, True):
        lines += _ledger([entry for entry in entries if entry.verdict.demonstration is demonstration], demonstration)
    lines += [f"- not read: {prose(line)}" for line in broken]
    return "\n".join(lines).rstrip() + "\n"


def _answered(heading: str, sections: list[Section], folders: list[pathlib.Path], *, folded: bool = False) -> list[str]:
    """The figures of first claims, and a table of the answers of experiments.

    Args:
        folders: those whose figures are shown; folded: whether they are.
    """
    if not sections:
        return []
    lines = [f"## {heading}", ""]
    for figure in (folder / "compare.png" for folder in folders):
        name = figure.parent.name
        image = [f"![Effects in {name}]({name}/{figure.name})", ""] if figure.exists() else []
        lines += _folded(f"Effects in {name}", image) if folded and image else image
    lines += ["| experiment | data | answer |", "|---|---|---|"]
    for section in sections:
        lines.append(f"| [{section.files.experiment}](#{_anchor(section)}) | {section.place} | {prose(section.answer)} |")
    return [*lines, ""]


def _heading(section: Section) -> str:
    return f"{section.files.experiment}, {section.place}"


def _anchor(section: Section) -> str:
    """Of the section's heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", _heading(section).lower()).replace(" ", "-")


def _ledger(entries: list[ledger.Entry], demonstrations: bool) -> list[str]:
    """A folded table of claims, those that are refuted first."""
    if not entries:
        return []
    lines = ["| experiment | data | verdict and claim |", "|---|---|---|"]
    lines += [
        f"| {entry.experiment} | {entry.folder} | {prose(entry.verdict.sentence())} |"
        for entry in sorted(entries, key=lambda entry: entry.verdict.status != REFUTED)
    ]
    return _folded(
        f"All {len(entries)} claims{' of demonstrations' if demonstrations else ''}, those refuted first", [*lines, ""]
    )


def _folded(title: str, lines: list[str]) -> list[str]:
    """Lines that a reader unfolds."""
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]


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
    heading = f"{section.primary.label()}, mean ± standard deviation"
    lines = [f"| arm | seeds | {heading} | difference to the baseline (95 % interval) |", "|---|---|---|---|"]
    for row in section.summary.itertuples():
        spread = f" ± {row.deviation:.4f}" if row.seeds > 1 else ""
        difference = ""
        if not np.isnan(row.difference):
            difference = f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"
        lines.append(f"| {cell(row.arm)} | {counted(row)} | {row.score:.4f}{spread} | {difference} |")
    return lines


def claims(section: Section) -> list[str]:
    """The verdicts of a section, each a line."""
    return [f"- {prose(line)}" for line in map(_with_notes, section.verdicts)]


def _with_notes(verdict: Verdict) -> str:
    return " ".join([verdict.sentence(), *(f"{note[:1].upper()}{note[1:]}." for note in verdict.notes())])


def answers(sections: list[Section]) -> list[str]:
    """README's table: families of experiments, their answers from rows that decide, and those that have none yet."""
    lines = ["| family | | answer on real images |", "|---|---|---|"]
    by_number = defaultdict(list)
    for section in sections:
        by_number[section.files.experiment[4:6]].append(section)
    others = by_number.keys() - {number for numbers in FAMILIES.values() for number in numbers}
    for family, numbers in (FAMILIES | {"Others": sorted(others)}).items():
        family_lines, unanswered = [], []
        for number in (number for number in numbers if number in by_number):
            link = f"[{number}](experiments/{by_number[number][0].files.experiment}.py)"
            deciding = [section for section in by_number[number] if not section.demonstration]
            texts = [prose(f"{section.table.dataset}: {section.answer}") for section in deciding]
            if texts:
                family_lines.append(f" | {link} | {'<br>'.join(texts)} |")
            else:
                unanswered.append(link)
        if unanswered:
            family_lines.append(f" |  | not run yet: {', '.join(unanswered)} |")
        lines += [f"| {'' if place else family}{line}" for place, line in enumerate(family_lines)]
    return lines


def prose(text: str) -> str:
    """A sentence as Markdown shows it in a table, on one line; its marks, such as those of code, are kept."""
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


def cited(text: str, sections: list[Section], name: str) -> str:
    """A page with the text of each citation written again: a claim's verdict and difference, or an arm's mean score.

    Args:
        name: of the page, for errors.

    Raises:
        Failure: no section, claim or arm has the name that is cited.
    """
    by_anchor = {_anchor(section): section for section in sections}

    def written(citation: re.Match) -> str:
        anchor, of = citation["section"], citation["of"]
        words = _cited(by_anchor[anchor], of) if anchor in by_anchor else None
        if words is None:
            raise Failure(
                f"{name}: a citation must name a section of REPORT.md, and a claim or an arm of it. Received: {anchor} {of!r}"
            )
        return f'[{words}]({citation["page"]}#{anchor} "{of}")'

    return CITATION.sub(written, text)


def _cited(section: Section, of: str) -> str | None:
    """What a citation says of a claim or an arm; None if the section has neither."""
    for verdict in section.verdicts:
        if verdict.id == of:
            several = len(verdict.changes) > 1
            changes = (f"{change.unit.quantity if several else ''} {change.briefly()}".strip() for change in verdict.changes)
            return ", ".join([verdict.status + verdict.marks, *changes])
    for row in section.summary.itertuples():
        if row.arm == of:
            return f"{row.score:.3f}"
    return None
