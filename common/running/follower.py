"""Training on a machine that is not the chief: its worker takes part in the chief's trials, and writes nothing."""

import selectors

from common.errors import Failure
from common.running.plan import Planned, Planner, Variant, known_columns
from common.running.process import Worker, job
from common.running.progress import Display
from common.running.runner import RunOptions


class Follower:
    """Runs this machine's worker for each trial that the chief announces."""

    def __init__(self, planner: Planner, options: RunOptions, display: Display):
        self.planner, self.options, self.display, self.cluster = planner, options, display, options.cluster
        self.worker: Worker | None = None
        self.round = 0

    def run(self) -> int:
        """Train until the chief has finished. Returns its exit status.

        Raises:
            Failure: a machine or this one's worker is lost, or the machines differ in code, data, options or processor.
        """
        try:
            while True:
                self.cluster.check()
                message = self.cluster.others[0].message
                if message["state"] == "done":
                    return message["status"]
                if message["state"] == "leads" and message["round"] > self.round:
                    self._begin(message)
                self._listen()
        finally:
            self._stop()

    def _begin(self, message: dict) -> None:
        """Start the trial of a message by the chief; if the worker is still busy, the message is read again later."""
        plan = self.planner.plan([(Variant(**message["variant"]), message["seed"])], searching=message["searching"])
        (trial,) = plan.trials
        if trial.fingerprint != message["fingerprint"]:
            raise Failure(
                "all machines must have the same code, data and options: the chief's trial has the fingerprint "
                f"{message['fingerprint'][:12]}. Received: {trial.fingerprint[:12]} on this machine"
            )
        if trial.kind != message["kind"]:
            raise Failure(
                f"all machines must have the same kind of processor: the chief has {message['kind']}. Received: {trial.kind}"
            )
        busy = self.worker is not None and self.worker.trial is not None
        if busy and not message["fresh"]:
            return
        self.round = message["round"]
        self.cluster.publish(state="follows", round=self.round)
        if message["fresh"]:
            self._stop()
        self.worker = self.worker or self._start(trial)
        row = known_columns(trial, plan.experiment.name, {})
        self.worker.send(trial, job(plan, trial, row, keep=None, checkpoint_steps=None, writes=False))

    def _start(self, trial: Planned) -> Worker:
        setting = trial.setting
        gpus = self.options.devices.take(setting.replicas // setting.workers)
        return Worker.start(setting.start_options, gpus)

    def _stop(self) -> None:
        if self.worker is not None:
            self.options.devices.free(self.worker.gpus)
            self.worker.stop()
            self.worker = None

    def _listen(self) -> None:
        """Wait up to 0.2 s for events of the worker, and act on them."""
        worker = self.worker
        with selectors.DefaultSelector() as selector:
            if worker is not None:
                selector.register(worker.process.stdout, selectors.EVENT_READ)
            readable = selector.select(timeout=0.2)
        if worker is None:
            return
        worker.check_connection()
        if not readable:
            if worker.is_stalled(self.options.stall_seconds):
                raise Failure(f"this machine's worker reported no progress for {worker.stalled:g} s")
            self.display.update([(worker.trial, worker.progress)] if worker.trial else [])
            return
        events = worker.events()
        if events is None:
            raise Failure(
                f"this machine's worker died ({worker.exit_cause()}): run the same command on all machines, which resumes"
            )
        for event in events:
            kind = event.pop("event")
            if kind == "ready":
                worker.ready = True
            elif kind == "progress":
                worker.progress = event
            elif kind == "changed":
                raise Failure(event["reason"])
            elif kind == "failed":
                self.cluster.publish(state="failed", round=self.round, reason=event["reason"])
                worker.trial = None
            else:
                self.display.done_by_chief(worker.trial)
                worker.trial = None
