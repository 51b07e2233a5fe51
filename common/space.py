"""What may be searched: the ranges and choices that a script declares for the arguments of its `train`, as plain values."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

from common.errors import Misuse
from common.text import did_you_mean

POINTS_PER_DECADE = 2
"""Of a logarithmic grid, at least."""
POINTS = 7
"""Of the grid of a linear range, or of whole numbers."""
LEAST_POINTS = 3
"""Of any grid: fewer would have no inside."""
EXTENSION = 2
"""Points by which a grid grows on the side where its best one lies."""
ROOM = 100.0
"""By what factor a logarithmic grid may grow beyond either end, unless the script says otherwise."""
EDGE = 0.1
"""Share of a range at either end: an optimum in there may have its true place outside."""


def _rounded(value: float) -> float:
    """Three significant digits: enough for a hyperparameter, and the same on every machine."""
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class Range:
    """Numbers between `low` and `high`, evenly spread on a logarithmic or linear scale.

    `points` is the size of its grid, which may grow up to `limits`; `default` is what someone who does not tune would take.
    """

    low: float
    high: float
    log: bool
    whole: bool
    points: int
    limits: tuple[float, float]
    default: float

    def at(self, unit: float) -> float | int:
        """The value at a place between 0 and 1."""
        if self.log:
            value = math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return self._kept(value)

    def _kept(self, value: float) -> float | int:
        return round(value) if self.whole else _rounded(value)

    def place(self, value: float) -> float:
        """Where a value lies, 0 … 1 within the range."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def grid(self) -> list[float | int]:
        """Its points, evenly spaced, both ends included."""
        return list(dict.fromkeys(self.at(i / (self.points - 1)) for i in range(self.points)))

    def beyond(self, grid: list, side: int) -> list[float | int]:
        """The next points on one side (-1 or 1) of a grid; fewer or none where the limit is reached."""
        step = 1 / (self.points - 1)
        end = self.place(min(grid) if side < 0 else max(grid))
        candidates = [self.at(end + side * step * (i + 1)) for i in range(EXTENSION)]
        low, high = self.limits
        return [value for value in dict.fromkeys(candidates) if low <= value <= high and value not in grid]

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer tenth."""
        return not EDGE <= self.place(value) <= 1 - EDGE


@dataclass(frozen=True)
class Choice:
    """One of some values; `default` is what someone who does not tune would take."""

    values: tuple
    default: object

    def at(self, unit: float):
        """The value at a place between 0 and 1."""
        return self.values[self.position(unit)]

    def position(self, unit: float) -> int:
        """Which of the values lies at a place between 0 and 1."""
        return min(int(unit * len(self.values)), len(self.values) - 1)

    def grid(self) -> list:
        return list(self.values)

    def beyond(self, grid: list, side: int) -> list:
        return []

    def at_edge(self, value) -> bool:
        return False


Space = dict[str, Range | Choice]


def _range(low, high, log, default, whole, points, limits) -> Range:
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not (numbers and low < high < math.inf and (low > 0 or not log) and low > -math.inf):
        raise Misuse(f"a range needs {'0 < ' if log else ''}low < high. Received: {low!r}, {high!r}")
    if points is None:
        points = 1 + math.ceil(POINTS_PER_DECADE * math.log10(high / low) - 1e-9) if log and not whole else POINTS
        points = max(points, LEAST_POINTS)
    if points < 2:
        raise Misuse(f"a range needs at least 2 grid points. Received: {points!r}")
    limits = limits or ((low / ROOM, high * ROOM) if log and not whole else (low, high))
    if default is None:
        default = math.sqrt(low * high) if log else (low + high) / 2
        default = round(default) if whole else _rounded(default)
    if not limits[0] <= default <= limits[1]:
        raise Misuse(f"a range's default must lie within {limits[0]:g} … {limits[1]:g}. Received: {default!r}")
    return Range(low, high, log, whole, points, tuple(limits), default)


def log_range(low, high, *, default=None, whole=False, points: int | None = None, limits=None) -> Range:
    """Numbers between two positive ones, evenly spread by their logarithm. Raises `Misuse`.

    Args:
        default: what someone who does not tune would take; by default the middle.
        whole: whole numbers only.
        points: of the grid; by default as many as lie half a decade apart or less, of whole numbers 7.
        limits: (lowest, highest) to which the grid may grow; by default 100 times further out on either side, for whole
            numbers none.
    """
    return _range(low, high, True, default, whole, points, limits)


def linear_range(low, high, *, default=None, whole=False, points: int | None = None) -> Range:
    """Numbers between two others, evenly spread, by default 7. See `log_range`; its grid does not grow. Raises `Misuse`."""
    return _range(low, high, False, default, whole, points, None)


def choice(*values, default=None) -> Choice:
    """One of some values, by default the first. Raises `Misuse`."""
    default = values[0] if default is None and values else default
    if default not in values:
        raise Misuse(f"a choice needs values, and a default among them. Received: {values!r}, {default!r}")
    return Choice(values, default)


@dataclass(frozen=True)
class Shared:
    """What `shared` gives an experiment.

    Args:
        space: what is searched on the first arm, for all.
        arms: what some of the others search for themselves.
    """

    space: Space
    arms: dict[str, Space] = field(default_factory=dict)


def shared(*, arms: dict[str, Space] | None = None, **entries: Range | Choice) -> Shared:
    """Arguments of `train` that are searched once, on the first arm, and have the values found there in all arms.

    Args:
        entries: name -> range or choice. An arm that sets an argument itself keeps it.
        arms: what some of the other arms search for themselves, beside that or in the place of some of it.
    """
    return Shared(entries, arms or {})


# --- keras-tuner's way of saying it -------------------------------------------------------------------------------------


class _Recorder:
    """Takes the calls that a keras-tuner `build(hp)` makes of its `HyperParameters`, and answers with the defaults."""

    def __init__(self):
        self.space: Space = {}

    def _add(self, name: str, entry: Range | Choice):
        return self.space.setdefault(name, entry).default

    def Float(self, name, min_value, max_value, step=None, sampling="linear", default=None):  # noqa: N802
        return self._number(name, min_value, max_value, step, sampling, default, whole=False)

    def Int(self, name, min_value, max_value, step=1, sampling="linear", default=None):  # noqa: N802
        return self._number(name, min_value, max_value, step, sampling, default, whole=True)

    def _number(self, name, low, high, step, sampling, default, whole):
        default = low if default is None else default  # as keras-tuner has it
        if sampling == "linear" and step is not None and (step != 1 or not whole):
            count = int((high - low) / step + 1e-9)
            values = [low + i * step if whole else _rounded(low + i * step) for i in range(count + 1)]
            return self._add(name, choice(*values, default=default))
        if sampling not in ("linear", "log") or (sampling == "log" and step not in (None, 1)):
            raise Misuse(f"hyperparameter {name!r}: sampling must be linear, or log without a step. Received: {sampling!r}")
        make = log_range if sampling == "log" else linear_range
        return self._add(name, make(low, high, default=default, whole=whole))

    def Choice(self, name, values, ordered=None, default=None):  # noqa: N802
        return self._add(name, choice(*values, default=default))

    def Boolean(self, name, default=False):  # noqa: N802
        return self._add(name, choice(False, True, default=default))

    def Fixed(self, name, value):  # noqa: N802
        return self._add(name, choice(value))

    def __getattr__(self, name: str):
        hint = did_you_mean(name, ("Float", "Int", "Choice", "Boolean", "Fixed"))
        raise Misuse(f"a space may call hp.Float, Int, Choice, Boolean and Fixed. Received: hp.{name}{hint}")


def of_build(build: Callable) -> Space:
    """The space of a function `build(hp)` written for keras-tuner: what it asks of `hp`. What it returns is not used."""
    recorder = _Recorder()
    build(recorder)
    return recorder.space


# --- spaces ----------------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict:
    """A space as plain values, as they come back from JSON."""
    return json.loads(json.dumps({name: asdict(entry) for name, entry in space.items()}))


def space_hash(space: Space) -> str:
    """First 12 digits of its SHA-256."""
    return hashlib.sha256(json.dumps(to_json(space), sort_keys=True).encode()).hexdigest()[:12]


def grid_hash(space: Space) -> str:
    """The same for spaces with the same grid: what someone who does not tune would take makes no difference there."""
    return space_hash({name: replace(entry, default=None) for name, entry in space.items()})


def defaults(space: Space) -> dict:
    """What someone who does not tune would take."""
    return {name: entry.default for name, entry in space.items()}


def at(space: Space, units) -> dict:
    """The values at places between 0 and 1, one for each name in order."""
    return {name: entry.at(float(unit)) for (name, entry), unit in zip(space.items(), units, strict=True)}


def at_edges(space: Space, values: dict) -> list[str]:
    """The names whose value lies in the outer tenth of its range."""
    return [name for name, entry in space.items() if entry.at_edge(values[name])]


class Grid:
    """All combinations of the points of a space's entries; grows where the best ones lie at its edge."""

    def __init__(self, space: Space):
        self.space = space
        self.axes = {name: entry.grid() for name, entry in space.items()}

    def points(self) -> Iterator[dict]:
        """Its points."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def extend(self, best: list[dict]) -> bool:
        """Grow beyond every edge at which one of the best points lies. Returns whether it did."""
        grown = False
        for name, entry in self.space.items():
            axis = list(self.axes[name])
            for side, end in ((-1, min), (1, max)):
                if isinstance(entry, Range) and any(values[name] == end(self.axes[name]) for values in best):
                    axis += entry.beyond(self.axes[name], side)
            grown |= len(axis) > len(self.axes[name])
            self.axes[name] = sorted(axis) if isinstance(entry, Range) else axis
        return grown


def of_json(space: dict) -> Space:
    """What `to_json` was given."""
    return {name: Range(**entry) if "low" in entry else Choice(**entry) for name, entry in space.items()}
