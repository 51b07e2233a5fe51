"""Grid search of each arm's values by a race, on `val` and with seeds that results do not use.

All points are trained with two seeds, and the grid is extended until each arm's best point is not at its edge. The contenders are
trained with three more seeds, and the race chooses one of them (see `race`); if that is at an edge, the grid is extended again.
"""

import json
import statistics
from collections.abc import Sequence

import numpy as np

from common import space
from common.running.plan import Plan, Variant
from common.search.race import CONTENDERS
from common.search.scores import SEEDS, Scores, SearchResult
from common.tasks import Task

GRID_SEEDS = SEEDS[:2]
"""Seeds of all points."""
CONTENDER_SEEDS = SEEDS[2:]
"""Further seeds of the contenders."""


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
        scores = self.scores(plan)
        if self._extend({arm: of_arm.points[of_arm.best()] for arm, of_arm in scores.items()}):
            return True
        contenders = {arm: self._named(of_arm, of_arm.contenders()) for arm, of_arm in scores.items()}
        more = any(set(points) - set(self.contenders[arm]) for arm, points in contenders.items())
        self.contenders = contenders
        return more or self._extend(
            {arm: of_arm.points[of_arm.winner(self._contending(arm, of_arm))] for arm, of_arm in scores.items()}
        )

    def _extend(self, best: dict[str, dict]) -> bool:
        """Extend the grids at the edges where points lie. Returns whether any was.

        Args:
            best: arm -> its best point.
        """
        extended = [grid.extend([best[arm] for arm in self.spaces if self.grid(arm) is grid]) for grid in self.grids.values()]
        return any(extended)

    def scores(self, plan: Plan) -> dict[str, Scores]:
        """Arm -> the scores of its trials."""
        rows: dict[str, list[dict]] = {arm: [] for arm in self.spaces}
        for row in plan.rows():
            rows[row["arm"]].append(row)
        seeds = self.seeds if self.smoke else SEEDS
        points = {arm: list(self.grid(arm).points()) for arm in self.spaces}
        return {
            arm: Scores(rows[arm], points[arm], [seeds] * len(points[arm]), len(self.seeds), self.task) for arm in self.spaces
        }

    @staticmethod
    def _named(scores: Scores, contending: np.ndarray) -> list[str]:
        """The contenders as in the column `point`, in the order of the grid."""
        return [json.dumps(point) for point, contends in zip(scores.points, contending, strict=True) if contends]

    def _contending(self, arm: str, scores: Scores) -> np.ndarray:
        """Which of an arm's points are its contenders, bool [points]."""
        return np.array([json.dumps(point) in self.contenders[arm] for point in scores.points])

    def results(self, plan: Plan) -> dict[str, SearchResult]:
        """Arm -> result of the search."""
        return {arm: scores.result(self._contending(arm, scores), self._how(arm)) for arm, scores in self.scores(plan).items()}

    def common(self, plan: Plan) -> dict | None:
        """Values of the point with the highest mean over the arms; None if no point is in all their grids."""
        means = {
            arm: dict(zip(map(json.dumps, scores.points), scores.means(), strict=True))
            for arm, scores in self.scores(plan).items()
        }
        shared = [point for point in next(iter(means.values()), {}) if all(point in points for points in means.values())]
        if not shared:
            return None

        def mean(point):
            ranks = [points[point].rank for points in means.values()]
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

    @property
    def grows(self) -> bool:
        """Whether any grid can be extended."""
        return not self.smoke and any(
            entry.beyond(grid.axes[name], side)
            for grid in self.grids.values()
            for name, entry in grid.space.items()
            for side in (-1, 1)
        )

    def _count(self, arm: str) -> int:
        """Number of points in an arm's grid."""
        return sum(1 for _ in self.grid(arm).points())

    def _how(self, arm: str) -> str:
        """Start of the text of the column `tuning`."""
        return f"grid of {self._count(arm)} points, {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
