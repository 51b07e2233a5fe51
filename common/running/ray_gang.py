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
from common.running import ray_worker
from common.running.engine import StartOptions
from common.running.ray_cluster import Cluster, last_line
from common.running.ray_worker import RayWorker

WAIT_SECONDS = 60.0
"""Time after which the main process is told that no machine is free."""
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
        self.actors: list = []
        self.names: list[str] = []
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
        except ray.exceptions.RayTaskError as error:  # not Ray has failed, but what runs there
            nodes = " or ".join(self.names) or "a node"
            reason = f"{nodes} of the Ray cluster cannot run a trial: {last_line(error)}"
            self.send(event="refused", reason=reason, status=Failure.status)
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
        notice = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._tell_that_it_waits)
        try:
            abouts = await self._take_usable_machines()
        finally:
            notice.cancel()
        self.nodes = [about["node"] for about in abouts]
        if len(self.actors) == 1:
            await self.actors[0].start.remote()
        else:
            await self._start_together()
        machine = {name: abouts[0][name] for name in ("device", "kind")}
        self.send(event="placed", node=", ".join(self.names), machine=machine)

    def _tell_that_it_waits(self) -> None:
        """Tell the main process, once in a run, which machines are waited for."""
        if self.cluster.has_waited:
            return
        self.cluster.has_waited = True
        resources, machines = self.cluster.resources(self.options, self.roomy), self.options[2]
        needed = " and ".join(f"{value:g} {name.removeprefix('num_').upper()}" for name, value in resources.items() if value)
        nodes = "a node" if machines == 1 else f"{machines} nodes"
        free = ray.available_resources()
        now = ", ".join(f"{free.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
        self.send(event="progress", warning=f"waiting for {nodes} with {needed} each; free in the whole Ray cluster: {now}")

    async def _take_usable_machines(self) -> list[dict]:
        """Wait for machines of the kinds that the trial may run on. Returns their descriptions."""
        allowed = self.cluster.kinds_of(self.options[2])
        limited = self.cluster.config.one_kind or self.options[2] > 1
        while True:
            abouts = await self._take_machines()
            others = {about["node"] for about in abouts if limited and about["kind"] not in allowed}
            if not others:
                return abouts
            self.cluster.others |= others  # which have joined since the run began
            self.end()

    async def _take_machines(self) -> list[dict]:
        """Wait for machines. Returns their descriptions."""
        machines, selector = self.options[2], self.cluster.selector(self.options[2])
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
        remote, config = ray.remote(RayWorker), self.cluster.config
        self.actors = [remote.options(**resources, **place, max_restarts=0).remote(self.options, config.mark) for place in places]
        expected = dataclasses.replace(config.checkout, commit="")  # a commit during a run changes no file that it uses
        abouts = await asyncio.gather(*(actor.describe.remote(expected) for actor in self.actors))
        self.names = [self.cluster.accept(about) for about in abouts]
        return abouts

    async def _start_together(self) -> None:
        """Start the processes of several machines, which connect by `TF_CONFIG`."""
        addresses, shares = zip(*await asyncio.gather(*(actor.address.remote() for actor in self.actors)), strict=True)
        for index, actor in enumerate(self.actors):
            tf_config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
            await actor.start.remote(tf_config, shares_results=all(shares))

    async def _train(self, job: dict) -> None:
        """Train a trial. Raises `Lost` or `RayError` if a process is lost."""
        actors = self.actors
        for node, name, actor in zip(self.nodes, self.names, actors, strict=True):
            await self.cluster.provide(node, name, actor, job["dataset"])
        if self.actors is not actors:
            raise Lost(how="died", cause="it was killed", by_signal=True)
        line = json.dumps(job)
        streams = [actor.train.options(num_returns="streaming").remote(line, actor is actors[0]) for actor in actors]
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
            if event["event"] in ray_worker.FINAL:
                return event
            if is_chief:
                self.send(**event)
        raise Lost(how="lost", cause="its machine was lost", by_signal=True)

    def end(self) -> None:
        """Kill the processes and release the machines."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []
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
