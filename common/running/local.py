"""`LocalEngine`: worker processes on the CPU cores or GPUs of this machine."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field

from common.files import LOG, PROJECT, scratch_folder
from common.machine import columns, cores, gpus, memory_kills
from common.running.engine import Ending, StartOptions
from common.running.environment import environment
from common.setting import Setting
from common.training.job import Job

STOP_SECONDS = 5.0
"""Time limit for a killed process to end."""


@dataclass
class Devices:
    """The devices of this machine, with the GPUs that are in use."""

    names: list[str]
    """GPUs by their CUDA names; empty if trials run on the CPU."""
    per_gpu: int = 1
    """Trials at a time on one GPU."""
    load: dict[str, int] = field(default_factory=dict)
    """GPU -> number of its workers."""

    @classmethod
    def here(cls, per_gpu: int) -> "Devices":
        """The devices of this machine; see the fields."""
        return cls(gpus(), per_gpu)

    def jobs(self, threads: int, replicas: int) -> int:
        """Default number of trials at a time."""
        if self.names:
            return max(1, len(self.names) * self.per_gpu // replicas)
        return max(1, cores() // (threads * replicas))

    def take(self, replicas: int) -> list[str]:
        """Assign the GPUs with the fewest workers to a worker. Returns their names; empty without GPUs."""
        chosen = sorted(self.names, key=lambda name: self.load.get(name, 0))[:replicas]
        for name in chosen:
            self.load[name] = self.load.get(name, 0) + 1
        return chosen

    def free(self, chosen: list[str]) -> None:
        """Return GPUs that `take` has assigned."""
        for name in chosen:
            self.load[name] -= 1


class LocalProcess:
    """A worker process on this machine, see `common.running.engine.Process`.

    Args:
        gpus: GPUs that it may use, by their CUDA names.
        tf_config: `TF_CONFIG` of the machines that train each trial together; empty for a single one.
        machine: columns `device` and `kind` of its rows.
    """

    placed, node = True, ""

    def __init__(self, options: StartOptions, gpus: list[str], *, tf_config: str = "", machine: dict[str, str] | None = None):
        self.gpus, self.machine = gpus, machine or {}
        self.scratch, log = scratch_folder("exp-worker-")
        """Folder for its log and for temporary files, of which TensorFlow leaves many."""
        self.log = self.scratch / LOG
        self.buffer = b""
        self.was_killed, self.memory_kills = False, memory_kills()
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "common.running.worker", *(str(int(value)) for value in options)],
                cwd=PROJECT,
                env=environment(options, gpus, self.scratch, tf_config=tf_config),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        os.set_blocking(self.process.stdout.fileno(), False)

    def send(self, job: Job) -> bool:
        """Send a trial. Returns False if the process has ended."""
        try:
            self.process.stdin.write(f"{job.to_json()}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def read(self) -> list[dict] | None:
        """The events since the last call; None if the process has ended."""
        chunk = self.process.stdout.read()
        if chunk == b"":
            return None
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def ending(self) -> Ending:
        """Signal or exit status of the ended process; or that the system has killed it, or another process, to free memory."""
        status = self.process.wait()
        if status == -signal.SIGKILL and not self.was_killed and memory_kills() > self.memory_kills:
            return Ending("memory", "its machine had too little memory")
        cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return Ending("died", cause, by_signal=status < 0)

    def printed(self) -> bytes:
        """What its last trial has printed."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()
        return b""

    def kill(self) -> None:
        """Kill it."""
        self.was_killed = True
        self.process.kill()

    def close(self) -> None:
        """Kill it and delete its temporary files."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a slow disk, and ends later
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(OSError):  # a job that could not be sent is still buffered
            self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class LocalEngine:
    """The devices of this machine, see `common.running.engine.Engine`."""

    def __init__(self, devices: Devices):
        self.devices = devices
        self.machine = columns()
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_) -> None:
        self.selector.close()

    @property
    def on_gpus(self) -> bool:
        """Whether trials run on GPUs."""
        return bool(self.devices.names)

    def jobs(self, setting: Setting) -> int:
        """Default number of trials at the same time."""
        return self.devices.jobs(setting.threads, setting.replicas)

    def unavailable(self, setting: Setting) -> str | None:
        """Reason why a trial with this setting cannot run on this machine; None if it can."""
        if setting.workers > 1:
            return f"needs {setting.workers} machines, this is one"
        if self.on_gpus and setting.replicas > len(self.devices.names):
            return f"needs {setting.replicas} GPUs, this machine has {len(self.devices.names)}"
        return None

    def start(self, options: StartOptions, *, roomy: bool = False) -> LocalProcess:
        """Start a worker process."""
        process = LocalProcess(options, self.devices.take(options[1]), machine=self.machine)
        self.selector.register(process.process.stdout, selectors.EVENT_READ, process)
        return process

    def stop(self, process: LocalProcess) -> None:
        """Stop a process and release its GPUs."""
        self.devices.free(process.gpus)
        self.selector.unregister(process.process.stdout)
        process.close()

    def with_output(self, seconds: float) -> list[LocalProcess]:
        """The processes with something to read, for which it waits up to a time in seconds."""
        return [key.data for key, _ in self.selector.select(timeout=seconds)]
