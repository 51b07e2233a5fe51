"""Norms of gradients: at the layers of a network, which may vanish or explode, and of losses with respect to the logits."""

import re
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from common import metrics
from common.training.adapters import per_example

EXAMPLES = 256
"""Size of the stratified sample of training images over which the gradient is averaged."""
BINS = 5
"""Number of equal bins of the probability of the true class."""


# --- at the layers ---------------------------------------------------------------------------------------------------


def layer_norms(model: keras.Model, images: np.ndarray, labels: np.ndarray, named: str) -> np.ndarray:
    """Norm of the gradient of the mean cross-entropy with respect to the output of each layer: float [layers].

    Args:
        images: [n, height, width, channels]; labels: int [n].
        named: the layers' names without the number at their end.
    """
    outputs = [layer.output for layer in model.layers if re.fullmatch(rf"{re.escape(named)}[0-9_]*", layer.name)]
    with tf.GradientTape() as tape:
        *inner, logits = keras.Model(model.input, [*outputs, model.output])(tf.constant(images, tf.float32))
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return np.array([np.linalg.norm(gradient) for gradient in tape.gradient(loss, inner)])


def weights_norm(trial, model: keras.Model) -> float:
    """Norm of the gradient of the mean cross-entropy, over a sample of the train split, with respect to all trainable weights."""
    images, labels = _sample(trial)
    with tf.GradientTape() as tape:
        logits = model(tf.constant(images, tf.float32), training=False)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return float(tf.linalg.global_norm(tape.gradient(loss, [variable.value for variable in model.trainable_variables])))


def _sample(trial) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of `EXAMPLES` training examples."""
    positions = trial.train.drawn(EXAMPLES, trial.streams, "gradients")
    return trial.train.batch(positions), trial.train.labels[positions]


def record_layer_norms(trial, model: keras.Model, named: str, when: str) -> None:
    """Record `layer_norms` over a sample of the train split, and |log10| of the ratio of the first to the last, as measures.

    Args:
        when: part of the measures' names, such as "untrained".
    """
    norms = layer_norms(model, *_sample(trial), named)
    for i, norm in enumerate(norms, start=1):
        trial.record(f"gradient norm of layer {i}, {when}", norm)
    first, last = np.log10(np.maximum(norms[[0, -1]], 1e-30))  # the gradient of a network of dead units is 0
    trial.record(f"decades between first and last layer, {when}", abs(first - last), "decades")


# --- with respect to the logits --------------------------------------------------------------------------------------


def logit_norms(loss: keras.losses.Loss | Callable, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Norm of the gradient of each example's loss with respect to its logits: float [n].

    Args:
        loss: as for `Trial.fit`; logits: [n, classes]; labels: int [n].
    """
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = per_example(loss)(tf.one_hot(labels, logits.shape[1]), logits)
    return np.linalg.norm(tape.gradient(losses, logits), axis=1)


def by_probability(values: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[float, float]:
    """Middle of each of `BINS` bins of the probability of the true class -> mean value of its examples; without empty bins.

    Args:
        values: one per example [n]; logits: [n, classes]; labels: int [n].
    """
    probability = np.exp(metrics.log_softmax(logits))[np.arange(len(labels)), labels]
    place = np.minimum((BINS * probability).astype(int), BINS - 1)
    return {(2 * b + 1) / (2 * BINS): float(values[place == b].mean()) for b in range(BINS) if (place == b).any()}


def record_logit_norms(trial, model: keras.Model, loss: keras.losses.Loss | Callable) -> None:
    """Record the mean of `logit_norms` over the val images of each bin of the probability of the true class, as measures.

    `gradient where wrong` is that of the lowest bin (images on which the model is confidently wrong, or nearly so), as a share of
    the largest of all bins. It is not recorded without such images, nor of a model that is certain of none, as before training,
    nor of one whose softmax is saturated for all images: then all gradients are 0.
    """
    logits, labels = trial.predict(model, trial.val), trial.val.labels
    norms = by_probability(logit_norms(loss, logits, labels), logits, labels)
    for probability, norm in norms.items():
        trial.record(f"gradient norm at true-class probability {probability:g}", norm)
    largest = max(norms.values())
    if min(norms) < 1 / BINS and max(norms) > 1 - 1 / BINS and largest > 0:
        trial.record("gradient where wrong", norms[min(norms)] / largest, "of the largest")
