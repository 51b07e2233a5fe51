"""The program of the process that speaks with a Ray cluster for a run: commands as JSON lines on stdin, events on stdout.

Ray is kept out of the main process, whose signals and output it would take over, and which it would end with the cluster's head.
When the main process ends, stdin is closed, and this process ends what it has started on the cluster.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

import ray

from common.errors import Misuse
from common.running.ray_cluster import Cluster, Config
from common.running.ray_gang import Gang
from common.running.ray_worker import Checkout

OBJECT_STORE_BYTES = 150_000_000
"""Memory for objects of a Ray that this process starts."""
ATTEMPTS = 2
"""How often Ray is started."""
LINE_BYTES = 2**28
"""Limit of the length of a command: asyncio's of 64 KiB is less than a job may have."""


def connect(config: Config) -> None:
    """Start Ray or join a cluster. Raises `Misuse`."""
    local = {}
    if not config.address:
        local = {"num_cpus": config.cores, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        local |= {"_temp_dir": config.scratch}
    variables = {"env_vars": config.variables} if config.variables else None
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.CRITICAL}
    for attempt in range(ATTEMPTS):
        try:
            ray.init(address=config.address or "local", runtime_env=variables, **quiet, **local)
            return
        except Exception as error:  # Ray raises a dozen types
            ray.shutdown()
            if config.address or attempt == ATTEMPTS - 1:  # it gives up after 30 s, within which a busy machine does not start it
                raise Misuse(_refusal(config.address, error)) from error


def _refusal(address: str, error: Exception) -> str:
    """One line about an error of `ray.init`."""
    text = " ".join(str(error).split())[:300]
    if not address:
        return f"Ray cannot start on this machine: {text}"
    if isinstance(error, ray.exceptions.AuthenticationError):
        return (
            f"the Ray cluster {address} needs its token (ray get-auth-token prints it there): set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_MODE=disabled if it has no authentication. Received: none"
        )
    if "No node info found" in text:
        return (
            f"this machine is no node of the Ray cluster {address}: run the command on a node, or .venv/bin/ray start "
            f"--address={address} here. Received: {text}"
        )
    if "ersion mismatch" in text:
        return f"the Ray cluster {address} must have this machine's versions of Python and Ray. Received: {text}"
    return f"no Ray cluster answers at RAY_ADDRESS={address}, or it has another RAY_AUTH_TOKEN. Received: {text}"


class Events:
    """The events for the main process, which are written by a thread: the main process may be sending commands meanwhile."""

    def __init__(self, file: TextIO):
        self.file = file
        self.waiting: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def send(self, **event) -> None:
        """Send an event."""
        if isinstance(event.get("printed"), bytes):
            event["printed"] = event["printed"].decode(errors="replace")
        self.waiting.put(event)

    def close(self) -> None:
        """Wait until all events are written."""
        self.waiting.put(None)
        self.thread.join()

    def _write(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the main process has been killed
            while (event := self.waiting.get()) is not None:
                self.file.write(json.dumps(event) + "\n")
                self.file.flush()


async def run(config: Config, commands: int, send: Callable[..., None]) -> None:
    """Serve the main process until it closes the file `commands`.

    Args:
        commands: its descriptor; send: see `Events.send`.
    """
    cluster, gangs = Cluster(config), {}
    send(**await cluster.probe())
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(commands, "rb"))
    while line := await reader.readline():
        command = json.loads(line)
        number = command["number"]
        if command["do"] == "start":
            events = functools.partial(send, number=number)
            gangs[number] = Gang(cluster, events, tuple(command["options"]), command["roomy"])
        elif command["do"] == "train":
            gangs[number].jobs.put_nowait(command["job"])
        else:
            gang = gangs[number]
            gang.end()
            if command["do"] == "stop":
                gangs.pop(number).task.cancel()
    for gang in gangs.values():
        gang.task.cancel()
        gang.end()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events, commands = Events(os.fdopen(os.dup(1), "w", encoding="utf-8")), os.dup(0)
    os.dup2(2, 1)  # what Ray prints goes to the log
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    fields = json.loads(sys.argv[1])
    config = Config(**fields | {"checkout": Checkout.here(fields["checkout"])})
    try:
        connect(config)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the main process gets it too, and then closes the commands
        asyncio.run(run(config, commands, events.send))
        ray.shutdown()
    except Misuse as error:
        events.send(event="refused", reason=str(error), status=error.status)
    events.close()


if __name__ == "__main__":
    main()
