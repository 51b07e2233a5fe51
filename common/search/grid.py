"""Each arm's own best values, on `val` and with seeds that no result uses: all points of a grid, or what a sweep has found."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from common import space
from common.experiment import Experiment
from common.running.plan import Plan, Variant
from common.tasks import Task

FIRST_SEED = 1000
GRID_SEEDS = (1000, 1001)


@dataclass(frozen=True)
class Score:
    """How a point did: means over its seeds."""

    value: float
    """Of the task's primary metric on val, turned so that more is better."""
    nll: float
    """0 for a task without one; of equal values the lower is the better."""

    @property
    def rank(self) -> tuple[float, float]:
        """What is not a number is last: compared with anything it would neither win nor lose."""
        return tuple(-math.inf if math.isnan(number) else number for number in (self.value, -self.nll))

    @classmethod
    def of(cls, rows: Sequence[dict], task: Task) -> "Score":
        """Of the trials of one point. A diverged one counts as the constant prediction, as which it was scored."""
        mean = statistics.fmean
        value = task.better(mean(float(row[f"val_{task.metric}"]) for row in rows))
        return cls(value, mean(float(row["val_nll"] or 0) for row in rows))


@dataclass(frozen=True)
class Found:
    """What a search chose for an arm."""

    values: dict
    tuning: str
    """How, in words; stands in the rows."""


class Grids:
    """The grids of the arms; those with equal spaces share one, so that it grows for all of them alike."""

    def __init__(self, experiment: Experiment, arms: Sequence[str], *, smoke: bool = False):
        self.spaces = {arm: experiment.search[arm] for arm in arms}
        self.smoke, self.task = smoke, experiment.task
        self.seeds = GRID_SEEDS[:1] if smoke else GRID_SEEDS
        self.grids: dict[str, space.Grid] = {}
        for own in self.spaces.values():
            grid = self.grids.setdefault(space.grid_hash(own), space.Grid(own))
            if smoke:
                grid.axes = {name: [axis[0], axis[len(axis) // 2]] for name, axis in grid.axes.items()}

    def grid(self, arm: str) -> space.Grid:
        return self.grids[space.grid_hash(self.spaces[arm])]

    def trials(self) -> list[tuple[Variant, int]]:
        """All points of all arms, seed by seed with the arms interleaved."""
        points = {arm: list(self.grid(arm).points()) for arm in self.spaces}
        longest = max(map(len, points.values()), default=0)
        return [
            (Variant.tried(arm, points[arm][i]), seed)
            for seed in self.seeds
            for i in range(longest)
            for arm in self.spaces
            if i < len(points[arm])
        ]

    def scores(self, plan: Plan) -> dict[str, dict[str, Score]]:
        """Per arm, of each point (its column in the rows) that has all its rows."""
        rows: dict[tuple[str, str], list[dict]] = {}
        for row in plan.rows():
            rows.setdefault((row["arm"], row["point"]), []).append(row)
        scores: dict[str, dict[str, Score]] = {arm: {} for arm in self.spaces}
        for arm in self.spaces:
            for point in (Variant.tried(arm, values).point for values in self.grid(arm).points()):
                same = rows.get((arm, point), [])
                if len(same) == len(self.seeds):
                    scores[arm][point] = Score.of(same, self.task)
        return scores

    def extend(self, plan: Plan) -> bool:
        """Grow the grids beyond the edges at which an arm is at its best. Returns whether any did."""
        if self.smoke:
            return False
        best = {arm: json.loads(_best(scores)) for arm, scores in self.scores(plan).items()}
        grown = [
            grid.extend([best[arm] for arm in self.spaces if self.grid(arm) is grid])
            for grid in self.grids.values()  # each of them, also after the first has grown
        ]
        return any(grown)

    def found(self, plan: Plan) -> dict[str, Found]:
        """The best point of each arm."""
        return {arm: Found(json.loads(_best(scores)), self._how(arm)) for arm, scores in self.scores(plan).items()}

    def common(self, plan: Plan) -> dict | None:
        """The point that is best on average over the arms; None where they share none."""
        scores = self.scores(plan)
        shared = [values for values in next(iter(scores.values()), {}) if all(values in own for own in scores.values())]
        if not shared:
            return None

        def mean(values):
            own = [scores[arm][values].rank for arm in scores]
            return tuple(map(statistics.fmean, zip(*own, strict=True)))

        return json.loads(max(shared, key=mean))

    def at_limit(self, found: dict[str, Found]) -> dict[str, list[str]]:
        """Per arm, the names whose best value is still the grid's outermost: its limit."""
        outermost = {}
        for arm, chosen in found.items():
            axes = {n: axis for n, axis in self.grid(arm).axes.items() if isinstance(self.spaces[arm].get(n), space.Range)}
            names = [name for name, axis in axes.items() if chosen.values[name] in (min(axis), max(axis))]
            if names:
                outermost[arm] = names
        return outermost

    def budget(self, arm: str) -> int:
        """Trials that the arm's grid takes."""
        return sum(1 for _ in self.grid(arm).points()) * len(self.seeds)

    def _how(self, arm: str) -> str:
        count = sum(1 for _ in self.grid(arm).points())
        return f"grid of {count} points, {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"


def _best(scores: dict[str, Score]) -> str:
    """The best point; of equals the first."""
    return max(scores, key=lambda values: scores[values].rank)
