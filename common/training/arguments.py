"""What `Trial.fit` is given, and what `train` returns, checked before it is used: each mistake is one line."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.training import prediction, seeding

INPUTS = "inputs = keras.Input(trial.input_shape)"


def splits(trial, on: Split | None, validate: Split | None) -> tuple[Split, Split]:
    """What is trained and validated on. Raises `Misuse` for what is no `Split`."""
    for name, split in (("on", on), ("validate", validate)):
        if split is not None and not isinstance(split, Split):
            raise Misuse(
                f"{name} must be a Split, whose examples have names to be shuffled and augmented by: trial.train.take(positions) "
                f"or trial.train.join(images, labels). Received: {_shown(split)}"
            )
    return trial.train if on is None else on, trial.val if validate is None else validate


def check_model(model: keras.Model, train: Split, *, images: bool) -> None:
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
    shape, there = tuple(model.inputs[0].shape[1:]), train.batch([0]).shape[1:]
    if len(shape) != len(there) or any(side not in (None, other) for side, other in zip(shape, there, strict=True)):
        raise Misuse(f"a model must take images of the shape that there are, {there}: {INPUTS}. Received: {shape}")


def check_callbacks(callbacks: Sequence) -> None:
    """Raises `Misuse` for what is no list of Keras callbacks."""
    if not isinstance(callbacks, list | tuple):
        raise Misuse(f"callbacks must be a list: callbacks=[EarlyStopping()]. Received: {_shown(callbacks)}")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise Misuse(
                "a callback must be an object of a keras.callbacks.Callback, a function one of LambdaCallback("
                f"on_epoch_end=function). Received: {_shown(callback)}"
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


OWN_LOOP = (
    "what a GradientTape of one's own or model.fit trains is neither shuffled by the seed nor saved: losses of one's own go to "
    "trial.fit(model, step=…)"
)


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


def _takes_three(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


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
