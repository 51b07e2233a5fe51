"""`Study`: a run of one experiment, with its search, its training and its output."""

import dataclasses
from collections.abc import Sequence

from common import tasks
from common.commands import outcome
from common.errors import Misuse
from common.rows import schema, store
from common.running.plan import Plan, Planned, Planner
from common.running.runner import RunOptions
from common.running.session import DryRunEnds, Session
from common.running.workers import Workers
from common.search import tuned
from common.search.choice import Chosen, Search


class Study:
    """A run of an experiment under one setting.

    Args:
        arms, seeds: those to train; svg: whether to draw the figures as SVG too.
    """

    def __init__(
        self,
        planner: Planner,
        options: RunOptions,
        workers: Workers,
        *,
        arms: Sequence[str],
        seeds: Sequence[int],
        svg: bool,
    ):
        self.planner, self.experiment, self.options = planner, planner.experiment, options
        self.svg = svg
        self.search = Search(planner, arms, seeds)
        self.session = Session(planner, options, workers)

    def run(self) -> int:
        """Search if the script declares a search, train the missing trials, print and draw the results.

        Returns the exit status. Raises `Failure`.
        """
        first = self._plan(self.search.untuned())
        try:
            with self.session:
                chosen = self.search.choose(self.session, first)
                plan = self._plan(chosen, without_common=self.search.has_common_rate and not chosen.common)
                trials = self._with_models(plan, self.session.prepare(plan))
                self.session.announce(plan, trials, notes=self.search.describe(chosen))
                self._describe(plan)
                self.session.train(plan, trials)
                if plan.of_another_kind():  # a trial that had failed elsewhere is now done on this kind of processor
                    trials = self.session.prepare(plan)
                    self.session.announce(plan, trials)
                    self.session.train(plan, trials)
                self.session.check_rows(plan)
        except DryRunEnds:
            return 0
        outcome.show(plan.files, self.experiment.task.metric, svg=self.svg)
        self.session.check()
        return 0

    def debug(self) -> int:
        """Train all trials in this process, without a search, with the default values. Returns the exit status.

        Raises:
            Failure: a trial has failed.
        """
        chosen = dataclasses.replace(self.search.untuned(), common=None)
        plan = self._plan(chosen)
        if self.search.searches:
            print("DEBUG=1 does not search: searched arguments have their defaults, or the middle of their ranges")
        try:
            with self.session:
                trials = self.session.prepare(plan)
                self.session.announce(plan, trials, notes=self.search.describe(chosen))
                self._describe(plan)
                self.session.train(plan, trials)
        except DryRunEnds:
            return 0
        self.session.check()
        return 0

    def sweep(self, tuner: str | None, count: int | None, sweeps: int) -> int:
        """Search the arms with keras-tuner, print and draw the results. Returns the exit status. Raises `Misuse`, `Failure`.

        Args:
            tuner, count: see `Search.sweep`; sweeps: number of independent repetitions.
        """
        files = self.planner.files
        if not self.search.searches:
            if self.experiment.unsearched:
                raise Misuse(f"nothing to search: {self.experiment.unsearched}")
            arms = ", ".join(self.search.arms)
            raise Misuse(f"a sweep needs arms with searched arguments: add search= or sweep= to the script. Received: {arms}")
        self._plan(self.search.untuned())  # checks the arms
        try:
            with self.session:
                done = list(self.search.sweep(self.session, tuner, count, sweeps))
        except DryRunEnds:
            return 0
        if self.options.dry:  # no trials are missing
            return 0
        store.write_declaration(files, self.planner.declaration())
        for sweep in done:
            tuned.write_swept(files, sweep, self.search.bases(sweep.fixed), self.search.cost(sweep.spaces))
        outcome.show_sweep(files, [line for sweep in done for line in sweep.summary()], svg=self.svg)
        return 0

    def _plan(self, chosen: Chosen, *, without_common: bool = False) -> Plan:
        """The plan of all trials with the chosen values.

        Args:
            without_common: see `Plan`.
        """
        shared = chosen.shared.values if chosen.shared else {}
        return self.planner.plan(self.search.trials(chosen), shared=shared, without_common=without_common)

    def _with_models(self, plan: Plan, missing: list[Planned]) -> list[Planned]:
        """The trials to train: the missing ones and, with KEEP=1, finished ones without a saved model.

        Training these again gives the same rows, except on another kind of processor; trials from another kind are left out.
        """
        if not self.options.keep:
            return missing
        networks = {row["fingerprint"]: row["kind"] for row in plan.rows() if row["status"] == "done" and row["parameters"]}

        def lacks_model(trial: Planned) -> bool:
            path = plan.files.local("models", trial.entry, trial.seed, ".keras")
            return trial.fingerprint in networks and not path.exists()

        chosen = {trial.fingerprint for trial in missing}
        without = [trial for trial in plan.trials if trial.fingerprint not in chosen and lacks_model(trial)]
        other_kind = [trial for trial in without if networks[trial.fingerprint] != trial.kind]
        if other_kind:
            print(
                f"{len(other_kind)} models are not saved: their trials ran on another kind of processor than {self.planner.kind}"
            )
        chosen |= {trial.fingerprint for trial in without} - {trial.fingerprint for trial in other_kind}
        return [trial for trial in plan.trials if trial.fingerprint in chosen]

    def _describe(self, plan: Plan) -> None:
        """Write the declaration and the test labels, so that the rows can be read without experiment and dataset."""
        store.write_declaration(plan.files, self.planner.declaration())
        task = self.experiment.task
        for (_, classes), dataset in {(t.dataset.checksum, t.setting.classes): t.dataset for t in plan.trials}.items():
            key = schema.labels_key(dataset.checksum, classes)
            store.write_labels(plan.files, key, task.truth(tasks.test(dataset, classes, task).labels))
