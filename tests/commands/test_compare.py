"""`make compare`: which experiments, which files, and one line about what cannot be compared."""

import csv
import shutil

import pytest
from made import Made, around, claim, declared

from common.commands import compare, selection
from common.rows import schema, store
from common.rows.table import Table
from common.verdicts.judge import judge

EVIL = "50 % | $x_{2}$ \\ *one* <b>"
SUFFIXES = ["csv", "md", "pdf", "png", "svg", "tex"]


def add(folder, number, best, **fields):
    """Rows of an experiment with a baseline and two arms."""
    made = Made(folder)
    made.files = schema.Files(folder / "full-mnist", f"exp_{number}_made")
    made.add("baseline", around(0.85), finished=["2026-11-27T12:00:00+00:00"] * 5)
    made.add(EVIL, around(best), train_seconds=[4.0, 4.1, 4.2, 4.0, 4.0])
    made.add("次の腕", around(0.80))
    claims = [claim("it helps", EVIL, "baseline", id="helps")]
    about = {"experiment": made.files.experiment, "arms": made.arms, "baseline": "baseline", "claims": claims, **fields}
    store.write_declaration(made.files, declared(**about))
    return made.files


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A results folder with three experiments, the last of which claims nothing; not to be written to."""
    folder = tmp_path_factory.mktemp("rows")
    add(folder, "03", 0.90, question="does it _help_?")
    add(folder, "05", 0.95)
    add(folder, "90", 0.86, claims=[])
    return folder


@pytest.fixture
def folder(rows, tmp_path):
    return shutil.copytree(rows, tmp_path, dirs_exist_ok=True)


def written(folder):
    return {path.name: path.read_bytes() for path in (folder / "full-mnist").glob("compare*")}


def test_arms_are_compared_in_a_figure_and_tables_which_are_the_same_each_time(folder, call):
    status, out, err = call(compare.run, f"--results={folder}", "EXP=3,exp_05_made,90", "SETTING=full")
    assert (status, err) == (0, "")
    assert out == f"{folder}/full-mnist/compare-03-05-90.png (also svg, pdf, csv, tex, md)\n"
    files = written(folder)
    assert sorted(files) == [f"compare-03-05-90.{suffix}" for suffix in SUFFIXES]
    call(compare.run, f"--results={folder}", "EXP=90,05,3")
    assert written(folder) == files
    lines = list(csv.DictReader(files["compare-03-05-90.csv"].decode().splitlines()))
    assert [line["experiment"][4:6] for line in lines] == ["05", "05", "03", "03", "90", "90"]
    assert [float(line["difference"]) for line in lines] == pytest.approx([0.1, -0.05, 0.05, -0.05, 0.01, -0.05])
    assert {line["margin"] for line in lines if line["experiment"] == "exp_03_made"} == {"0.02"}
    assert lines[0]["better"] == "higher"


def test_names_are_escaped_in_the_tables(folder, call):
    call(compare.run, f"--results={folder}", "EXP=03")
    files = written(folder)
    markdown, tex = (files[f"compare-03.{suffix}"].decode() for suffix in ("md", "tex"))
    assert "| 50 % \\| &#36;x\\_{2}&#36; \\\\ \\*one\\* &lt;b&gt; | 5 |" in markdown
    assert "does it \\_help\\_?" in markdown
    assert r"50 \% | \$x\_\{2\}\$ \textbackslash{} {*}one{*} <b> & 5 &" in tex
    assert all(line.count("|") - line.count("\\|") == 5 for line in markdown.splitlines() if line.startswith("|"))


def test_without_exp_the_first_claims_are_compared_with_their_verdicts(folder, call):
    status, out, err = call(compare.run, f"--results={folder}")
    assert (status, out.count("\n")) == (0, 1)
    assert err == "full-mnist: left out are 90 (it claims nothing)\n"
    lines = list(csv.DictReader(written(folder)["compare.csv"].decode().splitlines()))
    verdict = judge(Table.read(schema.Files(folder / "full-mnist", "exp_05_made")))[0]
    assert [line["experiment"] for line in lines] == ["exp_05_made", "exp_03_made"]
    assert lines[0]["verdict"] == verdict.status == "supported"
    numbers = [float(lines[0][name]) for name in ("difference", "low", "high")]
    assert numbers == pytest.approx([verdict.difference, verdict.low, verdict.high], rel=1e-4)
    assert lines[0]["quantity"] == "test accuracy"


def test_differences_of_a_claim_of_two_halves_are_as_measured(tmp_path, call):
    half = claim("a overfits less", "a", "b", kind="overfits less", metric="gap", lower_is_better=True, within=0.02)
    made = Made(tmp_path)
    for arm, train in (("a", 0.90), ("b", 0.99)):
        made.add(arm, around(0.85), train_accuracy=[train] * 5)
    made.judge(half)
    call(compare.run, f"--results={tmp_path}")
    lines = list(csv.DictReader((tmp_path / "mnist" / "compare.csv").read_text().splitlines()))
    assert [line["quantity"] for line in lines] == ["gap between training and test accuracy", "test accuracy"]
    assert [float(line["difference"]) for line in lines] == pytest.approx([-0.09, 0.0], abs=1e-9)
    assert [float(line["margin"]) for line in lines] == [0.02, 0.02]


def test_what_intervals_leave_out_stands_below_figure_and_table(tmp_path, call):
    made = Made(tmp_path)
    for arm in ("baseline", "a"):
        made.add(arm, around(0.85), test_nll=[1.0, 1.1, 1.2, 1.3, 1.4])
    made.judge()
    call(compare.run, f"--results={tmp_path}", "EXP=90", "METRIC=test_nll")
    markdown = (tmp_path / "mnist" / "compare-90-test_nll.md").read_text()
    assert "- Of 90: interval over seeds alone: outcomes of the test images are not stored" in markdown


def test_a_metric_may_be_chosen(folder, call):
    status, out, _ = call(compare.run, f"--results={folder}", "EXP=03", "METRIC=seconds")
    assert (status, out.split("/")[-1].split(".")[0]) == (0, "compare-03-seconds")
    lines = list(csv.DictReader(written(folder)["compare-03-seconds.csv"].decode().splitlines()))
    assert [line["arm"] for line in lines] == ["次の腕", EVIL]  # the faster one
    assert float(lines[1]["difference"]) == pytest.approx(1.06)
    status, out, err = call(compare.run, f"--results={folder}", "METRIC=seconds")
    assert (status, out.split("/")[-1].split(".")[0]) == (0, "compare-seconds")
    assert "90 (it claims nothing)" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["METRIC=secnds"], "Received: secnds (did you mean 'seconds'?)"),
        (["METRIC=status"], "METRIC must be a column of numbers"),
        (["METRIC=epochs_to_target"], "METRIC needs a target, which claims alone set"),
        (["EXP=3,077"], "experiment must be one of 00 01"),
        (["EXP=exp_03_l1"], "did you mean 'exp_03_l2'?"),
        (["EXP=,"], "EXP must name experiments by their numbers: EXP=00,03. Received: ,"),
        (["EXP=16,17"], "there are no rows of experiments 16, 17: run first make all EXP=16,17. Received: "),
        (["SETTING=small"], "there are no rows of any experiment in the small setting: run first make exp-NN SETTING=small"),
        (["SETTING=smal"], "did you mean 'small'?"),
    ],
)
def test_what_cannot_be_compared_is_one_line(rows, call, options, message):
    status, out, err = call(compare.run, f"--results={rows}", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_what_is_missing_beside_others_is_told(folder, call):
    status, out, err = call(compare.run, f"--results={folder}", "EXP=03,16")
    assert (status, out.count("\n"), err) == (0, 1, "full-mnist has no rows of 16: make exp-16 SETTING=full\n")
    assert "compare-03.png" in out
    status, out, err = call(compare.run, f"--results={folder}", "EXP=03", "METRIC=test_nll")
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == "full-mnist: left out are 03 (test_nll: some rows lack it)"


def test_damaged_and_copied_rows_are_told_and_the_others_compared(folder, call):
    shutil.copytree(folder / "full-mnist", folder / "full-mnist-copy")
    (folder / "full-mnist" / "exp_05_made.csv").write_text("not,ours\n1,2\n")
    status, out, err = call(compare.run, f"--results={folder}", "EXP=03,05")
    assert status == 1
    assert "full-mnist/compare-03.png" in out
    assert "is left out as a copy" in err
    assert "exp_05_made.csv line 1" in err


def test_experiments_of_different_datasets_and_demonstrations_are_told(folder, call):
    add(folder, "06", 0.99, setting={"dataset": "cifar10"}, demonstration=True)
    call(compare.run, f"--results={folder}", "EXP=03,06")
    markdown = written(folder)["compare-03-06.md"].decode()
    assert "- The experiments are of different datasets: cifar10, mnist." in markdown
    assert "- Demonstrations, which decide no claim." in markdown


def test_numbers_in_a_row_are_a_span_in_the_name_of_the_file():
    assert selection.spans(["00", "01", "02", "03", "05", "07", "08", "09"]) == ["00..03", "05", "07", "08", "09"]
    assert selection.spans([]) == []
