"""What Python holds while an update is compiled: it is called once, so what it draws or counts then stays as it was."""

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator

import keras
import numpy as np

from common.errors import Misuse
from common.training import adapters, draws, seeding
from common.training.stage import Stage

COUNTERS = (int, float, np.random.Generator, np.random.RandomState, random.Random)
"""What is looked for among the names of a user's module."""
LARGE = 1_000_000
"""Bytes of an array that is too large to be a counter."""


@contextlib.contextmanager
def unchanged(stage: Stage) -> Iterator[None]:
    """Raises `Misuse` where tracing a stage within draws from a generator of Python, or changes what its parts hold."""
    before, drawn = _held(stage), draws.generators()
    with draws.seeds_drawn_apart():
        yield
        now = draws.generators()
    for name, old, new in zip(("numpy.random", "random", "tf.random"), drawn, now, strict=False):
        if repr(old) != repr(new) or (name == "numpy.random" and not np.array_equal(old[1], new[1])):
            raise Misuse(
                "an update is compiled once, and what Python draws meanwhile would be the same number in all updates: draw by "
                "tf.random.stateless_* from the step's seed or an augmentation's uniforms, or in a layer by keras.random from a "
                f"keras.random.SeedGenerator of its own. Received: a draw from {name}"
            )
    after = _held(stage)
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            raise Misuse(
                "an update is compiled once, so that what Python counts or draws in it stays as it was then: hold it in a "
                f"variable (self.add_weight, in an optimizer self.add_variable). Received: {name}, which changed"
            )


def _held(stage: Stage) -> dict[str, object]:
    """Numbers and states of generators that the user's layers, optimizers and functions hold, by where they are."""
    found: dict[str, object] = {}
    seen: set[int] = set()
    optimizers = (inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer))
    for kind, one in (*(("layer", v) for v in seeding.layers_of(stage.model)), *(("optimizer", v) for v in optimizers)):
        for name, value in _fields(one).items():
            _look(value, f"`{name}` of the {kind} {one.name}", found, seen)
    for function in (stage.step, stage.loss, *stage.augment):
        _look(function, getattr(function, "__name__", type(function).__name__), found, seen)
    return found


def _fields(one) -> dict:
    """What a user's class gives to a layer or an optimizer, methods included; nothing where the class is Keras' own."""
    kinds = [kind for kind in reversed(type(one).__mro__) if not _of_a_library(kind)]
    return {name: value for kind in kinds for name, value in vars(kind).items()} | adapters.own_fields(one) if kinds else {}


def _of_a_library(kind: type | Callable) -> bool:
    return (kind.__module__ or "").split(".")[0] in ("builtins", "keras", "tensorflow", "numpy")


def _look(value, where: str, found: dict[str, object], seen: set[int]) -> None:
    """Add what a value holds, within containers and functions too."""
    if isinstance(value, bool | int | float | complex | np.generic):
        found[where] = repr(value)  # of which that of nan is equal to itself
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        if value.nbytes <= LARGE:
            found[where] = value.tobytes()
    elif isinstance(value, np.random.Generator):
        found[where] = repr(value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        found[where] = repr(value.get_state(legacy=False)["state"]["key"].tolist()) + repr(value.get_state()[2:])
    elif isinstance(value, random.Random):
        found[where] = value.getstate()
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            _look(one, f"{where}[{i}]", found, seen)
    elif isinstance(value, dict):
        for key, one in value.items():
            _look(one, f"{where}[{key!r}]", found, seen)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            _look(one, where, found, seen)
    elif inspect.ismethod(value):
        if isinstance(value.__self__, keras.losses.Loss):
            _look(vars(value.__self__), f"the loss {value.__self__.name}", found, seen)
        _look(value.__func__, where, found, seen)
    elif inspect.isfunction(value):
        _look_into(value, where, found, seen)


def _look_into(function: Callable, where: str, found: dict[str, object], seen: set[int]) -> None:
    """Add what a function closes over, its defaults, and the generators and functions of its module that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not yet filled
            _look(cell.cell_contents, f"`{name}` in {function.__qualname__}", found, seen)
    _look(function.__defaults__ or (), f"defaults of {function.__qualname__}", found, seen)
    if _of_a_library(function) or (function.__module__ or "").startswith("common."):
        return
    for name in function.__code__.co_names:
        held = function.__globals__.get(name)
        if isinstance(held, COUNTERS) or inspect.isfunction(held):
            _look(held, f"`{name}` in {function.__module__}", found, seen)
