"""End-to-end tests of searches, by grid and by the oracles of keras-tuner, also killed and resumed ones."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from conftest import PROJECT
from processes import wait_until_gone, workers_of
from scipy.stats import qmc

from common import machine, space, tasks
from common.errors import Failure
from common.rows import schema, store
from common.search import sweep
from common.search.oracles import Searcher
from common.space import choice, log_range

SCRIPT = '''"""Exp 92: does a search survive?

Varies   the optimizer.
Fixed    all else.
Expect   equal points.
"""
from keras import optimizers

from common.experiment import Experiment, Setting
from common.models import small_cnn
from common.space import choice, log_range

ARMS = {"baseline": {"momentum": 0.0}, "momentum": {"momentum": 0.9}, "fixed": {"momentum": 0.9, "learning_rate": 0.01}}


def train(trial, *, momentum, learning_rate):
    """One arm."""
    model = small_cnn(trial, widths=(4, 8))
    return trial.fit(model, optimizer=optimizers.SGD(learning_rate, momentum=momentum))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.001, 0.1, points=3, limits=(0.001, 1.0), default=0.02)},
    setting=Setting("digits", epochs=3, batch_size=16, train_size=60),
    seeds=2,
)
'''
NAME = "exp_92_search"


def write(folder, text=SCRIPT):
    path = folder / f"{NAME}.py"
    path.write_text(text)
    return path


def start(script, out, *options):
    command = [sys.executable, "-m", "common.commands.run", str(script), "--results", str(out), "--jobs", "1", *options]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=PROJECT)


def run(script, out, *options, status=0):
    """Run a script. Returns its stdout and stderr."""
    process = start(script, out, *options)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, output + errors
    return output, errors


def table(out):
    with (out / "quick-digits" / "sweep_92_search.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def points(out):
    """The columns of the table that must not depend on kills."""
    names = (
        "arm",
        "tuner",
        "sweep",
        "point",
        "untuned",
        "learning_rate",
        "epochs",
        "seed",
        "status",
        "score",
        "nll",
        "fingerprint",
    )
    return [[row[name] for name in names] for row in table(out)]


# --- the grid ---


@pytest.fixture(scope="module")
def tuned_by_grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    output, errors = run(write(folder), folder / "out")
    assert errors == ""
    return folder, output


def test_each_arm_is_trained_at_its_best_rate_and_at_the_common_one(tuned_by_grid):
    folder, _ = tuned_by_grid
    out = folder / "out" / "quick-digits"
    trials = store.read_rows(schema.Files(out, "sweep_92_search_trials"))
    assert all(row["test_accuracy"] == row["test_nll"] == row["best_test_accuracy"] == "" for row in trials)
    assert not list(out.glob("sweep_*predictions*"))
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
    rows = store.read_rows(schema.Files(out, NAME))
    chosen = {(row["arm"], row["rate"]): float(json.loads(row["arguments"])["learning_rate"]) for row in rows}
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


def test_a_second_run_trains_nothing(tuned_by_grid):
    folder, first = tuned_by_grid
    assert "12 search trials to run, up to 18 more for the best of them, then at most 10 with the chosen values" in first
    output, _ = run(folder / f"{NAME}.py", folder / "out")
    assert "all 10 trials are done" in output
    assert "search trials" not in output


def test_a_dry_run_prints_the_search_and_trains_nothing(tmp_path):
    output, _ = run(write(tmp_path), tmp_path / "out", "--dry")
    assert "12 search trials to run, up to 18 more for the best of them, then at most 10 with the chosen values" in output
    assert not list((tmp_path / "out").rglob("*.csv"))


# --- the shared search ---

SHARED = SCRIPT.replace(
    'search={"learning_rate": log_range(0.001, 0.1, points=3, limits=(0.001, 1.0), default=0.02)}',
    'search=shared(learning_rate=log_range(0.03, 0.3), arms={"apart": {"learning_rate": APART}})',
).replace("import Experiment, Setting", "import Experiment, Setting, shared")
SHARED = SHARED.replace('ARMS = {"baseline"', 'ARMS = {"first": {"momentum": 0.5}, "apart": {"momentum": 0.9}, "baseline"')
SHARED = SHARED.replace("\n\ndef train", "\nAPART = log_range(0.1, 0.3, limits=(0.1, 0.3))\n\n\ndef train", 1)
SHARED = SHARED.replace("    arms=ARMS,", '    arms=ARMS,\n    baseline="first",')


@pytest.fixture(scope="module")
def shared_rate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    output, errors = run(write(folder, SHARED), folder / "out", "--arms", "baseline,momentum,fixed,apart", "--seeds", "1")
    assert errors == ""
    return folder, output


def rates_of(rows):
    return {row["arm"]: json.loads(row["arguments"])["learning_rate"] for row in rows}


def test_a_shared_rate_is_searched_on_the_first_arm_for_all(shared_rate):
    folder, output = shared_rate
    files = schema.Files(folder / "out" / "quick-digits", NAME)
    trials, rows = store.read_rows(files.trials), store.read_rows(files)
    assert {row["arm"] for row in trials} == {"first", "apart"}  # although the run does not name the first arm
    rates = rates_of(rows)
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


def test_a_later_run_reuses_the_shared_rate_and_prints_it(shared_rate):
    folder, _ = shared_rate
    output, _ = run(folder / f"{NAME}.py", folder / "out", "--arms", "momentum", "--seeds", "1")
    assert "search trials" not in output
    assert "for all arms, searched on first: " in output
    assert "all 1 trials are done" in output


def test_a_dry_run_counts_the_shared_search(tmp_path):
    output, _ = run(write(tmp_path, SHARED), tmp_path / "out", "--dry")
    # 3 rates with 2 seeds; then 9 trials of contenders, and 6 + 9 for the arm with a separate search.
    assert "6 search trials to run, up to 24 more for the best of them, then at most 10 with the chosen values" in output


def test_the_users_rate_replaces_searched_ones_in_a_separate_folder(tmp_path):
    output, _ = run(write(tmp_path, SHARED), tmp_path / "out", "--rate", "0.05", "--seeds", "1")
    assert "search trials" not in output
    assert "learning_rate 0.05 for all arms that search one, set by RATE" in output
    files = schema.Files(tmp_path / "out" / "quick-digits-rate=0.05", NAME)
    assert rates_of(store.read_rows(files)) == {"first": 0.05, "apart": 0.05, "baseline": 0.05, "momentum": 0.05, "fixed": 0.01}
    assert json.loads(files.declaration.read_text())["demonstration"]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_positive_number(tmp_path, text):
    _, errors = run(write(tmp_path, SHARED), tmp_path / "out", f"--rate={text}", status=2)
    assert errors.splitlines() == [f"{NAME}: rate must be a finite number above 0. Received: {text}"]


def test_a_rate_of_an_experiment_that_searches_none_is_refused(tmp_path):
    text = SCRIPT.replace('search={"learning_rate"', 'search={"other"').replace(
        "learning_rate):", "learning_rate=0.1, other=0.1):"
    )
    _, errors = run(write(tmp_path, text), tmp_path / "out", "--rate", "0.1", status=2)
    assert errors.startswith(f"{NAME}: RATE replaces a searched learning rate, and this experiment searches none.")


def test_a_smoke_run_skips_the_shared_search(tmp_path):
    output, _ = run(write(tmp_path, SHARED), tmp_path / "out", "--smoke", "--arms", "baseline")
    assert "search trials" not in output
    assert "learning_rate 0.0949 for all arms, not searched" in output


def test_a_sweep_of_a_shared_rate_is_used_by_all_arms(tmp_path):
    script, out = write(tmp_path, SHARED), tmp_path / "out"
    run(script, out, "--sweep", "--trials", "17")
    tuned = json.loads((out / "quick-digits" / "tuned_92_search.json").read_text())["arms"]
    assert set(tuned) == {"first", "apart"}
    output, _ = run(script, out, "--seeds", "1")
    assert "values from a larger search: halton, 17 points" in output
    rates = rates_of(store.read_rows(schema.Files(out / "quick-digits", NAME)))
    assert rates["first"] == rates["baseline"] == rates["momentum"] == tuned["first"]["values"]["learning_rate"]
    assert rates["apart"] == tuned["apart"]["values"]["learning_rate"]


# --- the oracles ---


def searcher(tuner, *, sweep=0, count=8, arm="a", **entries):
    entries = entries or {"rate": log_range(1e-4, 1.0), "kind": choice("x", "y", "z")}
    return Searcher("exp_92_search", arm, entries, tuner, sweep, 9, count)


def play(one):
    """Run a search with a score that is highest at a rate of 0.01. Returns its points."""
    while not one.finished:
        one.ask()
        rows = {}
        for point in one.points:
            score = 1 - abs(np.log10(point.values["rate"]) + 2) / 4
            row = {"trained": "True", "val_accuracy": str(score), "val_nll": str(-score)}
            rows[one.arm, one.variant(point).point, one.seed] = row
        one.tell(rows)
    return [(point.number, point.values, point.epochs) for point in one.points]


@pytest.mark.parametrize("tuner", ["halton", "random", "bayesian", "hyperband"])
def test_an_oracle_repeats_its_points_and_proposes_others_in_another_sweep(tuner):
    first = play(searcher(tuner))
    assert play(searcher(tuner)) == first
    assert play(searcher(tuner, sweep=1)) != first
    assert first[0] == (0, {"rate": 0.01, "kind": "x"}, 9)
    assert sum(epochs for number, _, epochs in first if number > 0) <= 8 * 9
    values = [json.dumps(values) for _, values, _ in first]
    assert len(set(values)) > 4
    if tuner != "hyperband":
        assert len(first) == 9
        assert {epochs for _, _, epochs in first} == {9}
    else:
        assert len({epochs for _, _, epochs in first}) > 1
    # The points of sweep 1 must not be those of sweep 0 shifted by one.
    other = [json.dumps(values) for _, values, _ in play(searcher(tuner, sweep=1))]
    assert len(set(values[1:]) & set(other[1:])) <= 1


def test_halton_points_are_those_of_scipy_and_equal_for_all_arms():
    entries = {"rate": log_range(1e-4, 1.0), "width": log_range(8, 128, whole=True)}
    points_of_a = [values for _, values, _ in play(searcher("halton", **entries))][1:]
    assert points_of_a == [values for _, values, _ in play(searcher("halton", arm="b", **entries))][1:]
    narrow = {"rate": log_range(1e-3, 1e-1), "width": log_range(8, 128, whole=True)}
    points_of_c = [values for _, values, _ in play(searcher("halton", arm="c", **narrow))][1:]
    for a, b in zip(points_of_a, points_of_c, strict=True):
        assert entries["rate"].place(a["rate"]) == pytest.approx(narrow["rate"].place(b["rate"]), abs=0.005)
    seed = searcher("halton").oracle.seed
    expected = qmc.Halton(2, scramble=True, rng=seed).random(8)
    assert points_of_a == [space.at(entries, place) for place in expected]
    # Unscrambled, the first coordinates are 0, 1/2, 1/4, 3/4, …; scrambled or not, each quarter holds equally many points.
    quarters = np.floor(4 * np.array([entries["rate"].place(values["rate"]) for values in points_of_a]))
    assert sorted(quarters) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_diverged_point_scores_as_a_constant_prediction_and_the_search_continues():
    one = searcher("random")
    one.ask()
    diverged = {"trained": "False", "val_accuracy": "0.1", "val_constant": "0.1", "val_nll": "2.3"}
    rows = {(one.arm, one.variant(p).point, one.seed): diverged for p in one.points}
    one.tell(rows)
    one.ask()
    assert one.finished
    assert all(point.row is not None for point in one.points)
    assert one.best().number == 0  # the first of ties


@pytest.mark.parametrize("tuner", ["halton", "random", "bayesian", "hyperband"])
def test_a_killed_sweep_ends_with_the_same_points(tmp_path, tuner):
    options = ("--sweep", "--tuner", tuner, "--trials", "3")
    script, whole, out = write(tmp_path), tmp_path / "whole", tmp_path / "out"
    run(script, whole, *options)
    call = start(script, out, *options)
    files = schema.Files(out / "quick-digits", "sweep_92_search_trials")
    limit = time.monotonic() + 90
    while not files.rows.exists() or len(store.read_rows(files)) < 3:  # the first row is in the table at once
        assert time.monotonic() < limit
        assert call.poll() is None, call.communicate()
        time.sleep(0.01)
    workers = workers_of(call.pid)
    os.kill(call.pid, signal.SIGKILL)
    call.communicate()
    wait_until_gone(workers)
    run(script, out, *options)
    assert points(out) == points(whole)
    assert len({row["arm"] for row in table(out)}) == 2  # the arm that sets the rate itself is not searched
    assert [row["point"] for row in table(out) if row["untuned"] == "True"] == ["0", "0"]
    assert (out / "quick-digits" / "tuned_92_search.json").read_bytes() == (
        whole / "quick-digits" / "tuned_92_search.json"
    ).read_bytes()
    for kind in ("sensitivity",):
        assert (out / "quick-digits" / f"sweep_92_search_{tuner}_{kind}.png").stat().st_size > 5000


def test_a_sweep_resumed_on_another_kind_of_processor_starts_again(tmp_path, monkeypatch):
    """The oracle must propose the same points as without scores from the first kind."""
    script, out, whole = write(tmp_path), tmp_path / "out", tmp_path / "whole"
    options = ("--sweep", "--tuner", "bayesian", "--arms", "momentum")
    run(script, out, *options, "--trials", "2")
    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    output, _ = run(script, out, *options, "--trials", "4")
    assert "seed 1000 started on another kind of processor" in output
    run(script, whole, *options, "--trials", "4")
    assert points(out) == points(whole)
    assert {row["kind"] for row in store.read_rows(schema.Files(out / "quick-digits", NAME).trials)} == {machine.kind()}


@pytest.mark.parametrize("searched_by", ["", 'tuner="random", points=3,'])
def test_a_run_uses_and_prints_the_values_of_an_earlier_larger_sweep(tmp_path, searched_by):
    script, out = write(tmp_path, SCRIPT.replace("    seeds=2,", f"    {searched_by} seeds=2,")), tmp_path / "out"
    run(script, out, "--sweep", "--trials", "16", "--tuner", "halton")
    tuned = json.loads((out / "quick-digits" / "tuned_92_search.json").read_text())["arms"]
    best = {}
    for row in table(out):
        key = (float(row["score"]), -float(row["nll"]))
        best[row["arm"]] = max(best.get(row["arm"], ((-1.0, 0.0), None)), (key, float(row["learning_rate"])), key=lambda b: b[0])
    assert {arm: entry["values"]["learning_rate"] for arm, entry in tuned.items()} == {
        arm: rate for arm, (_, rate) in best.items()
    }
    output, _ = run(script, out)
    assert "values from a larger search: halton, 16 points" in output
    rows = store.read_rows(schema.Files(out / "quick-digits", NAME))
    for row in rows:
        if row["arm"] in tuned:
            assert json.loads(row["arguments"])["learning_rate"] == tuned[row["arm"]]["values"]["learning_rate"]
            assert row["tuning"] == "halton, 16 points"
    # A smaller sweep, or one of another space or code, is not used.
    files = schema.Files(out / "quick-digits", NAME)
    from common.running import scripts

    spaces = scripts.read_script(script).search
    bases = {arm: entry["basis"] for arm, entry in tuned.items()}
    assert sweep.tuned(files, spaces, bases, dict.fromkeys(tuned, 3)).keys() == tuned.keys()
    assert sweep.tuned(files, spaces, bases, dict.fromkeys(tuned, 10**6)) == {}
    assert sweep.tuned(files, spaces, dict.fromkeys(bases, "other code"), dict.fromkeys(tuned, 3)) == {}
    other = scripts.read_script(write(tmp_path, SCRIPT.replace("log_range(0.001, 0.1", "log_range(0.001, 0.2"))).search
    assert sweep.tuned(files, other, bases, dict.fromkeys(tuned, 3)) == {}


def test_a_later_sweep_with_a_worse_score_does_not_replace_values(tmp_path):
    files = schema.Files(tmp_path, NAME)
    entries = {"learning_rate": log_range(0.001, 0.1)}
    tuned = {}
    for score in (0.5, 0.9, 0.7):
        one = sweep.Sweep(
            types.SimpleNamespace(name=NAME, task=tasks.classification),
            {"a": entries},
            {"a": "random"},
            count=2,
            sweeps=1,
            epochs={"a": 1},
            fixed={"a": {}},
            known={"a": entries},
        )
        for point in one.searchers[0].points:
            point.row = {"trained": "True", "val_accuracy": str(score), "val_nll": "1"}
        one.write_tuned(files, {"a": "code"})
        tuned[score] = json.loads(files.tuned.read_text())["arms"]["a"]["score"]
    assert tuned == {0.5: 0.5, 0.9: 0.9, 0.7: 0.9}
    one.write_tuned(files, {"a": "other code"})
    assert json.loads(files.tuned.read_text())["arms"]["a"]["score"] == 0.7
    files.tuned.write_text(files.tuned.read_text()[:50])
    with pytest.raises(Failure, match=r"tuned_92_search.json is empty or damaged: run the sweep again.*; or remove it"):
        sweep.tuned(files, {"a": entries}, {"a": "code"}, {"a": 0})
    one.write_tuned(files, {"a": "code"})
    assert json.loads(files.tuned.read_text())["arms"]["a"]["score"] == 0.7


def test_a_file_that_is_not_a_table_of_points_is_not_overwritten(tmp_path):
    path = tmp_path / "out" / "quick-digits" / "sweep_92_search.csv"
    path.parent.mkdir(parents=True)
    path.write_text("a,b\n1,2\n")
    _, errors = run(write(tmp_path), tmp_path / "out", "--sweep", "--trials", "1", status=1)
    assert errors.splitlines() == [
        f"{NAME}: {path} line 2: not a point of a sweep. Move the file away and run again: its trials are kept"
    ]
    assert path.read_text() == "a,b\n1,2\n"
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tuner", "halton"], "tuner is an option of a sweep"),
        (["--trials", "3"], "trials is an option of a sweep"),
        (["--sweep", "--tuner", "grid"], "tuner must be one of halton, random, bayesian, hyperband. Received: 'grid'"),
        (["--sweep", "--trials", "0"], "trials must be a whole number of at least 1. Received: 0"),
        (["--sweep", "--arms", "fixed"], "a sweep needs arms with searched arguments"),
    ],
)
def test_invalid_options_of_a_sweep_are_refused(tmp_path, options, message):
    _, errors = run(write(tmp_path), tmp_path / "out", *options, status=2)
    (line,) = errors.splitlines()
    assert message in line
