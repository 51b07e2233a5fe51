"""Disturb one run in every way at once, many times over; its rows must equal the undisturbed ones.

    make chaos            # ROUNDS=40

Kills of the call, of a worker, of both; pauses; a disk that is full for a while (a limit on file sizes, which fails writes in the
same place); two calls at the same time. Seeded, so that what it finds can be found again.
"""

import argparse
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
from survival import files_in, reproducible, write

from common.commands.parsing import words
from common.rows import store

EVENTS = ("kill the call", "kill a worker", "kill both", "pause a worker", "full disk", "second call")
FULL = 30
"""KiB a file may have while the disk is full: less than a checkpoint, more than the rows."""


def start(script: pathlib.Path, out: pathlib.Path, full: bool = False) -> subprocess.Popen:
    """One call in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "common.commands.run",
        str(script),
        "--results",
        str(out),
        "--jobs",
        "2",
        "--checkpoint-steps",
        "7",
    ]
    if full:
        command = ["bash", "-c", f'ulimit -f {FULL}; exec "$@"', "--", *command]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, "PYTHONPATH": str(PROJECT)})


def disturb(event: str, calls: list[subprocess.Popen], script: pathlib.Path, out: pathlib.Path, chance: random.Random) -> None:
    """Let one thing happen to the calls that are running."""
    call = chance.choice(calls)
    workers = workers_of(call.pid)
    if event == "second call":
        calls.append(start(script, out))
    elif event == "full disk":
        calls.append(start(script, out, full=True))
    elif event == "pause a worker" and workers:
        paused = chance.choice(workers)
        os.kill(paused, signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, 3))
        os.kill(paused, signal.SIGCONT)
    elif event == "kill a worker" and workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    elif event in ("kill the call", "kill both"):
        for pid in [call.pid, *(workers if event == "kill both" else [])]:
            os.kill(pid, signal.SIGKILL)
        call.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Disturb one run many times over; its rows must stay the same.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words(sys.argv[1:]))
    chance = random.Random(given.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    script = write(folder, epochs=12)
    start(script, folder / "undisturbed").wait()
    expected = reproducible(folder / "undisturbed")
    out, calls, happened, finished, resumes = folder / "out", [], Counter(), 0, 0

    def check():
        assert reproducible(out) == expected, f"rows differ: see {folder}"
        return sum(int(row["resumes"]) for row in store.read_rows(files_in(out)))

    for _ in range(given.rounds):
        calls = [call for call in calls if call.poll() is None]
        rows = store.read_rows(files_in(out))
        if not calls and len(rows) == 4 and all(row["status"] == "done" for row in rows):
            finished, resumes = finished + 1, resumes + check()
            shutil.rmtree(out)
        if not calls:
            calls = [start(script, out)]
        time.sleep(chance.uniform(2, 9))
        event = chance.choice(EVENTS)
        if any(call.poll() is None for call in calls):
            disturb(event, [call for call in calls if call.poll() is None], script, out, chance)
            happened[event] += 1
    for call in calls:
        call.wait()
    start(script, out).wait()
    finished, resumes = finished + 1, resumes + check()
    shutil.rmtree(folder)
    said = ", ".join(f"{event}: {count}" for event, count in sorted(happened.items()))
    print(f"{said}. {finished} runs ended with the undisturbed rows, after {resumes} resumes from a checkpoint.")


if __name__ == "__main__":
    main()
