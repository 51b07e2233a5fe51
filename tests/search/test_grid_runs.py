"""End-to-end tests of runs that search a grid of learning rates for each arm."""

import json

import numpy as np
import pytest
from processes import run_here
from searches import NAME, SCRIPT, files_in, rates_of, write

from common.files import read_arrays
from common.rows import store

ANNOUNCED = "12 search trials to run, up to 18 more (not counting wider ranges), then at most 10 with the chosen values"


@pytest.fixture(scope="module")
def tuned_by_grid(tmp_path_factory):
    """A run of all arms: its folder and its output. `trained` in the folder has a line for each call of `train`."""
    folder = tmp_path_factory.mktemp("grid")
    noted = '    with open("TRAINED", "a") as file:\n        print(trial.seed, momentum, learning_rate, file=file)\n'
    text = SCRIPT.replace('    """One arm."""\n', '    """One arm."""\n' + noted.replace("TRAINED", str(folder / "trained")))
    done = run_here(write(folder, text), ["--results", folder / "out", "--jobs", "1"])
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_each_arm_is_trained_at_its_best_rate_and_at_the_common_one(tuned_by_grid):
    folder, _ = tuned_by_grid
    files = files_in(folder / "out")
    trials = store.read_rows(files.trials)
    assert all(row["test_accuracy"] == row["test_nll"] == "" for row in trials)
    assert not list(files.folder.glob("sweep_*predictions*"))
    rates = {float(json.loads(row["arguments"])["learning_rate"]) for row in trials}
    assert rates >= {0.001, 0.01, 0.1}
    means, seeds = {}, {}
    for arm in ("baseline", "momentum"):
        for rate in rates:
            same = [r for r in trials if r["arm"] == arm and json.loads(r["point"]) == {"learning_rate": rate}]
            seeds[arm, rate] = {int(row["seed"]) for row in same}
            few = [r for r in same if int(r["seed"]) < 1002]
            scores = [float(r["val_accuracy" if r["trained"] == "True" else "val_constant"]) for r in few]
            means[arm, rate] = (np.mean(scores), -np.mean([float(r["val_nll"]) for r in few]))
    assert all(of_rate in ({1000, 1001}, {1000, 1001, 1002, 1003, 1004}) for of_rate in seeds.values())
    rows, chosen = store.read_rows(files), rates_of(files)
    for arm in ("baseline", "momentum"):
        assert len(seeds[arm, chosen[arm, "own"]]) == 5  # a contender, see test_grid
        assert means[arm, chosen[arm, "own"]][0] > max(means[arm, rate][0] for rate in rates) - 0.1
        assert chosen[arm, "own"] < max(rates) or max(rates) == 1.0  # not at the edge, or at the limit of the range
    common = max(rates, key=lambda rate: [np.mean([means[arm, rate][i] for arm in ("baseline", "momentum")]) for i in (0, 1)])
    assert chosen["baseline", "common"] == chosen["momentum", "common"] == common
    assert chosen["fixed", "own"] == 0.01
    assert {row["seed"] for row in rows} == {"0", "1"}
    hashes = {row["arm"]: row["search"] for row in rows}
    assert hashes["fixed"] == ""
    assert len(hashes["baseline"]) == 12
    contending = sum(len(of_rate) == 5 for (arm, _), of_rate in seeds.items() if arm == "momentum")
    assert {row["tuning"] for row in rows if (row["arm"], row["rate"]) == ("momentum", "own")} == {
        f"grid of {len(rates)} points, 2 seeds; {contending} of them with 3 more"
    }


def test_a_common_rate_that_is_an_arms_own_is_not_trained_again(tuned_by_grid):
    """Both rows are there, with the same scores, measures and predictions."""
    folder, _ = tuned_by_grid
    files = files_in(folder / "out")
    trained = [line for line in (folder / "trained").read_text().splitlines() if line.split()[0] in ("0", "1")]
    assert len(trained) == len(set(trained))
    rows, rates = store.read_rows(files), rates_of(files)
    equal = [arm for arm in ("baseline", "momentum") if rates[arm, "own"] == rates[arm, "common"]]
    assert equal
    assert len(trained) == len(rows) - 2 * len(equal)
    measures, predictions = store.read_measures(files), read_arrays(files.predictions)
    named = ("rate", "fingerprint", "tuning")
    for arm in equal:
        own, common = ([row for row in rows if (row["arm"], row["rate"]) == (arm, rate)] for rate in ("own", "common"))
        assert [row["fingerprint"] for row in own] != [row["fingerprint"] for row in common]
        own, common = ([{k: v for k, v in row.items() if k not in named} for row in same] for same in (own, common))
        assert own == common
        own, common = (measures[(measures["arm"] == arm) & (measures["rate"] == rate)] for rate in ("own", "common"))
        assert list(own["value"]) == list(common["value"]) == 2 * [rates[arm, "own"]]
        for seed in (0, 1):
            assert (predictions[f"{arm}/{seed}"] == predictions[f"{arm}, common rate/{seed}"]).all()


def test_the_choice_and_its_variance_are_written(tuned_by_grid):
    files = files_in(tuned_by_grid[0] / "out")
    chosen, rates = json.loads(files.tuned.read_text())["arms"], rates_of(files)
    assert {arm: entry["values"] for arm, entry in chosen.items()} == {
        arm: {"learning_rate": rates[arm, "own"]} for arm in ("baseline", "momentum")
    }
    assert all(0 <= entry["tau2"] < 0.1 and entry["trained"] for entry in chosen.values())
    assert {row["tuning"] for row in store.read_rows(files) if row["rate"] == "own" and row["arm"] != "fixed"} == {
        entry["tuning"] for entry in chosen.values()
    }


def test_an_arm_that_trains_at_no_rate_is_reported(tmp_path):
    text = SCRIPT.replace("descend(trial, learning_rate, momentum)", "descend(trial, 0 * learning_rate, momentum)")
    script, out = write(tmp_path, text), tmp_path / "out"
    done = run_here(script, ["--results", out, "--arms", "momentum", "--seeds", "1", "--jobs", "1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "momentum is not trained: it trained at no point of its search" in done.stdout.splitlines()
    assert "momentum did not train in 1 of 1 seed (train accuracy at chance)" in done.stdout.splitlines()
    (row,) = store.read_rows(files_in(out))
    assert row["tuning"].endswith("; none trained")
    entry = json.loads(files_in(out).tuned.read_text())["arms"]["momentum"]
    assert (entry["trained"], entry["tau2"]) == (False, 0)


def test_a_second_run_trains_nothing(tuned_by_grid):
    folder, first = tuned_by_grid
    assert ANNOUNCED in first
    done = run_here(folder / f"{NAME}.py", ["--results", folder / "out", "--jobs", "1"])
    assert "all 10 trials are done" in done.stdout
    assert "search trials" not in done.stdout


def test_a_dry_run_prints_the_search_and_trains_nothing(tmp_path):
    done = run_here(write(tmp_path), ["--results", tmp_path / "out", "--dry"])
    assert (done.returncode, done.stderr) == (0, "")
    assert ANNOUNCED in done.stdout
    assert not list((tmp_path / "out").rglob("*.csv"))
