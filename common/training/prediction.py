"""Predictions in inference mode, and the batch-norm statistics they need."""

import hashlib
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from common.errors import Misuse
from common.training import graphs, seeding

CHUNK = 500
"""Images per forward pass; fixed, so that the bits of a prediction do not depend on the setting."""


def output_shape(model: keras.Model, image_shape: tuple[int, ...]):
    """A model's output shape, that of each of several outputs; also of a model that is a class of its own."""
    if hasattr(model, "output_shape"):
        return model.output_shape
    given = keras.KerasTensor((None, *image_shape), "float32")
    return keras.tree.map_structure(lambda tensor: tuple(tensor.shape), model.compute_output_spec(given))


def sees_images(model: keras.Model, image_shape: tuple[int, ...]) -> bool:
    """Whether a model takes one batch of images of a shape; sides of its own that it leaves open fit any."""
    shape = getattr(model, "input_shape", (None, *image_shape))
    if not isinstance(shape, tuple) or len(shape) != len(image_shape) + 1:
        return False
    return all(own in (None, side) for own, side in zip(shape[1:], image_shape, strict=True))


def _images_of(model: keras.Model, image_shape: tuple[int, ...]) -> tf.TensorSpec:
    """What a compiled function of a model takes."""
    return tf.TensorSpec((None, *(model.input_shape[1:] if hasattr(model, "input_shape") else image_shape)), tf.uint8)


def compiled(model: keras.Model, image_shape: tuple[int, ...] = ()) -> tf.types.experimental.PolymorphicFunction:
    """Compile a model for inference: images uint8 [n, h, w, c] -> float32 outputs [n, …].

    Args:
        image_shape: needed for a model that is a class of its own, and knows no input shape.
    """

    @tf.function(input_signature=[_images_of(model, image_shape)])
    def call(images):
        return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    graphs.refuse_chance(call)
    return call


def forward(model: keras.Model, image_shape: tuple[int, ...] = ()) -> Callable[[np.ndarray], np.ndarray]:
    """What `compiled` gives, as a function that returns arrays."""
    call = compiled(model, image_shape)
    return lambda images: call(images).numpy()


def predict(call: Callable[[np.ndarray], np.ndarray], split) -> np.ndarray:
    """Scores [n, classes] of every example of a `data.split.Split`, each exactly once, in order."""
    parts = [call(split.batch(np.arange(first, min(first + CHUNK, len(split))))) for first in range(0, len(split), CHUNK)]
    scores = np.concatenate(parts)
    if scores.ndim != 2 or len(scores) != len(split):
        raise Misuse(f"a predictor returns scores [{len(split)}, classes]. Received: {scores.shape}")
    return scores


def added_losses(model: keras.Model, split, batch_size: int) -> float:
    """What a model adds to its loss in inference mode, penalties on weights and activities: the mean over batches of a split."""

    @tf.function(input_signature=[_images_of(model, split.batch(np.arange(1)).shape[1:])])
    def total(images):
        model(tf.cast(images, tf.float32), training=False)
        return tf.add_n([tf.cast(loss, tf.float32) for loss in model.losses])

    order, summed = np.arange(len(split)), 0.0
    for first in range(0, len(split), batch_size):
        batch = order[first : first + batch_size]
        summed += len(batch) * float(total(split.batch(batch)))
    return summed / len(split)


def statistics(model: keras.Model) -> list[keras.Variable]:
    """The batch-norm statistics of a model that are re-estimated: frozen layers keep theirs."""
    return [variable for layer in _norms(model) for variable in (layer.moving_mean, layer.moving_variance)]


def _norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [v for v in seeding.layers_of(model) if isinstance(v, keras.layers.BatchNormalization) and v.trainable]


def determines(model: keras.Model) -> str:
    """A hash of all values in a model from which re-estimated statistics follow, and of which ones they are."""
    follow, digest = {id(variable) for variable in statistics(model)}, hashlib.blake2b()
    for variable in model.variables:
        digest.update(b"statistic" if id(variable) in follow else keras.ops.convert_to_numpy(variable).tobytes())
    return digest.hexdigest()


def reestimate_batch_norm(model: keras.Model, split, order: np.ndarray, batch_size: int) -> None:
    """Replace moving averages by the mean and variance of the whole train split under the final weights.

    Precise batch norm (Wu & Johnson 2021, section 3): batches are normalised by their own statistics, dropout is off, and
    the population variance follows from the batches by the law of total variance. Frozen layers keep theirs.

    Args:
        order: int [n], the order in which the split is batched; a last batch of fewer than half is left out.
    """
    norms = _norms(model)
    if not norms:
        return
    kept = [(layer, layer.momentum, layer.call) for layer in norms]
    for layer, _, call in kept:
        layer.momentum = 0.0  # the moving averages become the last batch's
        layer.call = _always_training(call)
    try:

        @tf.function(input_signature=[_images_of(model, split.batch(np.arange(1)).shape[1:])])
        def pass_through(images):
            model(tf.cast(images, tf.float32), training=False)

        sums = [[np.zeros(v.shape) for v in (layer.moving_mean, layer.moving_variance)] for layer in norms]
        seen = 0
        for batch in _batches(order, batch_size):
            pass_through(split.batch(batch))
            seen += len(batch)
            for (first, second), layer in zip(sums, norms, strict=True):
                moving = (layer.moving_mean, layer.moving_variance)
                mean, variance = (keras.ops.convert_to_numpy(v).astype(np.float64) for v in moving)
                first += len(batch) * mean
                second += len(batch) * (variance + mean**2)
        for (first, second), layer in zip(sums, norms, strict=True):
            layer.moving_mean.assign(first / seen)
            layer.moving_variance.assign(second / seen - (first / seen) ** 2)
    finally:
        for layer, momentum, call in kept:
            layer.momentum, layer.call = momentum, call


def _always_training(call: Callable) -> Callable:
    def training_call(inputs, training=None, mask=None):
        return call(inputs, training=True, mask=mask)

    return training_call


def _batches(order: np.ndarray, batch_size: int) -> Iterable[np.ndarray]:
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        if first == 0 or 2 * len(batch) >= batch_size:
            yield batch
