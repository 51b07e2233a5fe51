"""Checks of the arguments of `Trial.fit` other than the model.

Those of models are in `model_checks`, and those that need a test run on a few examples in `probes`.
"""

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral

import keras
import numpy as np

from common.data.split import Split
from common.errors import Misuse
from common.text import did_you_mean
from common.training import adapters
from common.training.stage import Stage

MIXING_LAYERS = (keras.layers.MixUp, keras.layers.CutMix)


# --- examples and their weights --------------------------------------------------------------------------------------


def splits(trial, on: Split | None, validate: Split | None) -> tuple[Split, Split]:
    """The splits to train and validate on. Raises `Misuse` if they are not splits, or do not fit the trial or each other."""
    for name, split in (("on", on), ("validate", validate)):
        if split is not None and not isinstance(split, Split):
            raise Misuse(
                f"{name} must be a Split, such as trial.train.take(positions) or trial.train.join(images, labels). "
                f"Received: {shown(split)}"
            )
    train, val = trial.train if on is None else on, trial.val if validate is None else validate
    for name, split in (("train", train), ("val", val)):
        if not len(split):
            raise Misuse(f"the {name} split must not be empty. Received: 0 examples")
        shape = split.batch(np.arange(1)).shape[1:]
        if shape != tuple(trial.input_shape):
            raise Misuse(f"images must have the trial's shape {tuple(trial.input_shape)}. Received: {shape} in the {name} split")
        low, high = (split.labels.min(), split.labels.max()) if split.classes else (0, 0)
        if low < 0 or high >= (split.classes or 1):
            raise Misuse(
                f"labels of {split.classes} classes must lie in 0 … {split.classes - 1}. "
                f"Received: {low} … {high} in the {name} split"
            )
    if train.classes != val.classes:
        raise Misuse(f"train and val must have the same classes. Received: {train.classes} and {val.classes}")
    return train, val


def class_weights(given, train: Split, outputs: int) -> np.ndarray | None:
    """Factor of the losses of each class, float32 [classes]; None for None. Raises `Misuse` for other weights.

    Args:
        given: a list, or a dict in which missing classes have weight 1.
        outputs: number of classes.
    """
    if given is None:
        return None
    if train.classes is None:
        raise Misuse(f"class_weight needs a task with one class per image: leave it out. Received: {given!r}")
    one_each = f"write a list of {outputs} weights, or a dict from class numbers 0 … {outputs - 1}"
    if isinstance(given, dict):
        unknown = [c for c in given if not isinstance(c, Integral) or isinstance(c, bool) or not 0 <= c < outputs]
        if unknown:
            raise Misuse(f"class_weight has an unknown class: {one_each}. Received: {unknown[0]!r}")
        given = [given.get(c, 1.0) for c in range(outputs)]
    weights = _numbers(given, "class_weight")
    if weights.shape != (outputs,):
        raise Misuse(f"class_weight needs one weight for each class: {one_each}. Received: shape {weights.shape}")
    return weights


def sample_weights(given, split: Split, name: str) -> np.ndarray | None:
    """Factor of the loss of each example, float32 [n]; None for None. Raises `Misuse` for other weights.

    Args:
        given: numbers [n], or a function of a split that returns them.
        name: name of the split, for errors.
    """
    if given is None:
        return None
    weights = _numbers(given(split) if callable(given) else given, f"sample_weight of {name}")
    if weights.shape != (len(split),):
        raise Misuse(f"sample_weight needs one weight for each of the {len(split)} examples of {name}. Received: {weights.shape}")
    return weights


def _numbers(given, name: str) -> np.ndarray:
    """Weights as float32 array. Raises `Misuse` unless they are finite, at least 0 and not all 0."""
    try:
        weights = np.array("nothing" if given is None else given, np.float32)  # NumPy would convert None to NaN
    except (TypeError, ValueError):
        raise Misuse(f"{name} must be numbers. Received: {given!r}") from None
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if wrong.size or not weights.any():
        raise Misuse(f"{name} must be finite, at least 0 and not all 0. Received: {wrong[0] if wrong.size else 0}")
    return weights


# --- optimizers, callbacks, augmentations ----------------------------------------------------------------------------


def optimizers(given, step: Callable | None) -> dict:
    """Optimizers by the name of the layer that each trains; None stands for the whole model. Raises `Misuse` for other values."""
    if isinstance(given, dict) and (step is None or not given):
        raise Misuse(
            f"a dict of optimizers needs a step that returns losses for each of them. Received: {given!r}, step={step!r}"
        )
    result = given if isinstance(given, dict) else {None: given}
    for optimizer in result.values():
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise Misuse(
                "optimizer must be an instance created in train, such as keras.optimizers.Adam(learning_rate), so that its "
                f"learning rate is explicit. Received: {optimizer!r}{did_you_mean(optimizer, dir(keras.optimizers))}"
            )
        if optimizer.built or getattr(optimizer, "inner_optimizer", optimizer).built:
            raise Misuse(
                f"each call of trial.fit needs a new optimizer, but this one is already built. Received: {optimizer.name}"
            )
    if len(set(map(id, result.values()))) < len(result):
        raise Misuse(f"each layer in a dict of optimizers needs a separate optimizer. Received: {list(result)} with a shared one")
    return result


def epochs(given) -> int:
    """A number of epochs as int. Raises `Misuse` unless it is a whole number of at least 1."""
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise Misuse(f"epochs must be a whole number of at least 1. Received: {given!r}")
    return int(given)


def check_schedules(stage: Stage, updates: int) -> None:
    """Raise `Misuse` for a schedule of `common.optimizers.falling` that ends before or after the stage.

    Args:
        updates: number of updates of the stage.
    """
    for optimizer in (inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer)):
        made_for = getattr(getattr(optimizer, "_learning_rate", None), "updates", updates)
        if made_for != updates:
            raise Misuse(
                "the learning rate must fall over all updates of its stage: give falling(trial, …) or sgd(trial, …) the epochs= "
                f"and on= of trial.fit. Received: a schedule of {made_for} updates for a stage of {updates}"
            )


def check_augmentations(augment: Sequence) -> None:
    """Raise `Misuse` for a value that is not a list of augmentations."""
    if not isinstance(augment, list | tuple):
        raise Misuse(f"augment must be a list: augment=[flip()] from common.augment. Received: {shown(augment)}")
    for augmentation in augment:
        if isinstance(augmentation, keras.Layer):
            refuse_mixing(augmentation)
            raise Misuse(
                "augment takes functions of (images, targets, uniforms), such as those of common.augment. A Keras layer cannot "
                f"be seeded for each example: put it into the model instead. Received: {shown(augmentation)}"
            )
        if getattr(augmentation, "__module__", "") == "common.augment" and "<locals>" not in augmentation.__qualname__:
            name = augmentation.__name__
            raise Misuse(f"{name} must be called to make an augmentation: augment=[{name}()]. Received: {name} itself")
        if not hasattr(augmentation, "__name__") or not _takes_three(augmentation):
            raise Misuse(
                "an augmentation must be a named function of (images, targets, uniforms) that returns images and targets, such "
                f"as those of common.augment. Received: {shown(augmentation)}"
            )


def refuse_mixing(layer: keras.Layer) -> None:
    if isinstance(layer, MIXING_LAYERS):
        raise Misuse(
            "a layer mixes images but not their labels: use augment=[mixup()] or augment=[cutmix()] from common.augment. "
            f"Received: {shown(layer)}"
        )


def _takes_three(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def shown(value: object) -> str:
    """A short description of a value for error messages: its type, and its name if it has one."""
    if isinstance(value, keras.Model | keras.Layer):
        return f"{type(value).__name__} {value.name!r}"
    if hasattr(value, "__name__"):
        return f"{'class' if isinstance(value, type) else 'function'} {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    package = type(value).__module__.partition(".")[0]
    return type(value).__name__ if package == "builtins" else f"{package} {type(value).__name__}"
