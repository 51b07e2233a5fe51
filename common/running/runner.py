"""Trials to worker processes: one trial at a time each, workers reused, what crashed tried once more."""

import contextlib
import pathlib
import selectors
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Failure
from common.rows import store
from common.running.cluster import Cluster
from common.running.devices import Devices
from common.running.locks import TrialLocks
from common.running.plan import Plan, Planned, known_columns
from common.running.process import Worker, job
from common.running.progress import Display
from common.training.job import Job

ATTEMPTS = 2
"""Times a trial whose worker died is started within one call."""
STALL_SECONDS = 900
"""How long a trial may be silent before it is taken for dead."""
TRIALS_PER_WORKER = 50
"""After so many a worker is replaced: TensorFlow's runtime keeps 1 to 2 MB of every trial, outside of Python's reach."""
POLL_SECONDS = 1.0
"""Between two looks at trials that another call is running."""


@dataclass(frozen=True)
class RunOptions:
    """How a call trains: on what, how many trials at a time, and what it keeps."""

    devices: Devices
    jobs: int
    stall_seconds: float = STALL_SECONDS
    checkpoint_steps: int | None = None
    keep: bool = False
    dry: bool = False
    debug: bool = False
    """Whether trials are trained by the calling process; see `common.running.debugger`."""
    cluster: Cluster | None = None


class Runner:
    """Runs trials and writes a row for each; a context manager, whose workers live until its end."""

    def __init__(self, options: RunOptions, display: Display):
        self.options, self.display, self.cluster, self.round = options, display, options.cluster, 0
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()
        self.attempts: dict[str, int] = {}

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_) -> None:
        for worker in self.workers:
            if worker.trial is not None:
                self._keep_log(worker.trial, worker)
            worker.stop()
        self.selector.close()
        for folder in {worker.log.parent for worker in self.workers}:
            _remove_empty(folder)

    def run(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Run trials of a plan in order. Returns their rows. `KeyboardInterrupt` passes through."""
        self.plan, self.locks = plan, TrialLocks(plan)
        rows: list[dict] = []
        waiting = list(trials)
        try:
            while waiting or any(worker.trial for worker in self.workers):
                rows += self._assign(waiting)
                self._kill_stalled()
                rows += self._attend()
                self.display.update([(w.trial, w.progress) for w in self.workers if w.trial], len(waiting))
                for key, _ in self.selector.select(timeout=0.2):
                    rows += self._listen(key.data, waiting)
        except BaseException:
            for worker in self.workers:  # before the locks are given back
                worker.process.kill()
            raise
        finally:
            self.locks.release_all()
            _remove_empty(plan.files.state)
        return rows

    def _assign(self, waiting: list[Planned]) -> list[dict]:
        """Give every idle worker the next trial, starting workers while there is room. Returns rows that need none.

        A trial that another call is running is passed over, and looked at again when nothing else is left.
        """
        rows = []
        for trial in list(waiting):
            idle = [w for w in self.workers if w.trial is None]
            if not idle and len(self.workers) >= self.options.jobs:
                break
            if not self.locks.take(trial):
                continue
            waiting.remove(trial)
            if self.locks.done_elsewhere(trial):
                self.locks.release(trial)
                self.display.elsewhere(trial)
                continue
            reason = trial.lack or self.options.devices.lack(trial.setting.replicas, trial.setting.workers)
            if reason:
                rows.append(self._without_training(trial, "unavailable", reason))
                continue
            worker = next((w for w in idle if w.fits == trial.fits and w.given < TRIALS_PER_WORKER), None)
            if self.cluster:
                self.round += 1
                told = {"fingerprint": trial.fingerprint, "variant": vars(trial.variant), "seed": trial.seed, "kind": trial.kind}
                self.cluster.say(state="leads", round=self.round, fresh=worker is None, searching=self.plan.searching, **told)
            worker = worker or self._start(trial.fits, idle)
            if not (self.plan.files.state / trial.folder_name).exists():  # else it goes on, and so does its log
                self._log(trial).unlink(missing_ok=True)
            worker.give(trial, self._job(trial))
            running = [w for w in self.workers if w.trial]
            worker.beside = 0
            for other in running:
                other.beside = max(other.beside, len(running) - 1)
        if waiting and not any(w.trial for w in self.workers):
            time.sleep(POLL_SECONDS)  # all that is left is being run by another call
        return rows

    def _start(self, fits: tuple[int, int, int, bool], idle: list[Worker]) -> Worker:
        spent = [worker for worker in idle if worker.given >= TRIALS_PER_WORKER]
        if spent or len(self.workers) >= self.options.jobs:
            self._drop([*spent, *idle][0])
        worker = Worker.start(fits, self.options.devices.take(fits[1] // fits[2]), self.plan.files.folder / "logs")
        self.workers.append(worker)
        self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _kill_stalled(self) -> None:
        for worker in self.workers:
            if worker.stalls(self.options.stall_seconds):
                worker.process.kill()

    def _attend(self) -> list[dict]:
        """See to the other machines. Returns the row of a trial that failed on any. Raises `Failure` when one has ended."""
        if self.cluster is None:
            return []
        self.cluster.check()
        rows = []
        for worker in list(self.workers):
            worker.refuse_slow_start()
            reason = self.cluster.given_up(self.round)
            if reason is not None:
                if worker.trial is not None:
                    rows.append(self._fail(worker.trial, reason, worker))
                self._drop(worker)  # the machines' collectives may be out of step: the next trial begins with fresh workers
        return rows

    def _job(self, trial: Planned) -> Job:
        kept = self.plan.files.local("models", trial.entry, trial.seed, ".keras")
        row = known_columns(trial, self.plan.experiment.name, self.plan.planner.origin)
        return job(
            self.plan, trial, row, keep=kept if self.options.keep else None, checkpoint_steps=self.options.checkpoint_steps
        )

    def _listen(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        """Act on a worker's events. Returns the rows that they completed."""
        events = worker.events()
        if events is None:
            return self._died(worker, waiting)
        rows = []
        for event in events:
            kind = event.pop("event")
            if kind == "ready":
                worker.ready = True
            elif kind == "progress" and "warning" in event:
                self.display.say(event["warning"])
            elif kind == "progress":
                worker.progress = event
            elif kind == "changed":
                raise Failure(event["reason"])
            elif kind in ("finished", "failed", "unavailable"):
                if self.cluster and kind == "failed":
                    self.cluster.give_up(self.round, event["reason"])
                    break  # `_attend` goes on, when it is known whether another machine is the cause
                trial, worker.trial = worker.trial, None
                if kind == "failed":
                    rows.append(self._fail(trial, event["reason"], worker))
                elif kind == "unavailable":
                    self._keep_log(trial, worker)
                    rows.append(self._without_training(trial, kind, event["reason"]))
                else:
                    self._keep_log(trial, worker)
                    rows += self._finish(trial, worker.beside)
        return rows

    def _finish(self, trial: Planned, beside: int | str) -> list[dict]:
        outcome = pending_outcome(self.plan, trial)
        if outcome is None:
            return [self._without_training(trial, "failed", "its outcome cannot be read: the disk may be full or failing")]
        outcome.row["beside"] = beside
        store.store(self.plan.files, outcome, list(self.plan.experiment.arms))
        shutil.rmtree(self.plan.files.state / trial.folder_name, ignore_errors=True)
        self.locks.release(trial)
        self.display.finished(outcome.row, self.plan.experiment.task.metric)
        return [outcome.row]

    def _fail(self, trial: Planned, reason: str, worker: Worker) -> dict:
        """A `failed` row and its log; checkpoints stay, so that the next call goes on from them."""
        self._keep_log(trial, worker)
        log = self._log(trial)
        return self._without_training(trial, "failed", f"{reason}; log: {log}" if log.exists() else reason, worker.beside)

    def _log(self, trial: Planned) -> pathlib.Path:
        return self.plan.files.local("logs", trial.entry, trial.seed, ".log")

    def _keep_log(self, trial: Planned, worker: Worker) -> None:
        """Add what the trial has printed to its log; one that prints nothing has none."""
        log = self._log(trial)
        with contextlib.suppress(OSError):
            printed = worker.log.read_bytes()
            if printed and worker.ready:  # before, it is what the start of TensorFlow has said
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as file:
                    file.write(printed)

    def _without_training(self, trial: Planned, status: str, reason: str, beside: int | str = "") -> dict:
        row = without_training(self.plan, trial, status, reason, beside)
        self.locks.release(trial)
        self.display.finished(row, self.plan.experiment.task.metric)
        return row

    def _died(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        how = f"silent for {worker.stalled:g} s" if worker.stalled else worker.how_it_ended()
        if self.cluster:
            raise Failure(f"its worker died ({how}); the same command on all machines goes on from the last finished epochs")
        trial = worker.trial
        rows = []
        if trial is not None and not worker.reached:
            waiting.insert(0, trial)
        elif trial is not None:
            self.attempts[trial.fingerprint] = self.attempts.get(trial.fingerprint, 0) + 1
            if self.attempts[trial.fingerprint] < ATTEMPTS:
                self._keep_log(trial, worker)
                self.display.say(f"{trial.entry} seed {trial.seed}: its worker died ({how}); trying once more")
                waiting.insert(0, trial)
            else:
                rows.append(self._fail(trial, f"its worker died {ATTEMPTS} times ({how})", worker))
        self._drop(worker)
        return rows

    def _drop(self, worker: Worker) -> None:
        self.options.devices.free(worker.gpus)
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        worker.stop()


def without_training(plan: Plan, trial: Planned, status: str, reason: str, beside: int | str = "") -> dict:
    """Write the row of a trial that has no outcome. Returns it."""
    row = known_columns(trial, plan.experiment.name, plan.planner.origin)
    row |= {"status": status, "reason": reason, "beside": beside}
    store.store(plan.files, store.Outcome(row=row), list(plan.experiment.arms))
    return row


def _remove_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty, or another call was faster
        folder.rmdir()


def pending_outcome(plan: Plan, trial: Planned) -> store.Outcome | None:
    """The outcome that a trial left when the parent was killed before it could write the row; None where there is none."""
    return store.load_outcome(plan.files.state / trial.folder_name)


def collect_pending(plan: Plan) -> None:
    """Write the rows of trials that ended while nobody was there to write them."""
    for trial in plan.missing():
        outcome = pending_outcome(plan, trial)
        if outcome is not None:
            store.store(plan.files, outcome, list(plan.experiment.arms))
            shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
