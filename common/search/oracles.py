"""A real search: keras-tuner's oracles propose an arm's points and are told how they did; our runner trains them.

Nothing of a search is kept but its trials' rows. A killed one is played again from them: each oracle is asked and told in an
order that depends on no clock, so it proposes the same points.
"""

import contextlib
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from common import space
from common.data.streams import Streams
from common.machine import quiet_stderr
from common.running.plan import Variant
from common.search.grid import FIRST_SEED, Score
from common.tasks import Task, classification

AHEAD = 2
"""Points that a model-based oracle is asked for before it is told: a constant, so that its points depend on no machine."""


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
    given: dict = field(default_factory=dict)
    """Values of other arguments, which it does not vary."""
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
        fewer = point.epochs if point.epochs != self.epochs else None
        return Variant.search_point(self.arm, point.values, fewer, fixed=self.given)

    def tell(self, rows: dict[tuple[str, str, int], dict]) -> None:
        """Hand over what is known, in the order of the points, as far as it is known without a gap."""
        for point in self.points:
            row = rows.get((self.arm, self.variant(point).point, self.seed))
            if point.row is None and row is not None:
                point.row = row
        ready = [point for point in self.points[1:] if point.trial is not None]
        if any(point.row is None for point in ready):
            return
        for point in ready:
            score = Score.of([point.row], self.task).value
            # An infinite one would spoil the fit of all others; one that is NaN counts as a failure.
            self.oracle.update_trial(point.trial.trial_id, {"score": score if math.isfinite(score) else math.nan})
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


@contextlib.contextmanager
def _keras_as_it_came() -> Iterator[None]:
    """Within: Keras is imported without the user's settings, which may name a backend that is not installed."""
    kept = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "KERAS_HOME")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(KERAS_BACKEND="tensorflow", KERAS_HOME=folder)
        try:
            yield
        finally:
            for name, value in kept.items():
                os.environ.pop(name)
                os.environ.update({name: value} if value is not None else {})


def make_oracle(searcher: Searcher):
    """The keras-tuner oracle of a search. Its seed is a hash: keras-tuner takes 0 for none, and draws with seed, seed + 1, …"""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr(), _keras_as_it_came():
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
