"""`Worker`: a worker process, as the main process controls it."""

import pathlib
import time
from dataclasses import dataclass, field

from common.errors import Failure
from common.running.engine import Ending, Process, StartOptions
from common.running.plan import Plan, Planned
from common.training.job import Job

CONNECT_SECONDS = 300.0
"""Time limit for the workers of several machines to connect, with their imports."""
START_SECONDS = 3600.0
"""Time limit for TensorFlow's import, which takes minutes from a network disk."""
LONGEST_STEP = 5.0
"""Seconds between two readings of a stopwatch that count at most; in a longer time this process was suspended."""


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

    process: Process
    start_options: StartOptions
    roomy: bool = False
    """Whether it has more memory than others."""
    trial: Planned | None = None
    """The trial in progress."""
    started: float = field(default_factory=time.monotonic)
    """When it was asked for; by `time.monotonic`."""
    sent: int = 0
    """Number of trials sent so far."""
    beside: int = 0
    """Largest number of other trials that ran on its machine at the same time; a column of the rows."""
    ready: bool = False
    """Whether TensorFlow has started."""
    delivered: bool = True
    """False if the last job could not be sent."""
    progress: dict = field(default_factory=dict)
    """The last event about progress."""
    silence: Stopwatch = field(default_factory=Stopwatch)
    """Time since the last event."""
    stalled: float = 0.0
    """Limit in seconds that the silence has exceeded; 0 if it has not."""

    def send(self, trial: Planned, job: Job) -> None:
        """Send a trial to the worker. `delivered` becomes False if the worker has died."""
        self.trial, self.progress = trial, {}
        self.silence.restart()
        self.sent += 1
        self.delivered = self.process.send(job)  # if it died while idle, `events` will return None

    def events(self) -> list[dict] | None:
        """The events received since the last call; None if the process has ended."""
        self.silence.restart()
        return self.process.read()

    def is_stalled(self, limit: float) -> bool:
        """Whether the trial has reported no progress for `limit` seconds.

        Until TensorFlow has started that is `START_SECONDS`, or `CONNECT_SECONDS` on several machines.
        """
        if not self.ready:
            limit = CONNECT_SECONDS if self.start_options[2] > 1 else max(limit, START_SECONDS)
        if self.trial is not None and self.silence.seconds() > limit:
            self.stalled = limit
        return self.stalled > 0

    def ending(self) -> Ending:
        """Why the process has ended.

        Raises:
            Failure: it could not start and was not killed, so that another worker could not start either.
        """
        if self.stalled:
            return Ending("died", f"no progress for {self.stalled:g} s")
        ending = self.process.ending()
        if not self.ready and not ending.by_signal:
            printed = self.process.printed().decode(errors="replace").strip().splitlines()
            raise Failure(f"a worker could not start ({ending.cause}): {printed[-1] if printed else 'no output'}")
        return ending


def job(plan: Plan, trial: Planned, row: dict, *, keep: pathlib.Path | None, checkpoint_steps: int | None) -> Job:
    """The job of a planned trial, as sent to a worker.

    Args:
        row: the columns that are known; keep, checkpoint_steps: see `Job`.
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
        writes=True,
        scores_test=not plan.searching,
        row=row,
        code=plan.planner.code_files,
    )
