"""`Cluster`: the nodes of a Ray cluster that a run uses, and the data on them."""

import asyncio
import dataclasses
from collections import Counter

import ray
from ray.util.placement_group import NODE_ID_LABEL_KEY
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.data.copies import COPIED
from common.data.dataset import Dataset
from common.errors import Failure, Misuse
from common.running import ray_worker
from common.running.engine import StartOptions
from common.running.ray_worker import Checkout

PROBE_SECONDS = 60.0
"""Time limit for a node to say what it is."""


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


class Cluster:
    """The nodes that the run uses, and the workers on them."""

    def __init__(self, config: Config):
        self.config = config
        self.nodes: dict[str, dict] = {}
        """Id -> description of each node that was there at the start."""
        self.kinds: set[str] = set()
        """Kinds of processors or GPUs that the run uses."""
        self.kind = ""
        """That of most, which all machines of one trial must have."""
        self.others: set[str] = set()
        """Ids of nodes that the run does not use."""
        self.has_waited = False
        """Whether the main process has been told that nodes are waited for."""
        self.addresses: dict[str, str] = {}
        """Id -> address, also of nodes that have joined since."""
        self.copies: dict[tuple[str, str], asyncio.Task] = {}
        """Node and checksum -> the copying of the data to the node."""
        self.contents: dict[str, list[ray.ObjectRef]] = {}
        """Checksum -> the files of a dataset in the object store."""

    async def probe(self) -> dict:
        """Ask all nodes what they are. Returns the event about the cluster. Raises `Misuse` for a node that differs."""
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        tasks = {node: asyncio.ensure_future(_got(self._ask(node, about["Resources"]))) for node, about in alive.items()}
        await asyncio.wait(tasks.values(), timeout=PROBE_SECONDS)
        abouts, silent = [], []
        for node, task in tasks.items():
            address = alive[node]["NodeManagerAddress"]
            if task.done() and isinstance(task.exception(), ray.exceptions.RayTaskError):
                raise Misuse(f"node {address} of the Ray cluster cannot run the project: {last_line(task.exception())}")
            if task.done() and not task.exception():
                abouts.append(task.result())
            else:  # it is lost, or does not answer
                self.others.add(node)
                silent.append(f"{address}: no answer within {PROBE_SECONDS:g} s")
        self.addresses = {about["node"]: about["address"] for about in abouts}
        for about in abouts:
            name = self.accept(about)
            self.nodes[about["node"]] = about | {"name": name, "cpus": alive[about["node"]]["Resources"].get("CPU", 0)}
        usable = [about for about in self.nodes.values() if about["cpus"] or about["gpus"]]
        if not usable:
            raise Misuse(f"the Ray cluster has no node with CPUs or GPUs that answers. Received: {len(alive)} nodes")
        size = Counter()
        for about in usable:
            size[about["kind"]] += 10**6 * about["gpus"] + about["cpus"]
        self.kind = max(sorted(size), key=size.get)
        self.kinds = {self.kind} if self.config.one_kind else set(size)
        chosen = [about for about in usable if about["kind"] in self.kinds]
        self.others |= {about["node"] for about in usable if about["kind"] not in self.kinds}
        other_kinds = [f"{about['name']}: {about['kind']}" for about in usable if about not in chosen]
        device = next(about["device"] for about in chosen if about["kind"] == self.kind)
        machine = {"device": device, "kind": self.kind}
        return {"event": "cluster", "nodes": chosen, "other_kinds": other_kinds, "silent": silent, "machine": machine}

    def _ask(self, node: str, resources: dict) -> ray.ObjectRef:
        """Ask a node what it is."""
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(ray_worker.probe).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        return task.remote(self.config.checkout, int(resources.get("GPU", 0)))

    def accept(self, about: dict) -> str:
        """Name of a node that has described itself: its address. Raises `Misuse` if it differs from this machine.

        Raises `Failure` if it did not at the start of the run.
        """
        self.addresses[about["node"]] = about["address"]
        several = list(self.addresses.values()).count(about["address"]) > 1
        name = f"{about['address']} ({about['node'][:6]})" if several else about["address"]
        if about["difference"] and about["node"] in self.nodes:
            since = "since this run started: the same command keeps finished trials"
            raise Failure(f"node {name} of the Ray cluster {about['difference']}, {since}")
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

    def kinds_of(self, machines: int) -> set[str]:
        """The kinds that a trial may run on. Several machines must be of one kind."""
        return {self.kind} if machines > 1 else self.kinds

    def selector(self, machines: int) -> dict[str, str]:
        """The labels by which Ray leaves out the nodes that a trial on a number of machines cannot use."""
        other = {node for node, about in self.nodes.items() if about["kind"] not in self.kinds_of(machines)}
        unused = sorted(self.others | other)
        return {NODE_ID_LABEL_KEY: f"!in({','.join(unused)})"} if unused else {}

    async def provide(self, node: str, name: str, actor: "ray.actor.ActorHandle", fields: dict) -> None:
        """Copy a dataset to a node that does not have it. Raises `Misuse` if the node has other data."""
        key = node, fields["checksum"]
        if key not in self.copies:
            self.copies[key] = asyncio.create_task(self._copy(name, actor, fields))
            self.copies[key].add_done_callback(lambda task: self._forget(key, task))
        await asyncio.shield(self.copies[key])

    def _forget(self, key: tuple[str, str], task: asyncio.Task) -> None:
        """Forget a copying that has failed, as the node was lost, or the actor that would have written the copy."""
        if task.cancelled() or isinstance(task.exception(), ray.exceptions.RayError):
            self.copies.pop(key, None)

    async def _copy(self, name: str, actor: "ray.actor.ActorHandle", fields: dict) -> None:
        state = await actor.data.remote(fields)
        if state == "missing":
            checksum, folder = fields["checksum"], Dataset.from_json(fields).folder
            if checksum not in self.contents:
                self.contents[checksum] = [ray.put((folder / name).read_bytes()) for name in COPIED]
            state = await actor.receive.remote(fields, *self.contents[checksum])
        if state not in ("", "ready"):
            raise Misuse(f"node {name} of the Ray cluster {state}")


def last_line(error: Exception) -> str:
    """The last line of an error that a node has raised, without its traceback."""
    return str(error).strip().splitlines()[-1]


async def _got(reference: ray.ObjectRef):
    """The value of a reference, as a coroutine."""
    return await reference
