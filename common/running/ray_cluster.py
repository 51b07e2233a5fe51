"""`Cluster`: the nodes of a Ray cluster that a run uses, and the data on them."""

import asyncio
import dataclasses
from collections import Counter

import ray
from ray.util.placement_group import NODE_ID_LABEL_KEY
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.data.dataset import COPIED, Dataset
from common.errors import Misuse
from common.running import ray_host
from common.running.engine import StartOptions
from common.running.ray_host import Checkout

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
        self.others: set[str] = set()
        """Ids of nodes of kinds that the run does not use."""
        self.addresses: dict[str, str] = {}
        """Id -> address, also of nodes that have joined since."""
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
