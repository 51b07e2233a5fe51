"""Checkpoints: the whole state of a trial, saved atomically and restored exactly.

A checkpoint is one `.npz` file (its CRC detects damage) with the variables of model and optimizer, the attributes of the
callbacks, the history, the clocks and the position. The last two are kept, in case the newer one is damaged.
"""

import dis
import glob
import importlib
import inspect
import json
import pathlib
import types
from collections.abc import Callable, Collection, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from common.errors import Failure, Misuse
from common.files import read_arrays, write_atomic
from common.training import graphs

GENERATIONS = 2
"""Checkpoints of a stage that are kept."""
OBSERVERS = (keras.callbacks.TensorBoard, keras.callbacks.CSVLogger)
"""Callbacks that only write logs: their state has no effect on the weights, and is not saved."""
NOT_STATE = ("_model", "params", "_unsaved")
"""Attributes of callbacks that are not part of their state."""
HOLDERS = (keras.Layer, keras.Optimizer, keras.Metric, keras.Variable, tf.Variable)
"""Types of values whose state is in variables."""
CONSTANT = (
    *(bool, int, float, complex, str, bytes, type(None), np.generic, np.ufunc, tf.Tensor, pathlib.PurePath, type),
    *(types.ModuleType, keras.optimizers.schedules.LearningRateSchedule, keras.losses.Loss),
)
"""Types of values that do not change during training."""
REFERRED = ("__func__", "__self__", "fget", "fset", "python_function")
"""Attributes of bound methods, properties and compiled functions that are what they refer to."""


def unsaved(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Declare that a callback's attributes need not be saved in checkpoints. Returns the callback."""
    callback._unsaved = True
    return callback


# --- values <-> JSON and arrays --------------------------------------------------------------------------------------


def _importable(value) -> str | None:
    """`module:name` of a function that can be imported by this name, else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if module and name and "<" not in name and "." not in name:
        try:
            imported = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
        return f"{module}:{name}" if imported is value else None
    return None


def pack(value, arrays: list[np.ndarray]):
    """Convert a value to JSON, appending its arrays to the list. Raises `TypeError` for types that cannot be restored exactly."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        arrays.append(np.asarray(value))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if isinstance(value, list):
        return [pack(v, arrays) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [pack(v, arrays) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(k, arrays), pack(v, arrays)] for k, v in value.items()]}
    if callable(value) and (name := _importable(value)):
        return {"function": name}
    raise TypeError(type(value).__name__)


def unpack(value, arrays: list[np.ndarray]):
    """The value that `pack` converted."""
    if isinstance(value, list):
        return [unpack(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    if kind == "tuple":
        return tuple(unpack(v, arrays) for v in content)
    if kind == "dict":
        return {unpack(k, arrays): unpack(v, arrays) for k, v in content}
    module, name = content.split(":")
    return getattr(importlib.import_module(module), name)


# --- callbacks -------------------------------------------------------------------------------------------------------


def _unsaved_state(value, where: str, saved: Collection[int], seen: tuple = ()) -> str | None:
    """Where a value refers to state that may change in training and is not among the saved variables, in words; None if nowhere.

    Args:
        where: the value's place; seen: the values that refer to it.
    """
    if isinstance(value, CONSTANT) or type(value).__module__.startswith("common.") or any(value is one for one in seen):
        return None
    if isinstance(value, HOLDERS):
        variables = [value] if isinstance(value, keras.Variable | tf.Variable) else value.variables
        return None if graphs.handles(variables).issubset(saved) else f"{where}, whose variables this stage does not save"
    if inspect.isfunction(value):
        if assigned := _assigned(value.__code__, value.__code__.co_freevars):
            return f"`{assigned}`, which {value.__qualname__} assigns"
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        inside = [(f"`{name}` in {value.__qualname__}", cell.cell_contents) for name, cell in cells if cell != types.CellType()]
    elif isinstance(value, tuple):
        inside = [(where, one) for one in value]
    else:  # a bound method, a property or a compiled function
        inside = [(where, getattr(value, name)) for name in REFERRED if hasattr(value, name)]
        if not inside:
            return f"{where}, of type {type(value).__name__}"
    found = (_unsaved_state(one, place, saved, (*seen, value)) for place, one in inside)
    return next((place for place in found if place), None)


def _assigned(code: types.CodeType, free: Sequence[str]) -> str | None:
    """A global variable, or one of the `free` variables of a closure, that a function or one within it assigns; else None."""
    for one in dis.get_instructions(code):
        if one.opname == "STORE_GLOBAL" or (one.opname == "STORE_DEREF" and one.argval in free):
            return one.argval
    return next((name for one in code.co_consts if isinstance(one, types.CodeType) and (name := _assigned(one, free))), None)


def _check_class(callback: keras.callbacks.Callback, saved: Collection[int]) -> None:
    """Raise `Misuse` if the class of a user's callback, or a closure of its methods, has state that is not saved."""
    for kind in type(callback).__mro__:
        own = {} if kind.__module__.split(".")[0] in ("builtins", "keras") else vars(kind)
        for name, value in own.items():
            state = None if name.startswith("__") else _unsaved_state(value, f"`{name}` of the class {kind.__name__}", saved)
            if state:
                raise Misuse(
                    "state of callbacks must be in attributes of self, which checkpoints save, not in a closure or a class: make "
                    "it an attribute (of constants a tuple), or wrap the callback in trial.unsaved(…) if it has no effect on "
                    f"training. Received: {state}"
                )


def callback_state(callback: keras.callbacks.Callback, saved: Collection[int] = ()) -> dict | None:
    """Attributes of a callback that may change during training; None if it needs no saving.

    Args:
        saved: `graphs.handles` of the variables that checkpoints save.

    Raises:
        Misuse: the callback has other state, or an attribute cannot be saved exactly, and it is not declared `unsaved`.
    """
    if isinstance(callback, OBSERVERS) or getattr(callback, "_unsaved", False):
        return None
    _check_class(callback, saved)
    state = {}
    for name, value in vars(callback).items():
        if name in NOT_STATE:
            continue
        try:
            pack(value, [])
        except TypeError as error:
            lasting = isinstance(value, (*HOLDERS, keras.optimizers.schedules.LearningRateSchedule, types.FunctionType))
            if lasting and _unsaved_state(value, name, saved) is None:
                continue
            raise Misuse(
                "attributes of callbacks must be plain values or arrays, which checkpoints can save: change it, or wrap the "
                "callback in trial.unsaved(…) if it has no effect on training. "
                f"Received: `{name}` of {type(callback).__name__}, of type {error}"
            ) from None
        state[name] = value
    return state


# --- files -----------------------------------------------------------------------------------------------------------


def save(folder: pathlib.Path, stage: str, position: int, state: dict, variables: dict[str, Iterable]) -> None:
    """Write a checkpoint and delete all but the last two of its stage.

    Args:
        folder: folder of the trial's checkpoints.
        stage: name of the stage.
        position: number of batches so far; part of the file's name.
        state: a value for `pack`.
        variables: lists of Keras variables by name.
    """
    arrays: list[np.ndarray] = []
    packed = pack(state, arrays)
    named = {f"array_{i:05d}": array for i, array in enumerate(arrays)}
    for name, group in variables.items():
        named |= {f"{name}_{i:05d}": keras.ops.convert_to_numpy(v) for i, v in enumerate(group)}
    named["state"] = np.frombuffer(json.dumps(packed).encode(), np.uint8)
    write_atomic(_path(folder, stage, position), lambda file: np.savez(file, **named))
    for old in _generations(folder, stage)[GENERATIONS:]:
        old.unlink(missing_ok=True)


def restore(folder: pathlib.Path, stage: str, variables: dict[str, list], warn: Callable[[str], None]) -> dict | None:
    """Load the newest intact checkpoint of a stage into the variables. Returns its state, or None if there is none.

    A checkpoint that is damaged or of another model is deleted, with a warning by `warn`.
    """
    for path in _generations(folder, stage):
        try:
            return _restore(path, variables)
        except Exception as error:  # a damaged file may raise anything
            warn(f"checkpoint {path} is damaged ({error}): resuming from the previous one")
            path.unlink(missing_ok=True)
    return None


def restore_at(folder: pathlib.Path, stage: str, position: int, variables: dict[str, list]) -> dict:
    """Load the checkpoint at the position that the chief has chosen. Raises `Failure` if it cannot be read."""
    path = _path(folder, stage, position)
    try:
        return _restore(path, variables)
    except Exception as error:
        raise Failure(
            f"cannot read the chief's checkpoint {path} ({error}): put RESULTS on a file system that all machines share"
        ) from error


def _restore(path: pathlib.Path, variables: dict[str, list]) -> dict:
    named = read_arrays(path)
    values = {name: _arrays_for(variables[name], named, name) for name in variables}
    arrays = [named[f"array_{i:05d}"] for i in range(sum(key.startswith("array_") for key in named))]
    state = unpack(json.loads(named["state"].tobytes()), arrays)
    for name, group in variables.items():
        for variable, value in zip(group, values[name], strict=True):
            variable.assign(value)
    return state


def _path(folder: pathlib.Path, stage: str, position: int) -> pathlib.Path:
    return folder / f"{stage}-{position:09d}.npz"


def _generations(folder: pathlib.Path, stage: str) -> list[pathlib.Path]:
    """Paths of the checkpoints of a stage, newest first; those of a stage "fit-1" are not among those of "fit"."""
    return sorted(folder.glob(f"{glob.escape(stage)}-{'[0-9]' * 9}.npz"), reverse=True)


def _arrays_for(variables: list, named: dict, name: str) -> list[np.ndarray]:
    """The saved arrays of a list of variables. Raises `ValueError` if their shapes differ."""
    values = [named[f"{name}_{i:05d}"] for i in range(len(variables))]
    if any(tuple(value.shape) != tuple(v.shape) for value, v in zip(values, variables, strict=True)):
        raise ValueError(f"its {name} variables have other shapes")
    return values
