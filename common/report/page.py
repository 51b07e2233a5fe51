"""The report: one HTML page without external resources, a Markdown version, and a table per experiment as CSV and LaTeX."""

import base64
import gzip
import json
import math
import pathlib

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from common.errors import Failure
from common.figures import cache, copies, draw
from common.files import experiment_scripts, write_atomic
from common.report import comparison, markdown, tables
from common.report.section import Section
from common.rows import store
from common.rows.table import Table
from common.text import interval
from common.verdicts import ledger
from common.verdicts.judge import judge_parts
from common.verdicts.verdict import REFUTED, VERDICTS, Verdict

TEMPLATES = pathlib.Path(__file__).parent / "templates"


def read(folder: pathlib.Path) -> tuple[list[Section], list[ledger.Entry], list[str]]:
    """The sections of a results folder, their ledger entries, and a line about each file that cannot be read."""
    sections, broken, copies = [], [], store.copies(folder)
    for setting in store.setting_folders(folder):
        for files in store.experiments(setting):
            if files in copies:
                broken.append(f"{files.rows} holds the rows of {copies[files].rows}: it is left out as a copy")
                continue
            try:
                sections += [Section(part, verdicts) for part, verdicts in judge_parts(Table.read(files))]
            except Failure as error:
                broken.append(str(error))
    sections.sort(key=lambda section: (section.files.experiment, section.files.folder.name))  # parts stay in their order
    entries = [ledger.Entry.of(section.table, verdict) for section in sections for verdict in section.verdicts]
    return sections, entries, broken


def missing(sections: list[Section]) -> list[str]:
    """A line each about the experiments without rows, and about what each section lacks (`Section.missing`)."""
    there = {section.files.experiment for section in sections if len(section.table.rows)}
    without = [path.stem for path in experiment_scripts() if path.stem not in there]
    lines = [f"experiments without rows: {', '.join(without)}"] if without else []
    return lines + [line for section in sections for line in section.missing()]


def build(folder: pathlib.Path, *, svg: bool = False) -> tuple[pathlib.Path, list[str]]:
    """Write the report into a results folder. Returns the page's path and a line about each file that could not be read.

    Args:
        svg: whether to draw the figures as SVG too.
    """
    sections, entries, broken = read(folder)
    drawn = cache.redraw(list(dict.fromkeys(section.files for section in sections)), svg=svg, copies=True)
    broken += [figures.error for figures in drawn if figures.error]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["interval"] = _interval
    environment.filters["badged"] = _badged
    rates = ledger.discovery_rates(entries)
    lines = [(entry, rates.get(i), ledger.single(entries, entry)) for i, entry in enumerate(entries)]
    lines.sort(key=lambda line: line[0].verdict.demonstration)  # demonstrations last
    page = environment.get_template("report.html").render(
        sections=sections,
        groups=_groups(sections),
        counts=ledger.counts(entries),
        explained=markdown.EXPLAINED,
        statuses=VERDICTS,
        lines=lines,
        rates=rates,
        disagreeing=[entry for entry, *_ in lines if entry.verdict.status == REFUTED],
        photographs=copies.PHOTOGRAPHS,
        expecting=_expecting(sections),
        missing=missing(sections),
        broken=broken,
        rows=sum(len(section.table.rows) for section in sections),
        newest=max((str(v) for section in sections for v in section.table.rows["finished"].dropna()), default=""),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        plotly=_packed(get_plotlyjs()),
        data=_packed(json.dumps({section.identity: section.data() for section in sections}, allow_nan=False)),
    )
    path = folder / "index.html"
    write_atomic(path, page.encode())
    write_atomic(folder / "REPORT.md", markdown.page(sections, entries, broken).encode())
    for section in sections:
        stem = section.files.folder / f"{section.files.experiment}_summary{draw.suffix(section.table.part)}"
        write_atomic(stem.with_suffix(".csv"), tables.to_csv(section.table, section.summary).encode())
        write_atomic(stem.with_suffix(".tex"), tables.to_tex(section.table, section.summary).encode())
    return path, broken


def _groups(sections: list[Section]) -> list[tuple[str, list[Section], list[tuple[str, str]]]]:
    """Heading, sections and figures (setting, data URI) of first claims, of experiments whose rows decide and of demonstrations.

    The figures are written beside the rows, as `make compare` does.
    """
    shown: dict[pathlib.Path, str] = {}
    for folder in dict.fromkeys(section.files.folder for section in sections):
        parts = [(section.table, section.verdicts) for section in sections if section.files.folder == folder]
        stem, _ = comparison.write_first_claims(folder, parts, {})
        if stem:
            shown[folder] = copies.data_uri("compare", stem.with_name(f"{stem.name}.png"))
    groups = []
    for heading, demonstration in (("Answers", False), ("Demonstrations", True)):
        same = [section for section in sections if section.demonstration is demonstration]
        folders = [folder for folder in dict.fromkeys(section.files.folder for section in same) if folder in shown]
        if same:
            groups.append((heading, same, [(folder.name, shown.pop(folder)) for folder in folders]))
    return groups


def _badged(verdict: Verdict) -> Markup:
    """The sentence of a verdict, whose first words are marked in its colour."""
    badge = Markup('<span class="verdict {}">{}</span>').format(verdict.status.replace(" ", "-"), verdict.heading)
    return badge + verdict.sentence().removeprefix(verdict.heading)


def _expecting(sections: list[Section]) -> list[Section]:
    """The sections with an expectation (`Expect`), those with the most refuted claims first."""
    return sorted((section for section in sections if "Expect" in section.notes), key=lambda section: -section.count(REFUTED))


def _interval(bounds: tuple[float, float]) -> str:
    """An interval in words; blank without one."""
    low, high = bounds
    if low is None or math.isnan(low):
        return ""
    return interval(low, high)


def _packed(text: str) -> str:
    """Text as gzip in base64, which is shorter and holds no HTML; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
