"""`Session`: the training of a run. It prints which trials are missing and, unless the run is a dry one, trains them."""

import contextlib
from collections.abc import Sequence

from common.errors import Failure
from common.machine import has_unused_gpus
from common.rows import schema, store
from common.running.debugger import Debugger
from common.running.environment import reported_variables
from common.running.estimate import estimate
from common.running.locks import runs_alike
from common.running.plan import Plan, Planned, Planner
from common.running.progress import Display
from common.running.runner import Runner, RunOptions, collect_pending
from common.running.workers import Workers
from common.setting import Setting
from common.text import duration, size

ALWAYS_SHOWN = ("epochs", "batch_size", "train_size", "precision", "threads", "replicas")
"""Fields of the setting that are printed even if they have their defaults."""


class DryRunEnds(Exception):
    """Ends a dry run, after it has printed what it would train next."""


class Session:
    """The training of a run; a context manager. Runner and display are started with the first trial."""

    def __init__(self, planner: Planner, options: RunOptions, workers: Workers):
        self.planner, self.options, self.workers = planner, options, workers
        self.stack = contextlib.ExitStack()
        self.runner: Runner | Debugger | None = None
        self.display: Display | None = None
        self.announcements = self.failed = self.attempted = 0

    def __enter__(self) -> "Session":
        planner = self.planner
        if not self.options.dry:
            self.stack.enter_context(runs_alike(planner.files, planner.basis, planner.kind, one_kind=planner.one_kind))
            self.stack.push(self._fold)
        return self

    def __exit__(self, *error) -> None:
        self.stack.__exit__(*error)

    def _fold(self, error: type[BaseException] | None, *_) -> None:
        """Fold the journals at the end of the run. After another error, a failure of this is left to the next run."""
        for files in (self.planner.files, self.planner.files.trials):
            with contextlib.suppress(Failure) if error else contextlib.nullcontext():
                store.fold(files)

    def prepare(self, plan: Plan) -> list[Planned]:
        """Update a plan's files, unless the run is a dry one. Returns the missing trials; all with DEBUG=1.

        Stale rows, and those of unfinished seeds from another kind of processor, are moved to other files; rows of trials that
        ended after the main process was killed are written.
        """
        if not self.options.dry:
            _set_aside_stale(plan)
            collect_pending(plan)
        if self.options.debug:
            return list(plan.trials)
        missing = plan.missing()
        _set_aside_other_kinds(plan, dry=self.options.dry)
        return missing

    def announce(
        self,
        plan: Plan,
        trials: Sequence[Planned],
        then: Plan | None = None,
        *,
        more: int = 0,
        grows: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        """Print the number of trials to run with an estimate of time and disk space, and at first the setting.

        Args:
            then: the plan of the trials after a search.
            more: largest number of further trials of the search, which depend on the first ones.
            grows: whether there are more if the search leaves its ranges.
            notes: lines to print before.

        Raises:
            DryRunEnds: after printing, if the run is a dry one.
        """
        if not self.announcements:
            self._print_setting()
        self.announcements += 1
        for note in notes:
            print(note)
        seconds, disk, basis = estimate(plan, trials, self.workers.jobs, once=not self.options.keep)
        if not trials:
            count = f"all {len(plan.trials)} trials are done"
        elif then is None or self.announcements > 1:
            count = f"{len(trials)} of {len(plan.trials)} {'search ' if plan.searching else ''}trials to run"
        else:
            growth = " (not counting wider ranges)" if grows else ""
            further = f", up to {more} more{growth}" if more else ""
            count = f"{len(trials)} search trials to run{further}, then at most {len(then.trials)} with the chosen values"
            afterwards, more_disk, _ = estimate(then, then.trials, self.workers.jobs)
            seconds, disk = seconds * (1 + more / len(trials)) + afterwards, disk + more_disk
        at_a_time = min(self.workers.jobs, len(trials))
        cost = f", about {duration(seconds)} ({basis}) with {at_a_time} at a time, {size(disk)} of disk" if trials else ""
        print(count + cost, flush=True)
        planned = [*trials, *(then.missing() if then else ())]
        for entry, reason in {trial.entry: trial.unavailable for trial in planned if trial.unavailable}.items():
            print(f"{entry} cannot run: it {reason}")
        bfloat16 = any(t.setting.precision == "mixed_bfloat16" for t in trials)
        if bfloat16 and not self.workers.engine.on_gpus and "bfloat16" not in self.planner.kind:
            print("this processor has no bfloat16 instructions (AVX512_BF16 or AMX): mixed_bfloat16 will be slower than float32")
        if self.options.dry:
            raise DryRunEnds

    def train(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Train the given trials of a plan. Returns their rows; a trial that another run has trained has none."""
        if not trials:
            return []
        if self.runner is None:
            self.display = self.stack.enter_context(Display(plain=self.options.debug))
            runner = (Debugger if self.options.debug else Runner)(self.options, self.workers, self.display)
            self.runner = self.stack.enter_context(runner)
        self.display.add_to_total(len(trials))
        rows = self.runner.run(plan, trials)
        self.failed += sum(row["status"] == "failed" for row in rows)
        self.attempted += len(trials)
        return rows

    def train_search(self, plan: Plan, then: Plan | None, more: int = 0, *, grows: bool = False) -> None:
        """Train the missing trials of a search.

        Args:
            then, more, grows: see `announce`.

        Raises:
            Failure: a trial failed or cannot run on this machine, so that no values can be chosen.
            DryRunEnds: see `announce`.
        """
        missing = self.prepare(plan)
        if not missing:
            return
        self.announce(plan, missing, then, more=more, grows=grows)
        rows = self.train(plan, missing)
        self.check()
        reasons = [row["reason"] for row in rows if row["status"] not in schema.FINAL]
        if reasons:
            raise Failure(f"{len(reasons)} search trials cannot run on this machine: {reasons[0]}")

    def check_rows(self, plan: Plan) -> None:
        """Raises `Failure` if rows of a plan are no longer there, since another run trains with other searched values."""
        there = {row["fingerprint"] for row in plan.live.all()}
        gone = sum(trial.fingerprint not in there for trial in plan.trials)
        if gone:
            raise Failure(
                f"another run, with other searched values, has replaced {gone} of {len(plan.trials)} rows of {plan.files.rows}: "
                "when it has ended, the same command trains them again"
            )

    def check(self) -> None:
        """Raises `Failure` if any trial has failed."""
        if self.failed:
            raise Failure(
                f"{self.failed} of {self.attempted} trials failed, see the lines above: the same command starts them again"
            )

    def _print_setting(self) -> None:
        """Print the experiment's question, the setting, the data and the environment variables that matter."""
        experiment, setting = self.planner.experiment, self.planner.setting
        shown = {n: v for n, v in vars(setting).items() if n in ALWAYS_SHOWN or v != getattr(Setting, n, None)}
        for name in ("batch_size", "train_size"):
            declared = getattr(self.planner.selected.setting, name)
            if isinstance(declared, int) and getattr(setting, name) < declared:
                shown[name] = f"{getattr(setting, name)} (as many as the data allow)"
        listed = [f"{name} {value}" for name, value in shown.items() if value is not None and name != "dataset"]
        print(f"{experiment.name}: {experiment.question}")
        # commands/all.py reads the path of the rows from the end of this line.
        name = self.planner.selected.name
        datasets = ", ".join(experiment.datasets(self.planner.selected))
        print(f"{name}, {datasets}: {', '.join(listed)}; rows in {self.planner.files.rows}")
        for about in dict.fromkeys(arm.dataset.about() for arm in self.planner.resolved.values()):
            print(f"data: {about}")
        for arm, resolved in self.planner.resolved.items():
            classes = len(resolved.setting.classes or ()) or resolved.dataset.classes
            if (resolved.setting.train_size or classes) < classes:
                print(f"{arm}: {resolved.setting.train_size} training images of {classes} classes, so that some have none")
        if line := reported_variables():
            print(line)
        if has_unused_gpus():
            print(
                "this machine's GPUs are not used, as TensorFlow is installed without CUDA: make setup GPU=1 installs it (6 GB)"
            )


def _set_aside_other_kinds(plan: Plan, *, dry: bool) -> None:
    """Print which seeds were started on another kind of processor and, unless the run is dry, move their rows to another file."""
    rows = plan.of_another_kind()
    if rows:
        seeds = sorted({int(row["seed"]) for row in rows})
        kinds = " and ".join(sorted({row["kind"] or "an unknown one" for row in rows}))
        which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        moved = "" if dry else f"; {len(rows)} rows moved to {store.supersede(plan.files, rows)}"
        kind = plan.planner.kind
        print(f"{which} started on another kind of processor ({kinds}; this one: {kind}): all arms are trained again{moved}")


def _set_aside_stale(plan: Plan) -> None:
    """Move stale rows to another file, and delete stale checkpoints."""
    stale = plan.stale()
    if stale:
        path = store.supersede(plan.files, stale)
        print(f"{len(stale)} rows of earlier code, settings, data or searches moved to {path}")
    plan.clear_stale_state()
