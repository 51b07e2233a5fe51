"""Which values the arms are trained with: from a grid, from keras-tuner, from a larger search made before, or from the user."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common import space
from common.errors import Failure
from common.rows.schema import COMMON
from common.running.plan import Plan, Planner, Variant
from common.running.session import Session
from common.search.grid import RATE, Found, Grids
from common.search.sweep import Sweep, tuned

SMOKE_POINTS = 2
"""Points an arm in a smoke run, where the tuner is not the grid."""


@dataclass(frozen=True)
class Chosen:
    """What the arms of a result are trained with."""

    shared: Found | None = None
    """What the first arm's search gives to all; None where nothing is shared."""
    values: dict[str, Found] = field(default_factory=dict)
    """Of each arm that is searched for itself."""
    common: dict | None = None
    """The learning rate that suits all arms best; None where they share no grid of rates."""


class Search:
    """The search of one call: first what all arms share, on the first arm, then each searched arm for itself.

    Args:
        arms: those of the call, of which the experiment may search some.
    """

    def __init__(self, planner: Planner, arms: Sequence[str]):
        self.planner, self.experiment = planner, planner.experiment
        self.smoke, self.rate = planner.selected.smoke, planner.selected.rate
        self.arms, self.first = list(arms), planner.experiment.first
        self.known = self.experiment.spaces(self.rate)
        """Of all arms that are searched."""
        takes = any(set(self.experiment.shared_by(arm)) - set(self._by_hand(arm)) for arm in arms)
        self.shared = self.known[self.first] if self.experiment.shared and self.first in self.known and takes else {}
        """What is searched on the first arm, where an arm of the call takes some of it."""
        searched = [arm for arm in arms if arm in self.experiment.search and not planner.resolved[arm].unavailable]
        self.spaces = {arm: self.known[arm] for arm in searched if arm in self.known}
        """Of each arm of the call that is searched for itself."""
        self.points = SMOKE_POINTS if self.smoke else self.experiment.points

    def _by_hand(self, arm: str) -> dict:
        """The learning rate that the user has set in the place of one that the arm would search."""
        return {RATE: self.rate} if self.rate is not None and RATE in self.experiment.searched_by(arm) else {}

    @property
    def searches(self) -> bool:
        """Whether there is anything to search."""
        return bool(self.shared or self.spaces)

    def untuned(self) -> Chosen:
        """What someone who does not tune would take."""
        values = {arm: Found(space.defaults(own), "") for arm, own in self.spaces.items()}
        common = next(iter(values.values())).values if self._has_common_rate(self.spaces) else None
        return Chosen(Found(space.defaults(self.shared), "") if self.shared else None, values, common)

    def choose(self, session: Session, then: Plan) -> Chosen:
        """Train what the script's search needs, and choose. `then` is the plan that follows, for the announcement.

        Raises:
            Failure, DryRunEnds: see `Session.train_search`. Failure also where the first arm cannot run here.
        """
        earlier = {} if self.smoke else self._earlier()
        if earlier:
            print(f"values from a larger search: {next(iter(earlier.values())).tuning}")
            shared = earlier.pop(self.first) if self.shared else None
            return Chosen(shared, earlier)
        gridded = {arm: own for arm, own in self.spaces.items() if self.experiment.tuner[arm] == "grid"}
        shared = self.untuned().shared
        if self.shared and not self.smoke:
            self._refuse_lack()
            own = Grids(gridded, self.experiment.task)
            later = sum(map(own.budget, gridded)) + self.points * (len(self.spaces) - len(gridded))
            shared = self._race(session, {self.first: self.shared}, None, then, later)[0][self.first]
        values, common = self._race(session, gridded, shared, then)
        swept = {arm: self.experiment.tuner[arm] for arm in self.spaces if arm not in gridded}
        if swept:
            sweep = self._new_sweep(swept, {arm: self.spaces[arm] for arm in swept}, self.points, 1, shared)
            self._train_sweep(session, sweep, then)
            values |= sweep.found()
            for arm in () if self.smoke else swept:
                for name in space.at_edges(self.spaces[arm], values[arm].values):
                    print(f"{arm} is under-searched: its best {name} is at the edge of its range, {values[arm].values[name]:g}")
        return Chosen(shared, values, common)

    def sweep(self, session: Session, tuner: str | None, count: int | None, repeats: int) -> Iterator[Sweep]:
        """Search with keras-tuner what the script searches, and keep a table of it: what is shared, then the arms.

        Args:
            tuner: for all arms; by default the script's, or halton in place of a grid.
            count: points an arm; by default the script's, or as many as a later call of the experiment will use in place of its
                grid. repeats: how often each search is made.
        """
        shared, count = None, count or self._worth_using()
        if self.shared:
            self._refuse_lack()
            first = self._new_sweep({self.first: tuner or "halton"}, {self.first: self.shared}, count, repeats)
            self._train_sweep(session, first)
            yield first
            shared = first.found()[self.first]
        if self.spaces:
            tuners = {arm: tuner or self.experiment.tuner[arm].replace("grid", "halton") for arm in self.spaces}
            sweep = self._new_sweep(tuners, self.spaces, count, repeats, shared)
            self._train_sweep(session, sweep)
            yield sweep

    def variants(self, chosen: Chosen) -> list[Variant]:
        """What is trained for the result: each arm with its values, then those at the common rate."""
        variants = []
        for arm in self.arms:
            given = self._given(arm, chosen.shared)
            own = chosen.values.get(arm, Found({}, ""))
            names = [name for name in {**given, **own.values} if name not in self._by_hand(arm)]
            how = [chosen.shared.tuning] if chosen.shared and set(given) & set(names) else []
            how += [own.tuning] if own.values else []
            spaces = {name: self.experiment.searched_by(arm)[name] for name in names}
            searched = {"search": space.space_hash(spaces), "tuning": "; then ".join(filter(None, how))} if names else {}
            variants.append(Variant(arm, values=given | own.values, **searched))
        for arm in chosen.values if chosen.common else ():
            how = f"best on average over {len(chosen.values)} arms"
            hashed = space.space_hash(self.spaces[arm])
            values = self._given(arm, chosen.shared) | chosen.common
            variants.append(Variant(arm, COMMON, values, search=hashed, tuning=how))
        return variants

    def described(self, chosen: Chosen) -> list[str]:
        """With which rates and other searched values the arms are trained, and where these come from, in words."""
        lines = []
        if self.rate is not None:
            lines.append(f"{RATE} {self.rate:g} for all arms that search one, as RATE says")
        if chosen.shared:
            how = f"searched on {self.first}: {chosen.shared.tuning}" if chosen.shared.tuning else "not searched"
            lines.append(f"{_shown(chosen.shared.values)} for all arms{' but those below' if chosen.values else ''}, {how}")
        ways: dict[str, list[str]] = {}
        for arm, found in chosen.values.items():
            ways.setdefault(found.tuning or "not searched", []).append(f"{arm}: {_shown(found.values)}")
        return lines + [f"{'; '.join(arms)} ({how})" for how, arms in ways.items()]

    def _given(self, arm: str, shared: Found | None) -> dict:
        """What an arm is trained with besides what it searches for itself: the user's rate, and the shared values."""
        entries = self.experiment.shared_by(arm)
        values = shared.values if shared else {}
        return self._by_hand(arm) | {name: value for name, value in values.items() if name in entries}

    def bases(self, given: dict[str, dict]) -> dict[str, str]:
        """Of some arms a hash of what a search of each rests on: code, setting and data, and values that are given to it."""
        with_values = {arm: Variant(arm, values=values) for arm, values in given.items()}
        return {arm: self.planner.planned(variant, None).fingerprint for arm, variant in with_values.items()}

    def _worth_using(self) -> int:
        """Points of a sweep that is used in the place of a grid: one more than its race takes."""
        grids = Grids(({self.first: self.shared} if self.shared else {}) | self.spaces, self.experiment.task)
        races = [grids.budget(arm) + 1 for arm in grids.spaces if self.experiment.tuner.get(arm, "grid") == "grid"]
        return max([self.points, *races])

    def _refuse_lack(self) -> None:
        """Raises `Failure` where the arm that is searched for all cannot be trained on these data."""
        reason = self.planner.resolved[self.first].unavailable
        if reason:
            raise Failure(
                f"{', '.join(self.shared)} is searched on {self.first}, which cannot run: it {reason}. RATE=0.01 sets it by hand"
            )

    def _new_sweep(
        self, tuner: dict[str, str], spaces: dict[str, space.Space], count: int, repeats: int, shared: Found | None = None
    ) -> Sweep:
        """A search of some arms with keras-tuner, so many points an arm, repeated so often."""
        epochs = {arm: self.planner.resolved[arm].setting.epochs for arm in tuner}
        given = {arm: self._given(arm, shared) for arm in tuner}
        amount = {"count": count, "sweeps": repeats, "epochs": epochs}
        return Sweep(self.experiment, spaces, tuner, **amount, given=given, known=self.known)

    def _train_sweep(self, session: Session, sweep: Sweep, then: Plan | None = None) -> None:
        """Train all that the oracles propose, and keep a table of it."""
        more = True
        while more:
            plan = self.planner.plan(sweep.trials(), searching=True)
            replaced = plan.of_another_kind()
            session.train_search(plan, then)
            if replaced:
                sweep.restart()
                continue
            more = sweep.tell(plan)
            if not session.options.dry:
                sweep.write_table(self.planner.files)

    def _earlier(self) -> dict[str, Found]:
        """What a sweep that trained more than this search would has found; nothing where there was none."""
        shared = self._found_earlier({self.first: self.shared}, None) if self.shared else {}
        if self.shared and not shared:
            return {}
        own = self._found_earlier(self.spaces, shared.get(self.first)) if self.spaces else {}
        return shared | own if bool(own) == bool(self.spaces) else {}

    def _found_earlier(self, spaces: dict[str, space.Space], shared: Found | None) -> dict[str, Found]:
        grids, setting = Grids(spaces, self.experiment.task), self.planner.resolved
        gridded = {arm: self.experiment.tuner.get(arm, "grid") == "grid" for arm in spaces}
        cost = {arm: (grids.budget(arm) if gridded[arm] else self.points) * setting[arm].setting.epochs for arm in spaces}
        bases = self.bases({arm: self._given(arm, shared) for arm in spaces})
        return tuned(self.planner.files, spaces, bases, cost)

    def _race(
        self, session: Session, spaces: dict[str, space.Space], shared: Found | None, then: Plan, later: int = 0
    ) -> tuple[dict[str, Found], dict | None]:
        """Train the grids of some arms. Returns the best values of each, and what suits all best.

        Args:
            later: trials of searches that follow this one.
        """
        if not spaces:
            return {}, None
        given = {arm: self._given(arm, shared) for arm in spaces}
        grids = Grids(spaces, self.experiment.task, given=given, smoke=self.smoke)
        while True:
            plan = self.planner.plan(grids.trials(), searching=True)
            session.train_search(plan, then, later + sum(map(grids.budget, spaces)) - len(plan.trials))
            if not grids.advance(plan):
                break
        values = grids.found(plan)
        for arm, names in {} if self.smoke else grids.at_limit(values).items():
            print(f"{arm} is under-searched: its best {names[0]} is the outermost allowed, {values[arm].values[names[0]]:g}")
        return values, grids.common(plan) if self._has_common_rate(spaces) else None

    def _has_common_rate(self, spaces: dict[str, space.Space]) -> bool:
        """Whether the rate that suits all best can be known: all arms that search are here, and on one grid of rates alone."""
        if RATE in self.experiment.shared:
            return False  # which all others have in common
        one_grid = set(spaces) == set(self.experiment.search) and len(set(map(space.grid_hash, spaces.values()))) == 1
        return one_grid and len(spaces) > 1 and all(set(own) == {RATE} for own in spaces.values())


def _shown(values: dict) -> str:
    """Values by name, in words."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
