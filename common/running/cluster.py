"""The calls on several machines that train one trial together: who they are, who lives, and what the chief says.

`TF_CONFIG` names the machines, as TensorFlow wants it. Each machine's call writes one small file into the shared results
folder every second and reads the others'. A call whose file stands still, or says that it ended, ends all of them:
TensorFlow itself notices a lost worker only in the middle of training, and waits for ever for one lost while it starts.
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
SILENT_SECONDS = 20.0
"""After so long without a beat a call is taken for dead."""
JOIN_SECONDS = 50.0
"""How long a call waits for the others to come."""
LEAVE_SECONDS = 5.0
"""How long the chief waits for the others to read that all is done."""


@dataclass
class Seen:
    """What one other call was last seen to say."""

    text: str = ""
    when: float = 0.0
    """Of the last change, on this machine's own clock."""
    alive: bool = False
    said: dict = field(default_factory=dict)


class Cluster:
    """The machines of one call, and this one's place among them. The first is the chief: it decides, and alone writes rows.

    Attributes:
        addresses: host:port of each machine's worker; index: this one's.
    """

    def __init__(self, addresses: list[str], index: int):
        self.addresses, self.index = addresses, index
        self.call = uuid.uuid4().hex[:8]
        self.saying: dict = {"state": "preparing"}
        self.others = {i: Seen() for i in range(len(addresses)) if i != index}
        self.folder: pathlib.Path | None = None
        self.leaving, self.left = threading.Event(), False
        self.writing = threading.Lock()
        self.beats = 0
        self.looked = 0.0
        self.failed = (0, "", 0.0)
        """The last round that failed, why, and when that was noticed."""

    @classmethod
    def here(cls) -> "Cluster | None":
        """The cluster that `TF_CONFIG` describes; None where there is but one. Raises `Misuse`."""
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
            raise Misuse(f"TF_CONFIG must name all machines, and this one as task, like {example}. Received: {text}") from None
        return cls(addresses, index) if len(addresses) > 1 else None

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def chief(self) -> bool:
        return self.index == 0

    def name(self, index: int) -> str:
        """How messages call a machine."""
        return f"{'the chief' if index == 0 else f'worker {index}'} ({self.addresses[index]})"

    def open(self, folder: pathlib.Path) -> None:
        """Begin to beat, in a folder that all machines share."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"cannot write in {folder} ({error.strerror})") from error
        for index, seen in self.others.items():
            seen.text = self._read(index)  # of an earlier call, if it never changes
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()

    def say(self, **what) -> None:
        """Tell the others at once, and from now on with every beat."""
        self.saying = what
        self._write()

    def join(self) -> None:
        """Wait until all machines are there and ready. Raises `Failure` when one does not come, or ends."""
        limit = time.monotonic() + JOIN_SECONDS
        while True:
            self.check()
            if all(seen.alive and seen.said["state"] != "preparing" for seen in self.others.values()):
                return
            absent = [index for index, seen in self.others.items() if not seen.alive]
            if absent and time.monotonic() > limit:
                raise Failure(
                    f"{self.name(absent[0])} has not come within {JOIN_SECONDS:g} s: start the same command on all machines, "
                    f"with one results folder that they share. Received: {self.folder.parent.parent}"
                )
            time.sleep(0.1)

    def check(self) -> None:
        """Look at the others, once in a while. Raises `Failure` when one has ended or fallen silent."""
        now = time.monotonic()
        if now - self.looked < BEAT_SECONDS / 4:
            return
        late = self.looked and now - self.looked > SILENT_SECONDS / 2  # this process was stopped, not the others
        self.looked = now
        for index, seen in self.others.items():
            text = self._read(index)
            if text not in ("", seen.text):
                with contextlib.suppress(ValueError):  # caught while it was being written
                    seen.said = json.loads(text)
                    seen.text, seen.when, seen.alive = text, now, True
            if late:
                seen.when = now
            if seen.said.get("state") == "ended":
                raise Failure(f"{self.name(index)} ended: {seen.said['reason']}")
            if seen.alive and now - seen.when > SILENT_SECONDS and seen.said.get("state") != "done":
                raise Failure(
                    f"{self.name(index)} has been silent for {SILENT_SECONDS:g} s; the same command on all machines goes on "
                    "from the last finished epochs"
                )

    def give_up(self, number: int, reason: str) -> None:
        """Note that this machine's worker could not finish a round."""
        self.failed = (number, reason, time.monotonic())

    def given_up(self, number: int) -> str | None:
        """Why a round has failed, once that is settled; None until then.

        A worker may raise because another one was lost. So the reason counts when all have failed alike, or when none has
        ended by the time that a lost one would have been noticed.
        """
        others = [(i, seen.said) for i, seen in self.others.items() if seen.said.get("round") == number]
        failures = {i: said["reason"] for i, said in others if said["state"] == "failed"}
        if self.failed[0] != number and failures:
            index, reason = next(iter(failures.items()))
            self.give_up(number, f"on {self.name(index)}: {reason}")
        if self.failed[0] != number:
            return None
        settled = len(failures) == len(self.others) or time.monotonic() - self.failed[2] > SILENT_SECONDS + BEAT_SECONDS
        return self.failed[1] if settled else None

    def leave(self, **last) -> None:
        """Say the last word, once, and fall silent. After a success nothing stays behind."""
        if self.folder is None or self.leaving.is_set():
            return
        self.leaving.set()
        self.say(**last)
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
        with self.writing, contextlib.suppress(OSError):  # a machine that cannot write is silent, which the others notice
            if not self.left:
                self.beats += 1
                self._path(self.index).write_text(
                    json.dumps({"call": self.call, "beat": self.beats, **self.saying}), encoding="utf-8"
                )

    def _read(self, index: int) -> str:
        try:
            return self._path(index).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _path(self, index: int) -> pathlib.Path:
        return self.folder / f"{index}.json"
