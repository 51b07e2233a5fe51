"""What the functions of a user refer to: numbers, generators, and layers and variables, also in the objects that they use.

Of other objects than functions, containers and losses, only those attributes count whose names occur in one of the functions.
"""

import contextlib
import functools
import inspect
import random
import types
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.training import adapters

LARGE = 1_000_000
"""Size in bytes above which arrays are not compared."""
LONG = 10_000
"""Length above which lists and dicts are not compared."""
WITH_FIELDS = keras.layers.Layer | keras.optimizers.Optimizer | keras.Variable | types.ModuleType
"""Types whose objects are not searched for numbers where a function refers to them: a model's layers and optimizers are searched
by themselves."""


class Found(NamedTuple):
    """What a walk through objects has found."""

    state: dict[str, object]
    """Place -> number or state of a generator."""
    outside: dict[str, keras.layers.Layer | keras.Variable | tf.Variable]
    """Place -> layer or variable that a function refers to."""
    seen: set[int]
    """Ids of the objects that it has been at."""
    names: set[str]
    """Names that occur in functions, such as those of attributes."""


def all_found(walk: Callable[[Found], None]) -> Found:
    """What a walk finds, which is repeated until it meets no function with new names."""
    names: set[str] = set()
    while True:
        known, found = len(names), Found({}, {}, set(), names)
        walk(found)
        if len(names) == known:
            return found


def fields(one) -> dict:
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


def collect(value, where: str, found: Found) -> None:
    """Add the numbers and generator states in a value, also those in containers, functions and objects."""
    if isinstance(value, bool | int | float | complex | np.generic):
        found.state[where] = repr(value)  # nan != nan, but their repr are equal
        return
    if id(value) in found.seen:
        return
    found.seen.add(id(value))
    if isinstance(value, keras.layers.Layer | keras.Variable | tf.Variable):
        found.outside[where] = value
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
                collect(one, f"{where}[{key!r}]", found)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            collect(one, where, found)
    elif inspect.ismethod(value):
        if isinstance(value.__self__, keras.losses.Loss):
            collect(vars(value.__self__), f"the loss {value.__self__.name}", found)
        else:
            collect(value.__self__, where, found)
        collect(value.__func__, where, found)
    elif inspect.isfunction(value):
        _collect_from_function(value, where, found)
    elif _of_user(value):
        _collect_from_object(value, where, found)


def _collect_from_object(value: object, where: str, found: Found) -> None:
    """Add an object's attributes, and those of its class, whose names occur in functions, with the methods that these call."""
    kind = value if isinstance(value, type) else type(value)
    attributes = {name: one for base in reversed(kind.__mro__) if not _of_a_library(base) for name, one in vars(base).items()}
    attributes |= {} if isinstance(value, type) else vars(value)
    for name, one in attributes.items():
        if name in found.names or name in ("call", "__call__"):
            collect(one.fget if isinstance(one, property) else one, f"`{name}` of {kind.__name__} in {where}", found)


def _collect_from_function(function: Callable, where: str, found: Found) -> None:
    """Add a function's attributes, closure and defaults, and the values of its module that it uses."""
    found.names.update(function.__code__.co_names)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            collect(cell.cell_contents, f"`{name}` in {function.__qualname__}", found)
    collect(function.__defaults__ or (), f"defaults of {function.__qualname__}", found)
    for name in found.names & vars(function).keys():
        collect(vars(function)[name], f"`{name}` of {function.__qualname__}", found)
    if _of_a_library(function) or (function.__module__ or "").startswith("common."):
        return
    for name in function.__code__.co_names:
        if name in function.__globals__:
            collect(function.__globals__[name], f"`{name}` in {function.__module__}", found)
