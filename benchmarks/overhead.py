"""Measures how the time of a run is spent, for model A of experiment 01 on CIFAR-10.

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
from common.machine import cores
from common.rows import schema, store

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, help="training images, by default all 45,000")
    given = parser.parse_args(words(sys.argv[1:]))
    trials = 2 * cores()
    command = [sys.executable, "-m", "experiments.exp_01_baseline_cnn", "--arms", "loss_tuning", "--dataset", "cifar10"]
    command += ["--epochs", "2", "--seeds", str(trials)] + (["--train", str(given.train)] if given.train else [])
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
