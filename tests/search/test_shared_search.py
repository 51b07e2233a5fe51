"""End-to-end tests of values that are searched on the first arm for all arms, and of the user's rate in their place."""

import json

import pytest
from processes import run_here
from searches import NAME, SCRIPT, SHARED, files_in, rates_of, write

from common.rows import store


@pytest.fixture(scope="module")
def shared_rate(tmp_path_factory):
    """A run without the first arm: its folder and its output."""
    folder = tmp_path_factory.mktemp("shared")
    options = ["--arms", "baseline,momentum,fixed,apart", "--seeds", "1", "--jobs", "1"]
    done = run_here(write(folder, SHARED), ["--results", folder / "out", *options])
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_a_shared_rate_is_searched_on_the_first_arm_for_all(shared_rate):
    folder, output = shared_rate
    files = files_in(folder / "out")
    trials, rows = store.read_rows(files.trials), store.read_rows(files)
    assert {row["arm"] for row in trials} == {"first", "apart"}  # although the run does not name the first arm
    rates = {arm: rate for (arm, _), rate in rates_of(files).items()}
    assert rates["fixed"] == 0.01  # the arm sets it
    assert rates["baseline"] == rates["momentum"]
    best = {row["point"] for row in trials if (row["arm"], row["seed"]) == ("first", "1004")}
    assert json.dumps({"learning_rate": rates["baseline"]}) in best
    assert rates["apart"] in {json.loads(row["point"])["learning_rate"] for row in trials if row["arm"] == "apart"}
    assert {row["rate"] for row in rows} == {"own"}
    assert f"learning_rate {rates['baseline']:g} for all arms except those below, searched on first: grid of " in output
    assert f"apart: learning_rate {rates['apart']:g} (grid of " in output
    ways = {row["arm"]: row["tuning"] for row in rows}
    assert ways["baseline"].startswith("grid of 3 points")
    assert ways["apart"].startswith("grid of 3 points") and ";" not in ways["apart"].partition(" seeds")[0]
    assert ways["fixed"] == ""
    hashes = {row["arm"]: row["search"] for row in rows}
    assert hashes["baseline"] == hashes["momentum"] != hashes["apart"]
    assert hashes["fixed"] == ""


def test_the_shared_choice_stands_at_the_first_arm(shared_rate):
    files = files_in(shared_rate[0] / "out")
    chosen, rates = json.loads(files.tuned.read_text())["arms"], rates_of(files)
    assert {arm: entry["values"]["learning_rate"] for arm, entry in chosen.items()} == {
        "first": rates["baseline", "own"],
        "apart": rates["apart", "own"],
    }


def test_a_later_run_reuses_the_shared_rate_and_prints_it(shared_rate):
    folder, _ = shared_rate
    done = run_here(folder / f"{NAME}.py", ["--results", folder / "out", "--arms", "momentum", "--seeds", "1"])
    assert "search trials" not in done.stdout
    assert "for all arms, searched on first: " in done.stdout
    assert "all 1 trials are done" in done.stdout


def test_a_dry_run_counts_the_shared_search(tmp_path):
    done = run_here(write(tmp_path, SHARED), ["--results", tmp_path / "out", "--dry"])
    # 3 rates with 2 seeds; then 9 trials of contenders, and 6 + 9 for the arm with a separate search.
    announced = "6 search trials to run, up to 24 more (not counting wider ranges), then at most 10 with the chosen values"
    assert announced in done.stdout


def test_a_smoke_run_skips_the_shared_search(tmp_path):
    done = run_here(write(tmp_path, SHARED), ["--results", tmp_path / "out", "--smoke", "--arms", "baseline", "--dry"])
    assert "search trials" not in done.stdout
    assert "learning_rate 0.0949 for all arms, not searched" in done.stdout
    assert "1 of 1 trials to run" in done.stdout


# --- RATE ---


def test_the_users_rate_replaces_searched_ones_in_a_separate_folder(tmp_path):
    options = ["--rate", "0.05", "--seeds", "1", "--jobs", "1"]
    done = run_here(write(tmp_path, SHARED), ["--results", tmp_path / "out", *options])
    assert "search trials" not in done.stdout
    assert "learning_rate 0.05 for all arms that search one, set by RATE" in done.stdout
    files = files_in(tmp_path / "out", "quick-digits-rate=0.05")
    rates = {"first": 0.05, "apart": 0.05, "baseline": 0.05, "momentum": 0.05, "fixed": 0.01}
    assert rates_of(files) == {(arm, "own"): rate for arm, rate in rates.items()}
    assert json.loads(files.declaration.read_text())["demonstration"]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_positive_number(tmp_path, text):
    done = run_here(write(tmp_path, SHARED), ["--results", tmp_path / "out", f"--rate={text}"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"{NAME}: rate must be a finite number above 0. Received: {text}"]


def test_a_rate_of_an_experiment_that_searches_none_is_refused(tmp_path):
    text = SCRIPT.replace('search={"learning_rate"', 'search={"other"').replace(
        "learning_rate):", "learning_rate=0.1, other=0.1):"
    )
    done = run_here(write(tmp_path, text), ["--results", tmp_path / "out", "--rate", "0.1"])
    assert done.returncode == 2
    assert done.stderr.startswith(f"{NAME}: RATE replaces a searched learning rate, and this experiment searches none.")
