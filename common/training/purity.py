"""Checks that tracing an update neither draws from Python's generators nor changes Python state.

An update is traced once, so such a draw or count would have the same value in all updates.
"""

import contextlib
import functools
import inspect
import random
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np

from common.errors import Misuse
from common.training import adapters, draws, seeding
from common.training.stage import Stage

FIXED = bool | int | float | str | None
"""Types of attributes that are compared after each epoch."""
LARGE = 1_000_000
"""Size in bytes above which arrays are not compared."""
LONG = 10_000
"""Length above which lists and dicts are not compared."""
WITH_FIELDS = keras.layers.Layer | keras.optimizers.Optimizer | keras.Variable | types.ModuleType
"""Types whose objects are not searched for numbers where a function refers to them: a model's layers and optimizers are searched
by themselves."""


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

    Those of layers, with their functions, penalties and constraints, of optimizers, with their schedules, and of the user's
    functions and of the objects that these use.
    """
    state = _python_state(stage)
    optimizers = [inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer)]
    fields = {}
    for one in seeding.layers_of(stage.model):
        fields[f"the layer {one.name}"] = {**adapters.custom_fields(one), "trainable": one.trainable}
        for variable in [*one._trainable_variables, *one._non_trainable_variables]:
            parts = {name: getattr(variable, name) for name in ("trainable", "regularizer", "constraint")}
            fields[f"the variable {variable.path}"] = parts
    for one in optimizers:
        schedule = one._learning_rate
        fields[f"the optimizer {one.name}"] = {**vars(one), "learning_rate": id(schedule)}
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            fields[f"the schedule {type(schedule).__name__}"] = vars(schedule)
    for where, values in fields.items():
        for name, value in values.items():
            if isinstance(value, FIXED) and name != "stop_training":
                state[f"`{name}` of {where}"] = repr(value)
            elif isinstance(value, keras.Regularizer | keras.constraints.Constraint):
                state[f"`{name}` of {where}"] = id(value), repr(sorted(vars(value).items()))
            elif callable(value):
                state[f"`{name}` of {where}"] = id(value)
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

    def walk(found: _Found) -> None:
        for i, layer in enumerate(seeding.layers_of(model)):
            for name, value in {**_fields(layer), **adapters.custom_fields(layer), "trainable": layer.trainable}.items():
                where = f"`{name}` of layer {i}"
                found.state[where] = value if isinstance(value, str) else id(value)
                _collect(value, where, found)

    return _all_found(walk)


def _python_state(stage: Stage) -> dict[str, object]:
    """Numbers and generator states that the user's layers, optimizers and functions refer to, by a description of their place.

    Of other objects that they refer to, those in attributes whose names occur in one of the user's functions.
    """

    def walk(found: _Found) -> None:
        optimizers = (inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer))
        for kind, one in (*(("layer", v) for v in seeding.layers_of(stage.model)), *(("optimizer", v) for v in optimizers)):
            for name, value in _fields(one).items():
                _collect(value, f"`{name}` of the {kind} {one.name}", found)
        for function in (stage.step, stage.loss, *stage.augment):
            _collect(function, getattr(function, "__name__", type(function).__name__), found)

    return _all_found(walk)


class _Found(NamedTuple):
    """What a walk through objects has found."""

    state: dict[str, object]
    """Place -> number or state of a generator."""
    seen: set[int]
    """Ids of the objects that it has been at."""
    names: set[str]
    """Names that occur in functions, such as those of attributes."""


def _all_found(walk: Callable[[_Found], None]) -> dict[str, object]:
    """The state that a walk finds, which is repeated until it meets no function with new names."""
    names: set[str] = set()
    while True:
        known, found = len(names), _Found({}, set(), names)
        walk(found)
        if len(names) == known:
            return found.state


def _fields(one) -> dict:
    """Attributes and methods of a layer or an optimizer that a user's class defines; empty for classes of Keras."""
    kinds = [kind for kind in reversed(type(one).__mro__) if not _of_a_library(kind)]
    return {name: value for kind in kinds for name, value in vars(kind).items()} | adapters.custom_fields(one) if kinds else {}


def _of_a_library(kind: type | Callable) -> bool:
    return (getattr(kind, "__module__", None) or "").split(".")[0] in ("builtins", "keras", "tensorflow", "numpy")


def _of_user(value: object) -> bool:
    """Whether a value is an object or a class of the user's, or a namespace, whose attributes a function may read."""
    kind = value if isinstance(value, type) else type(value)
    of_project = (kind.__module__ or "").startswith("common.")
    return not (isinstance(value, WITH_FIELDS) or _of_a_library(kind) or of_project) and hasattr(value, "__dict__")


def _collect(value, where: str, found: _Found) -> None:
    """Add the numbers and generator states in a value, also those in containers, functions and objects."""
    if isinstance(value, bool | int | float | complex | np.generic):
        found.state[where] = repr(value)  # nan != nan, but their repr are equal
        return
    if id(value) in found.seen:
        return
    found.seen.add(id(value))
    if isinstance(value, np.ndarray):
        if value.nbytes <= LARGE:
            found.state[where] = value.tobytes()
    elif isinstance(value, np.random.Generator):
        found.state[where] = repr(value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        found.state[where] = repr(value.get_state(legacy=False)["state"]["key"].tolist()) + repr(value.get_state()[2:])
    elif isinstance(value, random.Random):
        found.state[where] = value.getstate()
    elif isinstance(value, list | tuple | dict):
        if len(value) <= LONG:
            for key, one in value.items() if isinstance(value, dict) else enumerate(value):
                _collect(one, f"{where}[{key!r}]", found)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            _collect(one, where, found)
    elif inspect.ismethod(value):
        if isinstance(value.__self__, keras.losses.Loss):
            _collect(vars(value.__self__), f"the loss {value.__self__.name}", found)
        else:
            _collect(value.__self__, where, found)
        _collect(value.__func__, where, found)
    elif inspect.isfunction(value):
        _collect_from_function(value, where, found)
    elif _of_user(value):
        _collect_from_object(value, where, found)


def _collect_from_object(value: object, where: str, found: _Found) -> None:
    """Add an object's attributes, and those of its class, whose names occur in functions, with the methods that these call."""
    kind = value if isinstance(value, type) else type(value)
    attributes = {name: one for base in reversed(kind.__mro__) if not _of_a_library(base) for name, one in vars(base).items()}
    attributes |= {} if isinstance(value, type) else vars(value)
    for name, one in attributes.items():
        if name in found.names or name in ("call", "__call__"):
            _collect(one.fget if isinstance(one, property) else one, f"`{name}` of {kind.__name__} in {where}", found)


def _collect_from_function(function: Callable, where: str, found: _Found) -> None:
    """Add a function's attributes, closure and defaults, and the values of its module that it uses."""
    found.names.update(function.__code__.co_names)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            _collect(cell.cell_contents, f"`{name}` in {function.__qualname__}", found)
    _collect(function.__defaults__ or (), f"defaults of {function.__qualname__}", found)
    for name in found.names & vars(function).keys():
        _collect(vars(function)[name], f"`{name}` of {function.__qualname__}", found)
    if _of_a_library(function) or (function.__module__ or "").startswith("common."):
        return
    for name in function.__code__.co_names:
        if name in function.__globals__:
            _collect(function.__globals__[name], f"`{name}` in {function.__module__}", found)
