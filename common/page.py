"""Rows to the report: `make report`, or `python -m common.page --results DIR`.

One page that opens from disk and fetches nothing, a Markdown version of it, and a table per experiment as CSV and LaTeX.
"""

import base64
import gzip
import hashlib
import html
import io
import json
import multiprocessing
import pathlib
import re
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image
from plotly.offline import get_plotlyjs

from common import answers, declaration, ledger, metrics, plots, report, results, summary
from common.devices import cores
from common.errors import Failure, Misuse, OneLineParser
from common.files import write_atomic
from common.verdicts import Table, Verdict

TEMPLATES = pathlib.Path(__file__).parent / "templates"
README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- results: written by make report RESULTS=results/reference -->", "<!-- end of results -->"
SHOWN = (
    "verdicts",
    "curves",
    "sensitivity",
    "crossed",
    "survival",
    "parameters",
    "seconds",
    "confusion",
    "reliability",
    "samples",
)
"""Kinds of figures on the page; the dots are drawn there."""
FIELDS = (
    *("status", "reason", "fingerprint", "test_accuracy", "val_accuracy", "train_accuracy", "test_nll", "test_ece", "best_epoch"),
    *("parameters", "steps", "final_epoch", "total_seconds", "images_per_second", "peak_memory_mb", "beside", "resumes"),
    *("arguments", "setting", "search", "tuning", "data_checksum", "commit", "dirty", "versions", "device", "finished"),
)
"""What a dot tells of its trial."""


class Section:
    """One experiment in one setting, as the page shows it."""

    def __init__(self, table: Table, verdicts: list[Verdict]):
        self.table, self.verdicts = table, verdicts
        self.files = table.files
        self.identity = f"{self.files.folder.name}/{self.files.experiment}"
        self.question = table.declaration["question"]
        self.summary = summary.summarize(table)
        self.answer = summary.answer(table, self.summary)
        self.arms = [arm for arm in table.declaration["arms"] if arm in set(table.rows["arm"])]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What the docstring says it varies, fixes and expects."""
        body = self.table.declaration.get("doc", "").partition("\n\n")[2]
        parts = re.split(r"^(Varies|Fixed|Expect)\s+", body, flags=re.MULTILINE)[1:]
        return [(name, " ".join(text.split())) for name, text in zip(parts[::2], parts[1::2], strict=True)]

    @property
    def failed(self) -> int:
        return sum(row["status"] not in results.FINAL for row in results.read_rows(self.files))

    def figures(self) -> list[tuple[str, str]]:
        """Kind and data URI of each figure beside the rows."""
        paths = [(kind, self.files.folder / f"{self.files.experiment}_{kind}.png") for kind in SHOWN]
        stem = self.files.experiment.replace("exp_", "sweep_", 1)
        paths += [(path.stem.removeprefix(f"{stem}_"), path) for path in sorted(self.files.folder.glob(f"{stem}_*.png"))]
        found = []
        for kind, path in paths:
            if path.exists():
                found.append((kind, f"data:image/png;base64,{base64.b64encode(self._small(path)).decode()}"))
        return found

    def _small(self, path: pathlib.Path) -> bytes:
        """A figure in 64 colours: a quarter of the size, and none the worse. Kept for as long as the figure is the same."""
        original = path.read_bytes()
        kept = self.files.folder / ".figures" / f"{hashlib.sha256(original).hexdigest()[:16]}.png"
        if not kept.exists():
            buffer = io.BytesIO()
            Image.open(path).convert("RGB").quantize(64).save(buffer, "png", optimize=True)
            write_atomic(kept, buffer.getvalue())
        return kept.read_bytes()

    def data(self) -> dict:
        """What the page's script needs: per arm its look, and its trials with curves and confusion matrix."""
        arms = {}
        for arm in self.arms:
            own = [row for (name, _), row in sorted(self.table.by_trial.items(), key=lambda item: item[0][1]) if name == arm]
            trials = [self._trial(row) for row in own]
            arms[arm] = {"colour": plots.look(self.arms, arm)["color"], "trials": trials}
        told = [trial["told"] for own in arms.values() for trial in own["trials"]]
        shared = {name: value for name, value in told[0].items() if all(one[name] == value for one in told)} if told else {}
        for one in told:
            for name in shared:
                del one[name]
        return {"arms": arms, "shared": shared}

    def _trial(self, row: dict) -> dict:
        told = {name: _plain(row.get(name)) for name in FIELDS}
        arm, seed = row["arm"], row["seed"]
        own = self.table.epochs_of(arm, seed)
        curves = {name: [_short(v) for v in own[name]] for name in ("train_loss", "val_accuracy") if name in own}
        labels, predicted = self.table.labels(arm, seed), self.table.arrays.get(f"{arm}/{seed}")
        confusion = None
        if labels is not None and predicted is not None and len(labels) == len(predicted) and labels.max() < 20:
            confusion = metrics.confusion(predicted.astype(int), labels.astype(int), int(labels.max()) + 1).tolist()
        return {"seed": int(seed), "told": told, "curves": curves, "confusion": confusion, "command": self._command(row)}

    def _command(self, row: dict) -> str:
        """The command that makes a trial's row again."""
        return f"make reproduce ROW={str(row['fingerprint'])[:12]} RESULTS={self.files.folder.parent}"


def _plain(value):
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _short(value: float):
    return None if not np.isfinite(value) else float(f"{value:.4g}")


# --- the whole -------------------------------------------------------------------------------------------------------


def read(folder: pathlib.Path) -> tuple[list[Section], list[ledger.Entry], list[str]]:
    """Sections, the verdicts of all of them, and a line about each file that cannot be read."""
    sections, broken = [], []
    for setting in results.setting_folders(folder):
        for files in results.experiments(setting):
            try:
                table = Table.read(files)
                sections.append(Section(table, ledger.judge(table)))
            except Failure as error:
                broken.append(str(error))
    sections.sort(key=lambda section: (section.files.experiment, section.files.folder.name))
    found = [ledger.Entry.of(section.table, verdict) for section in sections for verdict in section.verdicts]
    return sections, found, broken


def draw_changed(sections: list[Section]) -> list[str]:
    """Redraw the figures whose rows, or whose code, have changed. Returns a line about each experiment that cannot be drawn."""
    changed = []
    drawing = [pathlib.Path(module.__file__) for module in (plots, answers, report)]
    for section in sections:
        files = section.files
        parts = (files.rows, files.epochs, files.declaration, files.samples, *drawing)
        content = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in parts if path.exists())
        stamp = files.folder / ".figures" / f"{files.experiment}.sha256"
        digest = hashlib.sha256(content).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            changed.append((files, stamp, digest))
    if not changed:
        return []
    with ProcessPoolExecutor(min(cores(), len(changed)), mp_context=multiprocessing.get_context("spawn")) as pool:
        return [line for line in pool.map(_draw, changed) if line]


def _draw(changed: tuple[results.Files, pathlib.Path, str]) -> str | None:
    """Draw one experiment's figures. Returns a line if that fails."""
    files, stamp, digest = changed
    try:
        report.draw(files)
        report.draw_sweep(files)
        write_atomic(stamp, digest.encode())
    except Failure as error:
        return str(error)
    return None


def missing(sections: list[Section]) -> list[str]:
    """What is not there: experiments without rows, seeds below the declared number, trials that failed."""
    there = {section.files.experiment for section in sections}
    lines = [f"{path.stem}: no rows" for path in declaration.scripts() if path.stem not in there]
    for section in sections:
        declared = section.table.declaration.get("seeds", 1)
        few = [f"{row.arm} {row.seeds}" for row in section.summary.itertuples() if row.seeds < declared]
        absent = [arm for arm in section.table.declaration["arms"] if arm not in section.arms and not arm.endswith(report.COMMON)]
        if few:
            lines.append(f"{section.identity}: fewer than the {declared} declared seeds: {', '.join(few)}")
        if absent:
            lines.append(f"{section.identity}: arms without rows: {', '.join(absent)}")
        if section.failed:
            lines.append(f"{section.identity}: {section.failed} trials failed or were unavailable")
    return lines


def build(folder: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """Write the report. Returns the page's path and a line about each file that could not be read."""
    sections, found, broken = read(folder)
    broken += draw_changed(sections)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    rates = ledger.discovery_rates(found)
    lines = [(entry, rates.get(i), ledger.single(found, entry)) for i, entry in enumerate(found)]
    page = environment.get_template("report.html").render(
        sections=sections,
        lines=lines,
        missing=missing(sections),
        broken=broken,
        rows=sum(len(section.table.rows) for section in sections),
        newest=max((str(v) for section in sections for v in section.table.rows["finished"].dropna()), default=""),
        style=(TEMPLATES / "report.css").read_text(),
        script=(TEMPLATES / "report.js").read_text(),
        plotly=_packed(get_plotlyjs()),
        data=_packed(json.dumps({section.identity: section.data() for section in sections}, allow_nan=False)),
    )
    path = folder / "index.html"
    write_atomic(path, page.encode())
    write_atomic(folder / "REPORT.md", markdown(sections, found, broken).encode())
    for section in sections:
        stem = section.files.folder / f"{section.files.experiment}_summary"
        write_atomic(stem.with_suffix(".csv"), summary.to_csv(section.summary).encode())
        write_atomic(stem.with_suffix(".tex"), summary.to_tex(section.summary).encode())
    return path, broken


def _packed(text: str) -> str:
    """Text as the page's script unpacks it, a quarter as long: gzip in base64, in which nothing can end an element."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def markdown(sections: list[Section], found: list[ledger.Entry], broken: list[str]) -> str:
    """The report for a code host."""
    lines = ["# What the rows say", "", "| claim | experiment | data | verdict |", "|---|---|---|---|"]
    for entry in found:
        lines.append(f"| {_cell(entry.verdict.text)} | {entry.experiment} | {entry.folder} | {_cell(entry.verdict.status)} |")
    for section in sections:
        lines += ["", f"## {section.files.experiment}, {section.files.folder.name}", "", f"{_cell(section.question)}", ""]
        lines += [_cell(section.answer), "", "| arm | seeds | test accuracy | difference to the baseline |", "|---|---|---|---|"]
        for row in section.summary.itertuples():
            spread = f" ± {row.deviation:.4f}" if row.seeds > 1 else ""
            difference = ""
            if not np.isnan(row.difference):
                difference = f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"
            lines.append(f"| {_cell(row.arm)} | {row.seeds} | {row.accuracy:.4f}{spread} | {difference} |")
        lines += [""] + [f"- {_cell(verdict.sentence())}" for verdict in section.verdicts]
        for kind in ("accuracy", *SHOWN):
            path = section.files.folder / f"{section.files.experiment}_{kind}.png"
            if path.exists():
                lines += ["", f"![{kind}]({section.files.folder.name}/{path.name})"]
    lines += [""] + [f"- not read: {_cell(line)}" for line in broken]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


# --- README ----------------------------------------------------------------------------------------------------------


def readme_table(folder: pathlib.Path) -> str:
    """README's results: an answer per experiment and setting, each from rows."""
    sections, _, broken = read(folder)
    if broken:
        raise Failure(broken[0])
    lines = ["| experiment | data | question | what the rows say |", "|---|---|---|---|"]
    for s in sections:
        lines.append(f"| {s.files.experiment[4:6]} | {s.files.folder.name} | {_cell(s.question)} | {_cell(s.answer)} |")
    return "\n".join(lines)


def with_results(text: str, table: str) -> str:
    """README with the table between its markers. Raises `Misuse` where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise Misuse(f"README needs its two markers, {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> None:
    parser = OneLineParser(description="Build the report from rows.")
    parser.add_argument("--results", default="results", help="folder that holds the setting folders")
    parser.add_argument("--check", action="store_true", help="only check that README says what the published rows say")
    status = 0
    try:
        given = parser.parse_args()
        folder = pathlib.Path(given.results)
        if given.check:
            if with_results(README.read_text(), readme_table(results.REFERENCE)) != README.read_text():
                raise Failure("README's results are not those of the rows: make report RESULTS=results/reference")
            return
        if not results.setting_folders(folder):
            raise Misuse(f"no experiment has rows: run one first (make exp-NN). Received: {folder}")
        path, broken = build(folder)
        for line in broken:
            print(line, file=sys.stderr)
            status = Failure.status
        print(path)
        if folder.resolve() == results.REFERENCE:
            write_atomic(README, with_results(README.read_text(), readme_table(folder)).encode())
    except (Failure, Misuse) as error:
        print(error, file=sys.stderr)
        status = error.status
    sys.exit(status)


if __name__ == "__main__":
    main()
