"""`make report`: builds the report from rows.

Of the published ones it also writes the generated parts of README and docs, and what experiments' docstrings say was found.

`make check`: checks that these parts are up to date.
"""

import ast
import pathlib
import re
import sys

from common.commands.options import OTHER_OPTIONS, STUDY_OPTIONS, Option
from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.files import PROJECT, experiment_scripts, write_atomic
from common.report import docstrings, markdown, page
from common.report.section import Section
from common.rows import schema, store

POWER = PROJECT / "benchmarks" / "power.md"
"""Tables of simulated verdicts, written by `make power`."""
REMEDY = "make report RESULTS=results/reference"


def run() -> int:
    """Run the command. Returns the exit status: 1 if some rows cannot be read."""
    given = parse(["results", "svg", "check"], description=__doc__)
    if given.check:
        check()
        return 0
    folder = pathlib.Path(given.results)
    if not store.setting_folders(folder):
        raise Misuse(f"no experiment has rows: run one first (make exp-NN). Received: {folder}")
    path, broken = page.build(folder, svg=given.svg)
    for line in broken:
        print(line, file=sys.stderr)
    print(path)
    if folder.resolve() == schema.REFERENCE:
        for written, text in generated().items():
            write_atomic(written, text.encode())
    return Failure.status if broken else 0


def check() -> None:
    """Raises `Failure` if a page differs from the one that would be generated now."""
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if stale:
        names = ", ".join(str(path.relative_to(PROJECT)) for path in stale)
        raise Failure(f"generated parts must agree with rows, options and Makefile: {REMEDY}. Received: {names}")


def generated() -> dict[pathlib.Path, str]:
    """Path -> text of README, docs, experiments and the published report, from the published rows and the code.

    Raises `Failure`.
    """
    sections, verdicts, broken = page.read(schema.REFERENCE)
    if broken:
        raise Failure(broken[0])
    written = parts(sections)
    pages = {}
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        name = str(path.relative_to(PROJECT))
        text = markdown.regenerated(path.read_text(encoding="utf-8"), written, name)
        pages[path] = markdown.cited(text, sections, name)
    for path in experiment_scripts():
        of_script = [section for section in sections if section.files.experiment == path.stem]
        pages[path] = docstrings.with_answers(path.read_text(encoding="utf-8"), of_script)
    return pages | {schema.REFERENCE / "REPORT.md": markdown.page(sections, verdicts, broken, figures=False)}


def parts(sections: list[Section]) -> dict[str, list[str]]:
    """Name -> lines of all generated parts."""
    of_sections = {
        f"{section.files.experiment} in {section.place}": [*markdown.arms(section), "", *markdown.claims(section)]
        for section in sections
    }
    scripts = {path.stem: code(path.read_text(encoding="utf-8")) for path in experiment_scripts()}
    return {
        "answers": markdown.answers(sections),
        "targets": _targets(),
        "simulated verdicts": POWER.read_text(encoding="utf-8").splitlines(),
        "options of exp-NN, sweep-NN and all": _options(STUDY_OPTIONS),
        "options of other targets": _options(OTHER_OPTIONS),
        **{f"code of {name}": ["```python", *lines, "```"] for name, lines in scripts.items()},
        **of_sections,
    }


def code(script: str) -> list[str]:
    """The lines of an experiment's script without docstring, imports and the call of `main`."""
    lines, shown = script.splitlines(), []
    for statement in ast.parse(script).body:
        if not isinstance(statement, ast.Import | ast.ImportFrom | ast.Expr | ast.If):
            shown += ["", "", *lines[statement.lineno - 1 : statement.end_lineno]]
    return shown[2:]


def _options(options: tuple[Option, ...]) -> list[str]:
    """A table of options."""
    lines = ["| option | meaning |", "|---|---|"]
    return lines + [f"| `{option.name.upper()}={option.metavar or '1'}` | {option.meaning} |" for option in options]


def _targets() -> list[str]:
    """A table of the Makefile's targets and their help lines."""
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w%-]+):.*## (.*)$", text, re.MULTILINE)
    return ["| target | |", "|---|---|", *(f"| `make {name.replace('%', 'NN')}` | {meaning} |" for name, meaning in targets)]


if __name__ == "__main__":
    end(run)
