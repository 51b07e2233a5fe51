"""`Workers`: the worker processes of a run, which train one trial after the other."""

import contextlib
import time
from collections.abc import Iterator

from common.errors import Failure, Misuse
from common.running.engine import Engine, StartOptions
from common.running.process import Worker

TRIALS_PER_WORKER = 50
"""Trials after which a worker is replaced, as TensorFlow's runtime leaks 1 to 2 MB with each."""


PLACE_SECONDS = 5.0
"""Time in which a worker gets a machine that is free."""
KILL_SECONDS = 5.0
"""Time limit for killed workers to end."""


class Workers:
    """At most `jobs` worker processes of an engine; iterable, and a context manager at whose end they are stopped."""

    def __init__(self, engine: Engine, jobs: int):
        self.engine, self.jobs = engine, jobs
        self.workers: list[Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        for worker in self:
            self.stop(worker)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self.workers))

    @property
    def busy(self) -> list[Worker]:
        """Those that train a trial."""
        return [worker for worker in self.workers if worker.trial]

    @property
    def idle(self) -> list[Worker]:
        """Those that train no trial."""
        return [worker for worker in self.workers if not worker.trial]

    def can_take(self) -> bool:
        """Whether a further trial may start now."""
        return len(self.busy) < self.jobs

    def take(self, options: StartOptions, *, roomy: bool = False, waiting: int = 1) -> Worker | None:
        """An idle worker with these start options, which is started if there is none; None while it waits for a machine.

        Args:
            roomy: see `Engine.start`.
            waiting: number of trials that wait for workers, which are started for all of them.
        """
        usable = [
            worker
            for worker in self.idle
            if worker.start_options == options and worker.sent < TRIALS_PER_WORKER and worker.roomy >= roomy
        ]
        placed = [worker for worker in usable if worker.process.placed]
        if not placed:
            for _ in range(min(waiting, self.jobs - len(self.busy)) - len(usable)):
                usable.append(self.start(options, roomy=roomy))
            placed = [worker for worker in usable if worker.process.placed]
        if not placed and time.monotonic() - min(worker.started for worker in usable) > PLACE_SECONDS:
            others = [worker for worker in self.idle if worker.process.placed]
            for worker in others[:1]:  # it may hold the devices that the new ones wait for
                self.stop(worker)
        return placed[0] if placed else None

    def start(self, options: StartOptions, *, roomy: bool = False) -> Worker:
        """Start a worker, in place of an idle one if there are `jobs` of them or one has had its last trial."""
        used_up = [worker for worker in self.idle if worker.sent >= TRIALS_PER_WORKER]
        if used_up or len(self.workers) >= self.jobs:
            self.stop([*used_up, *self.idle][0])
        worker = Worker(self.engine.start(options, roomy=roomy), options, roomy)
        self.workers.append(worker)
        return worker

    def with_output(self, seconds: float) -> list[Worker]:
        """Those with output to read, for which it waits up to a time in seconds."""
        ready = {id(process) for process in self.engine.with_output(seconds)}
        return [worker for worker in self.workers if id(worker.process) in ready]

    def kill(self) -> None:
        """Kill all, and wait a few seconds for the end of those that train, whose trials another run may take next."""
        for worker in self:
            worker.process.kill()
        training, limit = {id(worker.process) for worker in self.busy}, time.monotonic() + KILL_SECONDS
        with contextlib.suppress(Failure, Misuse):  # the machines are lost
            while training and time.monotonic() < limit:
                training -= {id(process) for process in self.engine.with_output(0.1) if process.read() is None}

    def stop(self, worker: Worker) -> None:
        """Stop a worker."""
        self.workers.remove(worker)
        self.engine.stop(worker.process)
