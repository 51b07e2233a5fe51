"""A search with keras-tuner of all arms, in so many independent repetitions, and the files of what it tried and found."""

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
from common.search.grid import Found, Score
from common.search.oracles import Point, Searcher
from common.text import listed


class Sweep:
    """The searches of some arms, in so many independent repetitions.

    Args:
        spaces, tuner: of each of these arms. count: points of each; sweeps: repetitions; epochs: of a whole training.
        given: values of other arguments of each arm, that a search before this one has found.
        known: the spaces of all arms that are searched, whose points of earlier sweeps stay in the table.
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
        given: dict[str, dict],
        known: dict[str, space.Space],
    ):
        self.experiment, self.spaces, self.tuner, self.given, self.known = experiment, spaces, tuner, given, known
        self.count, self.sweeps, self.epochs = count, sweeps, epochs
        self.restart()

    def restart(self) -> None:
        """Forget what the oracles were told: those rows have given way to others."""
        name, task = self.experiment.name, self.experiment.task
        self.searchers = [
            Searcher(name, arm, self.spaces[arm], tuner, sweep, self.epochs[arm], self.count, task, self.given[arm])
            for sweep in range(self.sweeps)
            for arm, tuner in self.tuner.items()
        ]

    def trials(self) -> list[tuple[Variant, int]]:
        """All that has been proposed so far, after asking for what can be asked; sweep by sweep, the arms interleaved."""
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
        """Hand the rows there are to the oracles. Returns whether they will propose more."""
        rows = {(row["arm"], row["point"], int(row["seed"])): row for row in plan.rows()}
        for searcher in self.searchers:
            searcher.tell(rows)
        return not all(searcher.finished for searcher in self.searchers)

    def found(self) -> dict[str, Found]:
        """The best values of each arm over all sweeps."""
        found = {}
        for arm in dict.fromkeys(searcher.arm for searcher in self.searchers):
            best = self._best(arm)
            found[arm] = Found(best.values, self._how(arm))
        return found

    def _best(self, arm: str) -> Point:
        own = [searcher.best() for searcher in self.searchers if searcher.arm == arm]
        return max(own, key=lambda point: Score.of([point.row], self.experiment.task).rank)

    def _how(self, arm: str) -> str:
        return f"{self.tuner[arm]}, {self.count} points" + (f", {self.sweeps} sweeps" if self.sweeps > 1 else "")

    def summary(self) -> list[str]:
        """A line per arm, the best first; one whose optimum lies at the edge of its range has no rank."""
        found = self.found()
        scores = {arm: Score.of([self._best(arm).row], self.experiment.task) for arm in found}
        edges = {arm: space.at_edges(self.spaces[arm], found[arm].values) for arm in found}
        lines, rank, metric = [], 0, self.experiment.task.metric
        width = max(map(len, found))
        for arm in sorted(found, key=lambda arm: scores[arm].rank, reverse=True):
            rank += not edges[arm]
            place = f"under-searched: {', '.join(edges[arm])} at the edge of its range" if edges[arm] else f"rank {rank}"
            lines.append(f"{arm:<{width}}  best val {metric} {abs(scores[arm].value):.4f}, {listed(found[arm].values)}; {place}")
        return lines

    # --- files ---

    def write_table(self, files: schema.Files) -> pathlib.Path:
        """`sweep_NN_….csv`: a row per point that has been trained. Those of other arms and tuners stay while their space does."""
        path = files.points
        names = list(dict.fromkeys(name for searcher in self.searchers for name in searcher.space))
        hashes = {arm: space.space_hash(own) for arm, own in self.known.items()}
        kept = [
            row
            for row in read_table(path)
            if self.tuner.get(row["arm"]) != row["tuner"] and hashes.get(row["arm"]) == row["search"]
        ]
        names += [name for row in kept for name in row if name not in (*names, *FIRST, *LAST)]
        rows = [*kept, *(self._row(s, p) for s in self.searchers for p in s.points if p.row is not None)]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys([*FIRST, *names, *LAST])), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue().encode())
        return path

    def _row(self, searcher: Searcher, point: Point) -> dict:
        own = {"experiment": searcher.experiment, "arm": searcher.arm, "tuner": searcher.tuner, "sweep": searcher.sweep}
        own |= {"point": point.number, "untuned": point.number == 0, **point.values}
        own |= {name: point.row[name] for name in LAST if name in schema.NAMES}
        score = Score.of([point.row], searcher.task)
        return own | {"score": score.value, "nll": score.nll, "search": space.space_hash(searcher.space)}

    def write_tuned(self, files: schema.Files, bases: dict[str, str]) -> pathlib.Path:
        """`tuned_NN_….json`: the best values of each arm, and what they rest on.

        Arms that were not searched now stay, and what an earlier sweep of the same space, code and data found that is better.
        """
        arms = {}
        with contextlib.suppress(Failure):  # a damaged one is written again
            arms = _read_tuned(files)
        for arm, found in self.found().items():
            best = self._best(arm)
            searchers = [s for s in self.searchers if s.arm == arm]
            score = Score.of([best.row], self.experiment.task)
            if _is_better(arms.get(arm), score, [space.space_hash(searchers[0].space), bases[arm]]):
                continue
            arms[arm] = {
                "values": found.values,
                "score": score.value,
                "nll": score.nll,
                "tuning": found.tuning,
                "epochs": sum(point.epochs for s in searchers for point in s.points[1:]),
                "search": space.space_hash(searchers[0].space),
                "under_searched": space.at_edges(searchers[0].space, found.values),
                "basis": bases[arm],
            }
        path = files.tuned
        write_atomic(path, (json.dumps({"experiment": self.experiment.name, "arms": arms}, indent=1) + "\n").encode())
        return path


def tuned(files: schema.Files, spaces: dict[str, space.Space], bases: dict[str, str], cost: dict[str, int]) -> dict[str, Found]:
    """The values of an earlier sweep, if it searched these arms' spaces under the code, data and setting of now, and for longer.

    Args:
        cost: of each searched arm, the epochs that the search in its place would train.

    Raises:
        Failure: the file of an earlier sweep is damaged.
    """
    known = _read_tuned(files)
    try:
        found = {}
        for arm, least in cost.items():
            own = known[arm]
            rests_on = [space.space_hash(spaces[arm]), bases[arm]]
            if [own["search"], own["basis"]] != rests_on or own["epochs"] <= least:
                return {}
            found[arm] = Found(own["values"], own["tuning"])
        return found
    except (KeyError, TypeError):  # it lacks an arm: search here
        return {}


def _is_better(known: dict | None, score: Score, rests_on: list[str]) -> bool:
    """Whether what an earlier sweep found rests on the same, and did better."""
    try:
        return [known["search"], known["basis"]] == rests_on and Score(known["score"], known["nll"]).rank > score.rank
    except (KeyError, TypeError):  # there is none, or it is damaged
        return False


def _read_tuned(files: schema.Files) -> dict:
    """What earlier sweeps found, by arm; nothing where there is no file. Raises `Failure` for a damaged one."""
    if not files.tuned.exists():
        return {}
    try:
        return dict(json.loads(files.tuned.read_text(encoding="utf-8"))["arms"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"{files.tuned} is empty or damaged: run the sweep again, which writes it without training what is done; or remove "
            "it, and the search is the script's own"
        ) from error
