"""What a call has in hand, so that two calls on one results folder share the work and never mix kinds of processors."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import IO

from common.errors import Failure
from common.files import lock, locked
from common.rows.schema import Files
from common.running.plan import Plan, Planned


@contextlib.contextmanager
def one_kind(files: Files, kind: str) -> Iterator[None]:
    """Hold an experiment's rows for one kind of processor: calls on the same kind may hold them at the same time.

    Raises:
        Failure: a call on another kind holds them.
    """
    path = files.state.with_suffix(".kind")
    with locked(files.folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        if _alone(file):
            file.truncate(0)
            file.write(kind)
            file.flush()
        file.seek(0)
        other = file.read()
        if other != kind:
            file.close()
            raise Failure(
                f"another call trains {files.experiment} in {files.folder} on another kind of processor ({other}; here {kind}): "
                "wait until it has ended, or give RESULTS another folder"
            )
        lock(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        with locked(files.folder):
            if _alone(file):
                path.unlink(missing_ok=True)
            file.close()
            with contextlib.suppress(OSError):  # other experiments have files there
                path.parent.rmdir()


def _alone(file: IO) -> bool:
    """Whether no other call holds a file's lock, which is then held here alone."""
    return lock(file, wait=False)


class TrialLocks:
    """Which trials this call has in hand, so that two calls on one results folder share the work.

    Each is a lock on a file beside the trial's checkpoints. It ends with the process that holds it: none is ever stale.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.held: dict[str, IO] = {}
        self.missing = {trial.fingerprint for trial in plan.missing()}

    def take(self, trial: Planned) -> bool:
        """Take a trial in hand; False while another call has it."""
        if trial.fingerprint in self.held:
            return True
        path = self._path(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("w", encoding="utf-8")
        except FileNotFoundError:  # another call has just ended, and tidied up
            return False
        try:
            # It may have been released between opening and locking.
            taken = lock(file, wait=False) and os.fstat(file.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            taken = False
        if not taken:
            file.close()
            return False
        self.held[trial.fingerprint] = file
        return True

    def _path(self, trial: Planned) -> pathlib.Path:
        return self.plan.files.state / f"{trial.folder_name}.lock"

    def done_elsewhere(self, trial: Planned) -> bool:
        """Whether another call has finished a trial in hand since this one planned it."""
        missing = {t.fingerprint for t in self.plan.missing()}
        return trial.fingerprint in self.missing - missing

    def release(self, trial: Planned) -> None:
        """Give a trial back."""
        self._path(trial).unlink(missing_ok=True)
        self.held.pop(trial.fingerprint).close()

    def release_all(self) -> None:
        """Give all trials back."""
        for trial in [trial for trial in self.plan.trials if trial.fingerprint in self.held]:
            self.release(trial)
