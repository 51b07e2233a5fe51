"""End-to-end tests of sweeps, which search with the oracles of keras-tuner: also killed ones, and runs that use their results."""

import itertools
import json
import os
import shutil
import signal
import time

import pytest
from processes import run_here, run_script, wait_until_gone, workers_of
from searches import NAME, SCRIPT, SHARED, files_in, points, rates_of, table, write

from common import machine
from common.rows import schema, store
from common.running import scripts
from common.running.plan import Planner, Variant
from common.search import tuned
from common.space import space_hash

OF_ARMS = {"baseline": "halton", "random": "random", "bayesian": "bayesian", "hyperband": "hyperband"}
TUNERS = SCRIPT
for _old, _new in (
    ('"momentum": {"momentum": 0.9}, ', "".join(f'"{arm}": {{"momentum": 0.9}}, ' for arm in list(OF_ARMS)[1:])),
    ("import numpy as np\n", "import time\n\nimport numpy as np\n"),
    ('    trial.record("searched rate", learning_rate)\n', "    time.sleep(0.03)\n"),
    ("points=3, limits=(0.001, 1.0), ", ""),
    ("    arms=ARMS,", f"    arms=ARMS,\n    tuner={OF_ARMS},"),
):
    TUNERS = TUNERS.replace(_old, _new)
"""With a tuner for each arm, and trials that last long enough for a sweep to be killed before its end."""
PROPOSED_AT_FIRST = 4 + 4 + 3 + 3
"""Points before any score is reported: the default values of each arm, 3 of halton and random, 2 of bayesian and hyperband."""


def test_a_killed_sweep_ends_with_the_same_points(tmp_path):
    """The sweep is killed after scores were reported to the oracles, so the next call reports them again."""
    script, whole, out = write(tmp_path, TUNERS), tmp_path / "whole", tmp_path / "out"
    options = ["--sweep", "--trials", "3", "--jobs", "1"]
    assert run_here(script, ["--results", whole, *options]).returncode == 0
    call = run_script(script, ["--results", out, *options], wait=False)
    trials = files_in(out).trials
    limit = time.monotonic() + 120
    while not trials.rows.exists() or len(store.read_rows(trials)) <= PROPOSED_AT_FIRST:  # the first row is in the table at once
        assert time.monotonic() < limit
        assert call.poll() is None, call.communicate()
        time.sleep(0.01)
    workers = workers_of(call.pid)
    os.kill(call.pid, signal.SIGKILL)
    call.communicate()
    wait_until_gone(workers)
    assert not files_in(out).tuned.exists()
    assert run_here(script, ["--results", out, *options]).returncode == 0
    assert points(out) == points(whole)
    assert files_in(out).tuned.read_bytes() == files_in(whole).tuned.read_bytes()
    assert {row["arm"]: row["tuner"] for row in table(out)} == OF_ARMS  # the arm that sets the rate itself is not searched
    assert [row["point"] for row in table(out) if row["untuned"] == "True"] == ["0"] * 4
    rows = store.read_rows(trials)
    blank = ("test_accuracy", "test_nll", "best_epoch", "best_val_accuracy", "best_test_accuracy")
    assert all(row[name] == "" for row in rows for name in blank)
    assert all(row["val_accuracy"] for row in rows)
    figure = "sweep_92_search_bayesian+halton+hyperband+random_sensitivity.png"
    assert (out / "quick-digits" / figure).stat().st_size > 5000


def test_a_sweep_resumed_on_another_kind_of_processor_starts_again(tmp_path, monkeypatch):
    """The oracle must propose the points that it proposes without scores from the first kind, where low rates are best."""
    text = SCRIPT.replace("import numpy as np\n", "import os\n\nimport numpy as np\n").replace(
        "descend(trial, learning_rate, momentum)",
        f'descend(trial, learning_rate if os.environ["{machine.ONEDNN}"] == "1" else 1e-4 / learning_rate, momentum)',
    )
    script, out, whole = write(tmp_path, text), tmp_path / "out", tmp_path / "whole"
    options = ["--sweep", "--tuner", "bayesian", "--arms", "momentum", "--jobs", "1"]
    assert run_here(script, ["--results", out, *options, "--trials", "2"]).returncode == 0
    before = {row["point"]: row["score"] for row in table(out)}
    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    done = run_here(script, ["--results", out, *options, "--trials", "3"])
    assert "seed 1000 started on another kind of processor" in done.stdout
    assert run_here(script, ["--results", whole, *options, "--trials", "3"]).returncode == 0
    assert points(out) == points(whole)
    assert {row["tuner"] for row in table(out)} == {"bayesian"}
    assert any(before[row["point"]] != row["score"] for row in table(out)[:3])  # scores depend on the kind
    kinds = {(row["point"], row["seed"]): row["kind"] for row in store.read_rows(files_in(out).trials)}
    trained = {(row["point"], row["seed"]) for row in store.read_rows(files_in(whole).trials)}
    assert {kinds[trial] for trial in trained} == {machine.kind()}  # other rows are of points that were contenders before


# --- the results of a sweep ---


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that is larger than the script's search, and the run after it: their results folder and the run's output."""
    folder = tmp_path_factory.mktemp("swept")
    script, options = write(folder), ["--results", folder / "out", "--jobs", "1"]
    assert run_here(script, [*options, "--sweep", "--trials", "16", "--tuner", "halton"]).returncode == 0
    done = run_here(script, options)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out", done.stdout


def means(out, arm):
    """Rate -> mean score over the seeds of its search trials, and their number."""
    scores = {}
    for row in store.read_rows(files_in(out).trials):
        if row["arm"] == arm:
            column = "val_constant" if row["trained"] == "False" else "val_accuracy"
            scores.setdefault(json.loads(row["point"])["learning_rate"], []).append(float(row[column]))
    return {rate: (sum(of) / len(of), len(of)) for rate, of in sorted(scores.items())}


def test_a_run_uses_and_prints_the_values_of_an_earlier_larger_sweep(swept):
    out, output = swept
    swept_arms = json.loads(files_in(out).tuned.read_text())["swept"]
    rates = {arm: entry["values"]["learning_rate"] for arm, entry in swept_arms.items()}
    for arm, chosen in rates.items():
        of_arm = means(out, arm)
        assert {seeds for _, seeds in of_arm.values()} == {1, 5}  # those of contenders are five
        following = dict(itertools.pairwise(of_arm))

        def penalised(rate, of_arm=of_arm, following=following):
            mean = of_arm[rate][0]
            return mean - 0.035 * max(mean - of_arm[following[rate]][0], 0) if rate in following else mean

        assert penalised(chosen) == max(penalised(rate) for rate, (_, seeds) in of_arm.items() if seeds == 5)
    assert "values from a larger search: halton, 16 points; " in output
    assert "search trials" not in output
    assert rates_of(files_in(out)) == {(arm, "own"): rate for arm, rate in {**rates, "fixed": 0.01}.items()}
    ways = {row["arm"]: row["tuning"].partition(";")[0] for row in store.read_rows(files_in(out))}
    assert ways == {**dict.fromkeys(rates, "halton, 16 points"), "fixed": ""}
    chosen = json.loads(files_in(out).tuned.read_text())["arms"]
    assert {arm: entry["values"]["learning_rate"] for arm, entry in chosen.items()} == rates
    assert all(entry["tau2"] >= 0 and entry["trained"] for entry in chosen.values())
    for kind in ("progress", "sensitivity"):
        assert (out / "quick-digits" / f"sweep_92_search_halton_{kind}.png").stat().st_size > 5000


def test_a_run_of_a_script_with_a_tuner_uses_a_larger_sweep_too(swept, tmp_path):
    script = write(tmp_path, SCRIPT.replace("    seeds=2,", '    tuner="random", points=3, seeds=2,'))
    shutil.copytree(swept[0], tmp_path / "out")
    done = run_here(script, ["--results", tmp_path / "out"])
    assert "values from a larger search: halton, 16 points" in done.stdout
    assert "all 6 trials are done" in done.stdout  # with the same values


def test_a_smaller_sweep_or_one_of_another_space_or_code_is_not_used(swept, tmp_path):
    files = files_in(swept[0])
    known = json.loads(files.tuned.read_text())["swept"]
    spaces = scripts.read_script(write(tmp_path)).search
    bases = {arm: entry["basis"] for arm, entry in known.items()}
    assert tuned.swept(files, spaces, bases, dict.fromkeys(known, 3)).keys() == known.keys()
    assert tuned.swept(files, spaces, bases, dict.fromkeys(known, 10**6)) == {}
    assert tuned.swept(files, spaces, dict.fromkeys(bases, "other code"), dict.fromkeys(known, 3)) == {}
    other = scripts.read_script(write(tmp_path, SCRIPT.replace("log_range(0.001, 0.1", "log_range(0.001, 0.2"))).search
    assert tuned.swept(files, other, bases, dict.fromkeys(known, 3)) == {}


def test_a_run_of_some_arms_uses_sweeps_of_all_or_of_none(swept, tmp_path):
    """With more points than the others, the arms of the run would look better."""
    script, out = write(tmp_path), tmp_path / "out"
    shutil.copytree(swept[0], out)
    options = ["--results", out, "--arms", "momentum", "--dry"]
    done = run_here(script, options)
    assert "values from a larger search: halton, 16 points" in done.stdout
    assert "all 2 trials are done" in done.stdout
    tuned_path = files_in(out).tuned
    known = json.loads(tuned_path.read_text())
    del known["swept"]["baseline"]
    tuned_path.write_text(json.dumps(known))
    done = run_here(script, options)
    assert "values from a larger search" not in done.stdout
    assert "6 search trials to run" in done.stdout


def test_rows_at_an_earlier_common_rate_are_moved_when_sweeps_replace_the_grid(swept, tmp_path):
    script, out = write(tmp_path), tmp_path / "out"
    shutil.copytree(swept[0], out)
    experiment, files = scripts.read_script(script), files_in(out)
    planner = Planner(experiment, experiment.select(), out)
    own = {row["arm"]: row for row in store.read_rows(files) if row["seed"] == "0"}
    for arm in ("baseline", "momentum"):
        searched = {"values": {"learning_rate": 0.05}, "search": space_hash(experiment.search[arm])}
        trial = planner.planned(Variant(arm, schema.COMMON, **searched), 0)
        row = own[arm] | {"rate": schema.COMMON, "fingerprint": trial.fingerprint, "arguments": json.dumps(trial.arguments)}
        store.store(files, store.Outcome(row=row), list(experiment.arms))
    done = run_here(script, ["--results", out, "--arms", "momentum"])
    assert "all 2 trials are done" in done.stdout
    assert "moved to" not in done.stdout
    done = run_here(script, ["--results", out])
    assert "2 rows of earlier code, settings, data or searches moved to" in done.stdout
    assert {row["rate"] for row in store.read_rows(files)} == {schema.OWN}


def test_points_of_earlier_code_leave_the_table(swept, tmp_path):
    script, out = write(tmp_path), tmp_path / "out"
    shutil.copytree(swept[0], out)
    files, options = files_in(out), ["--results", out, "--sweep", "--trials", "16", "--tuner", "halton", "--arms", "momentum"]
    before = table(out)
    assert run_here(script, options).returncode == 0
    assert sorted(map(str, table(out))) == sorted(map(str, before))
    for row in before:
        if row["arm"] == "baseline":
            files.points.write_text(files.points.read_text().replace(row["fingerprint"], "0" * 32))
    assert run_here(script, options).returncode == 0
    assert [row for row in before if row["arm"] == "momentum"] == table(out)


def test_a_sweep_of_a_shared_rate_is_used_by_all_arms(tmp_path):
    script, options = write(tmp_path, SHARED), ["--results", tmp_path / "out", "--jobs", "1"]
    run_here(script, [*options, "--sweep", "--trials", "16"])
    known = json.loads(files_in(tmp_path / "out").tuned.read_text())["swept"]
    assert set(known) == {"first", "apart"}
    lines = run_here(script, [*options, "--seeds", "1", "--dry"]).stdout.splitlines()
    shared, apart = (f"learning_rate {known[arm]['values']['learning_rate']:g}" for arm in ("first", "apart"))
    how = {arm: entry["tuning"] for arm, entry in known.items()}
    assert f"values from a larger search: {how['first']}" in lines
    assert f"{shared} for all arms except those below, searched on first: {how['first']}" in lines
    assert f"apart: {apart} ({how['apart']})" in lines
    assert any(line.startswith("5 of 5 trials to run, ") for line in lines)


def test_a_file_that_is_not_a_table_of_points_is_not_overwritten(swept, tmp_path):
    shutil.copytree(swept[0], tmp_path / "out")
    files = files_in(tmp_path / "out")
    files.points.write_text("a,b\n1,2\n")
    done = run_here(write(tmp_path), ["--results", tmp_path / "out", "--sweep", "--trials", "16"])
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{NAME}: {files.points} line 2: not a point of a sweep. Move the file away and run again: its trials are kept"
    ]
    assert files.points.read_text() == "a,b\n1,2\n"
    assert "search trials" not in done.stdout
    assert store.read_rows(files.trials) == store.read_rows(files_in(swept[0]).trials)


# --- arms that only a sweep searches ---

SWEPT = SCRIPT
for _old, _new in (
    ("import log_range\n", "import linear_range, log_range\n"),
    ("    arms=ARMS,", '    arms=ARMS,\n    sweep={"searched": {"momentum": linear_range(0.1, 0.9), "batch_size": BATCHES}},'),
    ("ARMS = {", "BATCHES = log_range(4, 32, whole=True)\nARMS = {"),
):
    SWEPT = SWEPT.replace(_old, _new)


def test_a_sweep_searches_arguments_and_fields_of_arms_that_a_run_does_not_train(tmp_path):
    script, options = write(tmp_path, SWEPT), ["--results", tmp_path / "out", "--jobs", "1"]
    call = [*options, "--sweep", "--trials", "3", "--arms", "baseline,searched"]
    done = run_here(script, call)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row for row in store.read_rows(files_in(tmp_path / "out").trials) if row["arm"] == "searched"]
    assert sum(row["seed"] == "1000" for row in rows) == 4  # the defaults and three points; contenders have further seeds
    for row in rows:
        values = json.loads(row["point"])
        assert json.loads(row["arguments"]) == {name: values[name] for name in ("momentum", "learning_rate")}
        assert (json.loads(row["setting"])["batch_size"], row["batch_size"]) == (values["batch_size"], str(values["batch_size"]))
    assert len({row["batch_size"] for row in rows}) > 2
    assert {row["arm"]: row["momentum"] != "" for row in table(tmp_path / "out")} == {"baseline": False, "searched": True}
    assert "searched  best val accuracy " in done.stdout
    again = run_here(script, call)
    assert "search trials to run" not in again.stdout
    assert "moved to" not in again.stdout


def test_a_run_of_a_script_with_arms_of_a_sweep_trains_what_it_trains_without(tmp_path):
    fingerprints = {}
    for name, text in (("plain", SCRIPT), ("swept", SWEPT)):
        folder = tmp_path / name
        folder.mkdir()
        script = write(folder, text)
        if name == "swept":
            assert run_here(script, ["--results", folder / "out", "--jobs", "1", "--sweep", "--trials", "2"]).returncode == 0
        done = run_here(script, ["--results", folder / "out", "--jobs", "1"])
        assert (done.returncode, done.stderr) == (0, "")
        files = files_in(folder / "out")
        searched = [row for row in store.read_rows(files.trials) if row["arm"] != "searched"]
        fingerprints[name] = {row["fingerprint"] for row in store.read_rows(files)}
        assert {row["seed"] for row in searched} == {"1000", "1001", "1002", "1003", "1004"}
    assert fingerprints["plain"] == fingerprints["swept"]


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tuner", "halton"], "tuner is an option of a sweep"),
        (["--trials", "3"], "trials is an option of a sweep"),
        (["--sweep", "--tuner", "grid"], "tuner must be one of halton, random, bayesian, hyperband. Received: 'grid'"),
        (["--sweep", "--trials", "0"], "trials must be a whole number of at least 1. Received: 0"),
        (["--sweep", "--arms", "fixed"], "a sweep needs arms with searched arguments: add search= or sweep= to the script"),
    ],
)
def test_invalid_options_of_a_sweep_are_refused(tmp_path, options, message):
    done = run_here(write(tmp_path), ["--results", tmp_path / "out", *options])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
