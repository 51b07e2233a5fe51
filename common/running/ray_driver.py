"""The program of the process that speaks with a Ray cluster for a run: commands as JSON lines on stdin, events on stdout.

Ray is kept out of the main process, whose signals and output it would take over, and which it would end with the cluster's head.
When the main process ends, stdin is closed, and this process ends what it has started on the cluster.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import signal
import sys
import traceback
from collections import Counter

import ray
from ray.util.placement_group import NODE_ID_LABEL_KEY, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from common.data.dataset import COPIED, Dataset
from common.errors import Failure, Misuse
from common.files import write_atomic
from common.running import ray_host
from common.running.engine import StartOptions
from common.running.ray_host import Checkout, Host

OBJECT_STORE_BYTES = 150_000_000
"""Memory for objects of a Ray that this process starts."""
ATTEMPTS = 2
"""How often Ray is started."""
PROBE_SECONDS = 60.0
"""Time limit for a node to say what it is."""
SETTLE_SECONDS = 60.0
"""Time limit for the other machines of a trial after the first has ended it."""
LINE_BYTES = 2**28


class Lost(Exception):
    """A worker process has ended: the event `ended`."""

    def __init__(self, **event):
        self.event = {"event": "ended", "printed": b"", **event}


@dataclasses.dataclass(frozen=True)
class Config:
    """What the main process wants.

    Args:
        address: of the cluster; empty to start one on this machine.
        cores: of this machine, which a cluster that is started here gets.
        per_gpu: trials at a time on one GPU; one_kind: whether all nodes must be of one kind.
        mark: a file that only machines see that share the results folder; scratch: folder for Ray's files.
        variables: environment variables that decide results, which processes on all nodes get.
    """

    address: str
    cores: int
    per_gpu: int
    one_kind: bool
    mark: str
    scratch: str
    checkout: Checkout
    variables: dict[str, str]


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


class Cluster:
    """The nodes that the run uses, and the workers on them."""

    def __init__(self, config: Config):
        self.config = config
        self.nodes: dict[str, dict] = {}
        """Id -> description of each node that was there at the start."""
        self.others: set[str] = set()
        """Ids of nodes of kinds that the run does not use."""
        self.addresses: dict[str, str] = {}
        """Id -> address, also of nodes that have joined since."""
        self.gangs: dict[int, Gang] = {}
        self.copies: dict[tuple[str, str], asyncio.Task] = {}
        """Node and checksum -> the copying of the data to the node."""
        self.contents: dict[str, list[ray.ObjectRef]] = {}
        """Checksum -> the files of a dataset in the object store."""

    async def probe(self) -> dict:
        """Ask all nodes what they are. Returns the event about the cluster. Raises `Misuse` for a node that differs."""
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        ask = ray.remote(ray_host.probe)
        on = [NodeAffinitySchedulingStrategy(node, soft=False) for node in alive]
        answers = [ask.options(num_cpus=0, max_retries=0, scheduling_strategy=one).remote(self.config.checkout) for one in on]
        tasks = [asyncio.ensure_future(_got(answer)) for answer in answers]
        await asyncio.wait(tasks, timeout=PROBE_SECONDS)
        abouts = [task.result() for task in tasks if task.done() and not task.exception()]
        self.addresses = {about["node"]: about["address"] for about in abouts}
        for about in abouts:
            name = self.accept(about)
            self.nodes[about["node"]] = about | {"name": name, "cpus": alive[about["node"]]["Resources"].get("CPU", 0)}
        usable = [about for about in self.nodes.values() if about["cpus"] or about["gpus"]]
        if not usable:
            errors = " ".join(str(task.exception()) for task in tasks if task.done() and task.exception())
            received = errors[:300] or f"{len(alive)} nodes"
            raise Misuse(f"the Ray cluster has no node with CPUs or GPUs that answers. Received: {received}")
        size = Counter()
        for about in usable:
            size[about["kind"]] += 10**6 * about["gpus"] + about["cpus"]
        self.kinds = set(size)
        kind = max(sorted(size), key=size.get)
        if self.config.one_kind:
            self.kinds = {kind}
        chosen = [about for about in usable if about["kind"] in self.kinds]
        self.others = {about["node"] for about in usable if about["kind"] not in self.kinds}
        left_out = [f"{about['name']}: {about['kind']}" for about in usable if about not in chosen]
        device = next(about["device"] for about in chosen if about["kind"] == kind)
        return {"event": "cluster", "nodes": chosen, "left_out": left_out, "machine": {"device": device, "kind": kind}}

    def accept(self, about: dict) -> str:
        """Name of a node that has described itself: its address. Raises `Misuse` if it differs from this machine."""
        self.addresses[about["node"]] = about["address"]
        several = list(self.addresses.values()).count(about["address"]) > 1
        name = f"{about['address']} ({about['node'][:6]})" if several else about["address"]
        if about["difference"]:
            raise Misuse(f"node {name} of the Ray cluster {about['difference']}")
        return name

    def resources(self, options: StartOptions, roomy: bool) -> dict:
        """The resources of one process on one machine, as options of a Ray actor."""
        threads, replicas, machines, _ = options
        each = replicas // machines
        usable = [about for about in self.nodes.values() if about["kind"] in self.kinds]
        gpus = max(about["gpus"] for about in usable)
        if gpus:
            share = each / self.config.per_gpu if each == 1 else each
            return {"num_cpus": 0, "num_gpus": min(2 * share, gpus) if roomy else share}
        cpus = threads * each
        return {"num_cpus": min(2 * cpus, max(about["cpus"] for about in usable)) if roomy else cpus, "num_gpus": 0}

    def selector(self) -> dict[str, str]:
        """The labels by which Ray leaves out nodes of other kinds."""
        return {NODE_ID_LABEL_KEY: f"!in({','.join(sorted(self.others))})"} if self.others else {}

    async def provide(self, node: str, name: str, host: "ray.actor.ActorHandle", fields: dict) -> None:
        """Copy a dataset to a node that does not have it. Raises `Misuse` if the node has other data."""
        key = node, fields["checksum"]
        if key not in self.copies:
            self.copies[key] = asyncio.create_task(self._copy(name, host, fields))
        try:
            await asyncio.shield(self.copies[key])
        except ray.exceptions.RayError:  # the node is lost, or the host that would have written the copy
            self.copies.pop(key, None)
            raise

    async def _copy(self, name: str, host: "ray.actor.ActorHandle", fields: dict) -> None:
        state = await host.data.remote(fields)
        if state == "missing":
            checksum, folder = fields["checksum"], Dataset.from_json(fields).folder
            if checksum not in self.contents:
                self.contents[checksum] = [ray.put((folder / name).read_bytes()) for name in COPIED]
            state = await host.receive.remote(fields, *self.contents[checksum])
        if state not in ("", "ready"):
            raise Misuse(f"node {name} of the Ray cluster {state}")


async def _got(reference: ray.ObjectRef):
    """The value of a reference, as a coroutine."""
    return await reference


class Gang:
    """The processes that train each trial together: one, or one on each of several machines."""

    def __init__(self, cluster: Cluster, number: int, options: StartOptions, roomy: bool):
        self.cluster, self.number, self.options, self.roomy = cluster, number, options, roomy
        self.hosts: list = []
        self.group = None
        self.jobs: asyncio.Queue[dict] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    def send(self, **event) -> None:
        """Send an event to the main process."""
        send(number=self.number, **event)

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
            send(event="refused", reason=str(error), status=error.status)
        except Exception as error:
            traceback.print_exc()
            send(event="refused", reason=f"Ray has failed: {type(error).__name__}: {error}", status=Failure.status)
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


def send(**event) -> None:
    """Send an event to the main process."""
    if isinstance(event.get("printed"), bytes):
        event["printed"] = event["printed"].decode(errors="replace")
    EVENTS.write(json.dumps(event) + "\n")
    EVENTS.flush()


async def run(config: Config) -> None:
    """Serve the main process until it closes stdin."""
    cluster = Cluster(config)
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
            cluster.gangs[number] = Gang(cluster, number, tuple(command["options"]), command["roomy"])
        elif command["do"] == "train":
            cluster.gangs[number].jobs.put_nowait(command["job"])
        else:
            gang = cluster.gangs[number]
            gang.end()
            if command["do"] == "stop":
                cluster.gangs.pop(number).task.cancel()
    for gang in cluster.gangs.values():
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
