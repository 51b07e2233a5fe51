"""What one call of an experiment does: search where its script says so, train what is missing, draw."""

import contextlib
import functools
import pathlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from common import space, tasks
from common.errors import Failure, Misuse
from common.experiment import Experiment, Setting
from common.machine import lacks_bfloat16
from common.rows import schema, store
from common.running.cluster import Cluster
from common.running.devices import Devices
from common.running.follower import Follower
from common.running.plan import Plan, Planned, Variant, make_plan
from common.running.progress import Display
from common.running.runner import Runner, collect_pending
from common.search.grid import Found, Grids, final_variants
from common.search.oracles import Sweep, tuned
from common.text import duration, size

SAID = ("epochs", "batch_size", "train_size", "precision", "threads", "replicas")
"""Fields of a setting that a call states even where they are the usual ones."""


@dataclass
class Study:
    """An experiment under one setting, and how and where it runs."""

    experiment: Experiment
    setting: Setting
    folder: pathlib.Path
    arms: Sequence[str]
    seeds: Sequence[int]
    overridden: Sequence[str]
    smoke: bool
    dry: bool
    keep: bool
    devices: Devices
    jobs: int
    stall_seconds: float
    checkpoint_steps: int | None
    cluster: Cluster | None

    def __post_init__(self):
        self.searched = [arm for arm in self.arms if arm in self.experiment.search]
        self.make_plan = functools.partial(
            make_plan, self.experiment, self.setting, self.folder, overridden=self.overridden, smoke=self.smoke
        )
        self.given = 0
        """Announcements made."""

    # --- the three things to do ---

    def run(self) -> int:
        """Search for each arm's best values if its script says so, train, draw. Returns the exit status. Raises `Failure`."""
        first = self._provisional_plan()
        self._join()
        with self._trainer() as trainer:
            found, common = self._tune(trainer, first)
            if found is None:
                return 0
            plan = self._plan(found, common)
            trials = self._prepare(plan)
            if self.keep:  # a done trial without a kept model is trained again: its row comes out the same
                networks = {row["fingerprint"] for row in plan.rows() if row["status"] == "done" and row["parameters"]}
                kept = plan.files.local
                trials = [
                    t
                    for t in plan.trials
                    if t in trials or (t.fingerprint in networks and not kept("models", t.arm, t.seed, ".keras").exists())
                ]
            self._announce(plan, trials)
            if self.dry:
                return 0
            store.write_declaration(plan.files, self.experiment.declare(self.setting))
            for (_, classes), dataset in {(t.dataset.checksum, t.setting.classes): t.dataset for t in plan.trials}.items():
                task, key = self.experiment.task, schema.labels_key(dataset.checksum, classes)
                store.write_labels(plan.files, key, task.truth(tasks.test(dataset, classes, task).labels))
            trainer.train(plan, trials)
        if self.cluster:
            self.cluster.leave(state="done", status=Failure.status if trainer.failed else 0)
        _close(plan)
        trainer.check()
        return 0

    def sweep(self, tuner: str | None, count: int | None, sweeps: int) -> int:
        """Search every arm with keras-tuner. Returns the exit status. Raises `Misuse`, `Failure`.

        Args:
            tuner: for all arms; by default the script's, or halton in place of a grid.
            count: points an arm; by default the script's. sweeps: independent repetitions.
        """
        if not self.searched:
            raise Misuse(f"it searches nothing for these arms: the script needs search=. Received: {', '.join(self.arms)}")
        first = self._provisional_plan()
        self._join()
        own = {arm: self.experiment.tuner[arm].replace("grid", "halton") for arm in self.searched}
        chosen = dict.fromkeys(self.searched, tuner) if tuner else own
        search = self._sweep_of(first, chosen, count or self._points, sweeps)
        with self._trainer() as trainer:
            if not self._train_sweep(trainer, first, search, alone=True) or self.dry:
                return 0
        if self.cluster:
            self.cluster.leave(state="done", status=0)
        from common.figures import draw

        store.write_declaration(first.files, self.experiment.declare(self.setting))
        search.write_tuned(first.files, first.bases)
        for line in search.summary():
            print(line)
        for path in draw.draw_sweep(first.files):
            print(path)
        return 0

    def follow(self) -> int:
        """Train what the chief says. Returns its exit status. Raises `Failure`."""
        self._provisional_plan()
        self._join()
        print(f"{self.experiment.name}: {self.cluster.name(self.cluster.index)} follows {self.cluster.name(0)}", flush=True)
        with Display() as display:
            follower = Follower(
                self.make_plan,
                devices=self.devices,
                display=display,
                cluster=self.cluster,
                stall_seconds=self.stall_seconds,
            )
            status = follower.run()
        self.cluster.leave(state="done", status=status)
        return status

    # --- the search ---

    def _tune(self, trainer: "Trainer", first: Plan) -> tuple[dict[str, Found] | None, dict | None]:
        """What each searched arm is trained with, and the rate that suits all best; None for a dry run that must search."""
        gridded = [arm for arm in self.searched if self.experiment.tuner[arm] == "grid"]
        swept = {arm: self.experiment.tuner[arm] for arm in self.searched if arm not in gridded}
        grids = Grids(self.experiment, gridded, smoke=self.smoke)
        points = dict.fromkeys(swept, self._points) | {arm: grids.budget(arm) for arm in gridded}
        cost = {arm: count * first.settings[arm].epochs for arm, count in points.items()}
        earlier = {} if self.smoke else tuned(first.files, self.experiment, first.bases, cost)
        found, common = earlier, None
        if earlier:
            print(f"values from a larger search: {next(iter(earlier.values())).tuning}")
        elif gridded:
            if not self._train_grids(trainer, first, grids):
                return None, None
            plan = self._search_plan(grids.trials())
            found = grids.found(plan)
            common = grids.common(plan) if self._has_common_rate(gridded) else None
            for arm, names in {} if self.smoke else grids.at_limit(found).items():
                print(f"{arm} is under-searched: its best {names[0]} is the outermost allowed, {found[arm].values[names[0]]:g}")
        if swept and not earlier:
            search = self._sweep_of(first, swept, self._points, 1)
            if not self._train_sweep(trainer, first, search):
                return None, None
            found |= search.found()
            for arm in () if self.smoke else swept:
                for name in space.at_edges(self.experiment.search[arm], found[arm].values):
                    print(f"{arm} is under-searched: its best {name} is at the edge of its range, {found[arm].values[name]:g}")
        return found, common

    @property
    def _points(self) -> int:
        return 2 if self.smoke else self.experiment.points

    def _train_grids(self, trainer: "Trainer", first: Plan, grids: Grids) -> bool:
        while True:
            plan = self._search_plan(grids.trials())
            if not self._train_search(trainer, plan, first):
                return False
            if not grids.extend(plan):
                return True

    def _sweep_of(self, first: Plan, tuner: dict[str, str], count: int, sweeps: int) -> Sweep:
        epochs = {arm: first.settings[arm].epochs for arm in tuner}
        return Sweep(self.experiment, tuner, count=count, sweeps=sweeps, epochs=epochs)

    def _train_sweep(self, trainer: "Trainer", first: Plan, search: Sweep, alone: bool = False) -> bool:
        """Train all that the oracles propose. Returns whether that has been done; `alone` when no result follows."""
        more = True
        while more:
            plan = self._search_plan(search.trials())
            trained = self._train_search(trainer, plan, None if alone else first)
            more = search.tell(plan)
            if not self.dry:
                search.write_table(first.files)
            if not trained:
                return False
        return True

    def _train_search(self, trainer: "Trainer", plan: Plan, then: Plan | None) -> bool:
        """Train a search's missing trials. Returns whether there are none any more: false in a dry run that found some."""
        missing = self._prepare(plan)
        if missing:
            self._announce(plan, missing, then)
            if self.dry:
                return False
            rows = trainer.train(plan, missing)
            trainer.check()
            reasons = [row["reason"] for row in rows if row["status"] not in schema.FINAL]
            if reasons:
                raise Failure(f"{len(reasons)} search trials cannot run here: {reasons[0]}")
        return True

    # --- plans ---

    def _plan(self, found: dict[str, Found], common: dict | None) -> Plan:
        variants = final_variants(self.experiment, self.arms, found, common)
        return self.make_plan(trials=[(variant, seed) for seed in self.seeds for variant in variants])

    def _provisional_plan(self) -> Plan:
        """The plan of the result with untuned values: its data, its settings and about its cost."""
        found = {arm: Found(space.defaults(self.experiment.search[arm]), "") for arm in self.searched}
        shares = self._has_common_rate(self.searched)
        return self._plan(found, found[self.searched[0]].values if shares else None)

    def _has_common_rate(self, gridded: Sequence[str]) -> bool:
        """Whether the rate that suits all best can be known: all searched arms are here, and on grids of rates alone."""
        spaces = self.experiment.search
        everywhere = set(gridded) == set(spaces) and len({space.grid_hash(own) for own in spaces.values()}) == 1 < len(gridded)
        return everywhere and all(set(self.experiment.search[arm]) == {"learning_rate"} for arm in gridded)

    def _search_plan(self, trials: list[tuple[Variant, int]]) -> Plan:
        return self.make_plan(trials=trials, searching=True)

    def _prepare(self, plan: Plan) -> list[Planned]:
        """Bring a plan's files up to date. Returns its missing trials."""
        if not self.dry:
            _set_aside_stale(plan)
            collect_pending(plan)
        return plan.missing()

    def _join(self) -> None:
        if self.cluster:
            self.cluster.say(state="ready")
            self.cluster.join()

    def _trainer(self) -> "Trainer":
        return Trainer(
            devices=self.devices,
            jobs=self.jobs,
            keep=self.keep,
            checkpoint_steps=self.checkpoint_steps,
            stall_seconds=self.stall_seconds,
            cluster=self.cluster,
        )

    def _announce(self, plan: Plan, trials: Sequence[Planned], then: Plan | None = None) -> None:
        """Say what is to run and what it will cost. `then` is a plan that follows a search."""
        setting = self.setting
        said = {name: value for name, value in vars(setting).items() if name in SAID or value != getattr(Setting, name, None)}
        declared = [f"{name} {value}" for name, value in said.items() if value is not None and name != "dataset"]
        if not self.given:
            print(f"{self.experiment.name}: {self.experiment.question}")
            rows = plan.files._replace(experiment=self.experiment.name).rows
            print(f"{setting.dataset}: {', '.join(declared)}; rows in {rows}")
        self.given += 1
        seconds, disk, basis = plan.estimate(trials, self.jobs)
        if not trials:
            count = f"all {len(plan.trials)} trials are done"
        elif then is None or self.given > 1:
            count = f"{len(trials)} of {len(plan.trials)} {'search ' if plan.searching else ''}trials to run"
        else:
            count = f"{len(trials)} search trials to run, then at most {len(then.trials)} of the result"
            more, more_disk, _ = then.estimate(then.trials, self.jobs)
            seconds, disk = seconds + more, disk + more_disk
        at_a_time = min(self.jobs, len(trials))
        cost = f", about {duration(seconds)} ({basis}) with {at_a_time} at a time, {size(disk)} of disk" if trials else ""
        print(count + cost, flush=True)
        bfloat16 = any(t.setting.precision == "mixed_bfloat16" for t in trials)
        if bfloat16 and not self.devices.names and lacks_bfloat16():
            print("this processor has no bfloat16 instructions (AVX512_BF16 or AMX): mixed_bfloat16 will be slower than float32")


class Trainer:
    """The runner and the display of a call, both of which begin with its first trial; a context manager."""

    def __init__(self, **options):
        self.options = options
        self.stack = contextlib.ExitStack()
        self.runner: Runner | None = None
        self.failed = self.tried = 0

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *error) -> None:
        self.stack.__exit__(*error)

    def train(self, plan: Plan, trials: Sequence[Planned]) -> list[dict]:
        """Train the given trials of a plan. Returns their rows; a trial that another call has trained has none."""
        if not trials:
            return []
        if self.runner is None:
            self.display = self.stack.enter_context(Display())
            self.runner = self.stack.enter_context(Runner(display=self.display, **self.options))
        self.display.expect(len(trials))
        rows = self.runner.run(plan, trials)
        self.failed += sum(row["status"] == "failed" for row in rows)
        self.tried += len(trials)
        return rows

    def check(self) -> None:
        """Raises `Failure` if any trial has failed."""
        if self.failed:
            raise Failure(f"{self.failed} of {self.tried} trials failed, see the lines above; the same command tries them again")


def _set_aside_stale(plan: Plan) -> None:
    stale = plan.stale()
    if stale:
        path = store.supersede(plan.files, stale)
        print(f"{len(stale)} rows of an earlier code, setting or data moved to {path}")
    plan.clear_stale_state()


def _close(plan: Plan) -> None:
    """Draw the figures, and print each arm's mean beside the published one."""
    from common.figures import draw

    rows = store.read_rows(plan.files)
    published = schema.Files(schema.REFERENCE / plan.files.folder.name, plan.files.experiment)
    metric = plan.experiment.task.metric
    reference = _means(store.read_rows(published), metric) if published.rows != plan.files.rows.resolve() else {}
    means = _means(rows, metric)
    width = max((len(arm) for arm in means), default=0)
    for arm, (mean, count, diverged) in means.items():
        line = f"{arm:<{width}}  test {metric} {mean:.4f} (mean of {count})"
        line += f", {diverged} diverged" if diverged else ""
        if arm in reference:
            line += f"; published {reference[arm][0]:.4f} (mean of {reference[arm][1]})"
        print(line)
    for path in [*draw.draw(plan.files), *draw.draw_sweep(plan.files)]:
        print(path)


def _means(rows: Sequence[dict], metric: str) -> dict[str, tuple[float, int, int]]:
    """Per arm: mean of a metric on the test split, number of rows, how many of them diverged."""
    arms: dict[str, list[dict]] = {}
    for row in rows:
        if row["status"] in schema.FINAL:
            arms.setdefault(row["arm"], []).append(row)
    return {
        arm: (statistics.fmean(float(r[f"test_{metric}"]) for r in own), len(own), sum(r["status"] == "diverged" for r in own))
        for arm, own in arms.items()
    }
