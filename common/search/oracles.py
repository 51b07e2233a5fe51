"""A real search: keras-tuner's oracles propose an arm's points and are told how they did; our runner trains them.

Nothing of a search is kept but its trials' rows. A killed one is played again from them: each oracle is asked and told in an
order that depends on no clock, so it proposes the same points.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from common import space
from common.data.streams import Streams
from common.errors import Failure
from common.experiment import Experiment
from common.files import write_atomic
from common.rows import schema
from common.running.plan import Plan, Variant
from common.search.grid import FIRST_SEED, Found, Score
from common.tasks import Task, classification

AHEAD = 2
"""Points that a model-based oracle is asked for before it is told: a constant, so that its points depend on no machine."""
CLOCKS = ("compile_seconds", "input_seconds", "train_seconds", "eval_seconds", "total_seconds")
FIRST = ("experiment", "arm", "tuner", "sweep", "point", "untuned")
LAST = (
    *("epochs", "seed", "status", "reason", "score", "nll", "parameters", *CLOCKS, "images_per_second", "fingerprint", "search"),
    *("data_checksum", "commit", "dirty", "versions", "device", "finished"),
)


@dataclass
class Point:
    """A proposal of an oracle, or (number 0) the values of someone who does not tune."""

    number: int
    values: dict
    epochs: int
    trial: object = None
    """keras-tuner's own object."""
    row: dict | None = None


@dataclass
class Searcher:
    """One arm's search in one sweep."""

    experiment: str
    arm: str
    space: space.Space
    tuner: str
    sweep: int
    epochs: int
    """Of a whole training."""
    count: int
    """The budget is so many whole trainings."""
    task: Task = classification
    points: list[Point] = field(default_factory=list)
    finished: bool = False

    def __post_init__(self):
        self.seed = FIRST_SEED + self.sweep
        self.folder = tempfile.TemporaryDirectory(prefix="oracle-")
        self.oracle = make_oracle(self)
        self.oracle.verbose = 0
        self.oracle._set_project_dir(self.folder.name, "oracle")
        self.points.append(Point(0, space.defaults(self.space), self.epochs))

    def ask(self) -> None:
        """Take the next points from the oracle, if all that it proposed so far have been told."""
        if self.finished or any(point.row is None for point in self.points[1:]):
            return
        ahead = AHEAD if self.tuner in ("bayesian", "hyperband") else self.count
        for i in range(ahead):
            with warnings.catch_warnings(action="ignore"):  # of the fit of a Gaussian process
                trial = self.oracle.create_trial(f"tuner{i}")
            if trial.status != "RUNNING":
                self.finished = trial.status == "STOPPED"
                break
            proposed = trial.hyperparameters.values
            values = {name: _plain(entry, proposed[name]) for name, entry in self.space.items()}
            point = Point(len(self.points), values, proposed.get("tuner/epochs", self.epochs), trial)
            if sum(p.epochs for p in self.points[1:]) + point.epochs > self.count * self.epochs:
                self.finished = True
                break
            self.points.append(point)

    def variant(self, point: Point) -> Variant:
        return Variant.tried(self.arm, point.values, point.epochs if point.epochs != self.epochs else None)

    def tell(self, rows: dict[tuple[str, int], dict]) -> None:
        """Hand over what is known, in the order of the points, as far as it is known without a gap."""
        for point in self.points:
            row = rows.get((self.variant(point).label, self.seed))
            if point.row is None and row is not None:
                point.row = row
        ready = [point for point in self.points[1:] if point.trial is not None]
        if any(point.row is None for point in ready):
            return
        for point in ready:
            self.oracle.update_trial(point.trial.trial_id, {"score": Score.of([point.row], self.task).value})
            point.trial.status = "COMPLETED"
            self.oracle.end_trial(point.trial)
            point.trial = None

    def best(self) -> Point:
        """Of the points trained for a whole training, the untuned one included; of equals the first."""
        whole = [point for point in self.points if point.row is not None and point.epochs == self.epochs]
        return max(whole, key=lambda point: Score.of([point.row], self.task).rank)


def _plain(entry: space.Range | space.Choice, value):
    """A proposed value as it is trained, rounded as in a grid."""
    return entry.at(entry.place(value)) if isinstance(entry, space.Range) else entry.values[value]


def make_oracle(searcher: Searcher):
    """The keras-tuner oracle of a search. Its seed is a hash: keras-tuner takes 0 for none, and draws with seed, seed + 1, …"""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _quiet():
        import keras_tuner
        from keras_tuner import oracles

    known = keras_tuner.HyperParameters()
    for name, entry in searcher.space.items():
        if isinstance(entry, space.Choice):  # by position: keras-tuner wants values of one kind, and takes a bool for an int
            known.Choice(name, list(range(len(entry.values))))
        else:
            make = known.Int if entry.whole else known.Float
            make(name, entry.low, entry.high, sampling="log" if entry.log else "linear")
    seed = Streams(searcher.seed).key("init", "search", searcher.tuner) % 2**31 or 1
    options = {
        "objective": keras_tuner.Objective("score", "max"),
        "hyperparameters": known,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed,
        "max_consecutive_failed_trials": 10**9,
    }
    if searcher.tuner == "hyperband":
        return oracles.HyperbandOracle(max_epochs=searcher.epochs, hyperband_iterations=10**6, **options)
    if searcher.tuner == "bayesian":  # keras-tuner begins with 3 random points a dimension, which may be all there are
        random = max(2, min(3 * len(searcher.space), searcher.count // 3))
        return oracles.BayesianOptimizationOracle(max_trials=searcher.count, num_initial_points=random, **options)
    if searcher.tuner == "random":
        return oracles.RandomSearchOracle(max_trials=searcher.count, **options)

    from scipy.stats import qmc

    # Scrambled by the sweep alone: every arm gets the same points, mapped to its space.
    places = qmc.Halton(len(searcher.space), scramble=True, rng=seed).random(searcher.count)

    class Halton(keras_tuner.Oracle):
        """Points that fill the space evenly (Halton 1960, scrambled: Owen 2017)."""

        def populate_space(self, trial_id):
            place = dict(zip(searcher.space, places[len(self.trials)], strict=True))
            values = space.at(searcher.space, place.values())
            positions = {n: e.position(place[n]) for n, e in searcher.space.items() if isinstance(e, space.Choice)}
            return {"status": "RUNNING", "values": values | positions}

    return Halton(max_trials=searcher.count, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What TensorFlow writes to stderr while it is imported stays out of the user's way."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Sweep:
    """The searches of all arms, in so many independent repetitions."""

    def __init__(self, experiment: Experiment, tuner: dict[str, str], count: int, sweeps: int, epochs: dict):
        self.experiment, self.tuner, self.count, self.sweeps = experiment, tuner, count, sweeps
        self.searchers = [
            Searcher(experiment.name, arm, experiment.search[arm], tuner[arm], sweep, epochs[arm], count, task=experiment.task)
            for sweep in range(sweeps)
            for arm in tuner
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
        return list({(variant.label, seed): (variant, seed) for variant, seed in ordered}.values())

    def tell(self, plan: Plan) -> bool:
        """Hand the rows there are to the oracles. Returns whether they will propose more."""
        rows = {(row["arm"], int(row["seed"])): row for row in plan.rows()}
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
        edges = {arm: space.at_edges(self.experiment.search[arm], found[arm].values) for arm in found}
        lines, rank, metric = [], 0, self.experiment.task.metric
        width = max(map(len, found))
        for arm in sorted(found, key=lambda arm: scores[arm].rank, reverse=True):
            rank += not edges[arm]
            place = f"under-searched: {', '.join(edges[arm])} at the edge of its range" if edges[arm] else f"rank {rank}"
            lines.append(
                f"{arm:<{width}}  best val {metric} {abs(scores[arm].value):.4f}, {space.label(found[arm].values)}; {place}"
            )
        return lines

    # --- files ---

    def write_table(self, files: schema.Files) -> pathlib.Path:
        """`sweep_NN_….csv`: a row per point that has been trained. Those of other arms and tuners stay while their space does."""
        path = table_path(files)
        names = list(dict.fromkeys(name for searcher in self.searchers for name in searcher.space))
        hashes = {arm: space.space_hash(own) for arm, own in self.experiment.search.items()}
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
        """`tuned_NN_….json`: the best values of each arm, and what they rest on. Arms that were not searched now stay."""
        arms = _read_tuned(files)
        for arm, found in self.found().items():
            best = self._best(arm)
            searchers = [s for s in self.searchers if s.arm == arm]
            score = Score.of([best.row], self.experiment.task)
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
        path = tuned_path(files)
        write_atomic(path, (json.dumps({"experiment": self.experiment.name, "arms": arms}, indent=1) + "\n").encode())
        return path


def table_path(files: schema.Files) -> pathlib.Path:
    """Of the sweep's points, beside an experiment's rows."""
    return files.folder / f"{files.experiment.replace('exp_', 'sweep_', 1)}.csv"


def tuned_path(files: schema.Files) -> pathlib.Path:
    """Of the tuned values, beside an experiment's rows."""
    return files.folder / f"{files.experiment.replace('exp_', 'tuned_', 1)}.json"


def read_table(path: pathlib.Path) -> list[dict[str, str]]:
    """The points of a sweep as text; none where there is no file. Raises `Failure` for a file that is not a sweep's."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"cannot read {path} ({error}). Move the file away and run again") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not set((*FIRST, *LAST)) <= set(row):
            raise Failure(f"{path} line {number}: not a point of a sweep. Move the file away and run again: its trials are kept")
    return rows


def tuned(files: schema.Files, experiment: Experiment, bases: dict[str, str], epochs: dict[str, int]) -> dict[str, Found]:
    """The values of an earlier sweep, if it searched these arms' spaces under the code, data and setting of now, and for longer.

    Args:
        epochs: of each searched arm, what the search in its place would train.
    """
    known = _read_tuned(files)
    try:
        found = {}
        for arm, least in epochs.items():
            own = known[arm]
            rests_on = [space.space_hash(experiment.search[arm]), bases[arm]]
            if [own["search"], own["basis"]] != rests_on or own["epochs"] <= least:
                return {}
            found[arm] = Found(own["values"], own["tuning"])
        return found
    except (KeyError, TypeError):  # it lacks an arm: search here
        return {}


def _read_tuned(files: schema.Files) -> dict:
    """What earlier sweeps found, by arm; nothing where there is no file, or a damaged one."""
    try:
        return dict(json.loads(tuned_path(files).read_text())["arms"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
