"""`make gpu-check`: how it compares rows, what it prints without a GPU, and a killed run with the CPU in place of a GPU."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

from benchmarks import gpu
from benchmarks.gpu_outcomes import (
    FAILED,
    MEASURED,
    NOT_RUN,
    OK,
    Check,
    Run,
    accuracy,
    identical,
    memory,
    replicas,
    resumed,
    speed,
    trained,
    trials_per_gpu,
)
from common.rows import schema


def row(arm="baseline", seed=0, **columns):
    known = {"status": "done", "trained": "True", "test_size": "100", "test_accuracy": "0.9", "weights": "ab12", "resumes": "0"}
    known |= {"total_seconds": "10", "peak_memory_mb": "1500", "images_per_second": "3000"}
    return dict.fromkeys(schema.NAMES, "") | known | {"arm": arm, "seed": str(seed), **columns}


def epoch(arm="baseline", seed=0, loss="2.0", seconds="1.0"):
    return {"arm": arm, "seed": str(seed), "train_loss": loss, "seconds": seconds}


def run(*rows, epochs=()):
    return Run(list(rows), list(epochs))


def scored(*scores, arm="baseline"):
    return run(*(row(arm, seed, test_accuracy=str(score)) for seed, score in enumerate(scores)))


def test_a_line_of_the_table_is_one_row_of_markdown():
    assert Check("x", "a | b\nc", OK).line() == "| x | a \\| b c | ok |"


def test_a_trial_that_failed_or_is_no_better_than_chance_fails_the_training():
    known = row(versions="tensorflow 2", commit="0123456789abcdef")
    assert trained(run(known, row("float16"))) == Check(
        "training", "2 of 2 trials trained (tensorflow 2; commit 0123456789ab)", OK
    )
    failing = trained(run(row(), row("float16", status="failed", trained="", reason="no kernel"), row("other", trained="False")))
    assert failing == Check("training", "1 of 3 trials trained; float16: no kernel; other: no better than chance", FAILED)


def test_means_within_four_standard_errors_are_equal():
    """Variances 0.0002 of two seeds each: the standard error is √(0.0001 + 0.0001) = 0.0141, the bound 0.0566 + 0.01."""
    cpu = scored(0.90, 0.92)
    assert accuracy(scored(0.96, 0.98), cpu).outcome == OK  # 0.06 apart
    assert accuracy(scored(0.98, 1.00), cpu).outcome == FAILED  # 0.08 apart
    assert "baseline 0.970 and 0.910 (+0.060 ± 0.014)" in accuracy(scored(0.96, 0.98), cpu).figures


def test_a_difference_of_one_image_is_no_failure_where_seeds_do_not_vary():
    assert accuracy(scored(0.9, 0.9), scored(0.91, 0.91)).outcome == OK
    assert accuracy(scored(0.9, 0.9), scored(0.92, 0.92)).outcome == FAILED


def test_an_arm_without_scores_on_one_device_fails():
    assert accuracy(scored(0.9, 0.9), run()).outcome == FAILED
    assert accuracy(run(), run()).outcome == FAILED


def test_runs_are_identical_if_rows_and_epochs_differ_in_measurements_alone():
    first = run(row(), epochs=[epoch()])
    assert identical(first, run(row(total_seconds="99"), epochs=[epoch(seconds="9")])).outcome == OK
    other = identical(first, run(row(weights="ab13"), epochs=[epoch()]))
    assert other == Check("the same run again", "0 of 1 trials identical; baseline seed 0: DIFFERS (weights)", FAILED)
    assert "DIFFERS (epochs)" in identical(first, run(row(), epochs=[epoch(loss="2.1")])).figures
    assert identical(first, run(row(seed=1))).outcome == FAILED
    assert identical(run(row(status="failed", reason="x")), run(row(status="failed", reason="x"))).outcome == FAILED
    assert identical(first, run()).outcome == FAILED


def test_a_killed_run_must_have_resumed():
    first = run(row())
    assert resumed(first, run(row(resumes="2")), kills=2).outcome == OK
    assert resumed(first, run(row(resumes="0")), kills=2).outcome == FAILED
    assert resumed(first, run(row(resumes="1", weights="ff")), kills=1).outcome == FAILED
    assert "after 2 kills (SIGKILL); 1 of 1 trials resumed" in resumed(first, run(row(resumes="2")), kills=2).figures


def test_replicas_agree_up_to_rounding():
    one = run(row(), epochs=[epoch(loss="2.0"), epoch(loss="1.0")])
    assert replicas(one, None).outcome == NOT_RUN
    assert replicas(one, run(row(), epochs=[epoch(loss="2.001"), epoch(loss="1.2")])).outcome == OK
    assert replicas(one, run(row(), epochs=[epoch(loss="2.003")])).outcome == FAILED
    assert replicas(one, run(row(test_accuracy="0.87"), epochs=[epoch()])).outcome == FAILED
    assert replicas(one, run(row(status="failed", reason="NCCL"), epochs=[])).figures == "no trial ended; baseline: NCCL"


def test_trials_that_share_a_gpu_are_counted_and_compared():
    """A trial of 10 s alone makes 360 an hour; two at a time of 12 s each 2 · 3600 / 12 = 600."""
    two = [row(seed=0, total_seconds="11"), row(seed=1, total_seconds="13")]
    check = trials_per_gpu({1: run(row()), 2: run(*two)})
    assert check.outcome == OK
    assert "1: 360, 2: 600" in check.figures
    assert trials_per_gpu({1: run(row()), 2: run(two[0] | {"weights": "ff"}, two[1])}).outcome == FAILED
    full = trials_per_gpu({1: run(row()), 2: run(two[0], row(seed=1, status="failed", reason="out of memory"))})
    assert full.outcome == FAILED
    assert "2 at a time: out of memory" in full.figures


def test_memory_and_speed_are_figures():
    used = memory({1: run(row()), 2: run(row())}, {1: 900, 2: 1800}, 80_000)
    assert used == Check(
        "memory",
        "of the GPU's 80 GB in use by number of trials: 1: 0.9, 2: 1.8 GB; of a worker on the host at most 1.5 GB",
        MEASURED,
    )
    assert memory({1: run(row())}, {1: 0}, 0).figures.startswith("unknown of the GPU; ")
    assert "3,000; model.fit 2,000, so 1.50 times as many" in speed(run(row()), 2000.0).figures


def test_without_a_gpu_one_line_says_so():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": ".", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "gpu" in done.stderr.lower()


@pytest.mark.parametrize(("unused", "remedy"), [(True, "make setup GPU=1"), (False, "nvidia-smi -L")])
def test_the_line_names_the_remedy(monkeypatch, unused, remedy):
    monkeypatch.setattr(gpu, "gpus", list)
    monkeypatch.setattr(gpu, "has_unused_gpus", lambda: unused)
    assert remedy in gpu.refusal()
    monkeypatch.setattr(gpu, "gpus", lambda: ["0"])
    assert gpu.refusal() == ""


@pytest.mark.slow
def test_a_run_that_cannot_start_fails_its_check(tmp_path):
    place = gpu.Place(tmp_path, (gpu.NO_GPU,), arms=("unknown",))
    (check,) = gpu.checks(place)
    assert (check.name, check.outcome) == ("training", FAILED)
    assert "unknown" in check.figures


def test_the_arms_are_those_of_the_script():
    from common.running.scripts import read_script

    arms = tuple(read_script(gpu.SCRIPT).arms)
    assert gpu.Place(PROJECT, ("0",)).arms == arms
    assert set(gpu.WITHOUT_RANDOM_REPLICAS) < set(arms)


@pytest.mark.slow
def test_a_run_is_killed_and_resumed(tmp_path):
    place = gpu.Place(tmp_path, (gpu.NO_GPU,), arms=("batch norm",))
    options = ["--arms", "batch norm", "--epochs", 4, "--seeds", 1, "--jobs", 1]
    check = resumed(place.run("whole", *options), *gpu.killed(place, *options))
    assert (check.outcome, "after 1 kills (SIGKILL); 1 of 1 trials resumed" in check.figures) == (OK, True), check.figures
