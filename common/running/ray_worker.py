"""`RayWorker`: a worker process on a node of a Ray cluster, and what the node is asked before it gets trials.

Ray imports this module on the node, from the node's copy of the project.
"""

import dataclasses
import os
import pathlib
import selectors
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from common import machine
from common.data.cache import cache_dir
from common.data.copies import copy_state, write_copy
from common.data.dataset import Dataset
from common.errors import Failure, Misuse
from common.files import PROJECT, file_hash
from common.rows.outcome import OUTCOME
from common.running.engine import StartOptions
from common.running.fingerprint import git_commit
from common.running.local import LocalProcess
from common.training.job import Job

FINAL = ("finished", "failed", "unavailable", "changed")
"""Events after which a trial has ended."""
WAIT_SECONDS = 1.0
"""Seconds between two looks at a worker process that reports nothing."""


@dataclass(frozen=True)
class Checkout:
    """What must be equal on all nodes: the project's place, code and packages."""

    project: str
    commit: str
    """Empty outside a git checkout, such as in a container's image."""
    code: dict[str, str]
    """Path -> hash of each file that a trial may import."""
    packages: str
    """Hash of the lock file that is installed."""

    @classmethod
    def here(cls, paths: list[str]) -> "Checkout":
        """That of this machine, with the given files."""
        code = {path: file_hash(pathlib.Path(path)) for path in paths}
        return cls(str(PROJECT), git_commit() or "", code, file_hash(pathlib.Path(sys.prefix) / "installed.lock"))

    def difference(self, expected: "Checkout") -> str:
        """How it differs from the driver's, in words; empty if it does not."""
        if self.project != expected.project:
            return f"has the project in {self.project}, and must have it in {expected.project}"
        if self.commit and expected.commit and self.commit != expected.commit:
            return f"has commit {self.commit[:12]} of the project, and must have {expected.commit[:12]}"
        for path, wanted in expected.code.items():
            if self.code[path] != wanted:
                return f"has another {path}: copy the project to all nodes"
        if self.packages != expected.packages:
            return f"has other packages in {sys.prefix}: make setup RAY=1 there and here, with GPU=1 on all nodes or on none"
        return ""


def describe(expected: Checkout, *, on_gpus: bool) -> dict:
    """This node: id, address, columns `device` and `kind`, number of GPUs that TensorFlow can use, and how it differs.

    Args:
        on_gpus: whether Ray has given GPUs to this process; else it does not see those that the node may have.
    """
    if not on_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    about = {"node": ray.get_runtime_context().get_node_id(), "address": ray.util.get_node_ip_address()}
    about |= {"device": "", "kind": "", "gpus": 0}
    about["difference"] = Checkout.here(list(expected.code)).difference(expected)
    if not about["difference"]:
        try:
            about |= machine.columns() | {"gpus": len(machine.gpus())}
        except Misuse as error:
            about["difference"] = f"cannot be used: {error}"
    return about


def probe(expected: Checkout, gpus: int) -> dict:
    """The description of a node, of whose GPUs Ray gives out a number, though none to this task."""
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):  # else it names those of which Ray knows
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    about = describe(expected, on_gpus=gpus > 0)
    return about | {"gpus": min(about["gpus"], gpus)}


def in_cache(dataset: Dataset) -> Dataset:
    """The dataset in this node's cache: in the folder that its `CACHE_DIR` names, by default where the driver has it."""
    return dataclasses.replace(dataset, folder=cache_dir() / dataset.folder.name) if os.environ.get("CACHE_DIR") else dataset


class RayWorker:
    """A Ray actor that starts a worker process and hands on its events.

    Args:
        options: start options of the process.
        mark: a file that only nodes see that share the results folder.
    """

    def __init__(self, options: StartOptions, mark: str):
        self.options, self.shares_results = options, os.path.exists(mark)
        self.tf_config, self.process = "", None

    def describe(self, expected: Checkout) -> dict:
        """See `describe`."""
        return describe(expected, on_gpus=bool(self._gpus()))

    def _gpus(self) -> list[str]:
        """The GPUs that Ray has given to this actor."""
        return ray.get_runtime_context().get_accelerator_ids().get("GPU", [])

    def address(self) -> tuple[str, bool]:
        """This machine's address with a free port, for TensorFlow, and whether it shares the results folder."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}", self.shares_results

    def data(self, dataset: dict) -> str:
        """The state of this node's copy of a dataset, see `copy_state`."""
        return copy_state(in_cache(Dataset.from_json(dataset)))

    def receive(self, dataset: dict, *files: bytes) -> str:
        """Write this node's copy of a dataset. Returns the reason if it cannot be written."""
        try:
            write_copy(in_cache(Dataset.from_json(dataset)), files)
        except Failure as error:
            return str(error)
        return ""

    def start(self, tf_config: str = "", *, shares_results: bool = True) -> None:
        """Start the worker process, without waiting for it.

        Args:
            tf_config: see `LocalProcess`; shares_results: False if the others of several machines do not.
        """
        self.tf_config, self.shares_results = tf_config, self.shares_results and shares_results
        self.process = LocalProcess(self.options, self._gpus(), tf_config=tf_config)

    def train(self, line: str, writes: bool) -> Iterator[dict]:
        """Train a trial: the worker's events, the last with what the trial printed and its files.

        Args:
            line: the job as JSON; writes: see `Job`.
        """
        job = Job.from_json(line)
        job = dataclasses.replace(job, dataset=in_cache(job.dataset))
        sent = self._moved(job) if not self.shares_results else job
        if self.process.process.poll() is not None and not self.tf_config:  # it died while idle
            self.process.close()
            self.start()
        self.process.send(dataclasses.replace(sent, writes=writes))
        for event in self._events():
            if event["event"] not in FINAL:
                yield event
                continue
            files = self._files(sent, job) if writes else {}
            if sent != job:
                shutil.rmtree(sent.folder, ignore_errors=True)
            yield event | {"printed": self.process.printed(), "files": files}
            return
        how, cause, by_signal = self.process.ending()
        yield {"event": "ended", "how": how, "cause": cause, "by_signal": by_signal, "printed": self.process.printed()}

    def _events(self) -> Iterator[dict]:
        """The events of the worker process, until it ends."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(WAIT_SECONDS):
                    continue
                events = self.process.read()
                if events is None:
                    return
                yield from events

    def _moved(self, job: Job) -> Job:
        """The job with its files on this node alone."""
        folder = self.process.scratch / "trial" / job.folder.name
        return dataclasses.replace(job, folder=folder, keep=job.keep and folder / job.keep.name)

    def _files(self, sent: Job, job: Job) -> dict[str, bytes]:
        """Path on the driver's machine -> content of the trial's files that it may not see.

        That is the outcome even on a shared disk, as a network disk may show a new file late.
        """
        places = {sent.folder / OUTCOME: job.folder / OUTCOME, **({sent.keep: job.keep} if job.keep and sent != job else {})}
        return {str(target): path.read_bytes() for path, target in places.items() if path.exists()}
