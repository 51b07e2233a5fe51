"""What the functions of a user refer to: numbers, generators, and layers and variables, also in the objects that they use.

Of other objects than functions, containers and losses, only those attributes count whose names occur in one of the functions.
"""

import collections
import contextlib
import dis
import functools
import inspect
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.training import adapters

LARGE = 1_000_000
"""Size in bytes above which arrays are not compared."""
LONG = 10_000
"""Length above which lists and dicts are not compared."""
LOADS, ATTRIBUTES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"), ("LOAD_ATTR", "LOAD_METHOD")
"""Instructions that load a variable of a module or closure, and an attribute of what was loaded before."""
WITH_FIELDS = keras.layers.Layer | keras.optimizers.Optimizer | keras.Variable | types.ModuleType
"""Types whose objects are not searched for numbers where a function refers to them: a model's layers and optimizers are searched
by themselves."""


class Found(NamedTuple):
    """What a walk through objects has found."""

    state: dict[str, object]
    """Place -> number or state of a generator."""
    outside: dict[str, keras.Layer | keras.Variable | tf.Variable]
    """Place -> layer or variable that a function refers to."""
    seen: dict[int, object]
    """The objects that it has been at, by their ids."""
    names: set[str]
    """Names of attributes that occur in functions."""

    def put(self, where: str, value: object, into: dict | None = None) -> None:
        """Add a value, under a place with a mark where another value has the same, such as one of two equal closures."""
        into = self.state if into is None else into
        while where in into:
            where += "'"
        into[where] = value


def all_found(walk: Callable[[Found], None]) -> Found:
    """What a walk finds, which is repeated until it meets no function with new names."""
    names: set[str] = set()
    while True:
        known, found = len(names), Found({}, {}, {}, names)
        walk(found)
        if len(names) == known:
            return found


def fields(one) -> dict:
    """Attributes and methods of a layer or an optimizer that a user's class defines; of classes of Keras its functions alone."""
    kinds = [kind for kind in reversed(type(one).__mro__) if not _of_a_library(kind)]
    own = adapters.custom_fields(one)
    if not kinds:
        return {name: value for name, value in own.items() if inspect.isroutine(value) or isinstance(value, functools.partial)}
    return {name: value for kind in kinds for name, value in vars(kind).items()} | own


def _of_a_library(kind: type | Callable) -> bool:
    return (getattr(kind, "__module__", None) or "").split(".")[0] in ("builtins", "keras", "tensorflow", "numpy")


def _of_user(value: object) -> bool:
    """Whether a value is an object or a class of the user's, or a namespace, whose attributes a function may read."""
    kind = value if isinstance(value, type) else type(value)
    of_project = (kind.__module__ or "").startswith("common.")
    return not (isinstance(value, WITH_FIELDS) or _of_a_library(kind) or of_project) and hasattr(value, "__dict__")


def reached_by(callbacks: Sequence[keras.callbacks.Callback]) -> list:
    """The layers and variables that callbacks refer to."""

    def walk(found: Found) -> None:
        for callback in callbacks:
            for kind in type(callback).__mro__:
                if not _of_a_library(kind):
                    collect(dict(vars(kind)), type(callback).__name__, found)
            collect(dict(vars(callback)), type(callback).__name__, found)

    return list(all_found(walk).outside.values())


def collect(value, where: str, found: Found) -> None:
    """Add the numbers, texts, functions and generator states in a value, also those in containers, functions and objects."""
    if value is None or isinstance(value, bool | int | float | complex | str | np.generic):
        found.put(where, repr(value))  # nan != nan, but their repr are equal
        return
    if id(value) in found.seen:
        return
    found.seen[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, keras.layers.Layer | keras.Variable | tf.Variable):
        found.put(where, value, found.outside)
    if isinstance(value, np.ndarray):
        if value.nbytes <= LARGE:
            found.put(where, value.tobytes())
    elif isinstance(value, np.random.Generator):
        found.put(where, repr(value.bit_generator.state))
    elif isinstance(value, np.random.RandomState):
        found.put(where, repr(value.get_state(legacy=False)["state"]["key"].tolist()) + repr(value.get_state()[2:]))
    elif isinstance(value, random.Random):
        found.put(where, value.getstate())
    elif isinstance(value, list | tuple | collections.deque | Mapping):
        if len(value) <= LONG:
            for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
                collect(one, f"{where}[{key!r}]", found)
    elif isinstance(value, tf.types.experimental.PolymorphicFunction):
        collect(value.python_function, where, found)
    elif isinstance(value, classmethod | staticmethod):
        collect(value.__func__, where, found)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            collect(one, where, found)
    elif inspect.ismethod(value):
        if isinstance(value.__self__, keras.losses.Loss):
            collect(vars(value.__self__), f"the loss {value.__self__.name}", found)
        collect(value.__self__, where, found)
        collect(value.__func__, where, found)
    elif inspect.isfunction(value):
        found.put(where, id(value))
        _collect_from_function(value, found)
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


def _collect_from_function(function: types.FunctionType, found: Found) -> None:
    """Add a function's attributes, closure and defaults, and the values of its module that it uses."""
    codes = list(_codes(function.__code__))
    for code in codes:
        found.names.update(_attributes(code, function))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            collect(cell.cell_contents, f"`{name}` in {function.__qualname__}", found)
    collect((function.__defaults__, function.__kwdefaults__), f"defaults of {function.__qualname__}", found)
    for name in found.names & vars(function).keys():
        collect(vars(function)[name], f"`{name}` of {function.__qualname__}", found)
    if _of_a_library(function) or (function.__module__ or "").startswith("common."):
        return
    for name in dict.fromkeys(name for code in codes for name in code.co_names):
        if name in function.__globals__:
            collect(function.__globals__[name], f"`{name}` in {function.__module__}", found)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _attributes(code: types.CodeType, function: types.FunctionType) -> set[str]:
    """Names of the attributes that a function's code loads, but for those of modules, such as `mean` in `tf.math.mean`."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    names, of_module = set(), False
    for instruction in dis.get_instructions(code):
        if instruction.opname in LOADS:
            value = function.__globals__.get(instruction.argval)
            with contextlib.suppress(ValueError):  # an empty cell
                value = cells[instruction.argval].cell_contents if instruction.argval in cells else value
            of_module = isinstance(value, types.ModuleType)
        elif instruction.opname in ATTRIBUTES:
            names.update(() if of_module else (instruction.argval,))
        else:
            of_module = False
    return names
