"""A machine that is not the chief: trains what the chief says, with a worker that writes nothing."""

import selectors

from common.errors import Failure
from common.running.plan import Plan, Planned, Planner, Variant, known_columns
from common.running.process import Worker, job
from common.running.progress import Display
from common.running.runner import RunOptions


class Follower:
    """Runs this machine's part of each trial until the chief is done."""

    def __init__(self, planner: Planner, options: RunOptions, display: Display):
        self.planner, self.options, self.display, self.cluster = planner, options, display, options.cluster
        self.worker: Worker | None = None
        self.round = 0

    def run(self) -> int:
        """Follow. Returns the chief's exit status. Raises `Failure` when a machine, or this one's worker, is lost."""
        try:
            while True:
                self.cluster.check()
                said = self.cluster.others[0].said
                if said["state"] == "done":
                    return said["status"]
                if said["state"] == "leads" and said["round"] > self.round:
                    self._begin(said)
                self._listen()
        finally:
            self._stop()

    def _begin(self, said: dict) -> None:
        plan = self.planner.plan([(Variant(**said["variant"]), said["seed"])], searching=said["searching"])
        (trial,) = plan.trials
        if trial.fingerprint != said["fingerprint"]:
            raise Failure(
                "the chief trains another trial than this machine would: all must have the same code, data and options. "
                f"Received: fingerprint {said['fingerprint'][:12]}, here {trial.fingerprint[:12]}"
            )
        if trial.kind != said["kind"]:
            raise Failure(f"all machines must be of one kind: the chief is {said['kind']}. Received: {trial.kind}")
        busy = self.worker is not None and self.worker.trial is not None
        if busy and not said["fresh"]:
            return  # the chief was a little faster
        self.round = said["round"]
        self.cluster.say(state="follows", round=self.round)
        if said["fresh"]:
            self._stop()
        self.worker = self.worker or self._start(plan, trial)
        row = known_columns(trial, plan.experiment.name, {})
        self.worker.give(trial, job(plan, trial, row, keep=None, checkpoint_steps=None, writes=False))

    def _start(self, plan: Plan, trial: Planned) -> Worker:
        setting = trial.setting
        gpus = self.options.devices.take(setting.replicas // setting.workers)
        return Worker.start(trial.fits, gpus, plan.files.folder / "logs")

    def _stop(self) -> None:
        if self.worker is not None:
            self.options.devices.free(self.worker.gpus)
            self.worker.stop()
            self.worker = None

    def _listen(self) -> None:
        worker = self.worker
        with selectors.DefaultSelector() as selector:
            if worker is not None:
                selector.register(worker.process.stdout, selectors.EVENT_READ)
            heard = selector.select(timeout=0.2)
        if worker is None:
            return
        worker.refuse_slow_start()
        if not heard:
            if worker.stalls(self.options.stall_seconds):
                raise Failure(f"its worker was silent for {worker.stalled:g} s")
            self.display.update([(worker.trial, worker.progress)] if worker.trial else [], 0)
            return
        events = worker.events()
        if events is None:
            raise Failure(f"its worker died ({worker.how_it_ended()}); the same command on all machines goes on")
        for event in events:
            kind = event.pop("event")
            if kind == "ready":
                worker.ready = True
            elif kind == "progress":
                worker.progress = event
            elif kind == "changed":
                raise Failure(event["reason"])
            elif kind == "failed":
                self.cluster.say(state="failed", round=self.round, reason=event["reason"])
                worker.trial = None
            else:
                self.display.followed(worker.trial)
                worker.trial = None
