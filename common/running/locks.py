"""File locks for several runs on one results folder: each trial is trained by one, all by one code on one kind of processor."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO

from common.errors import Failure
from common.files import lock, locked
from common.rows.schema import FINAL, Files
from common.running.plan import Plan, Planned


@contextlib.contextmanager
def runs_alike(files: Files, basis: str, kind: str, *, one_kind: bool = True) -> Iterator[None]:
    """Lock an experiment's rows for runs of one code on one kind of processor, which share it.

    Runs of other code would replace the rows of each other.

    Args:
        basis: hash of code, settings and data.
        one_kind: whether to refuse rows that another run trains on another kind.

    Raises:
        Failure: a run of other code, settings or data, or on another kind, holds the lock.
    """
    path = files.state.with_suffix(".runs")
    with locked(files.folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        if _lock_exclusively(file):
            file.truncate(0)
            file.write(f"{basis}\n{kind}")
            file.flush()
        file.seek(0)
        other_basis, other_kind = file.read().split("\n")
        other = f"on another kind of processor ({other_kind}; this one: {kind})" if one_kind and other_kind != kind else ""
        if other_basis != basis:
            other = "with other code, settings or data"
        if other:
            file.close()
            raise Failure(
                f"another run trains {files.experiment} in {files.folder} {other}: wait until it has ended, or set RESULTS to "
                "another folder"
            )
        lock(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        with locked(files.folder):
            if _lock_exclusively(file):
                path.unlink(missing_ok=True)
            file.close()
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()


def _lock_exclusively(file: IO) -> bool:
    """Lock a file exclusively, without waiting. Returns False if another run holds its lock."""
    return lock(file, wait=False)


def in_progress(results: pathlib.Path) -> list[tuple[Files, dict]]:
    """The trials that runs are training now: files of the rows, and what `TrialLocks.note` has written, by path."""
    trials = []
    for path in sorted(results.glob("*/.state/*/*.lock")):
        with contextlib.suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
            if not lock(file, fcntl.LOCK_SH, wait=False):  # else its run has been killed, or has not begun to train
                trials.append((Files(path.parents[2], path.parent.name), json.loads(file.read())))
    return trials


class TrialLocks:
    """The locks of this run on the trials of a plan.

    Each is a lock on a file beside the trial's checkpoints, which ends with its process, so it is never stale.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.held: dict[str, IO] = {}
        self.missing = {trial.fingerprint for trial in plan.missing()}

    def take(self, trial: Planned) -> bool:
        """Lock a trial. Returns False if another run holds its lock."""
        if trial.fingerprint in self.held:
            return True
        path = self.plan.files.state / f"{trial.folder_name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a", encoding="utf-8")  # which leaves the note of another run
        except FileNotFoundError:  # another run has just deleted the folder
            return False
        try:
            # Another run may have deleted the file between opening and locking.
            taken = lock(file, wait=False) and os.fstat(file.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            taken = False
        if not taken:
            file.close()
            return False
        self.held[trial.fingerprint] = file
        return True

    def done_elsewhere(self, trial: Planned) -> bool:
        """Whether another run has finished a locked trial since this run was planned."""
        row = self.plan.live.get(trial.identity) if trial.fingerprint in self.missing else None
        if row is None or row["status"] not in FINAL:
            return False
        same_kind = row["kind"] == trial.kind or not self.plan.planner.one_kind
        return row["fingerprint"] == trial.fingerprint and same_kind

    def note(self, trial: Planned, **about) -> None:
        """Write into a trial's lock what other processes may know about it, see `in_progress`."""
        file = self.held[trial.fingerprint]
        with contextlib.suppress(OSError):  # the disk is full, which does not concern the trial
            file.truncate(0)
            file.write(json.dumps({"trial": f"{trial.entry} seed {trial.seed}", **about}))
            file.flush()

    def release(self, trial: Planned) -> None:
        """Unlock a trial."""
        file = self.held.pop(trial.fingerprint)
        pathlib.Path(file.name).unlink(missing_ok=True)
        file.close()

    def release_all(self) -> None:
        """Unlock all trials."""
        for trial in [trial for trial in self.plan.trials if trial.fingerprint in self.held]:
            self.release(trial)
