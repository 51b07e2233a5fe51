"""`Sweep`: the search of several arms with keras-tuner, repeated independently, and the files of its points and results."""

import contextlib
import csv
import io
import json
import pathlib

from common import space
from common.errors import Failure
from common.experiment import Experiment
from common.files import write_atomic
from common.rows import schema
from common.rows.points import FIRST, LAST, read_table
from common.running.plan import Plan, Variant
from common.search.grid import Score, SearchResult
from common.search.oracles import Point, Searcher
from common.text import listed


class Sweep:
    """The searches of several arms, each repeated independently.

    Args:
        spaces, tuner: of each arm.
        count: points per arm; sweeps: repetitions; epochs: arm -> epochs of a full training.
        fixed: arm -> values of other arguments, which the search does not vary.
        known: arm -> space of all searched arms of the experiment, whose points from earlier sweeps stay in the table.
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
    ):
        self.experiment, self.spaces, self.tuner, self.fixed, self.known = experiment, spaces, tuner, fixed, known
        self.count, self.sweeps, self.epochs = count, sweeps, epochs
        self.restart()

    def restart(self) -> None:
        """Make new oracles, since rows that were reported to the old ones have been replaced."""
        name, task = self.experiment.name, self.experiment.task
        self.searchers = [
            Searcher(name, arm, self.spaces[arm], tuner, sweep, self.epochs[arm], self.count, task, self.fixed[arm])
            for sweep in range(self.sweeps)
            for arm, tuner in self.tuner.items()
        ]

    def trials(self) -> list[tuple[Variant, int]]:
        """Variant and seed of all points proposed so far, after asking for the next ones; by sweep, the arms interleaved."""
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
        return list({(variant.entry, seed): (variant, seed) for variant, seed in ordered}.values())

    def tell(self, plan: Plan) -> bool:
        """Report the plan's rows to the oracles. Returns whether any may propose further points."""
        rows = {(row["arm"], row["point"], int(row["seed"])): row for row in plan.rows()}
        for searcher in self.searchers:
            searcher.tell(rows)
        return not all(searcher.finished for searcher in self.searchers)

    def results(self) -> dict[str, SearchResult]:
        """Arm -> its best values over all sweeps."""
        arms = dict.fromkeys(searcher.arm for searcher in self.searchers)
        return {arm: SearchResult(self._best(arm).values, self._how(arm)) for arm in arms}

    def _best(self, arm: str) -> Point:
        """The best point of an arm over all sweeps."""
        points = [searcher.best() for searcher in self.searchers if searcher.arm == arm]
        return max(points, key=lambda point: Score.of([point.row], self.experiment.task).rank)

    def _how(self, arm: str) -> str:
        """The text of the column `tuning`."""
        return f"{self.tuner[arm]}, {self.count} points" + (f", {self.sweeps} sweeps" if self.sweeps > 1 else "")

    def summary(self) -> list[str]:
        """A line per arm, the best first. An arm whose best value is at the edge of its range has no rank."""
        results = self.results()
        scores = {arm: Score.of([self._best(arm).row], self.experiment.task) for arm in results}
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

    # --- files ---

    def write_table(self, files: schema.Files) -> pathlib.Path:
        """Write `sweep_NN_….csv`, a row per trained point. Returns its path.

        Rows of other arms and tuners stay if their space is unchanged.
        """
        path = files.points
        names = list(dict.fromkeys(name for searcher in self.searchers for name in searcher.space))
        hashes = {arm: space.space_hash(entries) for arm, entries in self.known.items()}
        earlier = [
            row
            for row in read_table(path)
            if self.tuner.get(row["arm"]) != row["tuner"] and hashes.get(row["arm"]) == row["search"]
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
        score = Score.of([point.row], searcher.task)
        return row | {"score": score.value, "nll": score.nll, "search": space.space_hash(searcher.space)}

    def write_tuned(self, files: schema.Files, bases: dict[str, str]) -> pathlib.Path:
        """Write `tuned_NN_….json`, the best values of each arm with the hashes of space, code and data. Returns its path.

        Arms that were not in this sweep stay, as do better values from an earlier sweep of the same space, code and data.
        """
        arms = {}
        with contextlib.suppress(Failure):  # a damaged file is overwritten
            arms = _read_tuned(files)
        for arm, result in self.results().items():
            best = self._best(arm)
            searchers = [s for s in self.searchers if s.arm == arm]
            score = Score.of([best.row], self.experiment.task)
            if _is_better(arms.get(arm), score, [space.space_hash(searchers[0].space), bases[arm]]):
                continue
            arms[arm] = {
                "values": result.values,
                "score": score.value,
                "nll": score.nll,
                "tuning": result.tuning,
                "epochs": sum(point.epochs for s in searchers for point in s.points[1:]),
                "search": space.space_hash(searchers[0].space),
                "under_searched": space.at_edges(searchers[0].space, result.values),
                "basis": bases[arm],
            }
        path = files.tuned
        write_atomic(path, (json.dumps({"experiment": self.experiment.name, "arms": arms}, indent=1) + "\n").encode())
        return path


def tuned(
    files: schema.Files, spaces: dict[str, space.Space], bases: dict[str, str], cost: dict[str, int]
) -> dict[str, SearchResult]:
    """Arm -> result of an earlier sweep; empty unless it has all arms, with these spaces and bases, and trained longer.

    Args:
        bases: arm -> hash of code, setting and data, see `Search.bases`.
        cost: arm -> epochs that the search would train without the earlier sweep.

    Raises:
        Failure: the file of the earlier sweep is damaged.
    """
    known = _read_tuned(files)
    try:
        results = {}
        for arm, least in cost.items():
            entry = known[arm]
            hashes = [space.space_hash(spaces[arm]), bases[arm]]
            if [entry["search"], entry["basis"]] != hashes or entry["epochs"] <= least:
                return {}
            results[arm] = SearchResult(entry["values"], entry["tuning"])
        return results
    except (KeyError, TypeError):  # an arm is missing
        return {}


def _is_better(known: dict | None, score: Score, hashes: list[str]) -> bool:
    """Whether the entry of an earlier sweep has the same hashes of space and basis, and a better score."""
    try:
        return [known["search"], known["basis"]] == hashes and Score(known["score"], known["nll"]).rank > score.rank
    except (KeyError, TypeError):  # missing or damaged
        return False


def _read_tuned(files: schema.Files) -> dict:
    """Arm -> entry of `tuned_NN_….json`; empty if there is no file. Raises `Failure` for a damaged one."""
    if not files.tuned.exists():
        return {}
    try:
        return dict(json.loads(files.tuned.read_text(encoding="utf-8"))["arms"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"{files.tuned} is empty or damaged: run the sweep again, which repeats no finished trial; or remove "
            "it to use the declared search"
        ) from error
