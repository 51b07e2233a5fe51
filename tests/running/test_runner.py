"""End-to-end tests of runs with their workers, also killed ones."""

import csv
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PROJECT
from processes import alive, run_script, wait_until_gone, workers_of
from survival import SCRIPT, files_in, reproducible, write

from common import machine, tasks
from common.commands import run
from common.data.dataset import load
from common.data.streams import Streams
from common.errors import Failure
from common.files import read_arrays
from common.rows import schema, store
from common.running import runner, scripts

KILLS = int(os.environ.get("KILLS", "4"))
"""Number of SIGKILLs in the test of exact resume; `KILLS=20 make test ARGS=\"-k killed\"` sends 20."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run with JOBS=2 without interruptions: its folder and its output."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_script(write(folder), ["--results", folder / "out", "--jobs", "2"])
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_a_run_writes_a_complete_row_for_every_trial(undisturbed):
    folder, out = undisturbed
    rows = store.read_rows(files_in(folder))
    assert [(r["arm"], r["seed"], r["status"]) for r in rows] == [
        ("baseline", "0", "done"),
        ("dropout", "0", "done"),
        ("baseline", "1", "done"),
        ("dropout", "1", "done"),
    ]
    blank = {name for row in rows for name in schema.NAMES if row[name] == ""}
    of_other_tasks = {name for name in schema.NAMES if name.endswith(("_f1", "_error"))} - {"test_f1"}
    assert blank - {"reason", "point", "search", "tuning", "commit", "dirty"} == of_other_tasks
    labels, predicted = load("digits").test().labels, read_arrays(files_in(folder).predictions)
    for row in rows:
        assert float(row["test_accuracy"]) == np.mean(predicted[f"{row['arm']}/{row['seed']}"] == labels)
        assert 1 <= int(row["best_epoch"]) <= 8
        assert int(row["peak_memory_mb"]) > 100
    assert "[4/4]" in out
    assert "test accuracy" in out
    for kind in ("accuracy", "curves", "samples"):
        assert (folder / "quick-digits" / f"exp_90_survive_{kind}.png").stat().st_size > 5000
    assert not list(folder.rglob(".state/*/*"))
    logits = np.load(files_in(folder).local("logits", "dropout", 1, ".npy"))
    assert np.array_equal(logits.argmax(1), read_arrays(files_in(folder).predictions)["dropout/1"])


def test_finished_trials_are_not_run_again(undisturbed, monkeypatch, capsys):
    folder, _ = undisturbed
    before = files_in(folder).rows.read_bytes()
    monkeypatch.setattr(runner.Worker, "start", lambda *_: pytest.fail("a worker was started"))
    with pytest.raises(SystemExit) as ended:
        run.main([str(folder.parent / "exp_90_survive.py"), "--results", str(folder)])
    assert ended.value.code == 0
    assert "all 4 trials are done" in capsys.readouterr().out
    assert files_in(folder).rows.read_bytes() == before


def test_rows_do_not_depend_on_the_number_of_jobs(undisturbed, tmp_path):
    done = run_script(write(tmp_path), ["--results", tmp_path / "out", "--jobs", "1"])
    assert done.returncode == 0, done.stderr
    assert reproducible(tmp_path / "out") == reproducible(undisturbed[0])


def test_a_run_killed_at_random_times_ends_with_the_same_rows(undisturbed, tmp_path):
    """Kill the main process, a worker or both at random times during training; delete the rows whenever all are there."""
    draws = random.Random(0)
    script, out = write(tmp_path), tmp_path / "out"
    arguments = ["--results", out, "--jobs", "2", "--checkpoint-steps", "5"]
    kills, resumes = {"main process": 0, "worker": 0, "both": 0}, 0
    process = None
    while sum(kills.values()) < KILLS:
        if process is None or process.poll() is not None:
            rows = store.read_rows(files_in(out)) if process else []
            if len(rows) == 4:
                assert reproducible(out) == reproducible(undisturbed[0])
                resumes += sum(int(row["resumes"]) for row in rows)
                shutil.rmtree(out)
            process = run_script(script, arguments, wait=False)
        while not workers_of(process.pid) and process.poll() is None:
            time.sleep(0.02)
        before = sum(1 for _ in out.rglob(".state/*/*/*.npz"))
        limit = time.perf_counter() + 120
        while sum(1 for _ in out.rglob(".state/*/*/*.npz")) == before and process.poll() is None and time.perf_counter() < limit:
            time.sleep(0.01)  # until a trial has made progress since the last kill
        time.sleep(draws.uniform(0, 1.5))
        workers = workers_of(process.pid)
        if process.poll() is not None or not workers:
            continue
        victims = min(kills, key=lambda kind: (kills[kind], draws.random()))
        for target in {"main process": [process.pid], "worker": workers[:1], "both": [process.pid, *workers]}[victims]:
            os.kill(target, signal.SIGKILL)
        kills[victims] += 1
        if victims != "worker":
            process.communicate()
            wait_until_gone(workers)
    process.communicate(timeout=300)
    done = run_script(script, arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert reproducible(out) == reproducible(undisturbed[0])
    resumes += sum(int(row["resumes"]) for row in store.read_rows(files_in(out)))
    print(f"{kills} kills, {resumes} resumes from a checkpoint")
    assert resumes >= sum(kills.values()) / 2


def test_ctrl_c_ends_the_run_and_its_workers_within_seconds_with_one_line(tmp_path):
    endless = write(tmp_path, SCRIPT.replace("patience=4", "patience=1000"), epochs=1000)
    process = run_script(endless, ["--results", tmp_path / "out"], wait=False, start_new_session=True)
    limit = time.perf_counter() + 60
    while not list((tmp_path / "out").rglob("warm-*.npz")):
        assert time.perf_counter() < limit, process.stdout.read()
        time.sleep(0.1)
    workers = workers_of(process.pid)
    assert workers
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out.splitlines()[-1].endswith(b"the same command resumes after the last finished epoch")
    assert b"Traceback" not in out
    assert not any(alive(worker) for worker in workers)


TROUBLE = '''"""Exp 90: which rows do failing trials get?

Varies   how a trial fails.
Fixed    all else.
Expect   a row for each.
"""
import os
import signal

from keras import optimizers

from common.errors import Misuse
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {"how": ""},
    "diverges": {"how": "rate"},
    "raises": {"how": "raise"},
    "dies": {"how": "die"},
    "deep": {"how": "deep"},
}


def train(trial, *, how):
    """Fail in the way of the argument."""
    if how == "raise":
        raise ZeroDivisionError("on purpose\\nand more")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    model = small_cnn(trial, widths=(4,) * 6 if how == "deep" else (4, 8))
    return trial.fit(model, optimizer=optimizers.SGD(1e30 if how == "rate" else 0.1))


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=2, batch_size=16, train_size=64), seeds=1)
'''


def test_failing_trials_get_rows_and_the_others_continue(tmp_path):
    script = write(tmp_path, TROUBLE)
    done = run_script(script, ["--results", tmp_path / "out", "--jobs", "1"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "3 of 5 trials failed" in done.stderr
    rows = {row["arm"]: row for row in store.read_rows(files_in(tmp_path / "out"))}
    assert {arm: row["status"] for arm, row in rows.items()} == {
        "baseline": "done",
        "diverges": "diverged",
        "raises": "failed",
        "dies": "failed",
        "deep": "failed",
    }
    assert rows["raises"]["reason"].startswith("ZeroDivisionError: on purpose and more (exp_90_survive.py:")
    assert rows["dies"]["reason"] == "its worker died 2 times (signal SIGKILL)"
    assert "too deep for these images" in rows["deep"]["reason"]
    diverged = rows["diverges"]
    assert re.fullmatch(r"the (loss is|weights are) not finite at epoch 1, step \d", diverged["reason"])
    assert 0.05 < float(diverged["test_accuracy"]) < 0.15  # a constant prediction
    assert diverged["train_accuracy"] == ""
    assert (diverged["trained"], diverged["val_constant"]) == ("False", diverged["val_accuracy"])
    assert rows["baseline"]["trained"] in ("True", "False")
    log = files_in(tmp_path / "out").local("logs", "raises", 0, ".log").read_text()
    assert "ZeroDivisionError: on purpose" in log

    script.write_text(script.read_text().replace('raise ZeroDivisionError("on purpose\\nand more")', "pass"))
    done = run_script(script, ["--results", tmp_path / "out", "--arms", "baseline,raises"])
    assert done.returncode == 0
    assert "5 rows of earlier code, settings or data moved to" in done.stdout
    assert (tmp_path / "out" / "quick-digits" / "superseded" / "exp_90_survive.1.csv").exists()


def other_kind(monkeypatch):
    """Change the kind of processor by switching oneDNN. Returns the new kind."""
    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    return machine.kind()


def test_all_arms_of_a_seed_started_on_another_kind_of_processor_are_trained_again(tmp_path, monkeypatch):
    script, out = write(tmp_path, epochs=1), tmp_path / "out"
    first = machine.kind()
    assert run_script(script, ["--results", out, "--seeds", "1"]).returncode == 0
    assert run_script(script, ["--results", out, "--arms", "baseline", "--seeds", "2"]).returncode == 0
    before = {(row["arm"], row["seed"]): row for row in store.read_rows(files_in(out))}
    assert {row["kind"] for row in before.values()} == {first}

    second = other_kind(monkeypatch)
    announced = run_script(script, ["--results", out, "--dry"]).stdout
    start = f"seed 1 started on another kind of processor ({first}; this one: {second}): all arms are trained again"
    assert f"{start}\n" in announced
    assert "2 of 4 trials to run" in announced
    done = run_script(script, ["--results", out])
    assert done.returncode == 0, done.stderr
    moved = out / "quick-digits" / "superseded" / "exp_90_survive.1.csv"
    assert f"{start}; 1 rows moved to {moved}" in done.stdout.splitlines()
    rows = {(row["arm"], row["seed"]): row for row in store.read_rows(files_in(out))}
    assert {key: row["kind"] for key, row in rows.items()} == {
        **dict.fromkeys([("baseline", "0"), ("dropout", "0")], first),  # a finished seed stays
        **dict.fromkeys([("baseline", "1"), ("dropout", "1")], second),
    }
    assert rows["baseline", "0"] == before["baseline", "0"]
    assert second in rows["baseline", "1"]["device"]
    assert "all 4 trials are done" in run_script(script, ["--results", out, "--dry"]).stdout

    monkeypatch.undo()
    done = run_script(script, ["--results", out, "--arms", "dropout", "--seeds", "3"])
    assert "another kind" not in done.stdout  # seed 2 starts on this kind, the others are finished


def test_models_of_trials_from_another_kind_of_processor_are_not_saved(tmp_path, monkeypatch):
    script, options = write(tmp_path, epochs=1), ["--results", tmp_path / "out", "--seeds", "1"]
    assert run_script(script, options).returncode == 0
    before = store.read_rows(files_in(tmp_path / "out"))
    second = other_kind(monkeypatch)
    done = run_script(script, [*options, "--keep"])
    assert done.returncode == 0, done.stderr
    assert f"2 models are not saved: their trials ran on another kind of processor than {second}" in done.stdout.splitlines()
    assert store.read_rows(files_in(tmp_path / "out")) == before


def test_a_run_ends_if_the_code_changes(tmp_path):
    script, out = write(tmp_path, epochs=2), tmp_path / "out"
    process = run_script(script, ["--results", out, "--jobs", "1"], wait=False)
    lines = []
    for line in process.stdout:
        lines.append(line.decode().rstrip())
        if lines[-1].startswith("[1/4]"):
            script.write_text(script.read_text() + "# a comment\n")
    assert process.wait() == 1
    assert not list(out.rglob("*.journal"))  # it is folded also when a run ends by an error
    reason = f"{script} has changed since this run started: run the same command again, which keeps finished trials"
    assert lines[-1] == f"exp_90_survive: {reason}"
    assert [row["status"] for row in store.read_rows(files_in(out))] in (["done"], ["done"] * 2)  # the change may come late
    done = run_script(script, ["--results", out])
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in store.read_rows(files_in(out))] == ["done"] * 4
    assert "moved" not in done.stdout  # a comment does not change the fingerprint


SETTINGS = '''"""Exp 90: what do the fields of a setting change?

Varies   the field.
Fixed    all else.
Expect   rows that differ in that field.
"""
from keras import optimizers

from common.errors import Unavailable
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {},
    "noisy": {"label_noise": 0.5},
    "shifted": {"shifted": True},
    "other seeds": {"seed_offset": 1},
    "two classes": {"classes": [3, 8], "train_size": 40},
    "free": {"deterministic": False},
    "elsewhere": {"here": False},
}


def train(trial, *, here=True):
    """Train, unless the arm is unavailable."""
    if not here:
        raise Unavailable("its weights are not here: copy them")
    return trial.fit(small_cnn(trial, widths=(4,)), optimizer=optimizers.SGD(0.1))


experiment = Experiment(
    train, arms=ARMS, setting=Setting("digits", epochs=2, batch_size=16, train_size=64), seeds=2, alone=True
)
'''


def test_fields_of_a_setting_reach_the_trial(tmp_path):
    done = run_script(write(tmp_path, SETTINGS), ["--results", tmp_path / "out", "--seeds", "2"])
    assert done.returncode == 0, done.stderr
    assert "with 1 at a time" in done.stdout  # because of alone=True
    files = files_in(tmp_path / "out")
    rows = {(row["arm"], row["seed"]): row for row in store.read_rows(files)}
    measured = {(m["arm"], m["name"]) for m in store.read_measures(files).to_dict("records")}
    assert {name for arm, name in measured if arm == "noisy"} == {"memorised"}
    shifts = {name for arm, name in measured if arm == "shifted"}
    assert {"shifted_accuracy", "blur_accuracy", "blur_accuracy 3"} <= shifts
    assert len(shifts) == 6 * 4 + 1
    # With a seed offset of 1, seed 0 equals the baseline's seed 1.
    assert rows["other seeds", "0"]["weights"] == rows["baseline", "1"]["weights"]
    assert rows["shifted", "0"]["weights"] == rows["baseline", "0"]["weights"]
    assert rows["noisy", "0"]["weights"] != rows["baseline", "0"]["weights"]
    pair = rows["two classes", "0"]
    there = tasks.test(load("digits"), (3, 8), tasks.classification)
    assert (pair["train_size"], pair["test_size"]) == ("40", str(len(there)))
    assert (rows["free", "0"]["deterministic"], rows["baseline", "0"]["deterministic"]) == ("False", "True")
    elsewhere = rows["elsewhere", "1"]
    assert (elsewhere["status"], elsewhere["reason"]) == ("unavailable", "its weights are not here: copy them")
    assert elsewhere["test_accuracy"] == ""


def test_two_simultaneous_runs_share_the_trials(undisturbed, tmp_path):
    script, arguments = write(tmp_path), ["--results", tmp_path / "out", "--jobs", "1"]
    runs = [run_script(script, arguments, wait=False) for _ in range(2)]
    outputs = [run.communicate(timeout=300)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert reproducible(tmp_path / "out") == reproducible(undisturbed[0])
    trained = [sum(": test accuracy" in line for line in text.splitlines()) for text in outputs]
    assert sum(trained) == 4  # none twice
    assert min(trained) >= 1  # and each run trained some


def test_a_trial_is_unlocked_when_its_process_ends(undisturbed, tmp_path):
    """A run is killed during training; another, which waits for its trials, trains them."""
    script, arguments = write(tmp_path), ["--results", tmp_path / "out", "--jobs", "2"]
    first = run_script(script, arguments, wait=False)
    while not list((tmp_path / "out").rglob("warm-*.npz")):
        time.sleep(0.05)
    second = run_script(script, arguments, wait=False)
    time.sleep(3)
    first.kill()
    first.communicate()
    output = second.communicate(timeout=300)[0].decode()
    assert second.returncode == 0, output
    assert reproducible(tmp_path / "out") == reproducible(undisturbed[0])


def test_a_trial_reporting_no_progress_fails(tmp_path):
    text = TROUBLE.replace('"die"}', '"sleep"}').replace(
        'if how == "die":', 'if how == "sleep":\n        time.sleep(3600)\n    if how == "die":'
    )
    script = write(tmp_path, text.replace("import signal\n", "import signal\nimport time\n"))
    done = run_script(script, ["--results", tmp_path / "out", "--arms", "baseline,dies", "--stall-seconds", "20", "--jobs", "2"])
    assert done.returncode == 1
    rows = {row["arm"]: row for row in store.read_rows(files_in(tmp_path / "out"))}
    assert rows["baseline"]["status"] == "done"
    assert rows["dies"]["reason"] == "its worker died 2 times (no progress for 20 s)"


def test_more_replicas_than_gpus_are_unavailable_not_failed(tmp_path):
    from common.running.devices import Devices
    from common.running.plan import Planner, Variant
    from common.running.progress import Display

    experiment = scripts.read_script(write(tmp_path, epochs=1))
    trials = [(Variant("baseline"), 0)]
    plan = Planner(experiment, experiment.select(overrides={"replicas": 3}), tmp_path / "out").plan(trials)
    with Display(1) as display, runner.Runner(runner.RunOptions(Devices(["0", "1"]), jobs=1), display) as running:
        (row,) = running.run(plan, plan.trials)
    assert (row["status"], row["reason"]) == ("unavailable", "needs 3 GPUs, this machine has 2")
    assert plan.missing() == plan.trials  # the next run tries it again


SECRETS = '''"""Exp 90: does a trial refer to test images?

Varies   nothing.
Fixed    all.
Expect   no test images.
"""
import gc

import numpy as np

from common.data.dataset import Dataset, load
from common.experiment import Experiment, Setting


class Constant:
    """Predicts class 3."""

    def predict(self, images):
        return np.tile(np.eye(10)[3], (len(images), 1))


def train(trial):
    """Count test images among all objects that the trial refers to."""
    tests = load("digits").test().images
    known = {image.tobytes() for image in tests}
    seen, test_images, arrays, datasets = set(), 0, 0, 0
    stack = [trial]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, type(gc) | type) or thing is tests:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray) and thing.ndim == 4:
            arrays += 1
            test_images += sum(image.tobytes() in known for image in thing)
        datasets += isinstance(thing, Dataset)
        if type(thing).__module__.startswith(("common", "builtins", "numpy", "pathlib")):
            stack += gc.get_referents(thing)
    trial.record("datasets", datasets)
    trial.record("arrays", arrays)
    trial.record("test_images", test_images)
    trial.record("known", len(known))
    return Constant()


experiment = Experiment(train, arms={"baseline": {}}, setting=Setting("digits", epochs=1), seeds=1)
'''


def test_train_gets_no_test_images_and_may_return_any_predictor(tmp_path):
    done = run_script(write(tmp_path, SECRETS), ["--results", tmp_path / "out"])
    assert done.returncode == 0, done.stdout + done.stderr
    files = files_in(tmp_path / "out")
    measures = {row["name"]: float(row["value"]) for row in csv.DictReader(files.measures.open())}
    assert measures["arrays"] >= 1
    assert measures["known"] > 300
    assert measures["test_images"] == measures["datasets"] == 0
    (row,) = store.read_rows(files)
    assert set(read_arrays(files.predictions)["baseline/0"]) == {3}
    assert float(row["test_accuracy"]) == pytest.approx(0.1, abs=0.02)
    assert row["best_epoch"] == row["weights"] == ""


def test_a_trial_that_could_not_be_sent_to_a_dead_worker_counts_no_attempt(tmp_path):
    """The worker dies while idle; another one gets the next trial."""
    from common.running.devices import Devices
    from common.running.plan import Planner, Variant
    from common.running.progress import Display

    experiment = scripts.read_script(write(tmp_path, epochs=1))
    trials = [(Variant("baseline"), seed) for seed in range(2)]
    plan = Planner(experiment, experiment.select(), tmp_path / "out").plan(trials)
    with Display(2) as display, runner.Runner(runner.RunOptions(Devices([]), jobs=1), display) as running:
        send = runner.Worker.send

        def kill_first(worker, trial, job):
            if trial.seed == 1 and len(killed) == 0:
                killed.append(worker.process.pid)
                worker.process.kill()
                worker.process.wait()
            send(worker, trial, job)

        killed = []
        runner.Worker.send = kill_first
        try:
            rows = running.run(plan, plan.trials)
        finally:
            runner.Worker.send = send
    assert killed
    assert [row["status"] for row in rows] == ["done", "done"]
    assert running.attempts == {}


def test_a_worker_frees_the_graphs_of_finished_trials(tmp_path):
    """Memory grows by 4 MB per trial with the graphs in TensorFlow's gradient registry, and by 1.5 MB without."""
    one = SCRIPT.replace("train_size=200", "train_size=32").replace("epochs=2", "epochs=1").replace("seeds=2", "seeds=30")
    out = tmp_path / "out"
    run_script(write(tmp_path, one, epochs=1), ["--results", out, "--jobs", "1", "--arms", "dropout"])
    rows = store.read_rows(files_in(out))
    assert [row["status"] for row in rows] == ["done"] * 30
    memory = [int(row["peak_memory_mb"]) for row in rows]
    assert statistics.median(memory[20:]) < 1.08 * statistics.median(memory[:10])


def test_a_worker_is_replaced_after_a_number_of_trials(tmp_path, monkeypatch):
    from common.running.devices import Devices
    from common.running.plan import Planner, Variant
    from common.running.progress import Display

    monkeypatch.setattr(runner, "TRIALS_PER_WORKER", 2)
    experiment = scripts.read_script(write(tmp_path, epochs=1))
    trials = [(Variant("baseline"), seed) for seed in range(3)]
    plan = Planner(experiment, experiment.select(), tmp_path / "out").plan(trials)
    started = []
    start = runner.Worker.start
    monkeypatch.setattr(runner.Worker, "start", lambda *arguments: started.append(start(*arguments)) or started[-1])
    with Display() as display, runner.Runner(runner.RunOptions(Devices([]), jobs=1), display) as running:
        rows = running.run(plan, plan.trials)
    assert [row["status"] for row in rows] == ["done"] * 3
    assert [worker.sent for worker in started] == [2, 1]
    assert started[0].process.poll() is not None


def test_a_worker_ends_with_the_main_process_even_during_the_import_of_tensorflow(tmp_path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "tensorflow.py").write_text("import time\ntime.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": f"{slow}:{PROJECT}"}
    command = [sys.executable, "-m", "common.running.worker", "1", "1", "1", "1"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, cwd=PROJECT, stderr=subprocess.DEVNULL)
    time.sleep(2)
    assert worker.poll() is None
    worker.stdin.close()
    assert worker.wait(timeout=5) == 0


def test_a_trial_whose_worker_is_killed_during_its_start_is_started_once_more(tmp_path):
    process = run_script(
        write(tmp_path, epochs=1), ["--results", tmp_path / "out", "--jobs", "1", "--arms", "baseline"], wait=False
    )
    while not workers_of(process.pid):
        time.sleep(0.01)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)  # while it imports TensorFlow
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    assert "its worker died (signal SIGKILL); starting it once more" in output


def test_a_worker_that_cannot_start_ends_the_run_with_its_last_line(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tensorflow.py").write_text("raise ImportError('no such library')")
    script = write(tmp_path)
    code = (
        "import os, sys; from common.commands import run; from common.running import process\n"
        "real = process.environment\n"
        f"process.environment = lambda *options: {{**real(*options), 'PYTHONPATH': '{broken}'}}\n"
        "run.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, str(script), "--results", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a worker could not start (exit status 1): ImportError: no such library" in done.stderr
    assert store.read_rows(files_in(tmp_path / "out")) == []


def test_smoke_and_keep(tmp_path):
    import keras

    script = write(tmp_path, SCRIPT.replace("train_size=200", "train_size=300"))
    done = run_script(script, ["--results", tmp_path / "out", "--smoke", "--keep", "--arms", "baseline"])
    assert done.returncode == 0, done.stderr
    files = schema.Files(tmp_path / "out" / "quick-digits-smoke", "exp_90_survive")
    (row,) = store.read_rows(files)
    assert (row["epochs"], row["train_size"]) == ("1", "256")
    model = keras.models.load_model(files.local("models", "baseline", 0, ".keras"))
    assert model.count_params() == int(row["parameters"])
    # The saved model is that which was scored: with batch-norm statistics of the whole train split, not moving averages.
    dataset = load("digits")
    logits = model.predict(dataset.test().images.astype("float32"), verbose=0)
    assert np.allclose(logits, np.load(files.local("logits", "baseline", 0, ".npy")), atol=1e-4)
    train, _, _ = tasks.examples(dataset, tasks.classification, Streams(0), train_size=int(row["train_size"]))
    inner = keras.Model(model.inputs, model.get_layer("conv1_1").output)
    values = inner.predict(train.images.astype("float32"), verbose=0)
    assert np.allclose(model.get_layer("norm1_1").moving_variance, values.var((0, 1, 2)), rtol=1e-3)


def test_keep_trains_finished_trials_again_if_they_have_a_keras_model(tmp_path):
    body = """    model = trial.fit(small_cnn(trial, widths=(4,)), optimizer=optimizers.SGD(0.1))
    return Tempered(trial, model) if tempered else model
"""
    head, _, tail = SCRIPT.partition("def train")
    script = head.replace("from common.augment", "from common.calibration import Tempered\nfrom common.augment")
    script = re.sub(r"ARMS = .*", 'ARMS = {"baseline": {"tempered": False}, "tempered": {"tempered": True}}', script)
    script += "def train(trial, *, tempered):\n" + body + "\n\nexperiment" + tail.rpartition("experiment")[2]
    printed = []
    for options in ([], ["--keep"], ["--keep"]):
        done = run_script(write(tmp_path, script, epochs=1), ["--results", tmp_path / "out", "--seeds", "1", *options])
        assert done.returncode == 0, done.stderr
        printed.append(re.findall(r"^\[\d+/(\d+)\] (.*?) seed", done.stdout, re.MULTILINE))
    assert [sorted(trials) for trials in printed] == [[("2", "baseline"), ("2", "tempered")], [("1", "baseline")], []]


def test_gpus_that_tensorflow_does_not_see_end_the_run_without_a_row(tmp_path):
    """Otherwise the trial would be trained on the CPU, with the GPU in its row."""
    from common.running.devices import Devices
    from common.running.plan import Planner, Variant
    from common.running.progress import Display

    experiment = scripts.read_script(write(tmp_path, epochs=1))
    plan = Planner(experiment, experiment.select(), tmp_path / "out").plan([(Variant("baseline"), 0)])
    message = r"could not start .* TensorFlow sees no GPU: make setup GPU=1.* Received: 7$"
    options = runner.RunOptions(Devices(["7"]), jobs=1)
    with Display(1) as display, runner.Runner(options, display) as running, pytest.raises(Failure, match=message):
        running.run(plan, plan.trials)
    assert store.read_rows(plan.files) == []
