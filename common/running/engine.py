"""What an engine is: the place where worker processes run, such as this machine (`common.running.local`) or a cluster.

Plans, rows, verdicts and figures do not depend on the engine. `Workers` asks it for processes, and `Runner` gives these trials.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from common.setting import Setting
from common.training.job import Job

StartOptions = tuple[int, int, int, bool]
"""Threads, replicas, machines and determinism of a worker's trials, which TensorFlow fixes at its start."""


class Ending(NamedTuple):
    """Why a process has ended."""

    how: str
    """`died`; `memory` if it was killed to free memory; `lost` with its machine."""
    cause: str
    """One line."""
    by_signal: bool = True
    """Whether it was killed, rather than exited."""


class Process(Protocol):
    """A worker process, or several on different machines that train each trial together."""

    placed: bool
    """Whether it has a machine and can take a trial. On this machine it has from the start."""
    node: str
    """Name of its machines; empty for this machine."""
    machine: dict[str, str]
    """The columns `device` and `kind` of its rows."""

    def send(self, job: Job) -> bool:
        """Send a trial. Returns False if the process has ended."""

    def read(self) -> list[dict] | None:
        """The events since the last call, see `common.running.worker`; None if the process has ended."""

    def ending(self) -> Ending:
        """Why it has ended, once `read` has returned None."""

    def printed(self) -> bytes:
        """What its last trial has printed."""

    def kill(self) -> None:
        """Kill it; `read` then returns None."""


class Engine(Protocol):
    """Starts worker processes. A context manager, at whose end none is left."""

    machine: dict[str, str]
    """The columns `device` and `kind` of the rows of this run."""
    on_gpus: bool
    """Whether trials run on GPUs."""

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *error) -> None: ...

    def jobs(self, setting: Setting) -> int:
        """Default number of trials at the same time."""

    def unavailable(self, setting: Setting) -> str | None:
        """Reason why a trial with this setting cannot run here; None if it can."""

    def start(self, options: StartOptions, *, roomy: bool = False) -> Process:
        """Start a process.

        Args:
            roomy: whether it needs more memory than others, so that fewer trials may run beside it.
        """

    def stop(self, process: Process) -> None:
        """Stop a process, delete its temporary files and release its devices."""

    def with_output(self, seconds: float) -> Sequence[Process]:
        """The processes with something to read, for which it waits up to a time in seconds. Raises `Misuse`, `Failure`."""
