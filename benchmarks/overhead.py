"""Measures how the time of a run is spent: of the start, of a small trial, and of long ones.

The start and the small trials are those of experiment 03 on digits, the long ones of model A of experiment 01 on CIFAR-10.

make overhead TRAIN=10000
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from common.commands.parsing import words
from common.machine import cores, device
from common.rows import schema, store

PROJECT = pathlib.Path(__file__).resolve().parent.parent


STARTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, help="training images of the long trials, by default all 45,000")
    given = parser.parse_args(words(sys.argv[1:]))
    print(f"{cores()} cores, {device()}")
    print_start()
    print_long(given.train)


def print_start() -> None:
    """Print, as medians of several calls, when the first trial has made an update, and the fixed cost of a trial."""
    seconds, fixed = zip(*((first_update(), fixed_cost()) for _ in range(STARTS)), strict=True)
    print(f"first update of the first trial: {statistics.median(seconds):.1f} s after the start, with compilation (target: 4)")
    print(f"fixed cost of a trial: {statistics.median(fixed):.2f} s, for all but input, updates and scores")


def small_run(folder: str, *options: str) -> subprocess.Popen:
    """`make exp-03` of as many trials as cores, of one epoch on digits."""
    variables = {"ARMS": "baseline", "SEEDS": cores(), "RATE": "0.05", "EPOCHS": 1, "RESULTS": folder}
    command = ["make", "exp-03", *(f"{name}={value}" for name, value in variables.items()), *options]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)


def first_update() -> float:
    """Seconds from the start of a call until a trial has made an update, and saved a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = small_run(folder, "CHECKPOINT_STEPS=1")
        while run.poll() is None and not any(pathlib.Path(folder).rglob(".state/*/*/*.npz")):
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        run.wait()
    return seconds


def fixed_cost() -> float:
    """Seconds of a trial whatever its length."""
    with tempfile.TemporaryDirectory() as folder:
        small_run(folder).wait()
        (path,) = pathlib.Path(folder).glob("*/exp_03_l2.csv")
        rows = store.read_rows(schema.Files(path.parent, "exp_03_l2"))
    variable = ("input", "train", "eval")
    fixed = [float(row["total_seconds"]) - sum(float(row[f"{name}_seconds"]) for name in variable) for row in rows]
    return statistics.median(fixed)


def print_long(train_size: int | None) -> None:
    """Print the parts of the time of long trials, and of the call that trains them."""
    trials = 2 * cores()
    command = [sys.executable, "-m", "common.commands.run", "01", "--arms", "loss_tuning", "--dataset", "cifar10"]
    command += ["--epochs", "2", "--seeds", str(trials)] + (["--train", str(train_size)] if train_size else [])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([*command, "--results", folder], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        (path,) = pathlib.Path(folder).glob("*/exp_01_baseline_cnn.csv")
        rows = store.read_rows(schema.Files(path.parent, "exp_01_baseline_cnn"))

    def total(name):
        return sum(float(row[f"{name}_seconds"]) for row in rows)

    parts = {name: total(name) for name in ("compile", "input", "train", "eval")}
    parts["checkpoints and the rest of a trial"] = total("total") - sum(parts.values())
    parts["imports, planning, rows, figures, idle"] = wall * cores() - total("total")
    print(f"{trials} trials on {cores()} cores in {wall:.1f} s; peak memory of a worker {_peak(rows)} MB")
    for name, seconds in parts.items():
        print(f"{name:<40} {seconds:7.1f} core seconds {seconds / (wall * cores()):6.1%}")
    trial = statistics.median(float(row["total_seconds"]) for row in rows)
    overhead = (parts["checkpoints and the rest of a trial"] / trials) / trial
    print(f"overhead within a trial of {trial:.0f} s: {overhead:.1%}")


def _peak(rows: list[dict]) -> int:
    """Largest peak memory of all trials, in MB."""
    return max(int(row["peak_memory_mb"]) for row in rows)


if __name__ == "__main__":
    main()
