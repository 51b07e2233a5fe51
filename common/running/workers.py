"""`Workers`: the worker processes of a run, which train one trial after the other."""

import selectors
from collections.abc import Iterator

from common.running.devices import Devices
from common.running.process import Worker

TRIALS_PER_WORKER = 50
"""Trials after which a worker is replaced, as TensorFlow's runtime leaks 1 to 2 MB with each."""


class Workers:
    """Worker processes on this machine's devices; iterable, and a context manager at whose end they are stopped."""

    def __init__(self, devices: Devices, jobs: int):
        self.devices, self.jobs = devices, jobs
        self.processes: list[Worker] = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        for worker in list(self.processes):
            self.stop(worker)
        self.selector.close()

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self.processes))

    @property
    def busy(self) -> list[Worker]:
        """Those that train a trial."""
        return [worker for worker in self.processes if worker.trial]

    def can_take(self) -> bool:
        """Whether a further trial can start now."""
        return len(self.busy) < self.jobs

    def idle(self, options: tuple[int, int, int, bool]) -> Worker | None:
        """An idle worker with these start options (see `Worker`) that may train a further trial; None if there is none."""
        usable = (w for w in self.processes if not w.trial and w.start_options == options and w.sent < TRIALS_PER_WORKER)
        return next(usable, None)

    def start(self, options: tuple[int, int, int, bool]) -> Worker:
        """Start a worker, in place of an idle one if there are `jobs` of them or one has had its last trial."""
        idle = [worker for worker in self.processes if not worker.trial]
        used_up = [worker for worker in idle if worker.sent >= TRIALS_PER_WORKER]
        if used_up or len(self.processes) >= self.jobs:
            self.stop([*used_up, *idle][0])
        worker = Worker.start(options, self.devices.take(options[1] // options[2]))
        self.processes.append(worker)
        self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker

    def with_output(self, seconds: float) -> list[Worker]:
        """Those with output to read, for which it waits up to a time in seconds."""
        return [key.data for key, _ in self.selector.select(timeout=seconds)]

    def stop(self, worker: Worker) -> None:
        """Stop a worker and release its GPUs."""
        self.devices.free(worker.gpus)
        self.selector.unregister(worker.process.stdout)
        self.processes.remove(worker)
        worker.stop()
