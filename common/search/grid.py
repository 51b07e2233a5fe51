"""Each arm's best values, on `val` and with seeds that no result uses: a race of all points of a grid.

All points run with two seeds, and the grid grows until each arm's best one lies inside it. A few contenders run with three
more; of these the highest wins, less what a rate would lose if it fared as the next higher one does.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from common import space
from common.running.plan import Plan, Variant
from common.tasks import Task

FIRST_SEED = 1000
GRID_SEEDS = (1000, 1001)
"""With which all points run."""
CONTENDER_SEEDS = (1002, 1003, 1004)
"""With which an arm's best few run besides."""
CONTENDERS = 3
WITHIN = 0.10
"""How far from the best one a contender may be: accuracy, of another metric the share of what lies between it and a constant
prediction."""
RISK = 0.035
"""Chance that a new seed fares at a rate as others do at the next higher one: of 107 grids of the digits experiments whose best
rate was the last that worked, 3.6 % of new seeds did not train."""
RATE = "learning_rate"


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
        """Of the trials of one point. One that has not trained counts as the constant prediction."""
        own = f"val_{task.metric}"
        value = statistics.fmean(float(row["val_constant" if row["trained"] == "False" else own]) for row in rows)
        return cls(task.better(value), statistics.fmean(float(row["val_nll"] or 0) for row in rows))


@dataclass(frozen=True)
class Found:
    """What a search chose for an arm."""

    values: dict
    tuning: str
    """How, in words; stands in the rows."""


class Grids:
    """The grids of the arms; those with equal spaces share one, so that it grows for all of them alike.

    Args:
        given: of each arm the values of other arguments, that a search before this one has found.
    """

    def __init__(self, spaces: dict[str, space.Space], task: Task, *, given: dict[str, dict] | None = None, smoke: bool = False):
        self.spaces, self.task, self.smoke, self.given = spaces, task, smoke, given or {}
        self.seeds = GRID_SEEDS[:1] if smoke else GRID_SEEDS
        self.contenders: dict[str, list[str]] = {arm: [] for arm in spaces}
        """Per arm the points that run with more seeds."""
        self.grids: dict[str, space.Grid] = {}
        for own in self.spaces.values():
            grid = self.grids.setdefault(space.grid_hash(own), space.Grid(own))
            if smoke:
                grid.axes = {name: [axis[0], axis[len(axis) // 2]] for name, axis in grid.axes.items()}

    def grid(self, arm: str) -> space.Grid:
        return self.grids[space.grid_hash(self.spaces[arm])]

    def trials(self) -> list[tuple[Variant, int]]:
        """All points of all arms, then the contenders with more seeds; seed by seed with the arms interleaved."""
        points = {arm: list(self.grid(arm).points()) for arm in self.spaces}
        contending = {arm: [json.loads(point) for point in points] for arm, points in self.contenders.items()}
        return self._interleaved(points, self.seeds) + self._interleaved(contending, CONTENDER_SEEDS)

    def _interleaved(self, points: dict[str, list[dict]], seeds: Sequence[int]) -> list[tuple[Variant, int]]:
        longest = max(map(len, points.values()), default=0)
        return [
            (Variant.search_point(arm, points[arm][i], fixed=self.given.get(arm)), seed)
            for seed in seeds
            for i in range(longest)
            for arm in self.spaces
            if i < len(points[arm])
        ]

    def advance(self, plan: Plan) -> bool:
        """Take the race one step further. Returns whether there is more to train.

        The grids grow beyond the edges at which an arm is at its best, then the contenders are named; where the best of them is
        at an edge, the grids grow again.
        """
        if self.smoke:
            return False
        scores = self.scores(plan, self.seeds)
        if self._grow({arm: _best(own) for arm, own in scores.items()}):
            return True
        contenders = {arm: self._contenders(plan, arm, own) for arm, own in scores.items()}
        more = any(set(points) - set(self.contenders[arm]) for arm, points in contenders.items())
        self.contenders = contenders
        return more or self._grow(self._winners(plan))

    def _grow(self, best: dict[str, str]) -> bool:
        """Grow beyond the edges at which points lie."""
        grown = [
            grid.extend([json.loads(best[arm]) for arm in self.spaces if self.grid(arm) is grid])
            for grid in self.grids.values()  # each of them, also after the first has grown
        ]
        return any(grown)

    def scores(self, plan: Plan, seeds: Sequence[int]) -> dict[str, dict[str, Score]]:
        """Per arm, of each point (its column in the rows) over some seeds, where it has all their rows."""
        rows: dict[tuple[str, str], list[dict]] = {}
        for row in plan.rows():
            if int(row["seed"]) in seeds:
                rows.setdefault((row["arm"], row["point"]), []).append(row)
        scores: dict[str, dict[str, Score]] = {arm: {} for arm in self.spaces}
        for arm in self.spaces:
            for point in (Variant.search_point(arm, values).point for values in self.grid(arm).points()):
                same = rows.get((arm, point), [])
                if len(same) == len(seeds):
                    scores[arm][point] = Score.of(same, self.task)
        return scores

    def _contenders(self, plan: Plan, arm: str, scores: dict[str, Score]) -> list[str]:
        """The best few points, by their mean, then their NLL, then the lower rate."""
        ranked = sorted(scores, key=lambda point: _order(point, scores[point]))
        within = WITHIN
        if self.task.metric != "accuracy":
            constant = self.task.better(next(float(row["val_constant"]) for row in plan.rows() if row["arm"] == arm))
            within *= max(scores[ranked[0]].value - constant, 0.0)
        least = scores[ranked[0]].rank[0] - within
        return [point for point in ranked[:CONTENDERS] if scores[point].rank[0] >= least]

    def _winners(self, plan: Plan) -> dict[str, str]:
        """Of each arm's contenders the one with the highest mean, less the risk that its rate carries."""
        few, all_seeds = self.scores(plan, self.seeds), self.scores(plan, (*self.seeds, *CONTENDER_SEEDS))
        winners = {}
        for arm in self.spaces:
            known = few[arm] | all_seeds[arm]
            if self.smoke or not self.contenders[arm]:
                winners[arm] = _best(few[arm])
                continue

            def worth(point, known=known, arm=arm):
                after = self._next_rate(arm, point)
                loss = known[point].value - known[after].value if after in known else 0.0
                return Score(known[point].value - RISK * max(loss, 0.0), known[point].nll)

            winners[arm] = min(self.contenders[arm], key=lambda point, worth=worth: _order(point, worth(point)))
        return winners

    def _next_rate(self, arm: str, point: str) -> str:
        """The point with the next higher learning rate and all else equal; blank at the top, and where no rate is searched."""
        values, axis = json.loads(point), self.grid(arm).axes.get(RATE, [])
        higher = [rate for rate in axis if RATE in values and rate > values[RATE]]
        return Variant.search_point(arm, {**values, RATE: min(higher)}).point if higher else ""

    def found(self, plan: Plan) -> dict[str, Found]:
        """The winner of each arm."""
        return {arm: Found(json.loads(point), self._how(arm)) for arm, point in self._winners(plan).items()}

    def common(self, plan: Plan) -> dict | None:
        """The point that is best on average over the arms; None where they share none."""
        scores = self.scores(plan, self.seeds)
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
        """Trials that the arm's race takes at most, before its grid grows."""
        return self._count(arm) * len(self.seeds) + (0 if self.smoke else CONTENDERS * len(CONTENDER_SEEDS))

    def _count(self, arm: str) -> int:
        return sum(1 for _ in self.grid(arm).points())

    def _how(self, arm: str) -> str:
        seeds = f"grid of {self._count(arm)} points, {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        more = len(self.contenders[arm])
        return f"{seeds}; {more} of them with {len(CONTENDER_SEEDS)} more" if more else seeds


def _order(point: str, score: Score) -> tuple:
    """By which the best point is first: the higher value, the lower NLL, the lower rate."""
    value, turned_nll = score.rank
    return -value, -turned_nll, json.loads(point).get(RATE, 0.0)


def _best(scores: dict[str, Score]) -> str:
    return min(scores, key=lambda point: _order(point, scores[point]))
