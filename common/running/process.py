"""`Worker`: a worker process, as the main process controls it."""

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
from common.running.environment import environment
from common.running.plan import Plan, Planned
from common.training.job import Job

CONNECT_SECONDS = 300.0
"""Time limit for the workers of several machines to connect, with their imports."""
START_SECONDS = 3600.0
"""Time limit for TensorFlow's import, which takes minutes from a network disk."""
LONGEST_STEP = 5.0
"""Seconds between two readings of a stopwatch that count at most; in a longer time this process was suspended."""
LOG = "output.log"
STOP_SECONDS = 5.0
"""Time limit for a killed worker to end."""


class Stopwatch:
    """Measures time without that in which this process was suspended, by Ctrl-Z or with the whole machine.

    For this, it must be read at least every `LONGEST_STEP` seconds.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self.elapsed, self.read = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Seconds since the last restart."""
        now = time.monotonic()
        self.elapsed += min(now - self.read, LONGEST_STEP)
        self.read = now
        return self.elapsed


@dataclass
class Worker:
    """A worker process and the state of its trial."""

    process: subprocess.Popen
    start_options: tuple[int, int, int, bool]
    """Threads, replicas, workers and determinism, which TensorFlow fixes at its start."""
    gpus: list[str]
    scratch: pathlib.Path
    """Folder for its log and for temporary files, of which TensorFlow leaves many."""
    trial: Planned | None = None
    """The trial in progress."""
    sent: int = 0
    """Number of trials sent so far."""
    beside: int = 0
    """Largest number of other trials that ran at the same time; a column of the rows."""
    ready: bool = False
    """Whether TensorFlow has started."""
    delivered: bool = True
    """False if the last job could not be sent."""
    buffer: bytes = b""
    """An incomplete line of output."""
    progress: dict = field(default_factory=dict)
    """The last event about progress."""
    silence: Stopwatch = field(default_factory=Stopwatch)
    """Time since the last event."""
    stalled: float = 0.0
    """Limit in seconds that the silence has exceeded; 0 if it has not."""
    start_up: Stopwatch = field(default_factory=Stopwatch)
    """Time since the start."""

    @classmethod
    def start(cls, start_options: tuple[int, int, int, bool], gpus: list[str]) -> "Worker":
        """Start a worker process.

        Args:
            start_options: see the field.
            gpus: GPUs that it may use, by their CUDA names.
        """
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="worker-"))
        with (scratch / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "common.running.worker", *(str(int(value)) for value in start_options)],
                cwd=PROJECT,
                env=environment(start_options, gpus, scratch),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process, start_options, gpus, scratch)

    @property
    def log(self) -> pathlib.Path:
        """Path of the file with its output."""
        return self.scratch / LOG

    def send(self, trial: Planned, job: Job) -> None:
        """Send a trial to the worker. `delivered` becomes False if the worker has died."""
        self.trial, self.progress = trial, {}
        self.silence.restart()
        self.sent += 1
        try:
            self.process.stdin.write(f"{job.to_json()}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # it died while idle; `events` will return None
            self.delivered = False

    def events(self) -> list[dict] | None:
        """The events received since the last call; None if the process has ended."""
        self.silence.restart()
        chunk = self.process.stdout.read()
        if chunk == b"":
            return None
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def is_stalled(self, limit: float) -> bool:
        """Whether the trial has reported no progress for `limit` seconds; until TensorFlow has started, for `START_SECONDS`."""
        limit = limit if self.ready else max(limit, START_SECONDS)
        if self.trial is not None and self.silence.seconds() > limit:
            self.stalled = limit
        return self.stalled > 0

    def check_connection(self) -> None:
        """Raise `Failure` if the worker did not connect to those of the other machines in time."""
        if not self.ready and self.start_up.seconds() > CONNECT_SECONDS:
            raise Failure(
                f"this machine's worker could not connect to the others within {CONNECT_SECONDS:g} s: check that each machine "
                f"can reach every address of TF_CONFIG. Received: {os.environ.get('TF_CONFIG')}"
            )

    def exit_cause(self) -> str:
        """Signal or exit status of the ended process, as text.

        Raises:
            Failure: it could not start and was not killed, so that another worker could not start either.
        """
        status = self.process.wait()
        cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if not self.ready and status >= 0:
            last = (self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
            raise Failure(f"a worker could not start ({cause}): {last}")
        return cause

    def stop(self) -> None:
        """Kill the process and delete its temporary files."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a slow disk, and ends later
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(OSError):  # a job that could not be sent is still buffered
            self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def job(plan: Plan, trial: Planned, row: dict, *, keep: pathlib.Path | None, checkpoint_steps: int | None, writes=True) -> Job:
    """The job of a planned trial, as sent to a worker.

    Args:
        row: the columns that are known; keep, checkpoint_steps, writes: see `Job`.
    """
    return Job(
        script=plan.experiment.path,
        seed=trial.seed,
        arguments=trial.arguments,
        setting=trial.setting,
        dataset=trial.dataset,
        full_size=trial.full_size,
        folder=(plan.files.state / trial.folder_name).resolve(),
        keep=keep and keep.resolve(),
        checkpoint_steps=checkpoint_steps,
        writes=writes,
        scores_test=not plan.searching,
        row=row,
        code=plan.planner.code_files,
    )
