"""`Sweep`: the search of several arms with keras-tuner, repeated independently, and the table of its points.

All points are trained with one seed. Then the contenders among them are trained with four more, and the race chooses one of them,
as it does in a grid (see `race`).
"""

import csv
import io
import json
import pathlib
from collections.abc import Collection

import numpy as np

from common import space
from common.experiment import Experiment
from common.files import write_atomic
from common.rows import schema
from common.rows.points import FIRST, LAST, read_table
from common.running.plan import Plan, Variant
from common.search.oracles import Point, Searcher
from common.search.race import CONTENDERS
from common.search.scores import SEEDS, Score, Scores, SearchResult
from common.text import listed

FURTHER_SEEDS = len(SEEDS) - 1
"""Number of further seeds of each contender."""


class Sweep:
    """The searches of several arms, each repeated independently.

    Args:
        spaces, tuner: of each arm.
        count: points per arm; sweeps: repetitions; epochs: arm -> epochs of a full training.
        fixed: arm -> values of other arguments, which the search does not vary.
        known: arm -> space of all searched arms of the experiment, whose points from earlier sweeps stay in the table.
        race: whether contenders run with more seeds; otherwise the best point of one seed is chosen.
    """

    def __init__(
        self,
        experiment: Experiment,
        spaces: dict[str, space.Space],
        tuner: dict[str, str],
        *,
        count: int,
        sweeps: int,
        epochs: dict[str, int],
        fixed: dict[str, dict],
        known: dict[str, space.Space],
        race: bool = True,
    ):
        self.experiment, self.spaces, self.tuner, self.fixed, self.known = experiment, spaces, tuner, fixed, known
        self.count, self.sweeps, self.epochs, self.race = count, sweeps, epochs, race
        self.restart()

    def restart(self) -> None:
        """Make new oracles, since rows that were reported to the old ones have been replaced."""
        name, task = self.experiment.name, self.experiment.task
        self.searchers = [
            Searcher(name, arm, self.spaces[arm], tuner, sweep, self.epochs[arm], self.count, task, self.fixed[arm])
            for sweep in range(self.sweeps)
            for arm, tuner in self.tuner.items()
        ]
        self.contenders: dict[str, list[dict]] = {arm: [] for arm in self.tuner}
        """Arm -> the values of its contenders."""

    def trials(self) -> list[tuple[Variant, int]]:
        """Variant and seed of all points proposed so far, after asking for the next ones, and of the contenders' further seeds.

        Ordered by sweep, the arms interleaved.
        """
        for searcher in self.searchers:
            searcher.ask()
        longest = max(len(searcher.points) for searcher in self.searchers)
        ordered = [
            (searcher.variant(searcher.points[i]), searcher.seed)
            for sweep in range(self.sweeps)
            for i in range(longest)
            for searcher in self.searchers
            if searcher.sweep == sweep and i < len(searcher.points)
        ]
        ordered += [
            (Variant.search_point(arm, values, fixed=self.fixed[arm]), self._seeds(arm, values)[place])
            for place in range(1, 1 + FURTHER_SEEDS)
            for arm, contenders in self.contenders.items()
            for values in contenders
        ]
        return list({(variant.entry, seed): (variant, seed) for variant, seed in ordered}.values())

    def tell(self, plan: Plan) -> bool:
        """Report the plan's rows to the oracles, and choose the contenders when none proposes further points.

        Returns whether there may be further trials.
        """
        rows = plan.rows()
        trained = {(row["arm"], row["point"], int(row["seed"])): row for row in rows}
        for searcher in self.searchers:
            searcher.tell(trained)
        if not all(searcher.finished for searcher in self.searchers):
            return True
        self.scores = {arm: self._scores(arm, rows) for arm in self.tuner}
        before = self.contenders
        if self.race:
            self.contenders = {
                arm: [point for point, contends in zip(of.points, of.contenders(), strict=True) if contends]
                for arm, of in self.scores.items()
            }
        return self.contenders != before

    def further(self, planned: int) -> int:
        """Largest number of trials besides those that are planned already; with hyperband each trains for an epoch at least."""
        most = sum(1 + s.count * (s.epochs if s.tuner == "hyperband" else 1) for s in self.searchers)
        return max(most + (len(self.tuner) * CONTENDERS * FURTHER_SEEDS if self.race else 0) - planned, 0)

    def _whole_points(self, arm: str) -> dict[str, tuple[dict, int]]:
        """The points of an arm that were trained for all epochs: their values and seed, by the values as text."""
        points: dict[str, tuple[dict, int]] = {}
        for searcher in self.searchers:
            for point in searcher.points if searcher.arm == arm else ():
                if point.epochs == searcher.epochs:
                    points.setdefault(json.dumps(point.values), (point.values, searcher.seed))
        return points

    def _seeds(self, arm: str, values: dict) -> tuple[int, ...]:
        """The seeds of a point: that of its sweep, and the further ones with which a contender runs."""
        _, seed = self._whole_points(arm)[json.dumps(values)]
        return seed, *[other for other in SEEDS if other != seed][:FURTHER_SEEDS]

    def _scores(self, arm: str, rows: list[dict]) -> Scores:
        """The scores of an arm's points over all sweeps."""
        points = [values for values, _ in self._whole_points(arm).values()]
        of_arm = [row for row in rows if row["arm"] == arm]
        return Scores(of_arm, points, [self._seeds(arm, values) for values in points], 1, self.experiment.task)

    def results(self) -> dict[str, SearchResult]:
        """Arm -> result of the race between the points of all its sweeps."""
        return {arm: self.scores[arm].result(self._contending(arm), self._how(arm)) for arm in self.tuner}

    def results_of(self, sweep: int) -> dict[str, SearchResult]:
        """Arm -> the best values of one of its sweeps."""
        of_sweep = {searcher.arm: searcher for searcher in self.searchers if searcher.sweep == sweep}
        how = {arm: f"{self.tuner[arm]}, {self.count} points {schema.EACH_SEED}" for arm in of_sweep}
        return {arm: SearchResult(searcher.best().values, how[arm]) for arm, searcher in of_sweep.items()}

    def _contending(self, arm: str) -> np.ndarray:
        """Which of an arm's points are its contenders, bool [points]."""
        return np.array([point in self.contenders[arm] for point in self.scores[arm].points])

    def score(self, arm: str) -> Score:
        """The mean score of the chosen point of an arm."""
        contending = self._contending(arm)
        return self.scores[arm].means(contending)[self.scores[arm].winner(contending)]

    def _how(self, arm: str) -> str:
        """Start of the text of the column `tuning`."""
        return f"{self.tuner[arm]}, {self.count} points" + (f", {self.sweeps} sweeps" if self.sweeps > 1 else "")

    def summary(self) -> list[str]:
        """A line per arm, the best first. An arm whose best value is at the edge of its range has no rank."""
        results = self.results()
        scores = {arm: self.score(arm) for arm in results}
        edges = {arm: space.at_edges(self.spaces[arm], results[arm].values) for arm in results}
        lines, rank, metric = [], 0, self.experiment.task.metric
        width = max(map(len, results))
        for arm in sorted(results, key=lambda arm: scores[arm].rank, reverse=True):
            rank += not edges[arm]
            place = f"under-searched: {', '.join(edges[arm])} at the edge of its range" if edges[arm] else f"rank {rank}"
            lines.append(
                f"{arm:<{width}}  best val {metric} {abs(scores[arm].value):.4f}, {listed(results[arm].values)}; {place}"
            )
        return lines

    @property
    def trained_epochs(self) -> dict[str, int]:
        """Arm -> epochs of all its points but the default values."""
        return {arm: sum(p.epochs for s in self.searchers if s.arm == arm for p in s.points[1:]) for arm in self.tuner}

    def write_table(self, files: schema.Files, trained: Collection[str]) -> pathlib.Path:
        """Write `sweep_NN_….csv`, a row per trained point. Returns its path.

        Rows of other arms and tuners stay if their space is unchanged, and their trials are among those with the present code.

        Args:
            trained: the fingerprints of the trials of searches with the present code, settings and data.
        """
        path = files.points
        names = list(dict.fromkeys(name for searcher in self.searchers for name in searcher.space))
        hashes = {arm: space.space_hash(entries) for arm, entries in self.known.items()}
        earlier = [
            row
            for row in read_table(path)
            if self.tuner.get(row["arm"]) != row["tuner"]
            and hashes.get(row["arm"]) == row["search"]
            and row["fingerprint"] in trained
        ]
        names += [name for row in earlier for name in row if name not in (*names, *FIRST, *LAST)]
        rows = [*earlier, *(self._row(s, p) for s in self.searchers for p in s.points if p.row is not None)]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys([*FIRST, *names, *LAST])), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue().encode())
        return path

    def _row(self, searcher: Searcher, point: Point) -> dict:
        """The row of a point in the table."""
        row = {"experiment": searcher.experiment, "arm": searcher.arm, "tuner": searcher.tuner, "sweep": searcher.sweep}
        row |= {"point": point.number, "untuned": point.number == 0, **point.values}
        row |= {name: point.row[name] for name in LAST if name in schema.NAMES}
        score = Score.of(point.row, searcher.task)
        return row | {"score": score.value, "nll": score.nll, "search": space.space_hash(searcher.space)}
