"""Runs end with the rows of an undisturbed one: with two jobs, killed and started again, and beside another run."""

import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from processes import run_here, run_script, wait_until_gone, workers_of
from survival import files_in, reproducible, write

from common.data.dataset import load
from common.files import read_arrays
from common.rows import schema, store
from common.running.local import LocalEngine

KILLS = int(os.environ.get("KILLS", "4"))
"""Number of SIGKILLs in the test of exact resume; `KILLS=20 make test ARGS=\"-k killed\"` sends 20."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of one job without interruptions: its folder and its output."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_here(write(folder), ["--results", folder / "out", "--jobs", "1"])
    assert (done.returncode, done.stderr) == (0, "")
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


def test_finished_trials_are_not_run_again(undisturbed, monkeypatch):
    folder, _ = undisturbed
    before = files_in(folder).rows.read_bytes()
    monkeypatch.setattr(LocalEngine, "start", lambda *_, **__: pytest.fail("a worker was started"))
    done = run_here(folder.parent / "exp_90_survive.py", ["--results", folder])
    assert done.returncode == 0
    assert "all 4 trials are done" in done.stdout
    assert files_in(folder).rows.read_bytes() == before


def test_a_run_of_two_jobs_killed_at_random_times_ends_with_the_same_rows(undisturbed, tmp_path):
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


def test_two_simultaneous_runs_share_the_trials(undisturbed, tmp_path):
    script, arguments = write(tmp_path), ["--results", tmp_path / "out", "--jobs", "1", "--seeds", "1"]
    runs = [run_script(script, arguments, wait=False) for _ in range(2)]
    outputs = [run.communicate(timeout=300)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    trials = [("baseline", 0), ("dropout", 0)]
    assert reproducible(tmp_path / "out", *trials) == reproducible(undisturbed[0], *trials)
    trained = [sum(": test accuracy" in line for line in text.splitlines()) for text in outputs]
    assert trained == [1, 1]  # none twice, and each run one of them


def test_a_trial_is_unlocked_when_its_process_ends(undisturbed, tmp_path):
    """A run is killed during training; another, which waits for its only trial, goes on with it."""
    script, arguments = write(tmp_path), ["--results", tmp_path / "out", "--jobs", "1", "--seeds", "1", "--arms", "dropout"]
    first = run_script(script, arguments, wait=False)
    while not list((tmp_path / "out").rglob("warm-*.npz")):
        time.sleep(0.05)
    (worker,) = workers_of(first.pid)
    os.kill(worker, signal.SIGSTOP)  # so that it does not finish before it is killed
    second = run_script(script, arguments, wait=False)
    assert any(b"1 of 1 trials to run" in line for line in iter(second.stdout.readline, b""))
    time.sleep(2)
    assert not workers_of(second.pid)
    first.kill()
    first.communicate()
    output = second.communicate(timeout=300)[0].decode()
    assert second.returncode == 0, output
    assert reproducible(tmp_path / "out", ("dropout", 0)) == reproducible(undisturbed[0], ("dropout", 0))
    (row,) = store.read_rows(files_in(tmp_path / "out"))
    assert int(row["resumes"]) == 1
