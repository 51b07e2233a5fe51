"""How evenly gradients reach the layers of a network."""

import re

import keras
import numpy as np
import tensorflow as tf

EXAMPLES = 256
"""Training images, drawn from all classes, over which the gradient is averaged."""


def layer_norms(model: keras.Model, images: np.ndarray, labels: np.ndarray, named: str) -> np.ndarray:
    """Norm of the mean cross-entropy's gradient at the output of each layer called `named` and a number: float [layers]."""
    outputs = [layer.output for layer in model.layers if re.fullmatch(rf"{re.escape(named)}[0-9_]*", layer.name)]
    with tf.GradientTape() as tape:
        *inner, logits = keras.Model(model.input, [*outputs, model.output])(tf.constant(images, tf.float32))
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return np.array([np.linalg.norm(gradient) for gradient in tape.gradient(loss, inner)])


def record_layer_norms(trial, model: keras.Model, named: str, when: str) -> None:
    """Record the norm of each layer over some training images, and how many decades the first and the last layer lie apart."""
    batch = trial.train.drawn(EXAMPLES, trial.streams, "gradients")
    norms = layer_norms(model, trial.train.batch(batch), trial.train.labels[batch], named)
    for i, norm in enumerate(norms, start=1):
        trial.record(f"gradient norm of layer {i}, {when}", norm)
    first, last = np.log10(np.maximum(norms[[0, -1]], 1e-30))  # a dead network has no gradient at all
    trial.record(f"decades between first and last layer, {when}", abs(first - last), "decades")
