"""Trials in the calling process, for DEBUG=1: what they print goes to the terminal, which breakpoints have to themselves.

Each begins anew: neither checkpoints nor rows of an earlier call are gone on from.
"""

import bdb
import os
import pathlib
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence

from common.errors import CodeChanged, Failure, Misuse, Unavailable
from common.machine import quiet_stderr
from common.rows import store
from common.running.locks import TrialLocks
from common.running.plan import Plan, Planned, known_columns
from common.running.process import job
from common.running.progress import Display
from common.running.reasons import reason
from common.running.runner import RunOptions, without_training
from common.running.surroundings import environment


class Debugger:
    """Runs trials one after the other, as `Runner` does with workers."""

    def __init__(self, options: RunOptions, display: Display):
        self.options, self.display = options, display
        self.fits: tuple | None = None
        """What TensorFlow has been set up for, which is fixed then."""
        self.strategy = None
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="debug-"))

    def __enter__(self) -> "Debugger":
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Run trials of a plan in order. Returns their rows.

        Raises:
            Misuse: they want TensorFlow to be set up in more than one way.
            Failure: another call debugs the same trial, or the code has changed.
        """
        lacks = {trial.fingerprint: trial.lack or self.options.devices.lack(*trial.fits[1:3]) for trial in trials}
        fits = dict.fromkeys([*([self.fits] if self.fits else []), *(t.fits for t in trials if not lacks[t.fingerprint])])
        if len(fits) > 1:
            raise Misuse(
                "DEBUG=1 trains in one process, where threads, replicas and determinism are fixed: name arms that have them "
                f"alike (ARMS=…). Received: {len(fits)} kinds"
            )
        locks, rows = TrialLocks(plan), []
        try:
            for trial in trials:
                if not locks.take(trial):
                    raise Failure(f"another call has {trial.entry} seed {trial.seed} in hand: wait until it has ended")
                lack = lacks[trial.fingerprint]
                rows.append(without_training(plan, trial, "unavailable", lack) if lack else self._train(plan, trial))
                locks.release(trial)
                self.display.finished(rows[-1], plan.experiment.task.metric)
        finally:
            locks.release_all()
        return rows

    def _train(self, plan: Plan, trial: Planned) -> dict:
        if self.fits is None:
            self.fits = trial.fits
            variables = environment(trial.fits, self.options.devices.take(trial.fits[1]), self.scratch)
            os.environ.clear()
            os.environ.update(variables)
        with quiet_stderr():
            from common.training import execution  # only now: it imports TensorFlow, which reads the environment

        self.strategy = self.strategy or execution.start(*trial.fits)
        shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
        row = known_columns(trial, plan.experiment.name, plan.planner.origin) | {"beside": 0}
        keep = plan.files.local("models", trial.entry, trial.seed, ".keras") if self.options.keep else None
        what = job(plan, trial, row, keep=keep, checkpoint_steps=self.options.checkpoint_steps)

        def report(warning: str = "", **progress) -> None:
            if warning:
                self.display.say(warning)
            else:
                self.display.update([(trial, progress)], 0)

        try:
            outcome = execution.run_trial(what, self.strategy, report)
        except Unavailable as error:
            return without_training(plan, trial, "unavailable", str(error))
        except CodeChanged as error:
            raise Failure(str(error)) from error
        except bdb.BdbQuit:
            raise Failure("the debugger was left with quit") from None
        except (Exception, SystemExit) as error:
            sys.stdout.flush()
            traceback.print_exc()
            return without_training(plan, trial, "failed", reason(error, what.script))
        store.store(plan.files, outcome, list(plan.experiment.arms))
        shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
        return outcome.row
