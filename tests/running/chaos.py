"""Stress test: disturb a run at random many times; its rows must equal those of an undisturbed run.

    make chaos            # ROUNDS=40
    make chaos-ray        # ROUNDS=20

Kills the run, a worker or both, pauses workers, fills the disk for a while (simulated by a limit on file sizes) and starts a
second run at the same time. On Ray's test cluster, of three nodes, it kills the run, workers and nodes; the undisturbed run is
that of the local engine. Events are drawn with a seed, so that an error can be reproduced.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from conftest import PROJECT
from processes import workers_of
from raycluster import RayCluster
from survival import files_in, reproducible, write

from common.commands.parsing import words
from common.rows import store

EVENTS = ("kill the run", "kill a worker", "kill both", "pause a worker", "full disk", "second run")
RAY_EVENTS = ("kill the run", "kill a worker", "lose a node")
LIMIT_SECONDS = 600
"""Time limit for an undisturbed run."""
FULL = 30
"""Limit on file sizes in KiB that simulates a full disk: less than a checkpoint, more than the rows."""


def start(script: pathlib.Path, out: pathlib.Path, full: bool = False, cluster: RayCluster | None = None) -> subprocess.Popen:
    """Start a run, in a new process, on this machine or a cluster."""
    command = [
        sys.executable,
        "-m",
        "common.commands.run",
        str(script),
        "--results",
        str(out),
        "--checkpoint-steps",
        "7",
        *(["--engine", "ray"] if cluster else ["--jobs", "2"]),
    ]
    if full:
        command = ["bash", "-c", f'ulimit -f {FULL}; exec "$@"', "--", *command]
    quiet = subprocess.DEVNULL
    variables = cluster.variables if cluster else {}
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, "PYTHONPATH": str(PROJECT), **variables})


def disturb(event: str, runs: list[subprocess.Popen], script: pathlib.Path, out: pathlib.Path, draws: random.Random) -> bool:
    """Apply one of `EVENTS` to the current runs. Returns False if it needs a worker and there is none."""
    run = draws.choice(runs)
    workers = workers_of(run.pid)
    if event in ("pause a worker", "kill a worker") and not workers:
        return False
    if event == "second run":
        runs.append(start(script, out))
    elif event == "full disk":
        runs.append(start(script, out, full=True))
    elif event == "pause a worker":
        paused = draws.choice(workers)
        os.kill(paused, signal.SIGSTOP)
        time.sleep(draws.uniform(0.5, 3))
        os.kill(paused, signal.SIGCONT)
    elif event == "kill a worker":
        os.kill(draws.choice(workers), signal.SIGKILL)
    elif event in ("kill the run", "kill both"):
        for pid in [run.pid, *(workers if event == "kill both" else [])]:
            os.kill(pid, signal.SIGKILL)
        run.wait()
    return True


def disturb_on_ray(event: str, run: subprocess.Popen, cluster: RayCluster, draws: random.Random) -> bool:
    """Apply one of `RAY_EVENTS` to the current run. Returns False if it needs a worker and there is none."""
    workers = cluster.workers()
    if event == "kill a worker" and not workers:
        return False
    if event == "lose a node":
        cluster.tell("remove")
        cluster.tell("add")
    elif event == "kill a worker":
        os.kill(draws.choice(workers), signal.SIGKILL)
    elif event == "kill the run":
        run.kill()
        run.wait()
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Disturb a run at random many times; its rows must stay the same.")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words(sys.argv[1:]))
    if options.engine == "ray" and importlib.util.find_spec("ray") is None:
        sys.exit("make chaos-ray needs Ray, which is not installed: make setup RAY=1 installs it (300 MB)")
    with RayCluster() if options.engine == "ray" else contextlib.nullcontext() as cluster:
        stress(options.rounds or (20 if cluster else 40), random.Random(options.seed), cluster)


def stress(rounds: int, draws: random.Random, cluster: RayCluster | None) -> None:
    """Disturb runs, compare their rows, and print what has been done."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    script = write(folder, epochs=12)
    start(script, folder / "undisturbed").wait()
    expected = reproducible(folder / "undisturbed")
    out, runs, counts, finished, resumes = folder / "out", [], Counter(), 0, 0

    def check():
        assert reproducible(out) == expected, f"rows differ: see {folder}"
        return sum(int(row["resumes"]) for row in store.read_rows(files_in(out)))

    while counts.total() < rounds:
        runs = [run for run in runs if run.poll() is None]
        rows = store.read_rows(files_in(out))
        if not runs and len(rows) == 4 and all(row["status"] == "done" for row in rows):
            finished, resumes = finished + 1, resumes + check()
            shutil.rmtree(out)
        if not runs:
            runs = [start(script, out, cluster=cluster)]
        time.sleep(draws.uniform(2, 9))
        event = draws.choice(RAY_EVENTS if cluster else EVENTS)
        if cluster and runs[0].poll() is None:
            counts[event] += disturb_on_ray(event, runs[0], cluster, draws)
        elif any(run.poll() is None for run in runs):
            counts[event] += disturb(event, [run for run in runs if run.poll() is None], script, out, draws)
    for run in runs:
        run.wait(LIMIT_SECONDS)
    start(script, out, cluster=cluster).wait(LIMIT_SECONDS)
    finished, resumes = finished + 1, resumes + check()
    shutil.rmtree(folder)
    events = ", ".join(f"{event}: {count}" for event, count in sorted(counts.items()))
    print(f"{events}. {finished} runs ended with the undisturbed rows, after {resumes} resumes from a checkpoint.")


if __name__ == "__main__":
    main()
