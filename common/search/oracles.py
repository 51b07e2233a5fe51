"""Searches with the oracles of keras-tuner: they propose the points of an arm, `Runner` trains them.

Only the rows of a search are stored. A resumed search replays them: an oracle is asked for points and told their scores in a
fixed order, so it proposes the same points again.
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
from common.search.scores import FIRST_SEED, Score
from common.tasks import Task, classification

AHEAD = 2
"""Points that a model-based oracle proposes at a time. A constant, so that the points do not depend on the number of jobs."""


@dataclass
class Point:
    """A point proposed by an oracle or, as number 0, the default values."""

    number: int
    values: dict
    epochs: int
    trial: object = None
    """keras-tuner's trial; None once its score is reported."""
    row: dict | None = None
    """The trained row, if there is one."""


@dataclass
class Searcher:
    """The search of one arm in one sweep (repetition)."""

    experiment: str
    arm: str
    space: space.Space
    tuner: str
    sweep: int
    epochs: int
    """Epochs of a full training."""
    count: int
    """The budget, in full trainings."""
    task: Task = classification
    fixed: dict = field(default_factory=dict)
    """Values of other arguments, which the search does not vary."""
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
        """Get the next points from the oracle, if all earlier ones have rows."""
        if self.finished or any(point.row is None for point in self.points[1:]):
            return
        ahead = AHEAD if self.tuner in ("bayesian", "hyperband") else self.count
        for i in range(ahead):
            with warnings.catch_warnings(action="ignore"):  # from fitting a Gaussian process
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
        """The variant that trains a point."""
        fewer = point.epochs if point.epochs != self.epochs else None
        return Variant.search_point(self.arm, point.values, fewer, fixed=self.fixed)

    def tell(self, rows: dict[tuple[str, str, int], dict]) -> None:
        """Report the scores of the proposed points to the oracle, in their order, once all have rows.

        Args:
            rows: (arm, point, seed) -> row.
        """
        for point in self.points:
            row = rows.get((self.arm, self.variant(point).point, self.seed))
            if point.row is None and row is not None:
                point.row = row
        ready = [point for point in self.points[1:] if point.trial is not None]
        if any(point.row is None for point in ready):
            return
        for point in ready:
            score = Score.of(point.row, self.task).value
            # NaN counts as a failed trial. An infinite score would make the oracle's model useless.
            self.oracle.update_trial(point.trial.trial_id, {"score": score if math.isfinite(score) else math.nan})
            point.trial.status = "COMPLETED"
            self.oracle.end_trial(point.trial)
            point.trial = None

    def best(self) -> Point:
        """The best point among those with a full training, the default values included; of ties the first."""
        whole = [point for point in self.points if point.row is not None and point.epochs == self.epochs]
        return max(whole, key=lambda point: Score.of(point.row, self.task).rank)


def _plain(entry: space.Range | space.Choice, value):
    """The value to train with: that of keras-tuner, rounded like the values of a grid."""
    return entry.at(entry.place(value)) if isinstance(entry, space.Range) else entry.values[value]


@contextlib.contextmanager
def _default_keras() -> Iterator[None]:
    """Context manager in which Keras is imported with its defaults: the user's keras.json may name a missing backend."""
    before = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "KERAS_HOME")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(KERAS_BACKEND="tensorflow", KERAS_HOME=folder)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                os.environ.update({name: value} if value is not None else {})


def make_oracle(searcher: Searcher):
    """The keras-tuner oracle of a search.

    Its seed is a hash, since keras-tuner draws with seed, seed + 1, …, which must not overlap between sweeps; it is not 0, which
    keras-tuner takes as unset.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr(), _default_keras():
        import keras_tuner
        from keras_tuner import oracles

    known = keras_tuner.HyperParameters()
    for name, entry in searcher.space.items():
        if isinstance(entry, space.Choice):  # by position, as keras-tuner needs values of one type and turns bool into int
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
    if searcher.tuner == "bayesian":  # keras-tuner's default is 3 random points per dimension, which may be the whole budget
        random = max(2, min(3 * len(searcher.space), searcher.count // 3))
        return oracles.BayesianOptimizationOracle(max_trials=searcher.count, num_initial_points=random, **options)
    if searcher.tuner == "random":
        return oracles.RandomSearchOracle(max_trials=searcher.count, **options)

    from scipy.stats import qmc

    # Scrambled with the sweep's seed, so all arms get the same points, mapped to their spaces.
    places = qmc.Halton(len(searcher.space), scramble=True, rng=seed).random(searcher.count)

    class Halton(keras_tuner.Oracle):
        """Quasi-random points (Halton 1960, scrambled as in Owen 2017)."""

        def populate_space(self, trial_id):
            place = dict(zip(searcher.space, places[len(self.trials)], strict=True))
            values = space.at(searcher.space, place.values())
            positions = {n: e.position(place[n]) for n, e in searcher.space.items() if isinstance(e, space.Choice)}
            return {"status": "RUNNING", "values": values | positions}

    return Halton(max_trials=searcher.count, **options)
