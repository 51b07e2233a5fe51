"""What one call of an experiment does: search where its script says so, train what is missing, show the outcome."""

import dataclasses
from collections.abc import Sequence

from common import tasks
from common.commands import outcome
from common.errors import Failure, Misuse
from common.rows import schema, store
from common.running.follower import Follower
from common.running.plan import Plan, Planned, Planner
from common.running.progress import Display
from common.running.runner import RunOptions
from common.running.session import DryRunEnds, Session
from common.search.choice import Chosen, Search


class Study:
    """An experiment under one setting, some of its arms and seeds, and how they are trained."""

    def __init__(self, planner: Planner, options: RunOptions, *, arms: Sequence[str], seeds: Sequence[int]):
        self.planner, self.experiment, self.options, self.seeds = planner, planner.experiment, options, seeds
        self.search = Search(planner, arms)
        self.session = Session(planner, options)

    def run(self) -> int:
        """Search for each arm's best values if its script says so, train, show. Returns the exit status. Raises `Failure`."""
        first = self._plan(self.search.untuned())
        self._join()
        try:
            with self.session:
                chosen = self.search.choose(self.session, first)
                plan = self._plan(chosen)
                trials = self._with_models(plan, self.session.prepare(plan))
                self.session.announce(plan, trials, notes=self.search.describe(chosen))
                self._describe(plan)
                self.session.train(plan, trials)
                if plan.of_another_kind():  # a trial that could not run before is done here now
                    trials = self.session.prepare(plan)
                    self.session.announce(plan, trials)
                    self.session.train(plan, trials)
        except DryRunEnds:
            return 0
        if self.options.cluster:
            self.options.cluster.leave(state="done", status=Failure.status if self.session.failed else 0)
        outcome.show(plan.files, self.experiment.task.metric)
        self.session.check()
        return 0

    def debug(self) -> int:
        """Train in this process, all that is asked for, at the values that nobody has searched. Returns the exit status.

        Raises:
            Failure: a trial has failed.
        """
        chosen = dataclasses.replace(self.search.untuned(), common=None)
        plan = self._plan(chosen)
        if self.search.searches:
            print("DEBUG=1 searches nothing: what the script searches has its default, or the middle of its range")
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
        """Search every arm with keras-tuner. Returns the exit status. Raises `Misuse`, `Failure`.

        Args:
            tuner: for all arms; by default the script's, or halton in place of a grid.
            count: points an arm; by default the script's. sweeps: independent repetitions.
        """
        files = self.planner.files
        if not self.search.searches:
            arms = ", ".join(self.search.arms)
            raise Misuse(f"it searches nothing for these arms: the script needs search=. Received: {arms}")
        self._plan(self.search.untuned())  # which checks the arms
        self._join()
        try:
            with self.session:
                done = list(self.search.sweep(self.session, tuner, count, sweeps))
        except DryRunEnds:
            return 0
        if self.options.dry:  # all is done
            return 0
        if self.options.cluster:
            self.options.cluster.leave(state="done", status=0)
        store.write_declaration(files, self.planner.declaration())
        for sweep in done:
            sweep.write_tuned(files, self.search.bases(sweep.fixed))
        outcome.show_sweep(files, [line for sweep in done for line in sweep.summary()])
        return 0

    def follow(self) -> int:
        """Train what the chief says. Returns its exit status. Raises `Failure`."""
        self._plan(self.search.untuned())  # which checks the arms
        self._join()
        cluster = self.options.cluster
        print(f"{self.experiment.name}: {cluster.name(cluster.index)} follows {cluster.name(0)}", flush=True)
        with Display() as display:
            status = Follower(self.planner, self.options, display).run()
        cluster.leave(state="done", status=status)
        return status

    def _plan(self, chosen: Chosen) -> Plan:
        variants = self.search.variants(chosen)
        shared = chosen.shared.values if chosen.shared else {}
        return self.planner.plan([(variant, seed) for seed in self.seeds for variant in variants], shared=shared)

    def _join(self) -> None:
        if self.options.cluster:
            self.options.cluster.publish(state="ready")
            self.options.cluster.join()

    def _with_models(self, plan: Plan, missing: list[Planned]) -> list[Planned]:
        """The trials to train: with KEEP=1 also done ones whose model is not kept, the rows of which come out the same.

        Those of another kind of processor would not, and stay as they are.
        """
        if not self.options.keep:
            return missing
        networks = {row["fingerprint"]: row["kind"] for row in plan.rows() if row["status"] == "done" and row["parameters"]}

        def lacks_model(trial: Planned) -> bool:
            path = plan.files.local("models", trial.entry, trial.seed, ".keras")
            return trial.fingerprint in networks and not path.exists()

        without = [trial for trial in plan.trials if trial not in missing and lacks_model(trial)]
        elsewhere = [trial for trial in without if networks[trial.fingerprint] != trial.kind]
        if elsewhere:
            print(f"{len(elsewhere)} models are not kept: their trials ran on another kind of processor than {self.planner.kind}")
        return [trial for trial in plan.trials if trial in missing or (trial in without and trial not in elsewhere)]

    def _describe(self, plan: Plan) -> None:
        """Write the declaration and the test labels beside the rows, for whoever reads these alone."""
        store.write_declaration(plan.files, self.planner.declaration())
        task = self.experiment.task
        for (_, classes), dataset in {(t.dataset.checksum, t.setting.classes): t.dataset for t in plan.trials}.items():
            key = schema.labels_key(dataset.checksum, classes)
            store.write_labels(plan.files, key, task.truth(tasks.test(dataset, classes, task).labels))
