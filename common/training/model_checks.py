"""Checks of the models that `Trial.fit` gets, and of the predictor that `train` returns."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.training import graphs, prediction, seeding
from common.training.arguments import refuse_mixing, shown
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
TURNING_LAYERS = (
    *(keras.layers.RandomFlip, keras.layers.RandomRotation, keras.layers.RandomShear, keras.layers.RandomPerspective),
    *(keras.layers.RandAugment, keras.layers.AugMix),
)
"""Layers of Keras that change the orientation of images."""


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
        refuse_mixing(layer)
        if orientation and isinstance(layer, TURNING_LAYERS):
            raise Misuse(
                "labels of this task depend on the image's orientation, which no layer may change: leave it out, or change "
                f"images and labels by augment=[…]. Received: {shown(layer)}"
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


def check_teachers(trial, models: Sequence[keras.Model], written: Sequence) -> None:
    """Raise `Misuse` for a model that a step calls with batch-norm statistics other than those of scoring.

    Models that a stage trained get those of scoring while a step uses them, and pretrained ones keep theirs.

    Args:
        models: that the step refers to; written: variables that the update writes.
    """
    fitted = [variable for one in trial.models.values() for variable in one.variables]  # also of the model that is trained
    known = graphs.handles([*written, *fitted])
    for model in models:
        if not prediction.takes_images(model, trial.input_shape) or not trial.reestimates_statistics(model):
            continue
        norms = prediction.updated_norms(model, trial.input_shape)
        if norms and known.isdisjoint(graphs.handles(prediction.statistics_of(norms))):
            raise Misuse(
                "a teacher with batch normalisation must be a model that trial.fit trained, so that it has the statistics of "
                f"scoring: assign the weights to that model. Received: {model.name}, as {norms[0].name} would have others"
            )


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
