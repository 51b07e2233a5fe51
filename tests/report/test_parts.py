"""Arms that are scored on different test images are neither compared nor drawn together."""

import csv
import json

import pytest
from made import SPREAD, Made, around, claim, declared

from common.commands import compare, report, verdicts
from common.figures import draw
from common.report import comparison, markdown, page
from common.rows import store
from common.rows.table import Table
from common.verdicts.judge import judge


def of(dataset, classes=None):
    """Columns of rows on a dataset or some of its classes."""
    return {"dataset": [dataset] * 5, "setting": [json.dumps({"dataset": dataset, "classes": classes})] * 5}


@pytest.fixture
def two_datasets(tmp_path):
    """Two arms on cifar10, between them two on mnist, one of these also at the common rate, and one without rows."""
    made = Made(tmp_path)
    made.add("a", around(0.70), **of("cifar10"))
    made.add("m", around(0.98), **of("mnist"))
    made.add("n", around(0.96), **of("mnist"))
    made.add("m", around(0.90), **of("mnist"), rate=["common"] * 5)
    made.add("b", around(0.60), **of("cifar10"))
    claims = [claim("a beats b", "a", "b"), claim("m beats n", "m", "n"), claim("n beats m", "n", "m")]
    declaration = declared(arms={**made.arms, "later": {}}, baseline="a", claims=claims)
    datasets = {"a": "cifar10", "m": "mnist", "n": "mnist", "b": "cifar10", "later": "mnist"}
    store.write_declaration(made.files, {**declaration, "datasets": datasets})
    return made.files


def test_a_table_has_a_part_for_each_dataset(two_datasets):
    parts = Table.read(two_datasets).parts()
    assert [(part.part, part.arms, part.declaration["baseline"]) for part in parts] == [
        ("cifar10", ["a", "b", "later"], "a"),
        ("mnist", ["m", "n"], None),
    ]
    assert parts[1].entries == ["m", "n", "m, common rate"]
    assert [[one["text"] for one in part.declaration["claims"]] for part in parts] == [["a beats b"], ["m beats n", "n beats m"]]
    assert [part.dataset for part in parts] == ["cifar10", "mnist"]


def test_arms_on_some_of_the_classes_are_a_part_and_arms_on_grey_images_are_not(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.70), **of("cifar10"))
    made.add("two classes", around(0.90), **of("cifar10", [0, 1]))
    made.add("grey", around(0.60), **of("cifar10"), data_checksum=["d" * 64] * 5)
    made.judge()
    parts = {part.part: part.arms for part in Table.read(made.files).parts()}
    assert parts == {"all classes": ["a", "grey"], "classes 0+1": ["two classes"]}


def test_a_table_of_one_dataset_is_its_only_part(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.70))
    made.judge()
    table = Table.read(made.files)
    assert table.parts() == [table]


def test_the_report_compares_and_judges_within_a_dataset(two_datasets):
    sections, entries, broken = page.read(two_datasets.folder.parent)
    assert broken == []
    assert [section.place for section in sections] == ["mnist, cifar10", "mnist, mnist"]
    assert len({section.identity for section in sections}) == 2
    compared = [set(section.differences) for section in sections]
    assert compared[0] == {("a", "b"), ("b", "a")}
    assert all({"m", "n", "m, common rate"} >= set(pair) for pair in compared[1])
    assert [(entry.verdict.dataset, entry.verdict.id, entry.verdict.seeds) for entry in entries] == [
        ("cifar10", "a-beats-b", 5),
        ("mnist", "m-beats-n", 5),
        ("mnist", "n-beats-m", 5),
    ]
    together = {verdict.id: verdict for verdict in judge(Table.read(two_datasets))}
    assert all(entry.verdict == together[entry.verdict.id] for entry in entries)
    alone = judge(sections[1].table)  # where the first of the two claims would have a level to itself
    assert sum(verdict.level for verdict in alone) > sum(together[verdict.id].level for verdict in alone)
    assert sections[1].answer.startswith("Supported: m beats n, by at least 0.02.")
    answers = [markdown.cell(f"{section.table.dataset}: {section.answer}") for section in sections]
    assert markdown.answers(sections)[2:] == [f"| Others | [90](experiments/exp_90_made.py) | {'<br>'.join(answers)} |"]
    assert answers[1].startswith("mnist: Supported: m beats n")
    assert "mnist/exp_90_made/cifar10: arms without rows: later" in page.missing(sections)


def test_figures_are_drawn_for_each_dataset(two_datasets, call):
    drawn = list(draw.figures(Table.read(two_datasets)))
    names = [path.name for path, _ in drawn]
    for kind in ("accuracy", "verdicts", "curves"):
        assert {f"exp_90_made_{kind}-cifar10.png", f"exp_90_made_{kind}-mnist.png"} <= set(names)
    figures = {path.name: figure for path, figure in drawn}
    shown = [label.get_text() for label in figures["exp_90_made_accuracy-mnist.png"].axes[0].get_yticklabels()]
    assert shown == ["m", "n", "m, common rate"]
    assert figures["exp_90_made_accuracy-mnist.png"].axes[0].get_xlim()[0] > 0.85 + min(SPREAD)
    status, _, err = call(report.run, "--results", two_datasets.folder.parent)
    assert (status, err) == (0, "")
    text = (two_datasets.folder.parent / "REPORT.md").read_text()
    assert "## exp_90_made, mnist, cifar10" in text
    assert text.index("![accuracy](mnist/exp_90_made_accuracy-cifar10.png)") < text.index("_accuracy-mnist.png)")
    html = (two_datasets.folder.parent / "index.html").read_text()
    assert html.count('alt="mnist/exp_90_made/mnist: curves"') == 1


def test_the_verdicts_of_all_datasets_are_printed(two_datasets, call):
    status, out, _ = call(verdicts.run, "90", "--results", two_datasets.folder.parent)
    assert status == 0
    assert ["a beats b" in out, "m beats n" in out] == [True, True]


def test_arms_are_compared_with_a_reference_on_the_same_dataset(two_datasets, call):
    folder = two_datasets.folder
    status, _, _ = call(compare.run, "--results", folder.parent, "--exp", "90")
    assert status == 0
    rows = list(csv.DictReader((folder / "compare-90.csv").open()))
    pairs = {(row["dataset"], row["arm"], row["reference"]) for row in rows if row["seeds"] != "0"}
    assert pairs == {("cifar10", "b", "a"), ("mnist", "n", "m")}


def test_a_first_claim_without_a_difference_is_left_out_with_its_counts_and_deletes_an_earlier_figure(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.95, 10))
    made.add("b", around(0.10, 10), statuses=dict.fromkeys(range(10), "diverged"))
    (verdict,) = made.judge(claim("a beats b"))
    assert (verdict.status, verdict.difference) == ("supported", None)
    folder = made.files.folder
    (folder / "compare.png").write_bytes(b"of earlier rows")
    stem, line = comparison.write_first_claims(folder, [(Table.read(made.files), [verdict])], {})
    assert stem is None
    assert line.startswith("Left out are 90 (supported, did not train: 'b' 10 of 10 (diverged); difference over all seeds")
    assert not (folder / "compare.png").exists()
