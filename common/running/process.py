"""A worker process, as its parent sees it."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from common.errors import Failure
from common.files import PROJECT
from common.running.plan import Plan, Planned
from common.running.surroundings import environment
from common.training.job import Job

CONNECT_SECONDS = 300.0
"""How long the workers of several machines may take to find each other, their imports included."""
START_SECONDS = 3600.0
"""How long TensorFlow's import may take: from a cold disk of a network, minutes."""
LONGEST_LOOK = 5.0
"""Seconds between two looks at a worker that count at most: for longer, this process has stood still itself."""
STOP_SECONDS = 5.0
"""How long the end of a killed worker is waited for."""


class Wait:
    """How long something is waited for, without the time in which this process was stopped by Ctrl-Z or slept with its laptop."""

    def __init__(self):
        self.begin()

    def begin(self) -> None:
        self.waited, self.looked = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Since it began; to be asked again and again."""
        now = time.monotonic()
        self.waited += min(now - self.looked, LONGEST_LOOK)
        self.looked = now
        return self.waited


@dataclass
class Worker:
    """A worker process and what it is doing."""

    process: subprocess.Popen
    fits: tuple[int, int, int, bool]
    """Threads, replicas, machines and determinism: fixed once TensorFlow has started."""
    gpus: list[str]
    log: pathlib.Path
    scratch: pathlib.Path
    """Its temporary files: TensorFlow leaves many."""
    trial: Planned | None = None
    given: int = 0
    """Trials handed to it so far."""
    beside: int = 0
    ready: bool = False
    reached: bool = True
    """Whether the last trial given to it arrived."""
    buffer: bytes = b""
    progress: dict = field(default_factory=dict)
    silence: Wait = field(default_factory=Wait)
    """Since it last said anything."""
    stalled: float = 0.0
    """The seconds of silence that it was given up for."""
    start_up: Wait = field(default_factory=Wait)

    @classmethod
    def start(cls, fits: tuple[int, int, int, bool], gpus: list[str], logs: pathlib.Path) -> "Worker":
        """Start a process for the trials that it fits; what it prints goes to a log."""
        logs.mkdir(parents=True, exist_ok=True)
        handle, log = tempfile.mkstemp(prefix="worker-", suffix=".log", dir=logs)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="worker-"))
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "common.running.worker", *(str(int(value)) for value in fits)],
            cwd=PROJECT,
            env=environment(fits, gpus, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
        )
        os.close(handle)
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process, fits, gpus, pathlib.Path(log), scratch)

    def give(self, trial: Planned, job: Job) -> None:
        """Hand over a trial."""
        self.trial, self.progress = trial, {}
        self.silence.begin()
        self.given += 1
        try:
            self.process.stdin.write(f"{job.to_json()}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # it died while idle: its end of file follows
            self.reached = False

    def events(self) -> list[dict] | None:
        """The events that have arrived; None when the process has ended."""
        self.silence.begin()
        chunk = self.process.stdout.read()
        if chunk == b"":
            return None
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def stalls(self, limit: float) -> bool:
        """Whether it was silent about a trial for longer than a limit in seconds; before TensorFlow is there, another holds."""
        limit = limit if self.ready else max(limit, START_SECONDS)
        if self.trial is not None and self.silence.seconds() > limit:
            self.stalled = limit
        return self.stalled > 0

    def refuse_slow_start(self) -> None:
        """Raises `Failure` for one that waits for other machines in vain."""
        if not self.ready and self.start_up.seconds() > CONNECT_SECONDS:
            raise Failure(
                f"its worker could not reach the others within {CONNECT_SECONDS:g} s: can each machine reach every address of "
                f"TF_CONFIG? Received: {os.environ.get('TF_CONFIG')}"
            )

    def how_it_ended(self) -> str:
        """In words. Raises `Failure` for one that never started and was not killed: the next would fare no better."""
        status = self.process.wait()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if not self.ready and status >= 0:
            last = (self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise Failure(f"a worker could not start ({how}): {last}")
        return how

    def stop(self) -> None:
        """End it at once: what it had not saved is not needed."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a slow disk, and ends when that answers
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(OSError):  # what could not be sent is still buffered
            self.process.stdin.close()
        self.process.stdout.close()
        self.log.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


def job(plan: Plan, trial: Planned, row: dict, *, keep: pathlib.Path | None, checkpoint_steps: int | None, writes=True) -> Job:
    """A planned trial as its worker takes it; see `Job`."""
    return Job(
        script=plan.experiment.path,
        seed=trial.seed,
        arguments=trial.arguments,
        setting=trial.setting,
        dataset=trial.dataset,
        folder=(plan.files.state / trial.folder_name).resolve(),
        keep=keep and keep.resolve(),
        checkpoint_steps=checkpoint_steps,
        writes=writes,
        scores_test=not plan.searching,
        row=row,
        code=plan.planner.code_files,
    )
