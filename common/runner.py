"""Trials to worker processes: one trial at a time each, workers reused, what crashed tried once more."""

import contextlib
import fcntl
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from common import results
from common.devices import Devices
from common.errors import Failure
from common.plan import Plan, Planned, known_columns, provenance
from common.progress import Display

PROJECT = pathlib.Path(__file__).resolve().parent.parent
ATTEMPTS = 2
"""Times a trial whose worker died is started within one call."""
STALL_SECONDS = 900
"""How long a trial may be silent before it is taken for dead."""
POLL_SECONDS = 1.0
"""Between two looks at trials that another call is running."""


@dataclass
class Worker:
    """A worker process and what it is doing."""

    process: subprocess.Popen
    fits: tuple[int, int]
    """Threads and replicas: fixed once TensorFlow has started."""
    gpus: list[str]
    log: pathlib.Path
    trial: Planned | None = None
    beside: int = 0
    ready: bool = False
    reached: bool = True
    """Whether the last trial given to it arrived."""
    buffer: bytes = b""
    progress: dict = field(default_factory=dict)
    heard: float = 0.0
    """When it last said anything."""
    stalled: bool = False

    @classmethod
    def start(cls, fits: tuple[int, int], gpus: list[str], logs: pathlib.Path) -> "Worker":
        """Start a process for trials of so many threads and replicas; what it prints goes to a log."""
        threads, replicas = fits
        logs.mkdir(parents=True, exist_ok=True)
        handle, log = tempfile.mkstemp(prefix="worker-", suffix=".log", dir=logs)
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONHASHSEED": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": ",".join(gpus) or "-1",
        }
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "common.worker", str(threads), str(replicas)],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
        )
        os.close(handle)
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process, fits, gpus, pathlib.Path(log))

    def give(self, trial: Planned, job: dict) -> None:
        """Hand over a trial."""
        self.trial, self.progress, self.heard = trial, {}, time.monotonic()
        try:
            self.process.stdin.write((json.dumps(job) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # it died while idle: its end of file follows
            self.reached = False

    def events(self) -> list[dict] | None:
        """The events that have arrived; None when the process has ended."""
        self.heard = time.monotonic()
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

    def __init__(
        self,
        plan: Plan,
        *,
        devices: Devices,
        jobs: int,
        display: Display,
        keep: bool = False,
        checkpoint_steps: int | None = None,
        stall_seconds: float = STALL_SECONDS,
    ):
        self.plan, self.devices, self.jobs, self.display = plan, devices, jobs, display
        self.keep, self.checkpoint_steps, self.stall_seconds = keep, checkpoint_steps, stall_seconds
        self.claims = Claims(plan)
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
                rows += self._assign(waiting)
                self._kill_stalled()
                self.display.update([(w.trial, w.progress) for w in self.workers if w.trial], len(waiting))
                for key, _ in self.selector.select(timeout=0.2):
                    rows += self._listen(key.data, waiting)
        finally:
            for worker in self.workers:
                worker.stop()
            self.claims.release_all()
            self.selector.close()
            for folder in (self.plan.files.state, self.plan.files.state.parent, self.plan.files.folder / "logs"):
                with contextlib.suppress(OSError):  # it is not empty, or another call was faster
                    folder.rmdir()
        return rows

    def _assign(self, waiting: list[Planned]) -> list[dict]:
        """Give every idle worker the next trial, starting workers while there is room. Returns rows that need none.

        A trial that another call is running is passed over, and looked at again when nothing else is left.
        """
        rows = []
        for trial in list(waiting):
            fits = (trial.setting.threads, trial.setting.replicas)
            idle = [w for w in self.workers if w.trial is None]
            if not idle and len(self.workers) >= self.jobs:
                break
            if not self.claims.take(trial):
                continue
            waiting.remove(trial)
            if self.claims.done_elsewhere(trial):
                self.claims.release(trial)
                self.display.elsewhere(trial)
                continue
            reason = self.devices.lack(trial.setting.replicas)
            if reason:
                rows.append(self._without_training(trial, "unavailable", reason))
                continue
            worker = next((w for w in idle if w.fits == fits), None) or self._start(fits, idle)
            worker.give(trial, self._job(trial))
            running = [w for w in self.workers if w.trial]
            worker.beside = 0
            for other in running:
                other.beside = max(other.beside, len(running) - 1)
        if waiting and not any(w.trial for w in self.workers):
            time.sleep(POLL_SECONDS)  # all that is left is being run by another call
        return rows

    def _start(self, fits: tuple[int, int], idle: list[Worker]) -> Worker:
        if len(self.workers) >= self.jobs:
            self._drop(idle[0])
        worker = Worker.start(fits, self.devices.take(fits[1]), self.plan.files.folder / "logs")
        self.workers.append(worker)
        self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _kill_stalled(self) -> None:
        for worker in self.workers:
            if worker.trial and time.monotonic() - worker.heard > self.stall_seconds:
                worker.stalled = True
                worker.process.kill()

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
            return [self._without_training(trial, "failed", "its outcome cannot be read: the disk may be full or failing")]
        outcome.row["beside"] = beside
        results.store(self.plan.files, outcome, self.order)
        shutil.rmtree(self.plan.files.state / trial.folder_name, ignore_errors=True)
        self.claims.release(trial)
        self.display.finished(outcome.row)
        return [outcome.row]

    def _fail(self, trial: Planned, reason: str, worker: Worker) -> dict:
        """A `failed` row and its log; checkpoints stay, so that the next call goes on from them."""
        log = self.plan.files.local("logs", trial.arm, trial.seed, ".log")
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(worker.log, log)
        return self._without_training(trial, "failed", reason, worker.beside)

    def _without_training(self, trial: Planned, status: str, reason: str, beside: int | str = "") -> dict:
        row = known_columns(trial, self.plan.experiment.name, self.origin)
        row |= {"status": status, "reason": reason, "beside": beside}
        results.store(self.plan.files, results.Outcome(row=row), self.order)
        self.claims.release(trial)
        self.display.finished(row)
        return row

    def _died(self, worker: Worker, waiting: list[Planned]) -> list[dict]:
        status = worker.process.wait()
        trial = worker.trial
        rows = []
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if worker.stalled:
            how = f"silent for {self.stall_seconds:g} s"
        if not worker.ready and status >= 0:  # it was not killed: the next one would fare no better
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
        self.devices.free(worker.gpus)
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        worker.stop()


class Claims:
    """Which trials this call has in hand, so that two calls on one results folder share the work.

    A claim is a lock on a file beside the trial's checkpoints. It ends with the process that holds it: none is ever stale.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.held: dict[str, IO] = {}
        self.missing = {trial.fingerprint for trial in plan.missing()}

    def take(self, trial: Planned) -> bool:
        """Claim a trial; False while another call has it."""
        if trial.fingerprint in self.held:
            return True
        path = self._path(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("w")
        except FileNotFoundError:  # another call has just ended, and tidied up
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise FileNotFoundError  # it was released between opening and locking
        except (BlockingIOError, FileNotFoundError):
            file.close()
            return False
        self.held[trial.fingerprint] = file
        return True

    def _path(self, trial: Planned) -> pathlib.Path:
        return self.plan.files.state / f"{trial.folder_name}.lock"

    def done_elsewhere(self, trial: Planned) -> bool:
        """Whether another call has finished a claimed trial since this one planned it."""
        missing = {t.fingerprint for t in self.plan.missing()}
        return trial.fingerprint in self.missing - missing

    def release(self, trial: Planned) -> None:
        """Give a claim back."""
        self._path(trial).unlink(missing_ok=True)
        self.held.pop(trial.fingerprint).close()

    def release_all(self) -> None:
        """Give all claims back."""
        for trial in [trial for trial in self.plan.trials if trial.fingerprint in self.held]:
            self.release(trial)


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
