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
import signal
import sys

import ray

from common.errors import Misuse
from common.running.ray_cluster import Cluster, Config
from common.running.ray_gang import Gang
from common.running.ray_host import Checkout

OBJECT_STORE_BYTES = 150_000_000
"""Memory for objects of a Ray that this process starts."""
ATTEMPTS = 2
"""How often Ray is started."""
LINE_BYTES = 2**28


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
            f"the Ray cluster {address} needs its token (ray get-auth-token prints it there): set RAY_AUTH_TOKEN. Received: none"
        )
    if "ersion mismatch" in text:
        return f"the Ray cluster {address} must have this machine's versions of Python and Ray. Received: {text}"
    return f"no Ray cluster answers at RAY_ADDRESS={address}, or it has another RAY_AUTH_TOKEN. Received: {text}"


def send(**event) -> None:
    """Send an event to the main process."""
    if isinstance(event.get("printed"), bytes):
        event["printed"] = event["printed"].decode(errors="replace")
    EVENTS.write(json.dumps(event) + "\n")
    EVENTS.flush()


async def run(config: Config) -> None:
    """Serve the main process until it closes stdin."""
    cluster, gangs = Cluster(config), {}
    try:
        send(**await cluster.probe())
    except Misuse as error:
        send(event="refused", reason=str(error), status=error.status)
        return
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(COMMANDS, "rb"))
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
    fields = json.loads(sys.argv[1])
    config = Config(**fields | {"checkout": Checkout.here(fields["checkout"])})
    try:
        connect(config)
    except Misuse as error:
        send(event="refused", reason=str(error), status=error.status)
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(BrokenPipeError):  # the main process has been killed
        asyncio.run(run(config))
    ray.shutdown()


if __name__ == "__main__":
    EVENTS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    COMMANDS = os.dup(0)
    os.dup2(2, 1)  # what Ray prints goes to the log
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    main()
