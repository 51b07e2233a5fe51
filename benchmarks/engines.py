"""Measures what an engine costs: Ray beside the local processes, per trial; and the runner itself, with trials that only pretend.

make bench-ray REPEATS=3
"""

import argparse
import contextlib
import importlib.util
import itertools
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.rows import outcome_of, plan_of
from common.commands.parsing import words
from common.files import PROJECT, write_atomic
from common.machine import columns, cores, device
from common.rows.outcome import OUTCOME, to_bytes
from common.running.progress import Display
from common.running.runner import Runner, RunOptions
from common.running.workers import Workers

SLOTS = 100
TRIALS = 100_000
SECONDS_PER_TRIAL = 10
EPOCHS_OF_PILOT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each engine")
    parser.add_argument("--trials", type=int, default=TRIALS, help="simulated trials; 0 for none")
    parser.add_argument("--skip-ray", action="store_true", help="only the simulated trials")
    given = parser.parse_args(words(sys.argv[1:]))
    print(f"{cores()} cores, {device()}")
    if not given.skip_ray:
        if importlib.util.find_spec("ray") is None:
            sys.exit("make bench-ray needs Ray, which is not installed: make setup RAY=1 installs it (300 MB)")
        compare(given.repeats)
    if given.trials:
        simulate(given.trials)


# --- Ray beside the local processes ----------------------------------------------------------------------------------


def compare(repeats: int) -> None:
    """Print how long a trial of some 10 s takes on both engines, one at a time, from one finished trial to the next."""
    pilot = statistics.median(seconds_apart("local", EPOCHS_OF_PILOT, 3)[0])
    epochs = max(1, round(EPOCHS_OF_PILOT * SECONDS_PER_TRIAL / pilot))
    measured: dict[str, list[float]] = {"local": [], "ray": []}
    starts: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(repeats):
        for engine, apart in measured.items():
            gaps, first = seconds_apart(engine, epochs, 4)
            apart += gaps
            starts[engine].append(first - statistics.median(gaps))
    seconds = {engine: statistics.median(values) for engine, values in measured.items()}
    for engine, value in seconds.items():
        low, high = min(measured[engine]), max(measured[engine])
        start = statistics.median(starts[engine])
        print(f"{engine:<6} {value:6.2f} s per trial ({low:.2f} to {high:.2f}), {start:5.1f} s before the first one")
    print(f"overhead of Ray per trial: {seconds['ray'] / seconds['local'] - 1:+.1%} (target: at most 10 %)")


def seconds_apart(engine: str, epochs: int, count: int) -> tuple[list[float], float]:
    """Seconds from one finished trial to the next, of some trials one after the other, and until the first has finished."""
    options = {"ARMS": "baseline", "SEEDS": count, "RATE": "0.05", "EPOCHS": epochs, "JOBS": 1, "ENGINE": engine}
    ended = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-u",
            "-m",
            "common.commands.run",
            "03",
            *(f"{name}={value}" for name, value in options.items()),
        ]
        run = subprocess.Popen([*command, f"RESULTS={folder}"], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for line in run.stdout:
            if line.startswith("["):
                ended.append(time.perf_counter())
        if run.wait() or len(ended) != count + 1:
            sys.exit(f"the run with ENGINE={engine} failed")
    gaps = [after - before for before, after in itertools.pairwise(ended)]
    return gaps[1:], gaps[0]


# --- the runner itself -----------------------------------------------------------------------------------------------


class SimulatedProcess:
    """A process that at once writes a made-up outcome for each trial; see `common.running.engine.Process`."""

    placed, node, machine = True, "", columns()

    def __init__(self, engine: "SimulatedEngine"):
        self.engine, self.events = engine, [{"event": "ready"}]

    def send(self, job) -> bool:
        outcome = outcome_of(self.engine.plan, self.engine.trials[job.row["fingerprint"]], arrays=False)
        outcome.row["images_per_second"] = ""
        write_atomic(job.folder / OUTCOME, to_bytes(outcome), synced=False)  # a worker does so, beside the others
        self.events.append({"event": "finished"})
        return True

    def read(self) -> list[dict]:
        events, self.events = self.events, []
        return events

    def printed(self) -> bytes:
        return b""

    def kill(self) -> None:
        pass


class SimulatedEngine:
    """See `common.running.engine.Engine`."""

    machine, on_gpus = columns(), False

    def __init__(self, plan):
        self.plan, self.trials = plan, {trial.fingerprint: trial for trial in plan.trials}
        self.processes: list[SimulatedProcess] = []

    def unavailable(self, _):
        return None

    def start(self, *_, **__) -> SimulatedProcess:
        self.processes.append(SimulatedProcess(self))
        return self.processes[-1]

    def stop(self, process) -> None:
        self.processes.remove(process)

    def with_output(self, _) -> list[SimulatedProcess]:
        return [process for process in self.processes if process.events]


def simulate(count: int) -> None:
    """Print the time of planning, handing out and writing down trials that train nothing, and the memory of it."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        before = peak()
        began = time.perf_counter()
        plan = plan_of(pathlib.Path(folder), count)
        missing = plan.missing()
        planned = time.perf_counter()
        workers = Workers(SimulatedEngine(plan), SLOTS)
        with contextlib.redirect_stdout(nowhere), Display(count) as display, Runner(RunOptions(), workers, display) as runner:
            rows = runner.run(plan, missing)
        seconds = time.perf_counter() - planned
    assert len(rows) == count
    speed = f"{count / seconds:,.0f} trials per second"
    print(f"{count:,} simulated trials on {SLOTS} slots: planned in {planned - began:.1f} s, {speed}")
    print(f"peak memory {peak():,.0f} MB, {peak() - before:,.0f} MB of them for the plan and its rows")


def peak() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
