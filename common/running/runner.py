"""`Runner`: trains trials in worker processes, and starts those whose worker died again."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Failure
from common.rows import store
from common.rows.outcome import Outcome, load_outcome
from common.running.locks import TrialLocks
from common.running.plan import Plan, Planned, known_columns
from common.running.process import Worker, job
from common.running.progress import Display
from common.running.workers import Workers
from common.training.job import Job

ATTEMPTS = {"died": 2, "memory": 2, "lost": 5}
"""How often a trial is started in one run if its worker ends for a reason, see `Ending`."""
STALL_SECONDS = 900
"""Time limit for a trial reporting no progress."""
NOTE_SECONDS = 5.0
"""Seconds between two notes about the progress of trials."""
POLL_SECONDS = 1.0
"""Seconds between two checks of trials that another run is training."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not change its results."""

    stall_seconds: float = STALL_SECONDS
    checkpoint_steps: int | None = None
    """Updates between checkpoints within an epoch."""
    keep: bool = False
    """Whether models are saved."""
    dry: bool = False
    """Whether to print what would be trained, and train nothing."""
    debug: bool = False
    """Whether to train in this process; see `common.running.debugger`."""


class Runner:
    """Trains trials in workers and writes their rows; a context manager, at whose end no trial is left running."""

    def __init__(self, options: RunOptions, workers: Workers, display: Display):
        self.options, self.workers, self.display = options, workers, display
        self.attempts: Counter[tuple[str, str]] = Counter()
        """Fingerprint and how a worker ended -> number."""
        self.noted = 0.0
        """When the progress of the trials was last noted."""
        self.roomy: set[str] = set()
        """Fingerprints of trials that need more memory, see `Engine.start`."""

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_) -> None:
        for worker in self.workers.busy:
            self._keep_log(worker.trial, worker)
            self.workers.stop(worker)

    def run(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Run trials of a plan in order. Returns their rows; a trial that another run has trained has none.

        Raises:
            Failure: the code has changed, or workers cannot start.
            Misuse: the engine refuses a machine.
        """
        self.plan, self.locks = plan, TrialLocks(plan)
        rows: list[dict] = []
        waiting = list(trials)
        try:
            while waiting or self.workers.busy:
                rows += self._assign(waiting)
                self._kill_stalled()
                self._note_progress()
                self.display.update([(one.trial, one.progress | {"node": one.process.node}) for one in self.workers.busy])
                if store.lags(plan.files):
                    store.fold(plan.files)
                for worker in self.workers.with_output(0.2):
                    rows += self._listen(worker, waiting)
        except BaseException:
            self.workers.kill()  # before the trials are unlocked
            raise
        finally:
            self.locks.release_all()
            _remove_empty(plan.files.state)
        return rows

    def _assign(self, waiting: list[Planned]) -> list[dict]:
        """Send the next trials to idle workers, and start workers while there are fewer than `jobs`.

        Trials that another run is training stay in `waiting`. Returns the rows of trials that cannot run on this machine.
        """
        rows = []
        for trial in list(waiting):
            if not self.workers.can_take():
                break
            if not self.locks.take(trial):
                continue
            if self.locks.done_elsewhere(trial):
                waiting.remove(trial)
                self.locks.release(trial)
                self.display.done_by_other_run(trial)
                continue
            reason = trial.unavailable or self.workers.engine.unavailable(trial.setting)
            if reason:
                waiting.remove(trial)
                rows.append(self._without_training(trial, "unavailable", reason))
                continue
            roomy = trial.fingerprint in self.roomy
            worker = self.workers.take(trial.setting.start_options, roomy=roomy, waiting=1 if roomy else len(waiting))
            if worker is None:
                break  # the trial stays locked
            waiting.remove(trial)
            self._send(trial, worker)
        if waiting and not self.workers.busy and all(worker.process.placed for worker in self.workers):
            time.sleep(POLL_SECONDS)  # another run is training all remaining trials
        return rows

    def _send(self, trial: Planned, worker: Worker) -> None:
        """Give a trial to a worker."""
        trial = dataclasses.replace(trial, kind=worker.process.machine["kind"])
        if not (self.plan.files.state / trial.folder_name).exists():  # the log of a resumed trial is continued
            self._log(trial).unlink(missing_ok=True)
        worker.send(trial, self._job(trial, worker))
        self._note(worker)
        worker.beside = 0
        running = [other for other in self.workers.busy if other.process.node == worker.process.node]
        for other in running:
            other.beside = max(other.beside, len(running) - 1)

    def _note_progress(self) -> None:
        """Write from time to time how far the trials are, for other processes."""
        if time.monotonic() - self.noted > NOTE_SECONDS:
            self.noted = time.monotonic()
            for worker in self.workers.busy:
                self._note(worker)

    def _note(self, worker: Worker) -> None:
        progress = {name: worker.progress[name] for name in ("epoch", "epochs", "stage") if name in worker.progress}
        self.locks.note(worker.trial, node=worker.process.node, pid=os.getpid(), **progress)

    def _kill_stalled(self) -> None:
        for worker in self.workers:
            if worker.is_stalled(self.options.stall_seconds):
                worker.process.kill()

    def _job(self, trial: Planned, worker: Worker) -> Job:
        path = self.plan.files.local("models", trial.entry, trial.seed, ".keras")
        row = known_columns(trial, self.plan.experiment.name, self.plan.planner.origin | worker.process.machine)
        return job(
            self.plan, trial, row, keep=path if self.options.keep else None, checkpoint_steps=self.options.checkpoint_steps
        )

    def _listen(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        """Act on a worker's events. Returns the rows of trials that have ended."""
        events = worker.events()
        if events is None:
            return self._died(worker, waiting)
        rows = []
        for event in events:
            kind = event.pop("event")
            if kind == "ready":
                worker.ready = True
            elif kind == "progress" and "warning" in event:
                self.display.print_line(event["warning"])
            elif kind == "progress":
                worker.progress = event
            elif kind == "changed":
                raise Failure(event["reason"])
            elif kind in ("finished", "failed", "unavailable"):
                trial, worker.trial = worker.trial, None
                if kind == "failed":
                    rows.append(self._fail(trial, event["reason"], worker))
                elif kind == "unavailable":
                    self._keep_log(trial, worker)
                    rows.append(self._without_training(trial, kind, event["reason"]))
                else:
                    self._keep_log(trial, worker)
                    rows += self._finish(trial, worker.beside, waiting)
        return rows

    def _finish(self, trial: Planned, beside: int | str, waiting: list[Planned]) -> list[dict]:
        """Write the row of a trained trial, and those of waiting trials that would repeat it. Returns the rows."""
        outcome = pending_outcome(self.plan, trial)
        if outcome is None:
            return [self._without_training(trial, "failed", "its outcome cannot be read: the disk may be full or failing")]
        outcome.row["beside"] = beside
        rows = [self._write(trial, outcome)]
        for other in [] if self.options.keep else list(filter(trial.is_repeated_by, waiting)):
            if self.locks.take(other) and not self.locks.done_elsewhere(other):
                waiting.remove(other)
                rows.append(self._write(other, _named(outcome, other)))
        return rows

    def _write(self, trial: Planned, outcome: Outcome) -> dict:
        """Write and print the row of a trained trial and delete its checkpoints. Returns the row."""
        store.store(self.plan.files, outcome, list(self.plan.experiment.arms))
        shutil.rmtree(self.plan.files.state / trial.folder_name, ignore_errors=True)
        self.locks.release(trial)
        self.display.finished(outcome.row, self.plan.experiment.task.metric)
        return outcome.row

    def _fail(self, trial: Planned, reason: str, worker: Worker) -> dict:
        """Write a `failed` row with the path of the log. Checkpoints stay, and the next run resumes from them."""
        self._keep_log(trial, worker)
        log = self._log(trial)
        return self._without_training(trial, "failed", f"{reason}; log: {log}" if log.exists() else reason, worker.beside)

    def _log(self, trial: Planned) -> pathlib.Path:
        """Path of a trial's log."""
        return self.plan.files.local("logs", trial.entry, trial.seed, ".log")

    def _keep_log(self, trial: Planned, worker: Worker) -> None:
        """Append the trial's output, if any, to its log."""
        log = self._log(trial)
        with contextlib.suppress(OSError):
            printed = worker.process.printed()
            if printed and worker.ready:  # else it is output of TensorFlow's start
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as file:
                    file.write(printed)

    def _without_training(self, trial: Planned, status: str, reason: str, beside: int | str = "") -> dict:
        """Write and print the row of a trial without an outcome."""
        row = without_training(self.plan, trial, status, reason, beside)
        self.locks.release(trial)
        self.display.finished(row, self.plan.experiment.task.metric)
        return row

    def _died(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        """Replace a dead worker; its trial waits for another, or has failed. Returns the row if it has."""
        how, cause, _ = worker.ending()
        trial, rows = worker.trial, []
        if trial is not None and not worker.delivered:
            waiting.insert(0, trial)
        elif trial is not None:
            self.attempts[trial.fingerprint, how] += 1
            count = self.attempts[trial.fingerprint, how]
            if how == "memory":
                self.roomy.add(trial.fingerprint)
            if count < ATTEMPTS[how]:
                self._keep_log(trial, worker)
                self.display.print_line(f"{trial.entry} seed {trial.seed}: its worker died ({cause}); starting it once more")
                waiting.insert(0, trial)
            else:
                rows.append(self._fail(trial, f"its worker died {count} times ({cause})", worker))
        self.workers.stop(worker)
        return rows


def without_training(plan: Plan, trial: Planned, status: str, reason: str, beside: int | str = "") -> dict:
    """Write the row of a trial without an outcome. Returns it.

    Args:
        status: "failed" or "unavailable"; beside: a column, see `Worker`.
    """
    row = known_columns(trial, plan.experiment.name, plan.planner.origin)
    row |= {"status": status, "reason": reason, "beside": beside}
    store.store(plan.files, Outcome(row=row), list(plan.experiment.arms))
    return row


def _named(outcome: Outcome, trial: Planned) -> Outcome:
    """The outcome of a trial as that of another, which differs from it in the name of its learning rate alone."""
    rate, known = {"rate": trial.variant.rate}, known_columns(trial, "", {})
    row = outcome.row | {name: known[name] for name in ("rate", "fingerprint", "search", "tuning")}
    tables = {part: [line | rate for line in outcome.table(part)] for part in ("epochs", "measures")}
    return dataclasses.replace(outcome, row=row, **tables)


def _remove_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or deleted by another run
        folder.rmdir()


def pending_outcome(plan: Plan, trial: Planned) -> Outcome | None:
    """The outcome of a trial whose row was not yet written when the main process was killed; None if there is none."""
    return load_outcome(plan.files.state / trial.folder_name)


def collect_pending(plan: Plan) -> None:
    """Write the rows of trials that ended after the main process was killed."""
    folders = plan.state_folders()
    for trial in plan.missing() if folders else ():
        outcome = pending_outcome(plan, trial) if trial.folder_name in folders else None
        if outcome is not None:
            store.store(plan.files, outcome, list(plan.experiment.arms))
            shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
