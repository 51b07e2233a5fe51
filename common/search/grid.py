"""Grid search of each arm's values, on `val` and with seeds that results do not use.

All points are trained with two seeds, and the grid is extended until each arm's best point is not at its edge. The best few
points (contenders) are trained with three more seeds. The one with the highest mean wins, after a penalty for rates whose next
higher rate is worse.
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
"""Seeds of all points."""
CONTENDER_SEEDS = (1002, 1003, 1004)
"""Further seeds of the contenders."""
CONTENDERS = 3
"""Largest number of contenders per arm."""
WITHIN = 0.10
"""Largest difference between a contender and the best point: in accuracy; for other metrics as a fraction of the difference
between the best point and a constant prediction."""
RISK = 0.035
"""Weight of the penalty, an estimate of the probability that a seed does at a rate what others do at the next higher one: in 107
grids of the digits experiments whose best rate was the highest that trained, 3.6 % of new seeds did not train."""
RATE = "learning_rate"


@dataclass(frozen=True)
class Score:
    """Mean scores of a point over its seeds."""

    value: float
    """The task's primary metric on val, negated if lower is better."""
    nll: float
    """NLL on val, which decides between equal values; 0 for a task without one."""

    @property
    def rank(self) -> tuple[float, float]:
        """(value, −NLL) for comparisons, higher is better, with −∞ for NaN."""
        return tuple(-math.inf if math.isnan(number) else number for number in (self.value, -self.nll))

    @classmethod
    def of(cls, rows: Sequence[dict], task: Task) -> "Score":
        """The score of the rows of one point. A trial that did not train counts as the best constant prediction."""
        column = f"val_{task.metric}"
        value = statistics.fmean(float(row["val_constant" if row["trained"] == "False" else column]) for row in rows)
        return cls(task.better(value), statistics.fmean(float(row["val_nll"] or 0) for row in rows))


@dataclass(frozen=True)
class SearchResult:
    """The values that a search chose for an arm."""

    values: dict
    tuning: str
    """How they were chosen; a column of the rows."""


class Grids:
    """The grids of the arms. Arms with equal spaces share a grid, so that it is extended for all of them alike.

    Args:
        spaces: arm -> search space.
        fixed: arm -> values of other arguments, which the search does not vary.
        smoke: whether to search two values per argument with one seed.
    """

    def __init__(self, spaces: dict[str, space.Space], task: Task, *, fixed: dict[str, dict] | None = None, smoke: bool = False):
        self.spaces, self.task, self.smoke, self.fixed = spaces, task, smoke, fixed or {}
        self.seeds = GRID_SEEDS[:1] if smoke else GRID_SEEDS
        self.contenders: dict[str, list[str]] = {arm: [] for arm in spaces}
        """Arm -> its contenders, as in the column `point`."""
        self.grids: dict[str, space.Grid] = {}
        for entries in self.spaces.values():
            grid = self.grids.setdefault(space.grid_hash(entries), space.Grid(entries))
            if smoke:
                grid.axes = {name: [axis[0], axis[len(axis) // 2]] for name, axis in grid.axes.items()}

    def grid(self, arm: str) -> space.Grid:
        """The grid of an arm."""
        return self.grids[space.grid_hash(self.spaces[arm])]

    def trials(self) -> list[tuple[Variant, int]]:
        """Variant and seed of all points, then those of the contenders' further seeds; seed by seed, the arms interleaved."""
        points = {arm: list(self.grid(arm).points()) for arm in self.spaces}
        contending = {arm: [json.loads(point) for point in points] for arm, points in self.contenders.items()}
        return self._interleaved(points, self.seeds) + self._interleaved(contending, CONTENDER_SEEDS)

    def _interleaved(self, points: dict[str, list[dict]], seeds: Sequence[int]) -> list[tuple[Variant, int]]:
        """Variant and seed of the points, by seed, then by position in the lists, then by arm."""
        longest = max(map(len, points.values()), default=0)
        return [
            (Variant.search_point(arm, points[arm][i], fixed=self.fixed.get(arm)), seed)
            for seed in seeds
            for i in range(longest)
            for arm in self.spaces
            if i < len(points[arm])
        ]

    def advance(self, plan: Plan) -> bool:
        """The next step of the search, after the present trials are trained. Returns whether there are further trials.

        Grids are extended at edges where an arm has its best point. When there are none, the contenders are chosen; when these
        are trained and the best of them is at an edge, the grids are extended again.
        """
        if self.smoke:
            return False
        scores = self.scores(plan, self.seeds)
        if self._extend({arm: _best(points) for arm, points in scores.items()}):
            return True
        contenders = {arm: self._contenders(plan, arm, points) for arm, points in scores.items()}
        more = any(set(points) - set(self.contenders[arm]) for arm, points in contenders.items())
        self.contenders = contenders
        return more or self._extend(self._winners(plan))

    def _extend(self, best: dict[str, str]) -> bool:
        """Extend the grids at the edges where points lie. Returns whether any was.

        Args:
            best: arm -> its best point.
        """
        extended = [
            grid.extend([json.loads(best[arm]) for arm in self.spaces if self.grid(arm) is grid]) for grid in self.grids.values()
        ]
        return any(extended)

    def scores(self, plan: Plan, seeds: Sequence[int]) -> dict[str, dict[str, Score]]:
        """Arm -> point, as in the column `point` -> score over the given seeds; points without all these rows are left out."""
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
        """The points of an arm with the best scores; see `CONTENDERS` and `WITHIN`."""
        ranked = sorted(scores, key=lambda point: _order(point, scores[point]))
        within = WITHIN
        if self.task.metric != "accuracy":
            constant = self.task.better(next(float(row["val_constant"]) for row in plan.rows() if row["arm"] == arm))
            within *= max(scores[ranked[0]].value - constant, 0.0)
        least = scores[ranked[0]].rank[0] - within
        return [point for point in ranked[:CONTENDERS] if scores[point].rank[0] >= least]

    def _winners(self, plan: Plan) -> dict[str, str]:
        """Arm -> the contender with the highest m − `RISK` · max(0, m − m′), m its mean and m′ that of the next higher rate."""
        few, all_seeds = self.scores(plan, self.seeds), self.scores(plan, (*self.seeds, *CONTENDER_SEEDS))
        winners = {}
        for arm in self.spaces:
            known = few[arm] | all_seeds[arm]
            if self.smoke or not self.contenders[arm]:
                winners[arm] = _best(few[arm])
                continue

            def penalised(point, known=known, arm=arm):
                after = self._next_rate(arm, point)
                loss = known[point].value - known[after].value if after in known else 0.0
                return Score(known[point].value - RISK * max(loss, 0.0), known[point].nll)

            winners[arm] = min(self.contenders[arm], key=lambda point, penalised=penalised: _order(point, penalised(point)))
        return winners

    def _next_rate(self, arm: str, point: str) -> str:
        """The point that only differs by the next higher learning rate; empty if there is none, or no rate is searched."""
        values, axis = json.loads(point), self.grid(arm).axes.get(RATE, [])
        higher = [rate for rate in axis if RATE in values and rate > values[RATE]]
        return Variant.search_point(arm, {**values, RATE: min(higher)}).point if higher else ""

    def results(self, plan: Plan) -> dict[str, SearchResult]:
        """Arm -> result of the search."""
        return {arm: SearchResult(json.loads(point), self._how(arm)) for arm, point in self._winners(plan).items()}

    def common(self, plan: Plan) -> dict | None:
        """Values of the point with the highest mean over the arms; None if no point is in all their grids."""
        scores = self.scores(plan, self.seeds)
        shared = [point for point in next(iter(scores.values()), {}) if all(point in points for points in scores.values())]
        if not shared:
            return None

        def mean(point):
            ranks = [scores[arm][point].rank for arm in scores]
            return tuple(map(statistics.fmean, zip(*ranks, strict=True)))

        return json.loads(max(shared, key=mean))

    def at_limit(self, results: dict[str, SearchResult]) -> dict[str, list[str]]:
        """Arm -> names of the arguments whose chosen value is the first or last of the extended grid."""
        outermost = {}
        for arm, chosen in results.items():
            axes = {n: axis for n, axis in self.grid(arm).axes.items() if isinstance(self.spaces[arm].get(n), space.Range)}
            names = [name for name, axis in axes.items() if chosen.values[name] in (min(axis), max(axis))]
            if names:
                outermost[arm] = names
        return outermost

    def budget(self, arm: str) -> int:
        """Largest number of trials for an arm, without extensions of its grid."""
        return self._count(arm) * len(self.seeds) + (0 if self.smoke else CONTENDERS * len(CONTENDER_SEEDS))

    def _count(self, arm: str) -> int:
        """Number of points in an arm's grid."""
        return sum(1 for _ in self.grid(arm).points())

    def _how(self, arm: str) -> str:
        """The text of the column `tuning`."""
        seeds = f"grid of {self._count(arm)} points, {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        more = len(self.contenders[arm])
        return f"{seeds}; {more} of them with {len(CONTENDER_SEEDS)} more" if more else seeds


def _order(point: str, score: Score) -> tuple:
    """Sorting key, smallest for the best point: by value, NLL, then the lower learning rate."""
    value, negated_nll = score.rank
    return -value, -negated_nll, json.loads(point).get(RATE, 0.0)


def _best(scores: dict[str, Score]) -> str:
    """The best point."""
    return min(scores, key=lambda point: _order(point, scores[point]))
