"""Checks that tracing an update neither draws from Python's generators nor changes Python state.

An update is traced once, so such a draw or count would have the same value in all updates.
"""

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
"""Types of global variables, in the module of a user's function, that are compared."""
FIXED = bool | int | float | str | None
"""Types of attributes that are compared after each epoch."""
LARGE = 1_000_000
"""Size in bytes above which arrays are not compared."""


@contextlib.contextmanager
def check_purity(stage: Stage) -> Iterator[None]:
    """Context manager that raises `Misuse` if tracing a stage within draws from a Python generator or changes Python state."""
    before, drawn = _python_state(stage), draws.generator_states()
    with draws.isolated_layer_seeds():
        yield
        now = draws.generator_states()
    for name, old, new in zip(("numpy.random", "random", "tf.random"), drawn, now, strict=False):
        if repr(old) != repr(new) or (name == "numpy.random" and not np.array_equal(old[1], new[1])):
            raise Misuse(
                "an update is compiled once, so a number drawn by Python would be the same in all updates: draw by "
                "tf.random.stateless_* from the step's seed or an augmentation's uniforms, or in a layer by keras.random with "
                f"the layer's keras.random.SeedGenerator. Received: a draw from {name}"
            )
    if changed := _changed(before, _python_state(stage)):
        raise Misuse(
            "an update is compiled once, so Python state that it changes would have the same value in all updates: use a "
            f"variable (self.add_weight, in an optimizer self.add_variable). Received: {changed}, which changed"
        )


def _changed(before: dict[str, object], after: dict[str, object]) -> str | None:
    """The place of a value that differs between two states; None if none does."""
    return next((name for name in before if name in after and before[name] != after[name]), None)


def compiled_state(stage: Stage) -> dict[str, object]:
    """Numbers and texts that a compiled update holds fixed, by a description of their place.

    Those of layers, also whether they are trainable, of optimizers, whose schedules count as their ids, and of the user's
    functions.
    """
    state = _python_state(stage)
    optimizers = [inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer)]
    fields = {
        f"the layer {one.name}": {**adapters.custom_fields(one), "trainable": one.trainable}
        for one in seeding.layers_of(stage.model)
    }
    fields |= {f"the optimizer {one.name}": {**vars(one), "learning_rate": id(one._learning_rate)} for one in optimizers}
    for where, values in fields.items():
        held = {name: value for name, value in values.items() if isinstance(value, FIXED) and name != "stop_training"}
        state |= {f"`{name}` of {where}": repr(value) for name, value in held.items()}
    return state


def check_compiled_state(stage: Stage, compiled: dict[str, object]) -> None:
    """Raise `Misuse` if a callback has changed what the compiled update holds fixed.

    Args:
        compiled: `compiled_state` at the time when it was compiled.
    """
    if changed := _changed(compiled, compiled_state(stage)):
        raise Misuse(
            "an update is compiled once, so what a callback changes in Python has no effect on training: use a variable "
            f"that the update reads, or two stages. Received: {changed}, which changed"
        )


def model_state(model: keras.Model) -> dict[str, object]:
    """Attributes of a model's layers, and the numbers that they refer to: what a compiled function of the model holds fixed."""
    state: dict[str, object] = {}
    seen: set[int] = set()
    for i, layer in enumerate(seeding.layers_of(model)):
        for name, value in {**_fields(layer), **adapters.custom_fields(layer), "trainable": layer.trainable}.items():
            where = f"`{name}` of layer {i}"
            state[where] = value if isinstance(value, str) else id(value)
            _collect(value, where, state, seen)
    return state


def _python_state(stage: Stage) -> dict[str, object]:
    """Numbers and generator states that the user's layers, optimizers and functions refer to, by a description of their place."""
    state: dict[str, object] = {}
    seen: set[int] = set()
    optimizers = (inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer))
    for kind, one in (*(("layer", v) for v in seeding.layers_of(stage.model)), *(("optimizer", v) for v in optimizers)):
        for name, value in _fields(one).items():
            _collect(value, f"`{name}` of the {kind} {one.name}", state, seen)
    for function in (stage.step, stage.loss, *stage.augment):
        _collect(function, getattr(function, "__name__", type(function).__name__), state, seen)
    return state


def _fields(one) -> dict:
    """Attributes and methods of a layer or an optimizer that a user's class defines; empty for classes of Keras."""
    kinds = [kind for kind in reversed(type(one).__mro__) if not _of_a_library(kind)]
    return {name: value for kind in kinds for name, value in vars(kind).items()} | adapters.custom_fields(one) if kinds else {}


def _of_a_library(kind: type | Callable) -> bool:
    return (kind.__module__ or "").split(".")[0] in ("builtins", "keras", "tensorflow", "numpy")


def _collect(value, where: str, state: dict[str, object], seen: set[int]) -> None:
    """Add the numbers and generator states in a value to `state`, also those in containers and functions."""
    if isinstance(value, bool | int | float | complex | np.generic):
        state[where] = repr(value)  # nan != nan, but their repr are equal
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        if value.nbytes <= LARGE:
            state[where] = value.tobytes()
    elif isinstance(value, np.random.Generator):
        state[where] = repr(value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        state[where] = repr(value.get_state(legacy=False)["state"]["key"].tolist()) + repr(value.get_state()[2:])
    elif isinstance(value, random.Random):
        state[where] = value.getstate()
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            _collect(one, f"{where}[{i}]", state, seen)
    elif isinstance(value, dict):
        for key, one in value.items():
            _collect(one, f"{where}[{key!r}]", state, seen)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            _collect(one, where, state, seen)
    elif inspect.ismethod(value):
        if isinstance(value.__self__, keras.losses.Loss):
            _collect(vars(value.__self__), f"the loss {value.__self__.name}", state, seen)
        _collect(value.__func__, where, state, seen)
    elif inspect.isfunction(value):
        _collect_from_function(value, where, state, seen)


def _collect_from_function(function: Callable, where: str, state: dict[str, object], seen: set[int]) -> None:
    """Add a function's closure and defaults, and the numbers, generators and functions of its module that it uses."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            _collect(cell.cell_contents, f"`{name}` in {function.__qualname__}", state, seen)
    _collect(function.__defaults__ or (), f"defaults of {function.__qualname__}", state, seen)
    if _of_a_library(function) or (function.__module__ or "").startswith("common."):
        return
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, COUNTERS) or inspect.isfunction(value):
            _collect(value, f"`{name}` in {function.__module__}", state, seen)
