"""Search spaces: the ranges and choices that a script declares for arguments of its `train`, as plain values."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

from common.errors import Misuse
from common.text import did_you_mean

POINTS_PER_DECADE = 2
"""Grid points of a logarithmic range per decade, at least."""
POINTS = 7
"""Grid points of a linear range, and of a range of whole numbers."""
LEAST_POINTS = 3
"""Grid points that a range has by default, at least: of two, both are at an edge."""
EXTENSION = 2
"""Points added to a grid beyond an edge at which the best point lies."""
ROOM = 100.0
"""Factor by which a logarithmic grid may grow beyond either end, by default."""
EDGE = 0.1
"""Share of a range at either end within which the optimum may really lie outside the range."""


def _rounded(value: float) -> float:
    """The value in three significant digits, which are the same on every machine."""
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` on a logarithmic or linear scale.

    Args:
        log: whether the scale is logarithmic; whole: whether the numbers are whole.
        points: size of the grid; limits: (lowest, highest) value to which it may grow.
        default: the value used without a search.
    """

    low: float
    high: float
    log: bool
    whole: bool
    points: int
    limits: tuple[float, float]
    default: float

    def at(self, unit: float) -> float | int:
        """The value at a position from 0 (`low`) to 1 (`high`)."""
        if self.log:
            value = math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return round(value) if self.whole else _rounded(value)

    def place(self, value: float) -> float:
        """The position of a value, from 0 (`low`) to 1 (`high`); the inverse of `at`."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def grid(self) -> list[float | int]:
        """The grid points, evenly spaced on the scale, with both ends."""
        return list(dict.fromkeys(self.at(i / (self.points - 1)) for i in range(self.points)))

    def beyond(self, grid: list, side: int) -> list[float | int]:
        """The next points below (side -1) or above (side 1) a grid: `EXTENSION` of them, fewer at the limit."""
        step = 1 / (self.points - 1)
        end = self.place(min(grid) if side < 0 else max(grid))
        candidates = [self.at(end + side * step * (i + 1)) for i in range(EXTENSION)]
        low, high = self.limits
        return [value for value in dict.fromkeys(candidates) if low <= value <= high and value not in grid]

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer tenth (`EDGE`) of the range, at either end but an end of 0."""
        place = self.place(value)
        return place > 1 - EDGE or (place < EDGE and self.low != 0)


@dataclass(frozen=True)
class Choice:
    """One of several values; `default` is the one used without a search."""

    values: tuple
    default: object

    def at(self, unit: float):
        """The value at a position from 0 to 1, of which each value has an equal part."""
        return self.values[self.position(unit)]

    def position(self, unit: float) -> int:
        """Index of the value at a position from 0 to 1."""
        return min(int(unit * len(self.values)), len(self.values) - 1)

    def grid(self) -> list:
        """All values."""
        return list(self.values)

    def beyond(self, grid: list, side: int) -> list:
        """No points: a choice does not grow."""
        return []

    def at_edge(self, value) -> bool:
        """False: a choice has no edge."""
        return False


Space = dict[str, Range | Choice]


def _range(low, high, log, default, whole, points, limits) -> Range:
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not (numbers and low < high < math.inf and (low > 0 or not log) and low > -math.inf):
        raise Misuse(f"a range needs {'0 < ' if log else ''}low < high. Received: {low!r}, {high!r}")
    if points is None:
        points = 1 + math.ceil(POINTS_PER_DECADE * math.log10(high / low) - 1e-9) if log and not whole else POINTS
        points = max(points, LEAST_POINTS)
    if type(points) is not int or points < 2:
        raise Misuse(f"a range needs at least 2 grid points, as a whole number. Received: {points!r}")
    limits = limits or ((low / ROOM, high * ROOM) if log and not whole else (low, high))
    if default is None:
        default = math.sqrt(low * high) if log else (low + high) / 2
        default = round(default) if whole else _rounded(default)
    if not limits[0] <= default <= limits[1]:
        raise Misuse(f"a range's default must lie within {limits[0]:g} … {limits[1]:g}. Received: {default!r}")
    return Range(low, high, log, whole, points, tuple(limits), default)


def log_range(low, high, *, default=None, whole=False, points: int | None = None, limits=None) -> Range:
    """A range of positive numbers on a logarithmic scale. Raises `Misuse`.

    Args:
        default: the value used without a search; by default the middle of the range.
        whole: whether the numbers are whole.
        points: size of the grid; by default such that points are at most half a decade apart, and 7 for whole numbers.
        limits: (lowest, highest) value to which the grid may grow; by default a factor of 100 beyond either end, and the range
            itself for whole numbers.
    """
    return _range(low, high, True, default, whole, points, limits)


def linear_range(low, high, *, default=None, whole=False, points: int | None = None) -> Range:
    """A range of numbers on a linear scale, with 7 grid points by default. The grid does not grow. Raises `Misuse`.

    Args: see `log_range`.
    """
    return _range(low, high, False, default, whole, points, None)


def choice(*values, default=None) -> Choice:
    """A choice among values; `default`, by default the first, is used without a search. Raises `Misuse`."""
    default = values[0] if default is None and values else default
    if default not in values:
        raise Misuse(f"a choice needs values, and a default among them. Received: {values!r}, {default!r}")
    return Choice(values, default)


@dataclass(frozen=True)
class Shared:
    """A search on the first arm for all arms, and separate searches of some arms.

    Args:
        space: searched on the first arm, for all arms.
        arms: arm -> space that is searched for that arm alone.
    """

    space: Space
    arms: dict[str, Space] = field(default_factory=dict)


def shared(*, arms: dict[str, Space] | None = None, **entries: Range | Choice) -> Shared:
    """Arguments of `train` that are searched once, on the first arm, whose best values all arms get.

    Args:
        entries: argument -> range or choice. An arm that sets an argument keeps its value.
        arms: arm -> space searched for that arm alone, in addition to the shared one; of an argument in both, the arm's is used.
    """
    return Shared(entries, arms or {})


# --- spaces written for keras-tuner -------------------------------------------------------------------------------------


class _Recorder:
    """Stands in for keras-tuner's `HyperParameters`: records the hyperparameters that `build(hp)` asks for, returns defaults.

    Args:
        values: name of a hyperparameter -> the value returned in place of its default.
    """

    def __init__(self, **values):
        self.space: Space = {}
        self.values = values

    def _add(self, name: str, entry: Range | Choice):
        default = self.space.setdefault(name, entry).default
        return self.values.get(name, default)

    def Float(self, name, min_value, max_value, step=None, sampling="linear", default=None):  # noqa: N802
        return self._number(name, min_value, max_value, step, sampling, default, whole=False)

    def Int(self, name, min_value, max_value, step=1, sampling="linear", default=None):  # noqa: N802
        return self._number(name, min_value, max_value, step, sampling, default, whole=True)

    def _number(self, name, low, high, step, sampling, default, whole):
        default = low if default is None else default  # as in keras-tuner
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
    """The space of the hyperparameters that a function `build(hp)`, written for keras-tuner, asks for.

    It is called several times, with other values of each, so that it should ask for them and do nothing else. What it returns
    is ignored.

    Raises:
        Misuse: an unknown function of `hp`, or hyperparameters that `build` asks for only with some values of others.
    """
    space = _recorded(build)
    for name, entry in space.items():
        for value in (entry.low, entry.high) if isinstance(entry, Range) else entry.values:
            try:
                other = _recorded(build, **{name: value})
            except Misuse:
                raise
            except Exception:  # whatever `build` does with a combination that it does not expect
                continue
            if different := sorted(set(space) ^ set(other)):
                raise Misuse(
                    "a space must ask for the same hyperparameters whatever their values, as all are arguments of train: ask for "
                    f"each outside of conditions and loops. Received: {different[0]!r}, which depends on {name!r}"
                )
    return space


def _recorded(build: Callable, **values) -> Space:
    recorder = _Recorder(**values)
    build(recorder)
    return recorder.space


# --- spaces ----------------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict:
    """A space as values that JSON leaves unchanged; the inverse of `of_json`."""
    return json.loads(json.dumps({name: asdict(entry) for name, entry in space.items()}))


def space_hash(space: Space) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a space."""
    return hashlib.sha256(json.dumps(to_json(space), sort_keys=True).encode()).hexdigest()[:12]


def grid_hash(space: Space) -> str:
    """A hash of a space without its defaults, which do not change its grid."""
    return space_hash({name: replace(entry, default=None) for name, entry in space.items()})


def defaults(space: Space) -> dict:
    """The value of each entry that is used without a search."""
    return {name: entry.default for name, entry in space.items()}


def at(space: Space, units) -> dict:
    """The values at positions from 0 to 1.

    Args:
        units: one position per entry, in the order of the space.
    """
    return {name: entry.at(float(unit)) for (name, entry), unit in zip(space.items(), units, strict=True)}


def at_edges(space: Space, values: dict) -> list[str]:
    """The names of the entries whose value lies in the outer tenth of its range."""
    return [name for name, entry in space.items() if entry.at_edge(values[name])]


class Grid:
    """All combinations of the grid points of a space's entries; extended where the best points lie at its edge."""

    def __init__(self, space: Space):
        self.space = space
        self.axes = {name: entry.grid() for name, entry in space.items()}

    def points(self) -> Iterator[dict]:
        """The points of the grid, each a dict of values by name."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def extend(self, best: list[dict]) -> bool:
        """Add points beyond every edge at which one of the best points lies. Returns whether any were added."""
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
    """The space that `to_json` made plain values of."""
    return {name: Range(**entry) if "low" in entry else Choice(**entry) for name, entry in space.items()}
