"""Which values each arm is trained with: from a grid, from keras-tuner, or from a larger search made before."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from common import space
from common.rows.schema import COMMON
from common.running.plan import Plan, Planner, Variant
from common.running.session import Session
from common.search.grid import Found, Grids
from common.search.sweep import Sweep, tuned

SMOKE_POINTS = 2
"""Points an arm in a smoke run, where the tuner is not the grid."""


@dataclass(frozen=True)
class Chosen:
    """What the arms of a result are trained with."""

    values: dict[str, Found] = field(default_factory=dict)
    """Of each searched arm."""
    common: dict | None = None
    """The learning rate that suits all arms best; None where they share no grid of rates."""


class Search:
    """The search of one call.

    Args:
        arms: those of the call, of which the experiment may search some.
    """

    def __init__(self, planner: Planner, arms: Sequence[str]):
        self.planner, self.experiment, self.smoke = planner, planner.experiment, planner.selected.smoke
        self.arms = list(arms)
        self.searched = [arm for arm in arms if arm in self.experiment.search and not planner.resolved[arm].lack]
        self.points = SMOKE_POINTS if self.smoke else self.experiment.points

    def untuned(self) -> Chosen:
        """What someone who does not tune would take."""
        values = {arm: Found(space.defaults(self.experiment.search[arm]), "") for arm in self.searched}
        return Chosen(values, values[self.searched[0]].values if self._has_common_rate(self.searched) else None)

    def choose(self, session: Session, then: Plan) -> Chosen:
        """Train what the script's search needs, and choose. `then` is the plan that follows, for the announcement.

        Raises:
            Failure, DryRunEnds: see `Session.train_search`.
        """
        gridded = [arm for arm in self.searched if self.experiment.tuner[arm] == "grid"]
        swept = {arm: self.experiment.tuner[arm] for arm in self.searched if arm not in gridded}
        grids = Grids(self.experiment, gridded, smoke=self.smoke)
        earlier = {} if self.smoke else self._earlier(grids, swept)
        if earlier:
            print(f"values from a larger search: {next(iter(earlier.values())).tuning}")
            return Chosen(earlier)
        values, common = {}, None
        if gridded:
            plan = self._train_grids(session, grids, then)
            values = grids.found(plan)
            common = grids.common(plan) if self._has_common_rate(gridded) else None
            for arm, names in {} if self.smoke else grids.at_limit(values).items():
                print(f"{arm} is under-searched: its best {names[0]} is the outermost allowed, {values[arm].values[names[0]]:g}")
        if swept:
            sweep = self.new_sweep(swept, self.points, 1)
            self.train_sweep(session, sweep, then)
            values |= sweep.found()
            for arm in () if self.smoke else swept:
                for name in space.at_edges(self.experiment.search[arm], values[arm].values):
                    print(f"{arm} is under-searched: its best {name} is at the edge of its range, {values[arm].values[name]:g}")
        return Chosen(values, common)

    def new_sweep(self, tuner: dict[str, str], count: int, sweeps: int) -> Sweep:
        """A search of some arms with keras-tuner, so many points an arm, repeated so often."""
        epochs = {arm: self.planner.resolved[arm].setting.epochs for arm in tuner}
        return Sweep(self.experiment, tuner, count=count, sweeps=sweeps, epochs=epochs)

    def train_sweep(self, session: Session, sweep: Sweep, then: Plan | None = None) -> None:
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

    def variants(self, chosen: Chosen) -> list[Variant]:
        """What is trained for the result: each arm with its values, then those at the common rate."""
        variants = []
        for arm in self.arms:
            best = chosen.values.get(arm)
            searched = {"search": space.space_hash(self.experiment.search[arm]), "tuning": best.tuning} if best else {}
            variants.append(Variant(arm, values=best.values if best else {}, **searched))
        for arm in chosen.values if chosen.common else ():
            how = f"best on average over {len(chosen.values)} arms"
            hashed = space.space_hash(self.experiment.search[arm])
            variants.append(Variant(arm, COMMON, chosen.common, search=hashed, tuning=how))
        return variants

    def _earlier(self, grids: Grids, swept: dict[str, str]) -> dict[str, Found]:
        """What a sweep that trained more than this search would has found; nothing where there was none."""
        points = dict.fromkeys(swept, self.points) | {arm: grids.budget(arm) for arm in grids.spaces}
        cost = {arm: count * self.planner.resolved[arm].setting.epochs for arm, count in points.items()}
        return tuned(self.planner.files, self.experiment, self.planner.bases, cost)

    def _train_grids(self, session: Session, grids: Grids, then: Plan) -> Plan:
        while True:
            plan = self.planner.plan(grids.trials(), searching=True)
            session.train_search(plan, then)
            if not grids.extend(plan):
                return plan

    def _has_common_rate(self, arms: Sequence[str]) -> bool:
        """Whether the rate that suits all best can be known: all searched arms are here, and on one grid of rates alone."""
        spaces = self.experiment.search
        one_grid = set(arms) == set(spaces) and len({space.grid_hash(entries) for entries in spaces.values()}) == 1
        return one_grid and len(arms) > 1 and all(set(spaces[arm]) == {"learning_rate"} for arm in arms)
