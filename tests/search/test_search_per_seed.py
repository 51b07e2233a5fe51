"""Runs in which each seed of an arm has a search of its own."""

import json

import pytest
from processes import run_here
from searches import NAME, SCRIPT, files_in, write

from common.errors import Misuse
from common.rows import store
from common.running import scripts

PER_SEED = SCRIPT.replace("    seeds=2,", '    tuner="random",\n    points=3,\n    search_per_seed=True,\n    seeds=2,')
OPTIONS = ["--arms", "momentum,fixed", "--jobs", "1"]


def rates(out, arm="momentum"):
    """Seed -> learning rate of an arm's row."""
    rows = [row for row in store.read_rows(files_in(out)) if row["arm"] == arm]
    return {int(row["seed"]): json.loads(row["arguments"])["learning_rate"] for row in rows}


def test_each_seed_is_trained_with_the_best_point_of_a_search_of_its_own(tmp_path):
    script, out = write(tmp_path, PER_SEED), tmp_path / "out"
    first = run_here(script, ["--results", out, *OPTIONS, "--dry"])
    assert "8 search trials to run, then at most 4 with the chosen values" in first.stdout
    done = run_here(script, ["--results", out, *OPTIONS])
    assert (done.returncode, done.stderr) == (0, "")
    trials = store.read_rows(files_in(out).trials)
    assert {row["arm"] for row in trials} == {"momentum"}
    for seed in (0, 1):  # the default rate and three points, trained with a seed of the search alone
        scores = {
            json.loads(r["point"])["learning_rate"]: float(r["val_accuracy"]) for r in trials if r["seed"] == str(1000 + seed)
        }
        assert len(scores) == 4
        assert scores[rates(out)[seed]] == max(scores.values())
        assert f"momentum, seed {seed}: learning_rate {rates(out)[seed]:g}" in done.stdout
    assert len({row["point"] for row in trials}) == 7  # the default rate is in both
    assert set(rates(out, "fixed").values()) == {0.01}
    ways = {row["arm"]: row["tuning"] for row in store.read_rows(files_in(out))}
    assert ways == {"momentum": "random, 3 points for each seed", "fixed": ""}
    assert json.loads(files_in(out).tuned.read_text())["arms"] == {}  # their seeds vary with the search: nothing to add
    before = store.read_rows(files_in(out))
    fewer = run_here(script, ["--results", out, *OPTIONS, "--seeds", "1"])
    assert "all 2 trials are done" in fewer.stdout
    more = run_here(script, ["--results", out, *OPTIONS, "--seeds", "3"])
    assert "2 of 6 trials to run" in more.stdout
    assert [row for row in store.read_rows(files_in(out)) if row["seed"] != "2"] == before


def test_a_search_per_seed_needs_a_tuner_other_than_the_grid(tmp_path):
    with pytest.raises(
        Misuse, match=rf"{NAME}: search_per_seed is for arms with a separate search by a tuner other than the grid"
    ):
        scripts.read_script(write(tmp_path, PER_SEED.replace('    tuner="random",\n', "")))
