"""What `Trial.fit` is given, and what `train` returns: its kind and meaning, known before anything is run.

Each mistake is one line. What is known only by running on a probe is in `probes`.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.text import did_you_mean
from common.training import prediction, seeding
from common.training.stage import Stage

TRAINERS_OWN = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"),
    *("fit", "evaluate", "make_train_function", "make_test_function"),
)
"""Methods of a `keras.Model` that Keras' own training calls, and ours does not."""
INPUTS = "inputs = keras.Input(trial.input_shape)"
OWN_LOOP = (
    "what a GradientTape of one's own or model.fit trains is neither shuffled by the seed nor saved: losses of one's own go to "
    "trial.fit(model, step=…)"
)


# --- examples and their weights --------------------------------------------------------------------------------------


def splits(trial, on: Split | None, validate: Split | None) -> tuple[Split, Split]:
    """What is trained and validated on. Raises `Misuse` for what is no `Split`, or does not fit the trial or the other."""
    for name, split in (("on", on), ("validate", validate)):
        if split is not None and not isinstance(split, Split):
            raise Misuse(
                f"{name} must be a Split, whose examples have names to be shuffled and augmented by: trial.train.take(positions) "
                f"or trial.train.join(images, labels). Received: {_shown(split)}"
            )
    train, val = trial.train if on is None else on, trial.val if validate is None else validate
    for name, split in (("train", train), ("val", val)):
        if not len(split):
            raise Misuse(f"there is no example to {name} on. Received: 0 examples")
        there = split.batch(np.arange(1)).shape[1:]
        if there != tuple(trial.input_shape):
            raise Misuse(f"images must be of the trial's shape {tuple(trial.input_shape)}. Received: {there} to {name} on")
        low, high = (split.labels.min(), split.labels.max()) if split.classes else (0, 0)
        if low < 0 or high >= (split.classes or 1):
            raise Misuse(f"labels of {split.classes} classes are 0 … {split.classes - 1}. Received: {low} … {high} to {name} on")
    if train.classes != val.classes:
        raise Misuse(f"train and val must have the same classes. Received: {train.classes} and {val.classes}")
    return train, val


def class_weights(given, train: Split, outputs: int) -> np.ndarray | None:
    """Factor of each class' losses, float32 [classes]; None without any. Raises `Misuse`."""
    if given is None:
        return None
    if train.classes is None:
        raise Misuse(f"class_weight needs one class per image, which this task has not: leave it out. Received: {given!r}")
    one_each = f"write a list of {outputs} weights, or a dict from class numbers 0 … {outputs - 1}"
    if isinstance(given, dict):
        unknown = [c for c in given if not isinstance(c, Integral) or isinstance(c, bool) or not 0 <= c < outputs]
        if unknown:
            raise Misuse(f"class_weight names a class that is not there: {one_each}. Received: {unknown[0]!r}")
        given = [given.get(c, 1.0) for c in range(outputs)]
    weights = _numbers(given, "class_weight")
    if weights.shape != (outputs,):
        raise Misuse(f"class_weight needs one weight for each class: {one_each}. Received: shape {weights.shape}")
    return weights


def sample_weights(given, split: Split, name: str) -> np.ndarray | None:
    """Factor of each example's loss, float32 [n]; None without any. Raises `Misuse`.

    Args:
        given: numbers, or a function of a split that returns them.
    """
    if given is None:
        return None
    weights = _numbers(given(split) if callable(given) else given, f"sample_weight of {name}")
    if weights.shape != (len(split),):
        raise Misuse(f"sample_weight needs one weight for each of the {len(split)} examples of {name}. Received: {weights.shape}")
    return weights


def _numbers(given, name: str) -> np.ndarray:
    """Weights as float32. Raises `Misuse`."""
    try:
        weights = np.asarray("nothing" if given is None else given, np.float32)  # of None NumPy makes NaN
    except (TypeError, ValueError):
        raise Misuse(f"{name} must be numbers. Received: {given!r}") from None
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if wrong.size or not weights.any():
        raise Misuse(f"{name} must be finite, at least 0 and not all 0. Received: {wrong[0] if wrong.size else 0}")
    return weights


# --- the model -------------------------------------------------------------------------------------------------------


def check_model(model: keras.Model, split: Split, *, images: bool) -> None:
    """Raises `Misuse` for what is no model, or cannot be trained; where it is handed `images`, for one of other inputs."""
    if not isinstance(model, keras.Model):
        raise Misuse(f"model must be a keras.Model. Received: {_shown(model)}")
    if not images or not getattr(model, "inputs", None):  # a step hands over what it likes; a subclass does not say what it takes
        return
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Misuse(
            "a model takes one batch of images and puts out one batch of logits: split the images within it, or train with "
            f"step=. Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    shape, there = tuple(model.inputs[0].shape[1:]), split.batch([0]).shape[1:]
    if len(shape) != len(there) or any(side not in (None, other) for side, other in zip(shape, there, strict=True)):
        raise Misuse(f"a model must take images of the shape that there are, {there}: {INPUTS}. Received: {shape}")


def check_images(model: keras.Model, split: Split, shape: tuple) -> None:
    """Raises `Misuse` for a split that a model cannot be run on.

    Args:
        shape: the trial's, for which a model that is a class of its own is compiled.
    """
    if not len(split):
        raise Misuse("there is no image to predict. Received: 0 images")
    check_model(model, split, images=True)
    there = split.batch([0]).shape[1:]
    if not getattr(model, "inputs", None) and there != tuple(shape):
        raise Misuse(
            f"a model that does not say what it takes is given images of the trial's shape {tuple(shape)}. Received: {there}"
        )


def check_own_training(given, fitted: Sequence[keras.Model]) -> None:
    """Raises `Misuse` for a model that wants to be trained by itself, or for batches of one size alone.

    Args:
        fitted: the models that the trial has compiled itself.
    """
    own = [cls for cls in type(given).__mro__ if cls.__module__.split(".")[0] not in ("keras", "tensorflow", "builtins")]
    for name in TRAINERS_OWN:
        if name in vars(given) or any(name in vars(cls) for cls in own):
            raise Misuse(
                f"a model's own {name} would be ignored: move what it computes into a loss or a step of Trial.fit, and take the "
                f"method out. Received: {type(given).__name__}.{name}"
            )
    told = {}
    with contextlib.suppress(NotImplementedError):  # an optimizer of the user's own that cannot say how it was made
        told = (given.get_compile_config() if given.compiled else None) or {}
    asked = [name for name in ("loss", "loss_weights", "metrics", "weighted_metrics") if told.get(name)]
    if asked or (given.compiled and not any(given is one for one in fitted)):
        raise Misuse(
            "what a model was compiled with would be ignored: leave compile() out (load_model(…, compile=False)), and hand "
            f"optimizer and loss to Trial.fit. Received: a compiled {given.name}{': ' if asked else ''}{', '.join(asked)}"
        )
    sizes = [tensor.shape[0] for tensor in getattr(given, "inputs", None) or [] if tensor.shape[0] is not None]
    if sizes:
        raise Misuse(f"batches differ in size: leave batch_size out of keras.Input. Received: batch_size={sizes[0]}")


def check_output_shape(stage: Stage, shape: Sequence) -> None:
    """Raises `Misuse` for outputs that a loss would be computed from wrongly."""
    if stage.step is None and shape != (None, stage.outputs):
        raise Misuse(f"the model must put out {stage.outputs} numbers per image: {(None, stage.outputs)}. Received: {shape}")


# --- how it is trained -----------------------------------------------------------------------------------------------


def optimizers(given, step: Callable | None) -> dict:
    """The optimizers by what each trains; None stands for the whole model. Raises `Misuse`."""
    if isinstance(given, dict) and (step is None or not given):
        raise Misuse(f"a dict of optimizers needs a step that gives each of them losses. Received: {given!r}, step={step!r}")
    found = given if isinstance(given, dict) else {None: given}
    for optimizer in found.values():
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise Misuse(
                "optimizer must be an object made in train, such as keras.optimizers.Adam(learning_rate), so that its rate is "
                f"one that was chosen. Received: {optimizer!r}{did_you_mean(optimizer, dir(keras.optimizers))}"
            )
        if optimizer.built or getattr(optimizer, "inner_optimizer", optimizer).built:
            raise Misuse(f"an optimizer is made anew for each fit: this one has been built before. Received: {optimizer.name}")
    if len(set(map(id, found.values()))) < len(found):
        raise Misuse(f"each layer that is trained for itself needs an optimizer of its own. Received: {list(found)}")
    return found


def epochs(given) -> int:
    """A budget. Raises `Misuse`."""
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise Misuse(f"epochs must be a whole number of at least 1. Received: {given!r}")
    return int(given)


def check_callbacks(callbacks: Sequence, players: int) -> None:
    """Raises `Misuse` for what is no list of Keras callbacks, or for one that could not do what it is for.

    Args:
        players: how many optimizers there are.
    """
    if not isinstance(callbacks, list | tuple):
        raise Misuse(f"callbacks must be a list: callbacks=[EarlyStopping()]. Received: {_shown(callbacks)}")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise Misuse(
                "a callback must be an object of a keras.callbacks.Callback, a function one of LambdaCallback("
                f"on_epoch_end=function). Received: {_shown(callback)}"
            )
        name = type(callback).__name__
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            raise Misuse(
                "with use_ema=True an epoch is judged with the averages, which become the weights at the end: leave "
                f"SwapEMAWeights out. Received: {name}"
            )
        rates = keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
        if players > 1 and isinstance(callback, rates):
            raise Misuse(
                "a callback knows one optimizer of several: give each a keras.optimizers.schedules.LearningRateSchedule. "
                f"Received: {name} and {players} optimizers"
            )


def check_monitors(callbacks: Sequence[keras.callbacks.Callback], measured: Sequence[str]) -> None:
    """Raises `Misuse` for a callback that watches what is not among the names of what an epoch measures."""
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in measured and getattr(callback, "save_best_only", True):
            raise Misuse(
                f"{type(callback).__name__} watches what no epoch measures: take one of {', '.join(measured)}. "
                f"Received: {monitor!r}{did_you_mean(monitor, measured)}"
            )


def check_augmentations(augment: Sequence) -> None:
    """Raises `Misuse` for what is no list of augmentations."""
    if not isinstance(augment, list | tuple):
        raise Misuse(f"augment must be a list: augment=[flip()] from common.augment. Received: {_shown(augment)}")
    for augmentation in augment:
        if isinstance(augmentation, keras.Layer):
            raise Misuse(
                "augment takes functions of (images, targets, uniforms), as common.augment makes: a Keras layer cannot draw for "
                f"each example what its seed says; put it into the model instead. Received: {_shown(augmentation)}"
            )
        if getattr(augmentation, "__module__", "") == "common.augment" and "<locals>" not in augmentation.__qualname__:
            name = augmentation.__name__
            raise Misuse(f"{name} makes an augmentation when it is called: augment=[{name}()]. Received: {name} itself")
        if not hasattr(augmentation, "__name__") or not _takes_three(augmentation):
            raise Misuse(
                "an augmentation is a function, with a name, of (images, targets, uniforms) that returns images and targets: see "
                f"common.augment. Received: {_shown(augmentation)}"
            )


def _takes_three(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


# --- what is returned ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_loops_refused() -> Iterator[None]:
    """Within: `Misuse` for Keras' own training, and for an optimizer that is applied outside of `trial.fit`.

    The latter TensorFlow's strategies do not allow. Variables that a tape differentiates by are marked for `check_predictor`.
    """
    gradient = tf.GradientTape.gradient

    def refuse(model, *args, **kwargs):
        raise Misuse(f"a model is trained by trial.fit alone; {OWN_LOOP}. Received: fit of {_shown(model)}")

    def mark(tape, target, sources, *args, **kwargs):
        for source in tf.nest.flatten(sources):
            if isinstance(source, tf.Variable | keras.Variable):
                (source.value if isinstance(source, keras.Variable) else source)._differentiated = True
        return gradient(tape, target, sources, *args, **kwargs)

    keras.Model.fit = keras.Model.train_on_batch = refuse
    tf.GradientTape.gradient = mark
    try:
        yield
    except AttributeError as error:
        if "merge_call" not in str(error):
            raise
        raise Misuse(f"an optimizer is applied by trial.fit alone; {OWN_LOOP}").with_traceback(error.__traceback__) from None
    finally:
        del keras.Model.fit, keras.Model.train_on_batch  # which hide those of its base
        tf.GradientTape.gradient = gradient


def check_predictor(trial, predictor) -> None:
    """Raises `Misuse` for what cannot be scored, or has been trained in another way than by `trial.fit`, or not at all.

    Weights may also be pretrained, or set: averages of trained ones, say.
    """
    if not isinstance(predictor, keras.Model):
        if isinstance(predictor, type) or not callable(getattr(predictor, "predict", None)):
            raise Misuse(
                "train must return the trained model, or something with predict(images) -> scores: return trial.fit(…). "
                f"Received: {_shown(predictor)}"
            )
        return
    trained = {id(variable) for model in trial.models.values() for variable in model.variables}
    for variable in predictor.variables:
        if id(variable) in trained:
            continue
        if getattr(variable.value, "_differentiated", False):
            raise Misuse(f"train must return a model that trial.fit has trained; {OWN_LOOP}. Received: {_shown(predictor)}")
        if seeding.as_drawn(variable):
            raise Misuse(
                "train must return a model whose weights trial.fit has trained, or that were loaded or set (set_weights). "
                f"Received: {_shown(predictor)}, whose {variable.path} is as it was drawn"
            )
    outputs = getattr(predictor, "outputs", None) or [None]
    if len(outputs) != 1:
        raise Misuse(f"train must return a model of one output: keras.Model(model.input, logits). Received: {len(outputs)}")
    check_model(predictor, trial.train, images=True)
    shape = prediction.output_shape(predictor, trial.input_shape)
    if shape != (None, trial.classes):
        raise Misuse(f"train must return a model that puts out {trial.classes} numbers for an image. Received: {shape}")


def _shown(value: object) -> str:
    """A value as an error shows it: its name where it has one, which says more than an address in memory."""
    if isinstance(value, keras.Model | keras.Layer):
        return f"{type(value).__name__} {value.name!r}"
    if hasattr(value, "__name__"):
        return f"{'class' if isinstance(value, type) else 'function'} {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    package = type(value).__module__.partition(".")[0]
    return type(value).__name__ if package == "builtins" else f"{package} {type(value).__name__}"
