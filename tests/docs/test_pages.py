"""README and docs: their length, links, names of files, and what they must not leave out."""

import re

import pytest
from conftest import PROJECT
from pages import PAGES, prose

from common.commands import options
from common.files import experiment_scripts
from common.rows import schema, store
from common.running.environment import REPORTED
from common.search import grid, race
from common.verdicts import intervals, kinds, levels, rules, verdict

README = PROJECT / "README.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
NAMED = re.compile(r"`((?:common|tests|experiments|benchmarks|results/reference|docs)/[\w./-]*)`")
EACH = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
LONGEST = 120


def anchors(path):
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST


@EACH
def test_links_lead_somewhere(path):
    for link in LINK.findall(prose(path)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@EACH
def test_files_that_are_named_are_there(path):
    missing = [name for name in NAMED.findall(prose(path)) if not (PROJECT / name).exists()]
    assert [name for name in missing if "NN" not in name] == []


@EACH
def test_modules_are_named_by_names_that_there_are(path):
    """Such as `grid.py`, without its folder."""
    known = {file.name for folder in ("common", "tests", "experiments") for file in (PROJECT / folder).rglob("*.py")}
    named = re.findall(r"`(\w+\.py)`", prose(path))
    assert set(named) <= known


def test_every_page_of_docs_is_linked_from_readme():
    linked = {(PROJECT / link).resolve() for link in LINK.findall(README.read_text(encoding="utf-8")) if "://" not in link}
    assert set(PAGES) - {README} <= linked
    assert schema.REFERENCE / "REPORT.md" in linked


def test_every_experiment_has_one_place_in_readmes_table():
    table = README.read_text(encoding="utf-8").partition("| family |")[2].partition("\n## ")[0]
    linked = re.findall(r"\[(\d\d)\]\((experiments/exp_\w+\.py)\)", table)
    assert sorted(path for _, path in linked) == [f"experiments/{path.name}" for path in experiment_scripts()]
    assert all(number == path[16:18] for number, path in linked)
    assert "| Others |" not in table


def test_readmes_figure_is_of_rows_that_decide():
    (figure,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    folder = (PROJECT / figure).parent
    assert folder.parent == schema.REFERENCE
    assert not any(store.read_declaration(files)["demonstration"] for files in store.experiments(folder))


def test_options_explains_each_variable_of_the_environment_that_counts():
    text = (PROJECT / "docs" / "options.md").read_text(encoding="utf-8")
    assert [name for name in REPORTED if f"| `{name}` |" not in text] == []


@EACH
def test_options_that_are_named_are_options(path):
    of_ray = ("RAY_ADDRESS", "RAY_AUTH_MODE")
    known = {option.name.upper() for option in options.OPTIONS} | {*options.OF_MAKE, *REPORTED, *of_ray, "NAME"}
    named = re.findall(r"`([A-Z_]+)=", prose(path))
    assert set(named) <= known


def test_protocol_states_the_numbers_of_the_code():
    text = " ".join((PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8").split())
    few, some, many = levels.LOOKS
    early, middle, late = (f"{100 * level:g} %" for level in levels.LEVELS.values())
    for said in (
        f"Verdicts are read at {few}, {some} and {many} seeds only",
        f"fewer than {few} seeds",
        f"The looks have levels of {early}, {middle} and {late}, together {100 * levels.ALPHA:g} %",
        f"trained, at least {rules.LEAST_SEEDS}.",
        f"at least {rules.LEAST_COUNTED} seeds in which only one side trains",
        f"{intervals.RESAMPLES} resamples of the test images",
        f"with {intervals.TUNING_FREEDOM} degrees of freedom",
        f"the chance of a verdict by then is below {100 * verdict.FUTILE:g} %",
        "run with seeds {} and {}.".format(*grid.GRID_SEEDS),
        "run with seeds {}, {} and {}.".format(*grid.CONTENDER_SEEDS),
        f"Up to {race.CONTENDERS} contenders, within {race.WITHIN:.2f} accuracy",
        f"less {race.RISK:g} of",
        *(f"| `{status}` |" for status in schema.STATUSES),
        *(f"| `{kind}` |" for kind in kinds.KINDS),
        *(f"| {status} |" for status in verdict.VERDICTS),
    ):
        assert said in text, said
