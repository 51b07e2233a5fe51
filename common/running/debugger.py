"""Trains trials in this process, for DEBUG=1: they print to the terminal, and breakpoints can read from it.

Checkpoints and rows of earlier runs are ignored.
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
from common.running.environment import environment
from common.running.locks import TrialLocks
from common.running.plan import Plan, Planned, known_columns
from common.running.process import job
from common.running.progress import Display
from common.running.reasons import reason
from common.running.runner import RunOptions, without_training
from common.running.workers import Workers


class Debugger:
    """Runs trials one after the other in this process, with the interface of `Runner`."""

    def __init__(self, options: RunOptions, workers: Workers, display: Display):
        self.options, self.engine, self.display = options, workers.engine, display
        self.start_options: tuple | None = None
        """Start options of TensorFlow, which are fixed by the first trial."""
        self.strategy = None
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="debug-"))

    def __enter__(self) -> "Debugger":
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Run trials of a plan in order. Returns their rows.

        Raises:
            Misuse: they need different start options of TensorFlow.
            Failure: another run debugs the same trial, or the code has changed.
        """
        reasons = {trial.fingerprint: trial.unavailable or self.engine.unavailable(trial.setting) for trial in trials}
        needed = [trial.setting.start_options for trial in trials if not reasons[trial.fingerprint]]
        options = dict.fromkeys([*([self.start_options] if self.start_options else []), *needed])
        if len(options) > 1:
            raise Misuse(
                "DEBUG=1 trains in one process, in which threads, replicas and determinism are fixed: choose arms with equal "
                f"values (ARMS=…). Received: {len(options)} combinations"
            )
        locks, rows = TrialLocks(plan), []
        try:
            for trial in trials:
                if not locks.take(trial):
                    raise Failure(f"another run is training {trial.entry} seed {trial.seed}: wait until it has ended")
                reason = reasons[trial.fingerprint]
                rows.append(without_training(plan, trial, "unavailable", reason) if reason else self._train(plan, trial))
                locks.release(trial)
                self.display.finished(rows[-1], plan.experiment.task.metric)
        finally:
            locks.release_all()
        return rows

    def _train(self, plan: Plan, trial: Planned) -> dict:
        """Train one trial in this process. Returns its row."""
        if self.start_options is None:
            self.start_options = trial.setting.start_options
            variables = environment(self.start_options, self.engine.devices.take(self.start_options[1]), self.scratch)
            os.environ.clear()
            os.environ.update(variables)
        with quiet_stderr():
            from common.training import execution  # imports TensorFlow, which reads the environment set above

        self.strategy = self.strategy or execution.start(*self.start_options)
        shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
        row = known_columns(trial, plan.experiment.name, plan.planner.origin) | {"beside": 0}
        keep = plan.files.local("models", trial.entry, trial.seed, ".keras") if self.options.keep else None
        the_job = job(plan, trial, row, keep=keep, checkpoint_steps=self.options.checkpoint_steps)

        def report(warning: str = "", **progress) -> None:
            if warning:
                self.display.print_line(warning)
            else:
                self.display.update([(trial, progress)])

        try:
            outcome = execution.run_trial(the_job, self.strategy, report)
        except Unavailable as error:
            return without_training(plan, trial, "unavailable", str(error))
        except CodeChanged as error:
            raise Failure(str(error)) from error
        except bdb.BdbQuit:
            raise Failure("the debugger was ended by quit") from None
        except (Exception, SystemExit) as error:
            sys.stdout.flush()
            traceback.print_exc()
            return without_training(plan, trial, "failed", reason(error, the_job.script))
        store.store(plan.files, outcome, list(plan.experiment.arms))
        shutil.rmtree(plan.files.state / trial.folder_name, ignore_errors=True)
        return outcome.row
