"""A trial's whole state, saved atomically, restored exactly.

A checkpoint is one `.npz` (whose CRC shows a flipped byte): the variables of model and optimizer, the fields of the
callbacks, the history, the clocks and the position. Two generations are kept, so that a damaged one costs only the
epochs since the one before.
"""

import importlib
import inspect
import json
import pathlib
from collections.abc import Callable, Iterable

import keras
import numpy as np

from common.errors import Failure, Misuse
from common.files import read_arrays, write_atomic

GENERATIONS = 2
OBSERVERS = (keras.callbacks.TensorBoard, keras.callbacks.CSVLogger)
"""Callbacks that only write down what they see: nothing they hold reaches the weights."""
NOT_STATE = ("_model", "params", "_unsaved")


def unsaved(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Declare that a callback holds nothing that must survive a kill. Returns it."""
    callback._unsaved = True
    return callback


# --- values <-> JSON and arrays --------------------------------------------------------------------------------------


def _importable(value) -> str | None:
    """`module:name` of a function that can be had again by that name, else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if module and name and "<" not in name and "." not in name:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
        return f"{module}:{name}" if found is value else None
    return None


def pack(value, arrays: list[np.ndarray]):
    """A value as JSON, its arrays moved to the list. Raises `TypeError` for what cannot be had back exactly."""
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
    """What `pack` was given."""
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


def _constant(value) -> bool:
    """Whether a field may be left as `train` built it: a function that carries no changing state of its own."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return True
    if not inspect.isfunction(value):
        return False
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    return all(callable(c) or isinstance(c, bool | int | float | str | tuple | type(None)) for c in cells)


def callback_state(callback: keras.callbacks.Callback) -> dict | None:
    """The fields of a callback that may change while it runs; None for one that needs no saving.

    Raises:
        Misuse: it holds something that cannot be saved exactly and is not declared `unsaved`.
    """
    if isinstance(callback, OBSERVERS) or getattr(callback, "_unsaved", False):
        return None
    state = {}
    for name, value in vars(callback).items():
        if name in NOT_STATE:
            continue
        try:
            pack(value, [])
        except TypeError as error:
            if _constant(value):
                continue
            raise Misuse(
                f"callback {type(callback).__name__} holds `{name}` ({error}), which cannot be saved exactly, so a killed trial "
                "could not go on as before: hold plain values and arrays, or wrap it in trial.unsaved(…) if it only observes"
            ) from None
        state[name] = value
    return state


# --- files -----------------------------------------------------------------------------------------------------------


def save(folder: pathlib.Path, stage: str, position: int, state: dict, variables: dict[str, Iterable]) -> None:
    """Write a checkpoint and drop all but the last two of its stage.

    Args:
        folder: the trial's own.
        stage: name of the fit.
        position: steps made; names the file.
        state: anything that `pack` takes.
        variables: named lists of Keras variables.
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
    """Load the newest whole checkpoint of a stage into the variables. Returns its state, or None where there is none.

    A damaged checkpoint, or one of another model, is reported through `warn` and passed over.
    """
    for path in _generations(folder, stage):
        try:
            return _restore(path, variables)
        except Exception as error:  # whatever a damaged file makes of itself
            warn(f"checkpoint {path} is damaged ({error}): going on from the one before")
            path.unlink(missing_ok=True)
    return None


def restore_at(folder: pathlib.Path, stage: str, position: int, variables: dict[str, list]) -> dict:
    """Load the one checkpoint that another machine has chosen. Raises `Failure` where it cannot be read here."""
    path = _path(folder, stage, position)
    try:
        return _restore(path, variables)
    except Exception as error:
        raise Failure(f"cannot read {path}, from which the chief goes on ({error}): do all machines share it?") from error


def _restore(path: pathlib.Path, variables: dict[str, list]) -> dict:
    named = read_arrays(path)
    values = {name: _group(named, name, variables[name]) for name in variables}
    arrays = [named[f"array_{i:05d}"] for i in range(sum(key.startswith("array_") for key in named))]
    state = unpack(json.loads(named["state"].tobytes()), arrays)
    for name, group in variables.items():
        for variable, value in zip(group, values[name], strict=True):
            variable.assign(value)
    return state


def _path(folder: pathlib.Path, stage: str, position: int) -> pathlib.Path:
    return folder / f"{stage}-{position:09d}.npz"


def _generations(folder: pathlib.Path, stage: str) -> list[pathlib.Path]:
    """Checkpoints of a stage, newest first."""
    return sorted(folder.glob(f"{stage}-[0-9]*.npz"), reverse=True)


def _group(named: dict, name: str, variables: list) -> list[np.ndarray]:
    values = [named[f"{name}_{i:05d}"] for i in range(len(variables))]
    if any(tuple(value.shape) != tuple(v.shape) for value, v in zip(values, variables, strict=True)):
        raise ValueError(f"its {name} variables have other shapes")
    return values
