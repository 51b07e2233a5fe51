"""Checks of the arguments of `Trial.fit` and of the value that `train` returns.

Checks that need a test run on a few examples are in `probes`.
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
from common.training import adapters, prediction, seeding
from common.training.stage import Stage

KERAS_TRAINING_METHODS = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"),
    *("fit", "evaluate", "make_train_function", "make_test_function"),
)
"""Methods of a `keras.Model` that Keras' `fit` calls, but `Trial.fit` does not."""
INPUTS = "inputs = keras.Input(trial.input_shape)"
CUSTOM_LOOP = (
    "model.fit and custom loops with a GradientTape are neither shuffled by the seed nor saved: move a custom loss into "
    "trial.fit(model, step=…)"
)
"""Part of error messages: why only `Trial.fit` may train, and the remedy."""
MIXING_LAYERS = (keras.layers.MixUp, keras.layers.CutMix)
TURNING_LAYERS = (
    *(keras.layers.RandomFlip, keras.layers.RandomRotation, keras.layers.RandomShear, keras.layers.RandomPerspective),
    *(keras.layers.RandAugment, keras.layers.AugMix),
)
"""Layers of Keras that change the orientation of images."""


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


# --- the model -------------------------------------------------------------------------------------------------------


def check_model(model: keras.Model, split: Split, *, images: bool) -> None:
    """Raise `Misuse` for a value that is not a Keras model, or a model that does not take the images of a split.

    Args:
        images: whether the model is called on images; False if a step calls it.
    """
    if not isinstance(model, keras.Model):
        raise Misuse(f"model must be a keras.Model. Received: {shown(model)}")
    if not images or not getattr(model, "inputs", None):  # a subclassed model has no inputs to compare
        return
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Misuse(
            "a model must have one input, the images, and one output, the logits: split the images inside the model, or train "
            f"with step=. Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    shape, images_shape = tuple(model.inputs[0].shape[1:]), split.batch([0]).shape[1:]
    if len(shape) != len(images_shape) or any(a not in (None, b) for a, b in zip(shape, images_shape, strict=True)):
        raise Misuse(f"the model's input shape must be that of the images, {images_shape}: {INPUTS}. Received: {shape}")


def check_layers(model: keras.Model, orientation: bool) -> None:
    """Raise `Misuse` for a layer that changes images, but not their labels, which depend on the change.

    Args:
        orientation: whether the labels depend on the orientation of an image.
    """
    for layer in seeding.layers_of(model):
        _refuse_mixing(layer)
        if orientation and isinstance(layer, TURNING_LAYERS):
            raise Misuse(
                "labels of this task depend on the image's orientation, which no layer may change: leave it out, or change "
                f"images and labels by augment=[…]. Received: {shown(layer)}"
            )


def _refuse_mixing(layer: keras.Layer) -> None:
    if isinstance(layer, MIXING_LAYERS):
        raise Misuse(
            "a layer mixes images but not their labels: use augment=[mixup()] or augment=[cutmix()] from common.augment. "
            f"Received: {shown(layer)}"
        )


def check_images(model: keras.Model, split: Split, shape: tuple) -> None:
    """Raise `Misuse` for a split on which a model cannot predict.

    Args:
        shape: input shape of the trial, for which subclassed models are compiled.
    """
    if not len(split):
        raise Misuse("predict needs at least one image. Received: 0 images")
    check_model(model, split, images=True)
    images_shape = split.batch([0]).shape[1:]
    if not getattr(model, "inputs", None) and images_shape != tuple(shape):
        raise Misuse(
            f"a model without input_shape can only predict images of the trial's shape {tuple(shape)}. Received: {images_shape}"
        )


def check_keras_training(model: keras.Model, fitted: Sequence[keras.Model]) -> None:
    """Raise `Misuse` for a model with custom training methods, one that is compiled, or one with a fixed batch size.

    Args:
        fitted: models that earlier stages of the trial have trained, and compiled.
    """
    user_classes = [c for c in type(model).__mro__ if c.__module__.split(".")[0] not in ("keras", "tensorflow", "builtins")]
    for name in KERAS_TRAINING_METHODS:
        if name in vars(model) or any(name in vars(cls) for cls in user_classes):
            raise Misuse(
                f"{name} of a model would be ignored: remove the method, and move its computation into a loss or a step of "
                f"Trial.fit. Received: {type(model).__name__}.{name}"
            )
    config = {}
    with contextlib.suppress(NotImplementedError):  # a user's optimizer without get_config
        config = (model.get_compile_config() if model.compiled else None) or {}
    options = [name for name in ("loss", "loss_weights", "metrics", "weighted_metrics") if config.get(name)]
    if options or (model.compiled and not any(model is one for one in fitted)):
        raise Misuse(
            "arguments of compile() would be ignored: leave compile() out (load_model(…, compile=False)), and pass optimizer and "
            f"loss to Trial.fit. Received: a compiled {model.name}{': ' if options else ''}{', '.join(options)}"
        )
    sizes = [tensor.shape[0] for tensor in getattr(model, "inputs", None) or [] if tensor.shape[0] is not None]
    if sizes:
        raise Misuse(f"batches differ in size: leave batch_size out of keras.Input. Received: batch_size={sizes[0]}")


def check_output_shape(stage: Stage, shape: Sequence) -> None:
    """Raise `Misuse` unless the model has the number of outputs that its loss needs."""
    if stage.step is None and shape != (None, stage.outputs):
        raise Misuse(f"the model's output shape must be {(None, stage.outputs)}: use Dense({stage.outputs}). Received: {shape}")


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
            _refuse_mixing(augmentation)
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


def _takes_three(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


# --- the returned predictor ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def forbid_custom_loops() -> Iterator[None]:
    """Context manager that raises `Misuse` for Keras' `fit`, and for optimizers that are applied outside of `trial.fit`.

    So it does for Keras' `predict` of a model with batch normalisation, whose statistics would be others than those of scoring.
    The second is an error of TensorFlow's distribution strategies. Variables that a `GradientTape` differentiates with respect
    to are marked for `check_predictor`.
    """
    gradient = tf.GradientTape.gradient
    methods = {name: getattr(keras.Model, name) for name in ("predict", "predict_on_batch")}

    def predicting(name):
        def predict(model, *args, **kwargs):
            if any(isinstance(one, keras.layers.BatchNormalization) and one.trainable for one in seeding.layers_of(model)):
                raise Misuse(
                    "scoring re-estimates the statistics of batch normalisation: use trial.predict(model, images), which does so "
                    f"too. Received: {name} of {shown(model)}"
                )
            return methods[name](model, *args, **kwargs)

        return predict

    def refuse(model, *args, **kwargs):
        raise Misuse(f"a model is trained by trial.fit alone; {CUSTOM_LOOP}. Received: fit of {shown(model)}")

    def mark(tape, target, sources, *args, **kwargs):
        for source in tf.nest.flatten(sources):
            if isinstance(source, tf.Variable | keras.Variable):
                (source.value if isinstance(source, keras.Variable) else source)._differentiated = True
        return gradient(tape, target, sources, *args, **kwargs)

    keras.Model.fit = keras.Model.train_on_batch = refuse
    for name in methods:
        setattr(keras.Model, name, predicting(name))
    tf.GradientTape.gradient = mark
    try:
        yield
    except AttributeError as error:
        if "merge_call" not in str(error):
            raise
        message = f"an optimizer is applied by trial.fit alone; {CUSTOM_LOOP}. Received: an optimizer applied in train"
        raise Misuse(message).with_traceback(error.__traceback__) from None
    finally:
        for name in ("fit", "train_on_batch", *methods):
            delattr(keras.Model, name)  # restores the method of the base class
        tf.GradientTape.gradient = gradient


def check_predictor(trial, predictor) -> None:
    """Raise `Misuse` for a predictor that cannot be scored, or a model that is not trained, or not by `trial.fit`.

    Weights may also be loaded or set, such as averages of trained weights.
    """
    if not isinstance(predictor, keras.Model):
        if isinstance(predictor, type) or not callable(getattr(predictor, "predict", None)):
            raise Misuse(
                "train must return the trained model, or an object with predict(images) -> scores: return trial.fit(…). "
                f"Received: {shown(predictor)}"
            )
        return
    if type(predictor).predict is not keras.Model.predict:
        raise Misuse(
            "a Keras model is scored by calling it, so that its predict would be ignored: return an object that is no Keras "
            f"model, with predict(images) -> scores. Received: {type(predictor).__name__}.predict"
        )
    trained = {id(variable) for model in trial.models.values() for variable in model.variables}
    for variable in predictor.variables:
        if id(variable) in trained:
            continue
        if getattr(variable.value, "_differentiated", False):
            raise Misuse(f"train must return a model that trial.fit has trained; {CUSTOM_LOOP}. Received: {shown(predictor)}")
        if seeding.has_initial_values(variable):
            raise Misuse(
                "train must return a model whose weights were trained by trial.fit, loaded or set (set_weights). "
                f"Received: {shown(predictor)}, whose {variable.path} has its random initial values"
            )
    outputs = getattr(predictor, "outputs", None) or [None]
    if len(outputs) != 1:
        raise Misuse(
            f"train must return a model with one output: keras.Model(model.input, logits). Received: {len(outputs)} outputs"
        )
    check_model(predictor, trial.train, images=True)
    shape = prediction.output_shape(predictor, trial.input_shape)
    if shape != (None, trial.classes):
        raise Misuse(f"train must return a model with output shape {(None, trial.classes)}. Received: {shape}")


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
