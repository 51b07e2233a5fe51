"""Heartbeats and messages between the runs on several machines that train each trial together.

`TF_CONFIG` lists the machines, as in TensorFlow. Every second each run writes its message to a small file in the shared results
folder, and reads those of the others. If a file no longer changes, or reports an error, all runs end: TensorFlow detects a lost
worker only during training, and waits without limit for one that was lost before.
"""

import contextlib
import json
import os
import pathlib
import threading
import time
import uuid
from dataclasses import dataclass, field

from common.errors import Failure, Misuse

BEAT_SECONDS = 1.0
"""Seconds between two heartbeats."""
SILENT_SECONDS = 20.0
"""Time without a heartbeat after which a machine counts as lost."""
JOIN_SECONDS = 50.0
"""Time limit for the other machines to start."""
LEAVE_SECONDS = 5.0
"""Time for which the chief waits until the others have read its last message."""


@dataclass
class Member:
    """The last message of another machine."""

    text: str = ""
    when: float = 0.0
    """Time of the last change, by this machine's clock."""
    alive: bool = False
    message: dict = field(default_factory=dict)


class Cluster:
    """The machines that train each trial together. The first is the chief: it chooses the trials, and only it writes rows.

    Attributes:
        addresses: host:port of each machine's worker.
        index: of this machine.
    """

    def __init__(self, addresses: list[str], index: int):
        self.addresses, self.index = addresses, index
        self.call = uuid.uuid4().hex[:8]
        self.message: dict = {"state": "preparing"}
        self.others = {i: Member() for i in range(len(addresses)) if i != index}
        self.folder: pathlib.Path | None = None
        self.leaving, self.left = threading.Event(), False
        self.writing = threading.Lock()
        self.beats = 0
        self.checked = 0.0
        self.failed = (0, "", 0.0)
        """Number of the last failed round, the reason, and the time at which it failed here."""

    @classmethod
    def here(cls) -> "Cluster | None":
        """The cluster of `TF_CONFIG`; None if it is not set or lists a single machine. Raises `Misuse`."""
        text = os.environ.get("TF_CONFIG", "")
        if not text.strip():
            return None
        example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
        try:
            config = json.loads(text)
            jobs, task = config["cluster"], config["task"]
            members = [(kind, i) for kind in ("chief", "worker") for i in range(len(jobs.get(kind, [])))]
            addresses = [jobs[kind][i] for kind, i in members]
            index = members.index((task["type"], int(task["index"])))
            if set(jobs) - {"chief", "worker"} or not all(":" in address for address in addresses):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Misuse(f"TF_CONFIG must list all machines, and this one as task, like {example}. Received: {text}") from None
        return cls(addresses, index) if len(addresses) > 1 else None

    @property
    def size(self) -> int:
        """Number of machines."""
        return len(self.addresses)

    @property
    def chief(self) -> bool:
        """Whether this machine is the chief."""
        return self.index == 0

    def name(self, index: int) -> str:
        """A machine's name in error messages."""
        return f"{'the chief' if index == 0 else f'machine {index}'} ({self.addresses[index]})"

    def open(self, folder: pathlib.Path) -> None:
        """Start the heartbeats, in a folder that all machines share. Raises `Failure` if it cannot be written to."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"cannot write in {folder} ({error.strerror})") from error
        for index, other in self.others.items():
            other.text = self._read(index)  # may be a leftover of an earlier run, which is ignored unless it changes
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()

    def publish(self, **message) -> None:
        """Write a message for the others, now and with every heartbeat."""
        self.message = message
        self._write()

    def join(self) -> None:
        """Wait until all machines are ready. Raises `Failure` if one does not start in time, or ends."""
        limit = time.monotonic() + JOIN_SECONDS
        while True:
            self.check()
            if all(other.alive and other.message["state"] != "preparing" for other in self.others.values()):
                return
            absent = [index for index, other in self.others.items() if not other.alive]
            if absent and time.monotonic() > limit:
                raise Failure(
                    f"{self.name(absent[0])} did not start within {JOIN_SECONDS:g} s: run the same command on all machines, "
                    f"with one results folder that they share. Received: {self.folder.parent.parent}"
                )
            time.sleep(0.1)

    def check(self) -> None:
        """Read the messages of the others, a few times per heartbeat. Raises `Failure` if one has ended or is lost."""
        now = time.monotonic()
        if now - self.checked < BEAT_SECONDS / 4:
            return
        late = self.checked and now - self.checked > SILENT_SECONDS / 2  # this process was stopped, not the others
        self.checked = now
        for index, other in self.others.items():
            text = self._read(index)
            if text not in ("", other.text):
                with contextlib.suppress(ValueError):  # read while it was being written
                    other.message = json.loads(text)
                    other.text, other.when, other.alive = text, now, True
            if late:
                other.when = now
            if other.message.get("state") == "ended":
                raise Failure(f"{self.name(index)} ended: {other.message['reason']}")
            if other.alive and now - other.when > SILENT_SECONDS and other.message.get("state") != "done":
                raise Failure(
                    f"{self.name(index)} has sent no heartbeat for {SILENT_SECONDS:g} s: run the same command on all machines, "
                    "which resumes after the last finished epoch"
                )

    def report_failure(self, number: int, reason: str) -> None:
        """Record that this machine's worker failed in a round (the training of one trial)."""
        self.failed = (number, reason, time.monotonic())

    def round_failure(self, number: int) -> str | None:
        """Reason why the trial of a round has failed; None while that is not certain.

        A worker also fails if another one is lost, which must not count as a failure of the trial. So the reason is returned
        once all have failed, or once the time has passed in which a lost machine is detected.
        """
        others = [(i, o.message) for i, o in self.others.items() if o.message.get("round") == number]
        failures = {i: message["reason"] for i, message in others if message["state"] == "failed"}
        if self.failed[0] != number and failures:
            index, reason = next(iter(failures.items()))
            self.report_failure(number, f"on {self.name(index)}: {reason}")
        if self.failed[0] != number:
            return None
        settled = len(failures) == len(self.others) or time.monotonic() - self.failed[2] > SILENT_SECONDS + BEAT_SECONDS
        return self.failed[1] if settled else None

    def leave(self, **last) -> None:
        """Write a last message and stop the heartbeats; further calls do nothing. After success the files are deleted."""
        if self.folder is None or self.leaving.is_set():
            return
        self.leaving.set()
        self.publish(**last)
        if last["state"] != "done":
            return
        limit = time.monotonic() + LEAVE_SECONDS
        while self.chief and time.monotonic() < limit and any(self._read(index) for index in self.others):
            time.sleep(0.1)
        with self.writing:
            self.left = True
            self._path(self.index).unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()

    def _beat(self) -> None:
        while not self.leaving.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        with self.writing, contextlib.suppress(OSError):  # without heartbeats the others count this machine as lost
            if not self.left:
                self.beats += 1
                self._path(self.index).write_text(
                    json.dumps({"call": self.call, "beat": self.beats, **self.message}), encoding="utf-8"
                )

    def _read(self, index: int) -> str:
        try:
            return self._path(index).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _path(self, index: int) -> pathlib.Path:
        return self.folder / f"{index}.json"
