"""`Search`: chooses the values of the searched arguments, by a grid, keras-tuner, an earlier larger search or the user."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common import space
from common.errors import Failure
from common.experiment import SWEEP_TUNER
from common.rows.schema import COMMON
from common.running.plan import Plan, Planner, Variant
from common.running.session import Session
from common.search import tuned
from common.search.grid import Grids
from common.search.race import RATE
from common.search.scores import SearchResult
from common.search.sweep import Sweep

SMOKE_POINTS = 2
"""Points per arm in a smoke run, for tuners other than the grid."""


@dataclass(frozen=True)
class Chosen:
    """The values of all searched arguments."""

    shared: SearchResult | None = None
    """Result of the shared search; None without one."""
    values: dict[str, SearchResult] = field(default_factory=dict)
    """Arm -> result of its separate search."""
    by_seed: dict[int, dict[str, SearchResult]] = field(default_factory=dict)
    """Seed -> arm -> result of its separate search for that seed alone."""
    common: dict | None = None
    """The learning rate that is best over all arms; None if they have no common grid of rates."""


class Search:
    """The search of a run: first the shared one, on the first arm, then the separate ones of the arms.

    Args:
        arms, seeds: those of the run, whether searched or not.
    """

    def __init__(self, planner: Planner, arms: Sequence[str], seeds: Sequence[int]):
        self.planner, self.experiment, self.seeds = planner, planner.experiment, seeds
        self.smoke, self.rate = planner.selected.smoke, planner.selected.rate
        self.arms, self.first = list(arms), planner.experiment.first
        self.known = self.experiment.spaces(self.rate)
        """Arm -> search space, of all searched arms of the experiment."""
        needed = any(set(self.experiment.shared_by(arm)) - set(self._by_hand(arm)) for arm in arms)
        self.shared = self.known[self.first] if self.experiment.shared and self.first in self.known and needed else {}
        """The shared space; empty if no arm of the run takes a value from it."""
        searched = [arm for arm in arms if arm in self.experiment.search and not planner.resolved[arm].unavailable]
        self.spaces = {arm: self.known[arm] for arm in searched if arm in self.known}
        """Arm -> search space, of the arms of the run with a separate search."""
        self.points = SMOKE_POINTS if self.smoke else self.experiment.points

    def _by_hand(self, arm: str) -> dict:
        """The user's learning rate, if the arm would search one; else empty."""
        return {RATE: self.rate} if self.rate is not None and RATE in self.experiment.searched_by(arm) else {}

    @property
    def searches(self) -> bool:
        """Whether there is anything to search."""
        return bool(self.shared or self.spaces)

    @property
    def has_common_rate(self) -> bool:
        """Whether a grid of the arms of this run gives a common learning rate."""
        return self._has_common_rate(self.spaces)

    def untuned(self) -> Chosen:
        """The default values of all spaces."""
        values = {arm: SearchResult(space.defaults(entries), "") for arm, entries in self.spaces.items()}
        common = next(iter(values.values())).values if self.has_common_rate else None
        return Chosen(SearchResult(space.defaults(self.shared), "") if self.shared else None, values, common=common)

    def choose(self, session: Session, then: Plan) -> Chosen:
        """Run the search that the script declares, unless an earlier sweep was larger.

        Args:
            then: the plan of the trials after the search, for the estimate that is printed.

        Raises:
            Failure, DryRunEnds: see `Session.train_search`; Failure also if the first arm cannot run on these data.
        """
        earlier = {} if self.smoke else self._earlier()
        if earlier:
            print(f"values from a larger search: {next(iter(earlier.values())).tuning}")
            shared = earlier.pop(self.first) if self.shared else None
            return self._written(session, Chosen(shared, earlier))
        gridded = {arm: entries for arm, entries in self.spaces.items() if self.experiment.tuner[arm] == "grid"}
        shared = self.untuned().shared
        if self.shared and not self.smoke:
            self._check_first_arm()
            later = sum(map(Grids(gridded, self.experiment.task).budget, gridded)) + self._sweep_of_run(None).further(0)
            shared = self._race(session, {self.first: self.shared}, None, then, later)[0][self.first]
        sweep = self._sweep_of_run(shared)
        values, common = self._race(session, gridded, shared, then, sweep.further(0))
        by_seed = {}
        if sweep.tuner:
            self._train_sweep(session, sweep, then)
            results = [sweep.results_of(number) for number in range(sweep.sweeps)] if self._per_seed else [sweep.results()]
            if self._per_seed:
                by_seed = dict(zip(self.seeds, results, strict=True))
            else:
                values |= results[0]
            if not self.smoke:
                self._warn_of_edges(results)
        return self._written(session, Chosen(shared, values, by_seed=by_seed, common=common))

    @property
    def _per_seed(self) -> bool:
        """Whether each seed has a search of its own."""
        return self.experiment.search_per_seed and not self.smoke

    def _sweep_of_run(self, shared: SearchResult | None) -> Sweep:
        """The sweep of the arms whose tuner is not the grid; of no arm if there is none.

        Args:
            shared: result of the shared search.
        """
        tuner = {arm: self.experiment.tuner[arm] for arm in self.spaces if self.experiment.tuner[arm] != "grid"}
        race = not (self.smoke or self._per_seed)
        repeats = len(self.seeds) if self._per_seed else 1
        return self._new_sweep(tuner, {arm: self.spaces[arm] for arm in tuner}, self.points, repeats, shared, race=race)

    def _warn_of_edges(self, results: Sequence[dict[str, SearchResult]]) -> None:
        """Print which arms have their best value at the edge of a range, in any of the searches."""
        for arm in results[0]:
            outside = {(n, r[arm].values[n]): None for r in results for n in space.at_edges(self.spaces[arm], r[arm].values)}
            for name, value in outside:
                print(f"{arm} is under-searched: its best {name} is at the edge of its range, {value:g}")

    def _written(self, session: Session, chosen: Chosen) -> Chosen:
        """The same, after it has been written to the file of chosen values; the values of a smoke or dry run are not."""
        if self.searches and not (self.smoke or session.options.dry):
            results = {self.first: chosen.shared} if self.shared and chosen.shared else {}
            tuned.write_chosen(self.planner.files, results | chosen.values, self.known)
        return chosen

    def sweep(self, session: Session, tuner: str | None, count: int | None, repeats: int) -> Iterator[Sweep]:
        """Search the script's spaces with keras-tuner, and write tables of the points.

        First comes the shared space together with those of the arms that only a sweep searches, then the arms that take shared
        values.

        Args:
            tuner: of all arms; by default the script's, with halton in place of the grid.
            count: points per arm; by default the script's, or enough for later runs to use the result in place of their grid.
            repeats: number of independent repetitions of each search.

        Yields:
            each search after it has ended.
        """
        shared, count, spaces = None, count or self._points_to_replace_grid(), self.spaces
        tuners = {arm: tuner or self.experiment.tuner[arm].replace("grid", SWEEP_TUNER) for arm in spaces}
        if self.shared:
            self._check_first_arm()
            swept = {arm: entries for arm, entries in spaces.items() if arm in self.experiment.swept}
            spaces = {arm: entries for arm, entries in spaces.items() if arm not in swept}
            first = self._new_sweep(
                {self.first: tuner or SWEEP_TUNER} | {arm: tuners[arm] for arm in swept},
                {self.first: self.shared} | swept,
                count,
                repeats,
            )
            self._train_sweep(session, first)
            yield first
            shared = first.results()[self.first]
        if spaces:
            sweep = self._new_sweep({arm: tuners[arm] for arm in spaces}, spaces, count, repeats, shared)
            self._train_sweep(session, sweep)
            yield sweep

    def trials(self, chosen: Chosen) -> list[tuple[Variant, int]]:
        """Variant and seed of the trials after the search, seed by seed: each arm, then the arms at the common rate."""
        return [(variant, seed) for seed in self.seeds for variant in self._variants(chosen, seed)]

    def _variants(self, chosen: Chosen, seed: int) -> list[Variant]:
        """The variants of one seed."""
        variants, of_seed = [], chosen.by_seed.get(seed, {})
        for arm in self.arms:
            fixed = self._fixed(arm, chosen.shared)
            separate = of_seed.get(arm) or chosen.values.get(arm, SearchResult({}, ""))
            names = [name for name in {**fixed, **separate.values} if name not in self._by_hand(arm)]
            how = [chosen.shared.tuning] if chosen.shared and set(fixed) & set(names) else []
            how += [separate.tuning] if separate.values else []
            hashed = self.experiment.search_hash(arm, names)
            searched = {"search": hashed, "tuning": "; then ".join(filter(None, how))} if names else {}
            variants.append(Variant(arm, values=fixed | separate.values, one_seed=arm in of_seed, **searched))
        for arm in chosen.values if chosen.common else ():
            how = f"best on average over {len(chosen.values)} arms"
            hashed = self.experiment.search_hash(arm, self.spaces[arm])
            values = self._fixed(arm, chosen.shared) | chosen.common
            variants.append(Variant(arm, COMMON, values, search=hashed, tuning=how))
        return variants

    def describe(self, chosen: Chosen) -> list[str]:
        """Lines for the user: the searched values of each arm, and how they were chosen."""
        lines = []
        if self.rate is not None:
            lines.append(f"{RATE} {self.rate:g} for all arms that search one, set by RATE")
        if chosen.shared:
            how = f"searched on {self.first}: {chosen.shared.tuning}" if chosen.shared.tuning else "not searched"
            lines.append(f"{_shown(chosen.shared.values)} for all arms{' except those below' if chosen.values else ''}, {how}")
        ways: dict[str, list[str]] = {}
        for arm, result in chosen.values.items():
            ways.setdefault(result.tuning or "not searched", []).append(f"{arm}: {_shown(result.values)}")
        for seed, results in chosen.by_seed.items():
            for arm, result in results.items():
                ways.setdefault(result.tuning, []).append(f"{arm}, seed {seed}: {_shown(result.values)}")
        lines += [f"{'; '.join(arms)} ({how})" for how, arms in ways.items()]
        if chosen.shared and not chosen.shared.trained:
            lines.append(f"{self.first} is not trained: it trained at no point of its search, whose values all arms get")
        return lines + [
            f"{arm} is not trained: it trained at no point of its search"
            for arm, result in chosen.values.items()
            if not result.trained
        ]

    def _fixed(self, arm: str, shared: SearchResult | None) -> dict:
        """The values that an arm's separate search does not vary: the user's rate and the shared values."""
        entries = self.experiment.shared_by(arm)
        values = shared.values if shared else {}
        return self._by_hand(arm) | {name: value for name, value in values.items() if name in entries}

    def bases(self, fixed: dict[str, dict]) -> dict[str, str]:
        """Arm -> hash of code, setting, data and fixed values, on which the result of its search depends.

        Args:
            fixed: arm -> values that its search does not vary.
        """
        with_values = {arm: Variant(arm, values=values) for arm, values in fixed.items()}
        return {arm: self.planner.planned(variant, None).fingerprint for arm, variant in with_values.items()}

    def _points_to_replace_grid(self) -> int:
        """Points that a sweep needs to be used in place of a grid: one more than the grid's trials."""
        grids = Grids(({self.first: self.shared} if self.shared else {}) | self.spaces, self.experiment.task)
        races = [grids.budget(arm) + 1 for arm in grids.spaces if self.experiment.tuner.get(arm, "grid") == "grid"]
        return max([self.points, *races])

    def _check_first_arm(self) -> None:
        """Raises `Failure` if the arm of the shared search cannot be trained on these data."""
        reason = self.planner.resolved[self.first].unavailable
        if reason:
            raise Failure(
                f"{', '.join(self.shared)} is searched on {self.first}, which cannot run: it {reason}. Set a learning rate, as "
                "in RATE=0.01"
            )

    def _new_sweep(
        self,
        tuner: dict[str, str],
        spaces: dict[str, space.Space],
        count: int,
        repeats: int,
        shared: SearchResult | None = None,
        *,
        race: bool = True,
    ) -> Sweep:
        """The sweep of some arms.

        Args:
            tuner, spaces: of each arm; count: points per arm; repeats: number of repetitions.
            shared: result of the shared search.
            race: see `Sweep`.
        """
        epochs = {arm: self.planner.resolved[arm].setting.epochs for arm in tuner}
        fixed = {arm: self._fixed(arm, shared) for arm in tuner}
        amount = {"count": count, "sweeps": repeats, "epochs": epochs}
        return Sweep(self.experiment, spaces, tuner, **amount, fixed=fixed, known=self.known, race=race)

    def _train_sweep(self, session: Session, sweep: Sweep, then: Plan | None = None) -> None:
        """Train the points that the oracles propose until they stop, and write the table of points."""
        more = True
        while more:
            plan = self.planner.plan(sweep.trials(), searching=True)
            replaced = plan.of_another_kind()
            session.train_search(plan, then, sweep.further(len(plan.trials)))
            if replaced:
                sweep.restart()
                continue
            more = sweep.tell(plan)
            if not session.options.dry:
                sweep.write_table(self.planner.files, {row["fingerprint"] for row in plan.live.all()})

    def _earlier(self) -> dict[str, SearchResult]:
        """Arm -> result of an earlier sweep that trained more than this search would.

        Empty if there is none for all arms that a run of the experiment searches, whatever the arms of this run: with more points
        than the others an arm would look better.
        """
        shared = self._earlier_results({self.first: self.shared}, None) if self.shared else {}
        if self.experiment.search_per_seed or (self.shared and not shared):
            return {}
        others = [arm for arm in self.known if arm in self.experiment.search and arm not in self.experiment.swept]
        spaces = {arm: self.known[arm] for arm in others if not self.planner.resolved[arm].unavailable} | self.spaces
        separate = self._earlier_results(spaces, shared.get(self.first)) if self.spaces else {}
        return shared | {arm: separate[arm] for arm in self.spaces} if bool(separate) == bool(self.spaces) else {}

    def _earlier_results(self, spaces: dict[str, space.Space], shared: SearchResult | None) -> dict[str, SearchResult]:
        """Arm -> result of an earlier sweep of these spaces, see `tuned.swept`."""
        bases = self.bases({arm: self._fixed(arm, shared) for arm in spaces})
        return tuned.swept(self.planner.files, spaces, bases, self.cost(spaces))

    def cost(self, spaces: dict[str, space.Space]) -> dict[str, int]:
        """Arm -> epochs that the search of a run trains in its space."""
        grids, setting = Grids(spaces, self.experiment.task), self.planner.resolved
        gridded = {arm: self.experiment.tuner.get(arm, "grid") == "grid" for arm in spaces}
        return {arm: (grids.budget(arm) if gridded[arm] else self.points) * setting[arm].setting.epochs for arm in spaces}

    def _race(
        self, session: Session, spaces: dict[str, space.Space], shared: SearchResult | None, then: Plan, later: int = 0
    ) -> tuple[dict[str, SearchResult], dict | None]:
        """Search the grids of some arms. Returns arm -> result, and the common rate if there is one.

        Args:
            shared: result of the shared search; then: see `choose`.
            later: number of trials of later searches, for the estimate that is printed.
        """
        if not spaces:
            return {}, None
        fixed = {arm: self._fixed(arm, shared) for arm in spaces}
        grids = Grids(spaces, self.experiment.task, fixed=fixed, smoke=self.smoke)
        while True:
            plan = self.planner.plan(grids.trials(), searching=True)
            more = later + sum(map(grids.budget, spaces)) - len(plan.trials)
            session.train_search(plan, then, more, grows=grids.grows)
            if not grids.advance(plan):
                break
        values = grids.results(plan)
        for arm, names in {} if self.smoke else grids.at_limit(values).items():
            print(f"{arm} is under-searched: its best {names[0]} is at the limit of its range, {values[arm].values[names[0]]:g}")
        return values, grids.common(plan) if self._has_common_rate(spaces) else None

    def _has_common_rate(self, spaces: dict[str, space.Space]) -> bool:
        """Whether a common rate can be chosen: all searched arms are in the run, and search nothing but the rate, on one grid."""
        if RATE in self.experiment.shared:
            return False  # the rate is the same for all arms
        separate = set(self.experiment.search) - set(self.experiment.swept)
        one_grid = set(spaces) == separate and len(set(map(space.grid_hash, spaces.values()))) == 1
        return one_grid and len(spaces) > 1 and all(set(entries) == {RATE} for entries in spaces.values())


def _shown(values: dict) -> str:
    """Values with their names, as text."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
