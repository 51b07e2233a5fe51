"""Norms of the gradients at the layers of a network, to measure vanishing and exploding gradients."""

import re

import keras
import numpy as np
import tensorflow as tf

EXAMPLES = 256
"""Size of the stratified sample of training images over which the gradient is averaged."""


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


def record_layer_norms(trial, model: keras.Model, named: str, when: str) -> None:
    """Record `layer_norms` over a sample of the train split, and |log10| of the ratio of the first to the last, as measures.

    Args:
        when: part of the measures' names, such as "untrained".
    """
    batch = trial.train.drawn(EXAMPLES, trial.streams, "gradients")
    norms = layer_norms(model, trial.train.batch(batch), trial.train.labels[batch], named)
    for i, norm in enumerate(norms, start=1):
        trial.record(f"gradient norm of layer {i}, {when}", norm)
    first, last = np.log10(np.maximum(norms[[0, -1]], 1e-30))  # the gradient of a network of dead units is 0
    trial.record(f"decades between first and last layer, {when}", abs(first - last), "decades")
