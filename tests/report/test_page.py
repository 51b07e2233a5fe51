"""The report: what is in it, that nothing in rows can break it, and that it works in a browser without a network."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from made import CHECKSUM, SPREAD, Made, around, claim, declared

from common.commands import report
from common.errors import Failure
from common.report import markdown, page
from common.report.section import Section
from common.rows import schema, store
from common.rows.table import Table
from common.verdicts import summary
from common.verdicts.judge import judge
from common.verdicts.verdict import REFUTED, SUPPORTED

EVIL = "</script><script>alert(1)</script> & <b>"
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CLASSES = [EVIL, "$x_{2}$", "%&", "a\\frac", "飞机", *(f"a long name, that of class {number}" for number in range(5, 10))]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What a process would print to stderr.
pytestmark = [pytest.mark.filterwarnings(f"error::{kind}Warning") for kind in ("User", "Runtime", "Future")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A results folder without a report, not to be written to."""
    folder = tmp_path_factory.mktemp("rows")
    made = Made(folder)
    made.add("a", around(0.95))
    made.add(EVIL, around(0.85))
    made.add("diverging", around(0.1), statuses={1: "diverged"})
    declaration = {
        "arms": made.arms,
        "claims": [claim(better="a", worse=EVIL), claim(f"{EVIL} is best", EVIL, "a")],
        "question": f"is {EVIL} well?",
        "doc": "Exp 90: is it?\n\nVaries   nothing much,\n         really.\nFixed    all.\nExpect   no alert."
        "\nMeasure  little.\n\nMore.",
        "setting": {"dataset": "mnist"},
        "baseline": EVIL,
        "seeds": 5,
        "class_names": {schema.labels_key(CHECKSUM): CLASSES},
    }
    store.write_declaration(made.files, declared(**declaration))
    return folder


@pytest.fixture(scope="module")
def built(rows, tmp_path_factory):
    """A copy of the results folder with its report, not to be written to."""
    folder = tmp_path_factory.mktemp("built") / "results"
    shutil.copytree(rows, folder)
    assert page.build(folder) == (folder / "index.html", [])
    return folder


@pytest.fixture
def folder(rows, tmp_path):
    """A copy of the results folder."""
    return shutil.copytree(rows, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def reported(built, tmp_path):
    """A copy of the results folder with its report."""
    return shutil.copytree(built, tmp_path, dirs_exist_ok=True)


def in_a_process(folder):
    """`make report` in a separate process."""
    command = [sys.executable, "-m", "common.commands.report", "--results", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def test_the_summary_is_what_a_reader_would_compute(rows):
    table = Table.read(schema.Files(rows / "mnist", "exp_90_made"))
    lines = summary.summarize(table).set_index("arm")
    assert lines.loc["a", "score"] == pytest.approx(0.95)
    assert lines.loc["a", "deviation"] == pytest.approx(np.std(SPREAD, ddof=1))
    assert lines.loc["a", "difference"] == pytest.approx(0.1)
    assert lines.loc["a", "difference_low"] < 0.1 < lines.loc["a", "difference_high"]
    assert np.isnan(lines.loc[EVIL, "difference"])
    assert lines.loc["diverging", "diverged"] == 1
    verdicts = judge(table)
    assert summary.answer(table, lines.reset_index(), verdicts) == verdicts[0].sentence()


def test_any_two_arms_are_compared_and_their_order_only_turns_the_sign(rows):
    found = summary.contrasts(Table.read(schema.Files(rows / "mnist", "exp_90_made")))
    assert len(found) == 6
    difference, low, high = found["a", EVIL]
    assert difference == pytest.approx(0.1)
    assert found[EVIL, "a"] == (-difference, -high, -low)


def test_without_claims_the_answer_is_the_means_of_the_arms(rows):
    table = Table.read(schema.Files(rows / "mnist", "exp_90_made"))
    said = summary.answer(table, summary.summarize(table), [])
    assert said.startswith("Mean test accuracy over 5 seeds (95 % interval): a 0.9500 (0.9")


def test_an_arm_at_the_common_rate_follows_the_arm_at_its_rate(tmp_path):
    made = Made(tmp_path)
    for arm in ("b", "a"):
        made.add(arm, around(0.85))
        made.add(arm, around(0.80), rate=[schema.COMMON] * 5)
    made.judge()
    lines = markdown.arms(Section(Table.read(made.files), []))
    assert [line.split(" | ")[0].strip("| ") for line in lines[-4:]] == ["b", "b, common rate", "a", "a, common rate"]


def test_what_disagrees_and_what_is_missing_is_told(folder, call):
    files = schema.Files(folder / "mnist", "exp_90_made")
    declaration = store.read_declaration(files)
    declaration["claims"] += [claim("c beats a", "c", "a"), claim("a much beats it", "a", EVIL, margin=0.2)]
    declaration["arms"] |= {"c": {}, "d": {}}
    store.write_declaration(files, declared(**declaration))
    for seed, status in enumerate(("failed", "unavailable", "unavailable")):
        row = {"experiment": files.experiment, "arm": "c", "seed": seed, "status": status, "reason": f"{status} because"}
        store.store(files, store.Outcome(row=row), list(declaration["arms"]))
    (section,), found, _ = page.read(folder)
    lines = page.missing([section])
    assert lines[0].startswith("experiments without rows: exp_00_noise_floor, exp_01_baseline_cnn, ")
    assert lines[1:] == [
        "mnist/exp_90_made: arms without rows: d",
        "mnist/exp_90_made: 1 trial failed: c (failed because)",
        "mnist/exp_90_made: 2 trials unavailable: c (unavailable because)",
        "mnist/exp_90_made: 1 of 4 claims without a verdict: c beats a, by at least 0.02 (no rows of 'c': failed)",
    ]
    said = [entry.verdict.instead for entry in found if entry.verdict.status == REFUTED]
    assert said == ["the reverse is true", "it does, by less"]
    call(report.run, "--results", folder)
    disagreeing = (folder / "index.html").read_text().partition('id="disagreeing"')[2].partition("</details>")[0]
    assert "(the reverse is true). " in disagreeing
    assert "no alert." in disagreeing
    assert "Expected: no alert." in (folder / "REPORT.md").read_text()


def test_an_experiment_that_cannot_run_here_at_all_is_shown_as_such(tmp_path):
    files = schema.Files(tmp_path / "digits", "exp_90_made")
    row = {"experiment": files.experiment, "arm": "a", "seed": 0, "status": "unavailable", "reason": "needs a GPU"}
    store.store(files, store.Outcome(row=row), ["a"])
    declaration = {
        "arms": {"a": {}, "b": {}},
        "claims": [claim()],
        "question": "?",
        "baseline": "a",
        "figures": ["steps", "mistakes"],
    }
    store.write_declaration(files, declared(**declaration))
    done = in_a_process(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "index.html").read_text()
    assert ": a beats b, by at least 0.02. No rows of &#39;a&#39;: unavailable." in text
    assert "1 trial unavailable: a (needs a GPU)" in text


@pytest.fixture
def angles(tmp_path):
    """A regression: errors in degrees, of two networks and of a predictor that has no steps, epochs or parameters."""
    files = schema.Files(tmp_path / "digits", "exp_91_angles")
    arms = {"network": {"width": 8}, "constant": {}, "wide": {"width": 16}}
    for seed in range(5):
        for arm, error in (("network", 4.0), ("constant", 9.0), ("wide", 3.0)):
            identity = {"experiment": files.experiment, "arm": arm, "seed": seed}
            row = {**identity, "status": "done", "test_size": 90, "fingerprint": f"{arm}{seed}", "total_seconds": 2.0}
            row |= {
                f"{split}_error": error + SPREAD[(seed + len(arm)) % 5] + (split == "test") for split in ("train", "val", "test")
            }
            epochs = []
            if arm != "constant":
                row |= {"parameters": 10 * len(arm), "steps": 50, "final_epoch": 5, "train_seconds": 1.0, "beside": 0}
                epochs = [{**identity, "stage": "fit", "epoch": e, "train_loss": 1 / e, "val_error": 20 / e} for e in range(1, 6)]
            store.store(files, store.Outcome(row=row, epochs=epochs), list(arms))
    family = {"kind": "best of family", "margin": 0.5}
    claims = [
        claim("a network beats a constant", "network", "constant", margin=0.5, metric="test_error", lower_is_better=True),
        claim("a constant is not worse", "constant", "network", margin=0.5, metric=None, kind="not worse"),
        claim("the best network beats a constant", ["network", "wide"], "constant", metric=None, **family),
    ]
    task = {"name": "rotated", "metric": "error", "lower_is_better": True, "unit": "degrees"}
    declaration = {"arms": arms, "claims": claims, "question": "which way up?", "baseline": "constant", "task": task}
    store.write_declaration(files, declared(**declaration, figures=["steps", "mistakes"]))
    return tmp_path


def test_a_task_with_a_metric_of_its_own_is_judged_drawn_and_told_by_it(angles, call):
    (section,), found, broken = page.read(angles)
    assert broken == []
    assert [entry.verdict.status for entry in found] == [SUPPORTED, REFUTED, SUPPORTED]
    assert [entry.verdict.difference for entry in found] == pytest.approx([5.0, -5.0, 6.0])
    assert found[2].verdict.judged == "means over seeds, wide, one of 2"
    said = "Supported: a network beats a constant, by at least 0.5 degrees. Test error -5.00 degrees (99 % interval -5."
    assert section.answer.startswith(said)
    assert section.summary["gap"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    status, _, err = call(report.run, "--results", angles)
    assert (status, err) == (0, "")
    drawn = {path.stem.removeprefix("exp_91_angles_") for path in (angles / "digits").glob("exp_*.png")}
    assert drawn == {"accuracy", "curves", "verdicts", "parameters", "seconds", "steps"}
    assert "test error (degrees)" in (angles / "index.html").read_text()
    assert "| arm | seeds | test error (degrees), mean ± standard deviation |" in (angles / "REPORT.md").read_text()
    assert (angles / "digits" / "exp_91_angles_summary.csv").read_text().startswith("arm,seeds,diverged,test_error,")


def test_steps_to_an_error_are_those_until_it_is_low_enough(angles):
    table = Table.read(schema.Files(angles / "digits", "exp_91_angles"))
    # The error of epoch e is 20 / e, 10 updates each.
    assert table.metric("steps_to_target").value(table, "wide", 0, 7.0) == 30
    assert table.metric("epochs_to_target").value(table, "wide", 0, 1.0) == np.inf


def test_an_error_is_judged_over_images_where_angles_are_kept(angles):
    files = schema.Files(angles / "digits", "exp_91_angles")
    table = Table.read(files)
    truth = np.array([1.0, -2.0, 3.0], np.float32)
    table.arrays |= {schema.labels_key("nan"): truth, "wide/0": truth + 2, "network/0": -truth}
    assert table.by_image("wide", 0).tolist() == [2, 2, 2]
    assert table.by_image("network", 0).tolist() == [2, 4, 6]
    assert table.by_image("constant", 0) is None
    assert table.labels("wide", 0) is None


def test_tables_for_papers_and_spreadsheets(built):
    tex = (built / "mnist" / "exp_90_made_summary.tex").read_text()
    assert tex.count(r"\\") == 4
    assert r"\& <b> & 5 & 0.8500" in tex
    assert r"</script>" in (built / "mnist" / "exp_90_made_summary.csv").read_text()
    markdown = (built / "REPORT.md").read_text()
    assert "| a | 5 | 0.9500 ± " in markdown
    assert "<script>" not in markdown
    assert "![curves](mnist/exp_90_made_curves.png)" in markdown


def test_the_page_is_one_file_and_escapes_what_rows_say(built):
    text = (built / "index.html").read_text()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text.partition('<script id="plotly"')[0])
    assert "@import" not in text
    assert text.count('id="mnist/exp_90_made/a-beats-b"') == text.count('href="#mnist/exp_90_made/a-beats-b"') == 1
    assert "nothing much, really." in text
    assert len(text) < 6_000_000


def test_the_report_opens_with_the_answers_and_shows_each_figure_once(built):
    text = (built / "index.html").read_text()
    parts = ("<dt>answers</dt><dd>1 supported</dd>", 'id="answers"', 'alt="mnist: first claims"', "<table", 'class="experiment"')
    places = [text.index(part) for part in (*parts, '<details class="below" id="ledger"><summary>')]
    assert places == sorted(places)
    assert "<dt>all claims</dt><dd>1 supported, 1 refuted</dd>" in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(set(images)) == len(images) > 3
    assert all('loading="lazy"' in image for image in images)
    lines = (built / "REPORT.md").read_text().splitlines()
    opening = ["- answers: 1 supported", "## Answers", "![Effects in mnist](mnist/compare.png)", "## exp_90_made, mnist"]
    places = [lines.index(line) for line in (*opening, "<details><summary>All 2 claims, those refuted first</summary>")]
    assert places == sorted(places)
    assert any(line.startswith("| [exp_90_made](#exp_90_made-mnist) | mnist | Supported: a beats b") for line in lines)


def test_demonstrations_are_counted_and_shown_apart(tmp_path, call):
    for name, demonstration in (("exp_90_made", False), ("exp_91_shown", True)):
        made = Made(tmp_path)
        made.files = schema.Files(tmp_path / name, name)
        made.add("a", around(0.95))
        made.add("b", around(0.85))
        store.write_declaration(made.files, declared(arms=made.arms, claims=[claim()], demonstration=demonstration))
    assert call(report.run, "--results", tmp_path)[0] == 0
    text = (tmp_path / "index.html").read_text()
    assert "<dt>demonstrations</dt><dd>1 supported</dd>" in text
    first, second = text.partition('id="demonstrations"')[::2]
    assert first.count("<details open><summary>Effects in exp_90_made</summary>") == 1
    assert second.count("<details><summary>Effects in exp_91_shown</summary>") == 1
    assert "Supported (demonstration): a beats b" not in re.sub("<[^>]+>", "", first)


def test_a_second_report_redraws_nothing_and_is_the_same(reported, call):
    figure = reported / "mnist" / "exp_90_made_curves.png"
    drawn = figure.stat().st_mtime_ns
    call(report.run, "--results", reported)  # the page names its folder
    before = (reported / "index.html").read_bytes()
    (reported / "index.html").unlink()
    call(report.run, "--results", reported)
    assert (reported / "index.html").read_bytes() == before
    assert figure.stat().st_mtime_ns == drawn


def test_figures_as_svg_are_drawn_where_the_report_is_asked_for_them(reported, call):
    assert [path.name for path in reported.rglob("*.svg")] == ["compare.svg"]  # as `make compare` draws it
    call(report.run, "--results", reported, "--svg")
    assert {path.stem for path in reported.rglob("*.svg")} == {path.stem for path in reported.rglob("*.png")}


BROKEN = {
    "cut in half": (lambda text: text[: len(text) // 2], "line is incomplete|fields instead of"),
    "wrong columns": (lambda text: text.replace("status", "stature", 1), "unknown 'stature'"),
    "someone else's": (lambda text: "name,age\nx,3\n", "the columns must be those of this version"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_file_is_one_line_and_the_rest_is_built(reported, call, kind):
    spoil, said = BROKEN[kind]
    other = schema.Files(reported / "mnist", "exp_91_other")
    for path in sorted((reported / "mnist").glob("exp_90_made*")):
        shutil.copy(path, path.with_name(path.name.replace("exp_90_made", "exp_91_other")))
    other.rows.write_text(spoil(other.rows.read_text()))
    status, _, err = call(report.run, "--results", reported)
    assert status == 1
    (line,) = err.splitlines()
    assert re.search(said, line)
    assert re.search(r"exp_91_other\.csv line \d+", line)
    text = (reported / "index.html").read_text()
    assert "exp_91_other.csv line" in text
    assert 'id="mnist/exp_90_made"' in text


def test_an_empty_file_is_an_experiment_without_rows(folder, call):
    other = schema.Files(folder / "mnist", "exp_91_other")
    shutil.copy(folder / "mnist" / "exp_90_made.json", other.declaration)
    other.rows.write_text("")
    status, _, err = call(report.run, "--results", folder)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "exp_91_other.csv line 1" in err


def test_no_rows_at_all_is_one_line(tmp_path):
    done = in_a_process(tmp_path)
    assert (done.returncode, done.stderr) == (2, f"no experiment has rows: run one first (make exp-NN). Received: {tmp_path}\n")


PARTS = {"one": ["| new |"], "two": ["also", "new"]}


def test_a_generated_part_stands_between_its_markers():
    one, two = markdown.BEGIN.format("one"), markdown.BEGIN.format("two")
    text = f"before\n{one}\nold\n{markdown.END}\nbetween\n{two}\n{markdown.END}\nafter\n"
    expected = f"before\n{one}\n\n| new |\n\n{markdown.END}\nbetween\n{two}\n\nalso\nnew\n\n{markdown.END}\nafter\n"
    assert markdown.regenerated(text, PARTS, "page.md") == expected
    assert markdown.regenerated(expected, PARTS, "page.md") == expected
    assert markdown.regenerated("no part", PARTS, "page.md") == "no part"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{one}\nold\n", "page.md: each"),
        ("old\n{end}\n", "page.md: each"),
        ("{one}\nold\n{one}\nold\n{end}\n", "page.md: each"),
        ("{three}\nold\n{end}\n", "page.md: a generated part must be one that common/commands/report.py knows. Received: three"),
    ],
)
def test_markers_that_generate_nothing_are_refused(text, said):
    markers = {name: markdown.BEGIN.format(name) for name in ("one", "three")}
    with pytest.raises(Failure, match=re.escape(said)):
        markdown.regenerated(text.format(**markers, end=markdown.END), PARTS, "page.md")


def test_readmes_answers_are_a_line_for_each_experiment_whose_rows_decide_and_one_for_the_others_of_a_family(tmp_path):
    for name, demonstration in (("exp_02_shown", True), ("exp_24_shown", True), ("exp_90_made", False), ("exp_91_shown", True)):
        made = Made(tmp_path)
        made.files = made.files._replace(experiment=name)
        made.add("a", around(0.95))
        made.add("b", around(0.85))
        claims = [claim(), claim("b beats a", "b", "a")]
        store.write_declaration(made.files, declared(arms=made.arms, claims=claims, demonstration=demonstration))
    sections, _, _ = page.read(tmp_path)
    _, _, *lines = markdown.answers(sections)
    (section,) = (section for section in sections if not section.demonstration)
    assert lines == [
        "| Loss functions |  | not run yet: [02](experiments/exp_02_shown.py), [24](experiments/exp_24_shown.py) |",
        f"| Others | [90](experiments/exp_90_made.py) | mnist: {section.verdicts[0].sentence()} |",
        "|  |  | not run yet: [91](experiments/exp_91_shown.py) |",
    ]


def test_the_report_says_which_rows_are_of_an_earlier_protocol(tmp_path):
    for name, protocol in (("exp_90_made", 3), ("exp_91_earlier", 1)):
        made = Made(tmp_path)
        made.files = made.files._replace(experiment=name)
        made.add("a", around(0.95), protocol=[protocol] * 5)
        store.write_declaration(made.files, declared(arms=made.arms))
    sections, found, broken = page.read(tmp_path)
    first, second = markdown.page(sections, found, broken).split("## exp_91_earlier")
    assert "protocol" not in first
    assert "These rows were made under protocol 1, before 3: they are to be made again." in second


def test_readme_docs_and_the_published_report_are_what_rows_and_code_say():
    report.check()  # raises Failure where they are not


def test_a_page_that_was_edited_by_hand_is_named(monkeypatch):
    stale = PROJECT / "docs" / "options.md"
    text = stale.read_text(encoding="utf-8")
    monkeypatch.setattr(report, "generated", lambda: {stale: text + "more\n", PROJECT / "README.md": README})
    with pytest.raises(Failure, match=r"make report RESULTS=results/reference\. Received: docs/options\.md$"):
        report.check()


# --- in a browser ---


@pytest.fixture
def browser():
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with its ChromeDriver is installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ("disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    for option in ("headless=new", "no-sandbox", "window-size=1200,1000", *quiet):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except WebDriverException as error:
        pytest.skip(f"the browser does not start: {error.msg.splitlines()[0]}")
    yield started
    started.quit()


def test_the_page_works_from_disk_without_a_network(built, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    def arms_of(rows):
        return [row.get_attribute("data-arm") for row in rows]

    def find(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(condition):
        WebDriverWait(browser, 30).until(lambda _: condition())

    browser.set_window_size(1500, 1000)
    browser.get((built / "index.html").as_uri())
    contents, header = find("#contents")[0], find("header")[0]
    assert contents.rect["x"] + contents.rect["width"] <= header.rect["x"]
    browser.set_window_size(1200, 1000)
    wait(lambda: not contents.is_displayed())
    assert not find("#ledger .wide")[0].is_displayed()  # folded
    browser.execute_script("location.hash = 'mnist/exp_90_made/a-beats-b'")
    ledger = find("#ledger .wide")[0]
    wait(ledger.is_displayed)
    assert int(ledger.get_property("scrollWidth")) <= int(ledger.get_property("clientWidth"))  # no column is cut off
    browser.execute_script("document.querySelector('.dots').scrollIntoView()")
    wait(lambda: len(find(".dots .point")) == 15)

    find(".experiment th button")[0].click()
    arms = [row.find_element(By.TAG_NAME, "td").text for row in find(".experiment .wide tbody tr")]
    assert arms == sorted(arms, key=str.lower)
    header = find(".experiment th")[3]
    header.find_element(By.TAG_NAME, "button").click()
    scores = [row.find_elements(By.TAG_NAME, "td")[3].text for row in find(".experiment .wide tbody tr")]
    assert scores == sorted(scores, key=float)
    assert header.get_attribute("aria-sort") == "ascending"
    assert "sort=" in browser.current_url

    def differences():
        return [row.find_elements(By.TAG_NAME, "td")[5].text for row in find(".arms tbody tr")]

    assert sorted(differences())[0] == ""  # the baseline against itself
    Select(find(".against select")[0]).select_by_visible_text("a")
    against = dict(zip(arms_of(find(".arms tbody tr")), differences(), strict=True))
    assert (against["a"], against[EVIL]) == ("", "-0.1000")
    assert "against=" in browser.current_url

    browser.execute_script("document.querySelector('.dots').emit('plotly_click', {points: [{customdata: ['a', 2]}]})")
    trial = find(".trial")[0]
    wait(trial.is_displayed)
    assert "a, seed 2" in trial.text
    assert "make reproduce ROW=a2" in trial.text
    for cells in (".trial .confusion tr:first-child th", ".trial .confusion th:first-child"):
        assert [cell.get_property("textContent") for cell in find(cells)] == ["", *CLASSES]
    (root,) = find("html")
    assert root.get_property("scrollWidth") <= root.get_property("clientWidth")  # however long they are
    assert sum(int(c.text) for c in find(".trial .confusion td") if c.text != "·") == 400

    find("#filter")[0].send_keys("supported a beats")
    wait(lambda: [row.is_displayed() for row in find("#ledger tbody tr")] == [True, False])
    url = browser.current_url
    browser.get("about:blank")
    browser.get(url)
    wait(lambda: find(".trial")[0].is_displayed() or "seed 2" in find(".trial")[0].get_attribute("textContent"))
    assert [row.is_displayed() for row in find("#ledger tbody tr")] == [True, False]
    assert Select(find(".against select")[0]).first_selected_option.get_attribute("textContent") == "a"
    assert dict(zip(arms_of(find(".arms tbody tr")), differences(), strict=True)) == against

    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:", "about:"))]


def test_on_a_phone_the_page_does_not_scroll_sideways_and_filters_as_well(built, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(500, 1000)
    browser.get((built / "index.html").as_uri())
    root = browser.find_element(By.TAG_NAME, "html")
    sentence = browser.find_element(By.CSS_SELECTOR, ".verdicts li")
    browser.execute_script("arguments[0].append('x'.repeat(200))", sentence)  # as the path in a reason
    assert int(root.get_property("scrollWidth")) <= int(root.get_property("clientWidth")) < 640
    browser.find_element(By.ID, "filter").send_keys("supported a beats")
    rows = browser.find_elements(By.CSS_SELECTOR, "#ledger tbody tr")
    WebDriverWait(browser, 30).until(lambda _: [row.is_displayed() for row in rows] == [True, False])


def test_of_the_published_rows_readmes_figure_is_drawn_too(reported, call, monkeypatch):
    monkeypatch.setattr(schema, "REFERENCE", reported.resolve())
    monkeypatch.setattr(report, "generated", dict)
    assert call(report.run, f"--results={reported}")[0] == 0
    assert (reported / "mnist" / "compare.png").exists()


def test_the_report_for_a_code_host_says_what_diverged_and_what_failed(tmp_path):
    made = Made(tmp_path)
    made.add("baseline", around(0.8))
    made.add("A|B *x*", [0.8, 0.8, 0.1, 0.8, 0.1], statuses={2: "diverged", 4: "diverged"})
    made.add("broken", around(0.8), statuses=dict.fromkeys(range(5), "failed"), reason=["out of memory"] * 5)
    made.judge()
    sections, entries, broken = page.read(made.files.folder.parent)
    written = markdown.page(sections, entries, broken, figures=False)
    assert "| A\\|B \\*x\\* | 5 (2 diverged) | " in written
    assert "- 5 trials failed: broken (out of memory)" in written
