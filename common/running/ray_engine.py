"""`RayEngine`: worker processes on the nodes of a Ray cluster, by another process that speaks with Ray (`ray_driver`)."""

import contextlib
import importlib.util
import json
import os
import pathlib
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Sequence

from common.errors import Failure, Misuse
from common.files import LOG, PROJECT, scratch_folder
from common.machine import ONEDNN, available_memory, cores
from common.running.engine import Ending, StartOptions
from common.setting import Setting
from common.training.job import Job

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of the cluster; Ray's own."""
MEMORY_BYTES = 1_500_000_000
"""Memory for Ray's processes and one trial."""
JOIN_SECONDS = 180.0
"""Time limit for Ray to start, or for a cluster to answer."""
HEAD_SECONDS = 20
"""Time without an answer from the cluster's head after which Ray gives up."""
ANSWER_SECONDS = 5.0
"""Time limit for an address to answer."""
MARK_SECONDS = 24 * 3600
"""Age after which the file by which nodes know the results folder is that of a killed run."""
STOP_SECONDS = 20.0
"""Time limit for the end of what runs on the cluster."""


class RayProcess:
    """A worker process on a node, or several on different nodes; see `common.running.engine.Process`."""

    def __init__(self, engine: "RayEngine", number: int):
        self.engine, self.number = engine, number
        self.placed, self.node, self.machine = False, "", engine.machine
        self.events: list[dict] = []
        self.ended: Ending | None = None
        self.output = ""

    def send(self, job: Job) -> bool:
        """Send a trial. Returns False if the process has ended."""
        self.output = ""
        return self.ended is None and self.engine.command(do="train", number=self.number, job=json.loads(job.to_json()))

    def receive(self, event: dict) -> None:
        """Take in an event of the driver."""
        self.output = event.pop("printed", self.output)
        if event["event"] == "placed":
            self.placed, self.node, self.machine = True, event["node"], event["machine"]
        elif event["event"] == "ended":
            self.ended = Ending(event["how"], event["cause"], event["by_signal"])
        else:
            self.events.append(event)

    def read(self) -> list[dict] | None:
        """The events since the last call; None if the process has ended."""
        events, self.events = self.events, []
        return None if self.ended and not events else events

    def ending(self) -> Ending:
        """Why it has ended."""
        return self.ended

    def printed(self) -> bytes:
        """What its last trial has printed, once it has ended."""
        return self.output.encode()

    def kill(self) -> None:
        """Kill it."""
        self.engine.command(do="kill", number=self.number)


class RayEngine:
    """The nodes of a Ray cluster, see `common.running.engine.Engine`: of that in `RAY_ADDRESS`, else of one that is started here.

    Args:
        code: paths of the files that a trial may import, which must be the same on all nodes.
        results: the results folder. Nodes that share it keep checkpoints there.
        per_gpu: trials at a time on one GPU.
        one_kind: whether nodes of another kind than most are left out.

    Raises:
        Misuse: Ray is not installed or cannot start, no cluster answers, or a node has another version of the project.
        Failure: Ray does not answer in time.
    """

    def __init__(self, code: Iterable[str], results: pathlib.Path, *, per_gpu: int = 1, one_kind: bool = True):
        self.address = os.environ.get(ADDRESS, "").strip()
        _check(self.address)
        self.per_gpu, self.processes, self.count = per_gpu, {}, 0
        self.nodes: list[dict] = []
        self.scratch, log = scratch_folder("exp-ray-")  # a short name, as paths of sockets have at most 107 bytes
        self.mark = results.resolve() / f".shared-{uuid.uuid4().hex[:12]}"
        config = {
            "address": self.address,
            "cores": cores(),
            "per_gpu": per_gpu,
            "one_kind": one_kind,
            "mark": str(self.mark),
            "scratch": str(self.scratch),
            "checkout": list(code),
            "variables": {name: os.environ[name] for name in (ONEDNN,) if name in os.environ},
        }
        with log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "common.running.ray_driver", json.dumps(config)],
                cwd=PROJECT,
                env={**os.environ, **_variables(self.address)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the main process alone
            )
        os.set_blocking(self.driver.stdout.fileno(), False)
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.driver.stdout, selectors.EVENT_READ)

    def __enter__(self) -> "RayEngine":
        try:
            for left in self.mark.parent.glob(".shared-*"):  # by killed runs
                if time.time() - left.stat().st_mtime > MARK_SECONDS:
                    left.unlink(missing_ok=True)
            self.mark.touch()
            self._join()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _join(self) -> None:
        """Wait for the event about the cluster."""
        limit, events = time.monotonic() + JOIN_SECONDS, []
        while not events:
            if not self.selector.select(max(limit - time.monotonic(), 0)):
                where = f"at {ADDRESS}={self.address}" if self.address else "on this machine"
                raise Failure(f"Ray does not answer {where} within {JOIN_SECONDS:g} s")
            events = self._events()
        (event,) = events
        self.machine, self.nodes = event["machine"], event["nodes"]
        if event["silent"]:
            print(f"left out: {', '.join(event['silent'])}", flush=True)
        if event["other_kinds"]:
            kind = self.machine["kind"]
            print(f"left out, as SAME_DEVICE=0 is not set and others are {kind}: {', '.join(event['other_kinds'])}", flush=True)
        if self.address:
            print(f"Ray cluster {self.address}: {len(self.nodes)} nodes, {self.machine['kind']}", flush=True)

    def __exit__(self, *error) -> None:
        with contextlib.suppress(OSError):  # it has ended, and a command could not be sent
            self.driver.stdin.close()
        try:
            self.driver.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.driver.kill()
        self.selector.close()
        self.driver.stdout.close()
        self.mark.unlink(missing_ok=True)
        if isinstance(error[1] if error else None, Failure):
            log = self.mark.parent / "logs" / "ray.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.scratch / LOG, log)
            print(f"what Ray printed: {log}", flush=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def on_gpus(self) -> bool:
        """Whether trials run on GPUs."""
        return any(node["gpus"] for node in self.nodes)

    def _slots(self, node: dict, setting: Setting) -> int:
        """Number of processes of trials with a setting that a node has room for."""
        each = setting.replicas // setting.workers
        if self.on_gpus:
            return int(node["gpus"] * (self.per_gpu if each == 1 else 1) // each)
        return int(node["cpus"] // (setting.threads * each))

    def jobs(self, setting: Setting) -> int:
        """Default number of trials at the same time."""
        slots = [self._slots(node, setting) for node in self.nodes]
        count = sum(slots) // setting.workers
        while count and sum(min(slot, count) for slot in slots) < count * setting.workers:  # a trial has each node once
            count -= 1
        return max(1, count)

    def unavailable(self, setting: Setting) -> str | None:
        """Reason why a trial with this setting cannot run on the cluster; None if it can."""
        if setting.workers > 1 and setting.replicas > setting.workers and not self.on_gpus:
            return f"has one replica on each machine without GPUs: REPLICAS={setting.workers}"
        able = sum(self._slots(node, setting) > 0 for node in self.nodes)
        if able >= setting.workers:
            return None
        each = setting.replicas // setting.workers
        needs = f"{each} GPUs" if self.on_gpus else f"{setting.threads * each} CPUs"
        return f"needs {setting.workers} nodes with {needs}, the Ray cluster has {able}"

    def start(self, options: StartOptions, *, roomy: bool = False) -> RayProcess:
        """Ask for a process, which Ray places on a node."""
        self.count += 1
        process = self.processes[self.count] = RayProcess(self, self.count)
        self.command(do="start", number=self.count, options=options, roomy=roomy)
        return process

    def stop(self, process: RayProcess) -> None:
        """Stop a process."""
        self.processes.pop(process.number)
        self.command(do="stop", number=process.number)

    def command(self, **command) -> bool:
        """Send a command to the driver. Returns False if it has ended."""
        try:
            self.driver.stdin.write(f"{json.dumps(command)}\n".encode())
            self.driver.stdin.flush()
        except OSError:  # `with_output` will raise
            return False
        return True

    def with_output(self, seconds: float) -> Sequence[RayProcess]:
        """The processes with something to read, for which it waits up to a time in seconds. An ended one has until it is stopped.

        Raises:
            Misuse: a node has another version of the project, other data or another kind of processor.
            Failure: the cluster's head is lost.
        """
        ended = [process for process in self.processes.values() if process.ended]
        for event in self._events() if self.selector.select(0 if ended else seconds) else ():
            process = self.processes.get(event.pop("number"))
            if process is not None:  # else it has been stopped
                process.receive(event)
        return [process for process in self.processes.values() if process.events or process.ended]

    def _events(self) -> list[dict]:
        """The driver's events since the last call. Raises like `with_output`."""
        chunk = self.driver.stdout.read()
        if chunk == b"":
            raise self._lost()
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        events = [json.loads(line) for line in lines]
        for event in events:
            if event["event"] == "refused":
                raise (Misuse if event["status"] == Misuse.status else Failure)(event["reason"])
        return events

    def _lost(self) -> Misuse | Failure:
        """The error about the driver, which has ended."""
        if not self.nodes and self.address:
            return Misuse(f"{ADDRESS} must be of a running Ray cluster: something else answers there. Received: {self.address}")
        if self.address:
            return Failure(
                f"the head of the Ray cluster {self.address} was lost: start the cluster and the same command again, which "
                "keeps finished trials"
            )
        return Failure("Ray on this machine has ended: the same command starts it again, and keeps finished trials")


def _variables(address: str) -> dict[str, str]:
    """Environment variables that Ray reads when it is imported: authentication by token is on; and how long it waits.

    Workers of a Ray that is started here have the priority of this process, as those of the local engine.
    """
    variables = {"RAY_AUTH_MODE": "token", "RAY_NUM_REDIS_GET_RETRIES": "60"}
    variables["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(HEAD_SECONDS)
    if not address:
        variables |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}  # the token is that of this run alone
    return {name: value for name, value in variables.items() if name not in os.environ}


def _check(address: str) -> None:
    """Raises `Misuse` if Ray is not installed, an address is none of a cluster, or memory is too small to start Ray."""
    if importlib.util.find_spec("ray") is None:
        raise Misuse("ENGINE=ray needs Ray, which is not installed: make setup RAY=1 installs it (300 MB)")
    if address:
        _check_address(address)
        return
    memory = available_memory()
    if memory is not None and memory < MEMORY_BYTES:
        raise Misuse(
            f"ENGINE=ray needs {MEMORY_BYTES / 1e9:.1f} GB of free memory on this machine, for Ray and a trial: use "
            f"ENGINE=local, or {ADDRESS} of a cluster. Received: {memory / 1e9:.1f} GB"
        )


def _check_address(address: str) -> None:
    """Raises `Misuse` for an address where nothing answers, for which Ray would wait a minute."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise Misuse(f"{ADDRESS} must be host:port of the head of a Ray cluster, as ray start prints it. Received: {address}")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Misuse(
            f"{ADDRESS} must be of a running Ray cluster: nothing answers there ({reason}). Received: {address}"
        ) from None
