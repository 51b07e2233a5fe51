"""Workers: which end a run, are replaced or started again, and what they keep of finished trials."""

import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time

import pytest
from conftest import PROJECT
from linear import SCRIPT as LINEAR_SCRIPT
from processes import run_here, run_script, workers_of
from survival import SCRIPT, files_in, write

from common.errors import Failure
from common.rows import store
from common.running import local, runner, scripts, workers
from common.running.local import Devices, LocalEngine, LocalProcess
from common.running.plan import Planner, Variant
from common.running.progress import Display


def planned(folder, seeds, **overrides):
    """The plan of some seeds of the baseline."""
    experiment = scripts.read_script(write(folder, LINEAR_SCRIPT))
    planner = Planner(experiment, experiment.select(overrides=overrides), folder / "out")
    return planner.plan([(Variant("baseline"), seed) for seed in range(seeds)])


@contextlib.contextmanager
def running(gpus=()):
    """Context manager with a runner of one trial at a time."""
    engine, options = LocalEngine(Devices(list(gpus))), runner.RunOptions()
    with engine, workers.Workers(engine, 1) as pool, Display() as display, runner.Runner(options, pool, display) as one:
        yield one


# --- no start ---


def test_more_replicas_than_gpus_are_unavailable_not_failed(tmp_path):
    plan = planned(tmp_path, 1, replicas=3)
    with running(["0", "1"]) as one:
        (row,) = one.run(plan, plan.trials)
    assert (row["status"], row["reason"]) == ("unavailable", "needs 3 GPUs, this machine has 2")
    assert plan.missing() == plan.trials  # the next run tries it again


def test_gpus_that_tensorflow_does_not_see_end_the_run_without_a_row(tmp_path):
    """Otherwise the trial would be trained on the CPU, with the GPU in its row."""
    plan = planned(tmp_path, 1)
    message = r"could not start .* TensorFlow sees no GPU: make setup GPU=1.* Received: 7$"
    with running(["7"]) as one, pytest.raises(Failure, match=message):
        one.run(plan, plan.trials)
    assert store.read_rows(plan.files) == []


def test_a_worker_that_cannot_start_ends_the_run_with_its_last_line(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tensorflow.py").write_text("raise ImportError('no such library')")
    real = local.environment
    monkeypatch.setattr(local, "environment", lambda *o, **named: {**real(*o, **named), "PYTHONPATH": str(broken)})
    done = run_here(write(tmp_path, LINEAR_SCRIPT), ["--results", tmp_path / "out"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a worker could not start (exit status 1): ImportError: no such library" in done.stderr
    assert store.read_rows(files_in(tmp_path / "out")) == []


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


# --- replaced ones ---


@pytest.mark.parametrize("early", [False, True])
def test_a_worker_that_is_killed_during_its_start_is_replaced(tmp_path, early):
    """Before it has a trial, while the plan is made, or after."""
    if not early:
        files_in(tmp_path / "out").state.mkdir(parents=True)
    arguments = ["--results", tmp_path / "out", "--jobs", "1", "--arms", "baseline", "--seeds", "1"]
    call = run_script(write(tmp_path, LINEAR_SCRIPT), arguments, wait=False)
    while not workers_of(call.pid):
        time.sleep(0.01)
    os.kill(workers_of(call.pid)[0], signal.SIGKILL)  # while it imports TensorFlow
    output = call.communicate(timeout=120)[0].decode()
    assert call.returncode == 0, output
    assert ("its worker died (signal SIGKILL); starting it once more" in output) is not early
    assert [row["status"] for row in store.read_rows(files_in(tmp_path / "out"))] == ["done"]


def test_a_trial_that_could_not_be_sent_to_a_dead_worker_counts_no_attempt(tmp_path, monkeypatch):
    """The worker dies while idle; another one gets the next trial."""
    plan = planned(tmp_path, 2)
    send, killed = LocalProcess.send, []

    def kill_first(process, job):
        if job.seed == 1 and len(killed) == 0:
            killed.append(process.process.pid)
            process.kill()
            process.process.wait()
        return send(process, job)

    monkeypatch.setattr(LocalProcess, "send", kill_first)
    with running() as one:
        rows = one.run(plan, plan.trials)
    assert killed
    assert [row["status"] for row in rows] == ["done", "done"]
    assert not one.attempts


def test_a_worker_is_replaced_after_a_number_of_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "TRIALS_PER_WORKER", 2)
    plan = planned(tmp_path, 3)
    started = []
    start = workers.Workers.start
    monkeypatch.setattr(workers.Workers, "start", lambda *given, **named: started.append(start(*given, **named)) or started[-1])
    with running() as one:
        rows = one.run(plan, plan.trials)
    assert [row["status"] for row in rows] == ["done"] * 3
    assert [worker.sent for worker in started] == [2, 1]
    assert started[0].process.process.poll() is not None


SLEEPS = LINEAR_SCRIPT.replace("import numpy", "import time\n\nimport numpy").replace(
    '    """One arm."""\n', '    """One arm."""\n    if momentum:\n        time.sleep(3600)\n'
)


def test_a_trial_reporting_no_progress_fails(tmp_path):
    options = ["--stall-seconds", "6", "--jobs", "1", "--seeds", "1"]
    done = run_here(write(tmp_path, SLEEPS), ["--results", tmp_path / "out", *options])
    assert done.returncode == 1
    rows = {row["arm"]: row for row in store.read_rows(files_in(tmp_path / "out"))}
    assert rows["baseline"]["status"] == "done"
    assert rows["momentum"]["reason"] == "its worker died 2 times (no progress for 6 s)"


# --- memory ---

COUNTS = SCRIPT.replace(
    "import keras\n", "import gc\n\nimport keras\nfrom tensorflow.python.framework.func_graph import FuncGraph\n"
)
COUNTS = COUNTS.replace("train_size=200", "train_size=32").replace(
    "    model = small_cnn(",
    """    gc.collect()
    objects = gc.get_objects()
    trial.record("objects", len(objects))
    trial.record("graphs", sum(isinstance(one, FuncGraph) for one in objects))
    model = small_cnn(""",
)


def test_a_worker_keeps_nothing_of_finished_trials(tmp_path):
    """At the start of a trial no graph and no object of earlier ones is left, and memory grows by 2 MB, with graphs by 11 MB.

    The first trial leaves objects of modules that it imports, and buffers.
    """
    options = ["--jobs", "1", "--arms", "dropout", "--seeds", "4"]
    done = run_here(write(tmp_path, COUNTS, epochs=1), ["--results", tmp_path / "out", *options])
    assert done.returncode == 0, done.stderr
    measures = store.read_measures(files_in(tmp_path / "out"))
    counts = {name: list(measures[measures["name"] == name]["value"]) for name in ("objects", "graphs")}
    assert counts["graphs"] == [0] * 4
    assert max(counts["objects"][1:]) - min(counts["objects"][1:]) < 500  # a graph has 6,000
    memory = [int(row["peak_memory_mb"]) for row in store.read_rows(files_in(tmp_path / "out"))]
    assert statistics.median(after - before for before, after in itertools.pairwise(memory[1:])) < 6
