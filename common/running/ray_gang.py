"""`Gang`: the worker processes that train each trial together, on one or several nodes of a Ray cluster."""

import asyncio
import dataclasses
import json
import pathlib
import traceback
from collections.abc import Callable

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from common.errors import Failure, Misuse
from common.files import write_atomic
from common.running import ray_host
from common.running.engine import StartOptions
from common.running.ray_cluster import Cluster
from common.running.ray_host import Host

SETTLE_SECONDS = 60.0
"""Time limit for the other machines of a trial after the first has ended it."""


class Lost(Exception):
    """A worker process has ended: the event `ended`."""

    def __init__(self, **event):
        self.event = {"event": "ended", "printed": b"", **event}


class Gang:
    """The processes that train each trial together: one, or one on each of several machines.

    Args:
        send: f(**event), called with the events for the main process.
        options, roomy: see `Engine.start`.
    """

    def __init__(self, cluster: Cluster, send: Callable[..., None], options: StartOptions, roomy: bool):
        self.cluster, self.send, self.options, self.roomy = cluster, send, options, roomy
        self.hosts: list = []
        self.group = None
        self.jobs: asyncio.Queue[dict] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._place()
            while True:
                await self._train(await self.jobs.get())
        except Lost as lost:
            self.send(**lost.event)
        except ray.exceptions.RayError as error:
            self.send(event="ended", printed="", by_signal=True, **ending(error))
        except (Misuse, Failure) as error:
            self.send(event="refused", reason=str(error), status=error.status)
        except Exception as error:
            traceback.print_exc()
            self.send(event="refused", reason=f"Ray has failed: {type(error).__name__}: {error}", status=Failure.status)
        finally:
            self.end()

    async def _place(self) -> None:
        """Wait for machines, and start the processes. Raises `Misuse` for a machine with another version of the project."""
        abouts = await self._take_machines()
        while self.cluster.config.one_kind and (others := [about for about in abouts if about["kind"] not in self.cluster.kinds]):
            self.cluster.others |= {about["node"] for about in others}  # which have joined since the run began
            self.end()
            abouts = await self._take_machines()
        self.nodes = [about["node"] for about in abouts]
        if len(self.hosts) == 1:
            await self.hosts[0].start.remote()
        else:
            await self._start_together(abouts)
        machine = {name: abouts[0][name] for name in ("device", "kind")}
        self.send(event="placed", node=", ".join(self.names), machine=machine)

    async def _take_machines(self) -> list[dict]:
        """Wait for machines. Returns their descriptions."""
        machines, selector = self.options[2], self.cluster.selector()
        resources = self.cluster.resources(self.options, self.roomy)
        if machines == 1:
            places = [{"label_selector": selector}]
        else:
            bundle = {name.removeprefix("num_").upper().rstrip("S"): value for name, value in resources.items() if value}
            every = {"bundle_label_selector": [selector] * machines} if selector else {}
            self.group = placement_group([bundle] * machines, strategy="STRICT_SPREAD", **every)
            await self.group.ready()
            strategies = [PlacementGroupSchedulingStrategy(self.group, place) for place in range(machines)]
            places = [{"scheduling_strategy": strategy} for strategy in strategies]
        actor, config = ray.remote(Host), self.cluster.config
        self.hosts = [actor.options(**resources, **place, max_restarts=0).remote(self.options, config.mark) for place in places]
        expected = dataclasses.replace(config.checkout, commit="")  # a commit during a run changes no file that it uses
        abouts = await asyncio.gather(*(host.describe.remote(expected) for host in self.hosts))
        self.names = [self.cluster.accept(about) for about in abouts]
        return abouts

    async def _start_together(self, abouts: list[dict]) -> None:
        """Start the processes of several machines, which connect by `TF_CONFIG`. Raises `Misuse` if their kinds differ."""
        kinds = {about["kind"] for about in abouts}
        if len(kinds) > 1:
            raise Misuse(f"all machines of a trial must be of one kind. Received: {' and '.join(sorted(kinds))}")
        addresses, shares = zip(*await asyncio.gather(*(host.address.remote() for host in self.hosts)), strict=True)
        for index, host in enumerate(self.hosts):
            tf_config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
            await host.start.remote(tf_config, shares_results=all(shares))

    async def _train(self, job: dict) -> None:
        """Train a trial. Raises `Lost` or `RayError` if a process is lost."""
        for node, name, host in zip(self.nodes, self.names, self.hosts, strict=True):
            await self.cluster.provide(node, name, host, job["dataset"])
        line = json.dumps(job)
        streams = [host.train.options(num_returns="streaming").remote(line, host is self.hosts[0]) for host in self.hosts]
        tasks = [asyncio.create_task(self._last_event(stream, stream is streams[0])) for stream in streams]
        try:
            event = await _settled(tasks)
        finally:
            for task in tasks:
                task.cancel()
        for path, content in event.pop("files").items():
            write_atomic(pathlib.Path(path), content)
        self.send(**event)
        if event["event"] == "failed" and len(tasks) > 1:  # collective operations may be out of step
            raise Lost(how="died", cause="another machine failed", by_signal=True)

    async def _last_event(self, stream, is_chief: bool) -> dict:
        """The last event of a trial on one machine. Raises `Lost` if its process has ended. Hands on the chief's other events."""
        async for reference in stream:
            event = await reference
            if event["event"] == "ended":
                raise Lost(**event)
            if event["event"] in ray_host.FINAL:
                return event
            if is_chief:
                self.send(**event)
        raise Lost(how="lost", cause="its machine was lost", by_signal=True)

    def end(self) -> None:
        """Kill the processes and release the machines."""
        for host in self.hosts:
            ray.kill(host)
        self.hosts = []
        if self.group is not None:
            remove_placement_group(self.group)
            self.group = None


async def _settled(tasks: list[asyncio.Task]) -> dict:
    """The chief's last event of a trial; or that of another machine on which it failed, while the chief waits for it.

    A process also fails if another one is lost, which is no failure of the trial: so all are waited for, up to a time.

    Raises:
        Lost, RayError: one is lost.
    """
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done, _ = await asyncio.wait(tasks, timeout=SETTLE_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    failed = [task for task in done if task.result()["event"] != "finished"]
    if tasks[0] not in done and not failed:
        raise Lost(how="died", cause="the machines of a trial did not end together", by_signal=True)
    return (tasks[0] if tasks[0] in done and tasks[0] not in failed else failed[0] if failed else tasks[0]).result()


def ending(error: ray.exceptions.RayError) -> dict[str, str]:
    """How a process has ended, and why, from Ray's error about its actor."""
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in str(error):
        return {"how": "memory", "cause": "its machine had too little memory"}
    return {"how": "lost", "cause": "its machine or its Ray process was lost"}
