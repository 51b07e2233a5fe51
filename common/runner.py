"""Trials to worker processes: one trial at a time each, workers reused, what crashed tried once more."""

import contextlib
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from common import results
from common.errors import Failure
from common.plan import Plan, Planned, known_columns, provenance
from common.progress import Display

PROJECT = pathlib.Path(__file__).resolve().parent.parent
ATTEMPTS = 2
"""Times a trial whose worker died is started within one call."""


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Worker:
    """A worker process and what it is doing."""

    process: subprocess.Popen
    threads: int
    log: pathlib.Path
    trial: Planned | None = None
    beside: int = 0
    ready: bool = False
    reached: bool = True
    """Whether the last trial given to it arrived."""
    buffer: bytes = b""
    progress: dict = field(default_factory=dict)

    @classmethod
    def start(cls, threads: int, logs: pathlib.Path) -> "Worker":
        """Start a process with the given number of CPU threads; what it prints goes to a log."""
        logs.mkdir(parents=True, exist_ok=True)
        handle, log = tempfile.mkstemp(prefix="worker-", suffix=".log", dir=logs)
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONHASHSEED": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "common.worker", str(threads)],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
        )
        os.close(handle)
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process, threads, pathlib.Path(log))

    def give(self, trial: Planned, job: dict) -> None:
        """Hand over a trial."""
        self.trial, self.progress = trial, {}
        try:
            self.process.stdin.write((json.dumps(job) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # it died while idle: its end of file follows
            self.reached = False

    def events(self) -> list[dict] | None:
        """The events that have arrived; None when the process has ended."""
        chunk = self.process.stdout.read()
        if chunk == b"":
            return None
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """End it at once: what it had not saved is not needed."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # what could not be sent is still buffered
            self.process.stdin.close()
        self.process.stdout.close()
        self.log.unlink(missing_ok=True)


class Runner:
    """Runs the missing trials of a plan and writes a row for each."""

    def __init__(self, plan: Plan, *, jobs: int, keep: bool, checkpoint_steps: int | None, display: Display):
        self.plan, self.jobs, self.keep, self.checkpoint_steps = plan, jobs, keep, checkpoint_steps
        self.display = display
        self.origin = provenance()
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()
        self.attempts: dict[str, int] = {}
        self.order = list(plan.experiment.arms)

    def run(self, trials: Sequence[Planned]) -> list[dict]:
        """Run trials in order. Returns their rows. `KeyboardInterrupt` passes through, after the workers have ended."""
        rows: list[dict] = []
        waiting = list(trials)
        try:
            while waiting or any(worker.trial for worker in self.workers):
                self._assign(waiting)
                self.display.update([(w.trial, w.progress) for w in self.workers if w.trial], len(waiting))
                for key, _ in self.selector.select(timeout=0.2):
                    rows += self._listen(key.data, waiting)
        finally:
            for worker in self.workers:
                worker.stop()
            self.selector.close()
        return rows

    def _assign(self, waiting: list[Planned]) -> None:
        """Give every idle worker the next trial that it fits, starting workers while there is room."""
        while waiting:
            threads = waiting[0].setting.threads
            idle = [w for w in self.workers if w.trial is None]
            fitting = next((w for w in idle if w.threads == threads), None)
            if fitting is None:
                if len(self.workers) >= self.jobs and not idle:
                    return
                if len(self.workers) >= self.jobs:
                    self._drop(idle[0])
                fitting = Worker.start(threads, self.plan.files.folder / "logs")
                self.workers.append(fitting)
                self.selector.register(fitting.process.stdout, selectors.EVENT_READ, fitting)
            trial = waiting.pop(0)
            fitting.give(trial, self._job(trial))
            running = [w for w in self.workers if w.trial]
            fitting.beside = 0
            for worker in running:
                worker.beside = max(worker.beside, len(running) - 1)

    def _job(self, trial: Planned) -> dict:
        kept = self.plan.files.local("models", trial.arm, trial.seed, ".keras")
        return {
            "script": str(self.plan.experiment.path),
            "seed": trial.seed,
            "arguments": trial.arguments,
            "setting": vars(trial.setting),
            "dataset": trial.dataset.to_json(),
            "folder": str((self.plan.files.state / trial.folder_name).resolve()),
            "keep": str(kept.resolve()) if self.keep else None,
            "checkpoint_steps": self.checkpoint_steps,
            "row": known_columns(trial, self.plan.experiment.name, self.origin),
        }

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
            elif kind in ("finished", "failed"):
                trial, worker.trial = worker.trial, None
                if kind == "failed":
                    rows.append(self._fail(trial, event["reason"], worker))
                else:
                    rows += self._finish(trial, worker.beside)
        return rows

    def _finish(self, trial: Planned, beside: int | str) -> list[dict]:
        outcome = pending_outcome(self.plan, trial)
        if outcome is None:
            return [self._fail(trial, "its outcome cannot be read: the disk may be full or failing")]
        outcome.row["beside"] = beside
        return [self._store(trial, outcome)]

    def _store(self, trial: Planned, outcome: results.Outcome) -> dict:
        results.store(self.plan.files, outcome, self.order)
        shutil.rmtree(self.plan.files.state / trial.folder_name, ignore_errors=True)
        self.display.finished(outcome.row)
        return outcome.row

    def _fail(self, trial: Planned, reason: str, worker: Worker | None = None) -> dict:
        """A `failed` row; checkpoints stay, so that the next call goes on from them."""
        row = known_columns(trial, self.plan.experiment.name, self.origin)
        row |= {"status": "failed", "reason": reason, "beside": worker.beside if worker else ""}
        results.store(self.plan.files, results.Outcome(row=row), self.order)
        if worker:
            log = self.plan.files.local("logs", trial.arm, trial.seed, ".log")
            log.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(worker.log, log)
        self.display.finished(row)
        return row

    def _died(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        status = worker.process.wait()
        trial = worker.trial
        rows = []
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if not worker.ready:
            last = (worker.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise Failure(f"a worker could not start ({how}): {last}")
        if trial is not None and not worker.reached:
            waiting.insert(0, trial)
        elif trial is not None:
            self.attempts[trial.fingerprint] = self.attempts.get(trial.fingerprint, 0) + 1
            if self.attempts[trial.fingerprint] < ATTEMPTS:
                self.display.say(f"{trial.arm} seed {trial.seed}: its worker died ({how}); trying once more")
                waiting.insert(0, trial)
            else:
                rows.append(self._fail(trial, f"its worker died {ATTEMPTS} times ({how})", worker))
        self._drop(worker)
        return rows

    def _drop(self, worker: Worker) -> None:
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        worker.stop()


def pending_outcome(plan: Plan, trial: Planned) -> results.Outcome | None:
    """The outcome that a trial left when the parent was killed before it could write the row; None where there is none."""
    return results.load_outcome(plan.files.state / trial.folder_name)


def collect_pending(plan: Plan) -> None:
    """Write the rows of trials that ended while nobody was there to write them."""
    for trial in plan.missing():
        outcome = pending_outcome(plan, trial)
        if outcome is not None:
            results.store(plan.files, outcome, list(plan.experiment.arms))
            shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
