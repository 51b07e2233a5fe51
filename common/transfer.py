"""Transfer learning: models pretrained on the classes that a trial does not keep, or on ImageNet."""

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import keras
from keras import layers

from common.data.dataset import network_answers
from common.errors import Unavailable
from common.files import locked
from common.optimizers import falling
from common.training.adapters import keras_folder

HELD_OUT = 10
"""One in this many examples of the other classes is held out to validate the pretraining."""
IMAGENET_SIZE = 96
"""Height and width in pixels of the images that the ImageNet weights were trained on."""
IMAGENET_FILE = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{IMAGENET_SIZE}_no_top.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{IMAGENET_FILE}"


def pretrained(trial, build: Callable, learning_rate: float) -> keras.Model:
    """Train a model on the classes that the trial does not keep, with Adam, as the stage "pretrain". Returns it.

    Args:
        build: a function of `common.models`; its argument has the input shape, the number of pretraining classes and replicas.
        learning_rate: peak rate, see `optimizers.falling`.
    """
    order = trial.streams.generator("split", "pretraining").permutation(len(trial.others))
    held_out = -(-len(order) // HELD_OUT)
    shape = SimpleNamespace(input_shape=trial.input_shape, classes=trial.others.classes, replicas=trial.replicas)
    on, validate = trial.others.take(order[held_out:]), trial.others.take(order[:held_out])
    optimizer = keras.optimizers.Adam(falling(trial, learning_rate, on=on))
    return trial.fit(build(shape), optimizer=optimizer, stage="pretrain", on=on, validate=validate)


def copy_weights(source: keras.Model, target: keras.Model, *, fresh: Sequence[str] = ("logits",)) -> None:
    """Copy the weights of each layer to the layer of the same name in `target`, except for the layers in `fresh`."""
    for layer in target.layers:
        if layer.weights and layer.name not in fresh:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def freeze(model: keras.Model, *, fresh: Sequence[str] = ("logits",)) -> None:
    """Freeze all layers, with their batch-norm statistics, except for the layers in `fresh`."""
    for layer in model.layers:
        layer.trainable = layer.name in fresh


def mobile_net(trial, *, weights: str | None) -> keras.Model:
    """MobileNetV2 of width 0.35 (Sandler et al. 2018) with a new dense head, on images resized to 96 × 96.

    Grey images are repeated in three channels. Batch-norm layers are frozen: few examples give poor estimates of statistics.

    Args:
        weights: path of a weights file, see `imagenet_weights`; None for random weights.
    """
    size = (IMAGENET_SIZE, IMAGENET_SIZE, 3)
    backbone = keras.applications.MobileNetV2(
        size, alpha=0.35, include_top=False, pooling="avg", weights=weights, name="backbone"
    )
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    inputs = keras.Input(trial.input_shape, name="images")
    x = layers.Resizing(IMAGENET_SIZE, IMAGENET_SIZE, name="enlarge")(inputs)
    if trial.input_shape[-1] == 1:
        x = layers.Concatenate(name="colour")([x, x, x])
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(x)
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(backbone(x)), name="mobile_net")


def imagenet_weights() -> str:
    """Path of the ImageNet weights for `mobile_net`, downloaded at the first call. Raises `Unavailable` without a network."""
    folder = keras_folder() / "models"
    path = folder / IMAGENET_FILE
    if path.exists():
        return str(path)
    remedy = f"put {IMAGENET_URL} into {folder}"
    if not network_answers():
        raise Unavailable(f"the ImageNet weights are not on this machine and the network does not answer: {remedy}")
    with locked(folder):
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            if not path.exists():
                keras.utils.get_file(temporary.name, IMAGENET_URL, cache_dir=folder.parent, cache_subdir="models")
                temporary.replace(path)
        except Exception as error:  # whatever a library raises when it cannot download
            raise Unavailable(f"the ImageNet weights cannot be downloaded ({str(error).splitlines()[0]}): {remedy}") from error
    return str(path)
