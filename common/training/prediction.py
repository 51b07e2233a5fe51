"""Predictions in inference mode, and re-estimated batch-norm statistics for them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.training import graphs, seeding

CHUNK = 500
"""Images per forward pass; fixed, so that the bits of a prediction do not depend on the setting."""


def output_shape(model: keras.Model, image_shape: tuple[int, ...]):
    """A model's output shape, or those of its outputs, also of a subclassed model without `output_shape`."""
    if hasattr(model, "output_shape"):
        return model.output_shape
    images = keras.KerasTensor((None, *image_shape), "float32")
    return keras.tree.map_structure(lambda tensor: tuple(tensor.shape), model.compute_output_spec(images))


def takes_images(model: keras.Model, image_shape: tuple[int, ...]) -> bool:
    """Whether a model has one input, for images of this shape; dimensions None of its input shape match any size."""
    shape = getattr(model, "input_shape", (None, *image_shape))
    if not isinstance(shape, tuple) or len(shape) != len(image_shape) + 1:
        return False
    return all(expected in (None, size) for expected, size in zip(shape[1:], image_shape, strict=True))


def _images_spec(model: keras.Model, image_shape: tuple[int, ...]) -> tf.TensorSpec:
    """Input signature of a compiled function of a model."""
    return tf.TensorSpec((None, *(model.input_shape[1:] if hasattr(model, "input_shape") else image_shape)), tf.uint8)


def compiled(model: keras.Model, image_shape: tuple[int, ...] = ()) -> tf.types.experimental.PolymorphicFunction:
    """Compile a model for inference: images uint8 [n, h, w, c] -> float32 outputs [n, …].

    Args:
        image_shape: (height, width, channels), for a subclassed model without `input_shape`.
    """

    @tf.function(input_signature=[_images_spec(model, image_shape)], autograph=False)
    def call(images):
        return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    graphs.refuse_unseeded_randomness(call)
    return call


def forward(model: keras.Model, image_shape: tuple[int, ...] = ()) -> Callable[[np.ndarray], np.ndarray]:
    """Like `compiled`, but returns NumPy arrays."""
    call = compiled(model, image_shape)
    return lambda images: call(images).numpy()


def predict(call: Callable[[np.ndarray], np.ndarray], split) -> np.ndarray:
    """Outputs [n, classes] of a compiled model for all examples of a `Split`, in order, in chunks of `CHUNK` images."""
    parts = [call(split.batch(np.arange(first, min(first + CHUNK, len(split))))) for first in range(0, len(split), CHUNK)]
    scores = np.concatenate(parts)
    if scores.ndim != 2 or len(scores) != len(split):
        raise Misuse(f"a predictor must return scores of shape ({len(split)}, classes). Received: {scores.shape}")
    return scores


class Validated(NamedTuple):
    """A model's outputs on a val split, and a hash of all that they depend on."""

    model: keras.Model
    split: Split
    state: str
    outputs: np.ndarray


def validated(model: keras.Model, split: Split, outputs: np.ndarray) -> Validated | None:
    """Outputs to be used again for the same model, weights and split; None for a model with layers that are not Keras' own."""
    state = _state(model)
    return None if state is None else Validated(model, split, state, outputs)


def known_outputs(earlier: Validated | None, model: keras.Model, split: Split) -> np.ndarray | None:
    """The outputs of a model on a split if they are known, else None."""
    if earlier is None or earlier.model is not model or earlier.split is not split or earlier.state != _state(model):
        return None
    return earlier.outputs


def _state(model: keras.Model) -> str | None:
    """Hash of a model's configuration and variables; None if it has layers that are not Keras' own, or cannot be serialised."""
    if not all(map(_is_described, seeding.layers_of(model))):
        return None
    try:
        configuration = json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):  # such as a functools.partial as activation
        return None
    digest = hashlib.blake2b(configuration.encode())
    for variable in model.variables:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    return digest.hexdigest()


def _is_described(layer: keras.layers.Layer) -> bool:
    """Whether a layer's configuration contains all that its outputs depend on, besides its variables."""
    return type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.layers.Lambda)


def added_losses(model: keras.Model, split, batch_size: int) -> float:
    """Mean over a split of a model's added losses in inference mode: penalties on weights and activities, and `add_loss`."""

    @tf.function(input_signature=[_images_spec(model, split.batch(np.arange(1)).shape[1:])], autograph=False)
    def total(images):
        model(tf.cast(images, tf.float32), training=False)
        return tf.add_n([tf.cast(loss, tf.float32) for loss in model.losses])

    order, summed = np.arange(len(split)), 0.0
    for first in range(0, len(split), batch_size):
        batch = order[first : first + batch_size]
        summed += len(batch) * float(total(split.batch(batch)))
    return summed / len(split)


def updated_norms(model: keras.Model, image_shape: tuple[int, ...]) -> list[keras.layers.BatchNormalization]:
    """Batch-norm layers whose statistics a model updates in training: neither frozen, nor called with `training=False`.

    Args:
        image_shape: (height, width, channels), for a subclassed model without `input_shape`.
    """
    norms = [v for v in seeding.layers_of(model) if isinstance(v, keras.layers.BatchNormalization) and v.trainable and v.built]
    if not norms:
        return []

    @tf.function(input_signature=[_images_spec(model, image_shape)], autograph=False)
    def train(images):
        model(tf.cast(images, tf.float32), training=True)

    written = graphs.handles(graphs.written_variables(train))
    return [layer for layer in norms if graphs.handles([layer.moving_mean]) & written]


def statistics_of(norms: Sequence[keras.layers.BatchNormalization]) -> list[keras.Variable]:
    """Moving mean and variance of batch-norm layers: the statistics that are re-estimated."""
    return [variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)]


def statistics_key(model: keras.Model, norms: Sequence[keras.layers.BatchNormalization]) -> str:
    """Hash of the variables that re-estimated statistics depend on, and of the layers that they are of."""
    statistics, digest = {id(variable) for variable in statistics_of(norms)}, hashlib.blake2b()
    for variable in model.variables:
        digest.update(b"statistic" if id(variable) in statistics else keras.ops.convert_to_numpy(variable).tobytes())
    return digest.hexdigest()


def reestimate_batch_norm(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization], split, order: np.ndarray, batch_size: int
) -> None:
    """Replace the moving averages by mean and variance over the whole train split under the present weights.

    Precise batch norm (Wu & Johnson 2021, section 3): each batch is normalised by its own mean and variance, dropout is off,
    and the variance over the split follows from those of the batches by the law of total variance. For a layer that is called
    several times, such as a shared one, each call counts as a batch. All other variables are unchanged.

    Args:
        norms: layers to change, see `updated_norms`.
        order: int [n], order of the examples; a last batch of less than half the batch size is left out.
    """
    if not norms:
        return
    # For each layer over all calls: Σ n, Σ n · mean and Σ n · (variance + mean²), n the number of examples.
    sums = [[tf.Variable(np.zeros(shape)) for shape in ((), *[layer.moving_mean.shape] * 2)] for layer in norms]
    originals = [{name: vars(layer)[name] for name in ("momentum", "call") if name in vars(layer)} for layer in norms]
    for layer, totals in zip(norms, sums, strict=True):
        layer.momentum = 0.0  # the moving averages become the statistics of the last call
        layer.call = _summing(layer, layer.call, totals)
    try:

        @tf.function(input_signature=[_images_spec(model, split.batch(np.arange(1)).shape[1:])], autograph=False)
        def pass_through(images):
            model(tf.cast(images, tf.float32), training=False)

        with graphs.preserved(graphs.written_variables(pass_through)):
            for batch in _batches(order, batch_size):
                pass_through(split.batch(batch))
            pooled = [[total.numpy() for total in totals] for totals in sums]
    finally:
        for layer, original in zip(norms, originals, strict=True):
            del layer.call  # otherwise its Python state, by which traces are cached, would have changed
            vars(layer).update(original)
    for layer, (seen, first, second) in zip(norms, pooled, strict=True):
        if seen:
            layer.moving_mean.assign(first / seen)
            layer.moving_variance.assign(second / seen - (first / seen) ** 2)


def _summing(layer: keras.layers.BatchNormalization, call: Callable, totals: Sequence[tf.Variable]) -> Callable:
    """A layer's `call` in training mode, which adds the statistics of its inputs to totals."""

    def training_call(inputs, training=None, mask=None):
        outputs = call(inputs, training=True, mask=mask)
        n = tf.cast(tf.shape(inputs)[0], tf.float64)
        mean, variance = (keras.ops.cast(v, "float64") for v in (layer.moving_mean, layer.moving_variance))
        for total, value in zip(totals, (n, n * mean, n * (variance + mean * mean)), strict=True):
            total.assign_add(value)
        return outputs

    return training_call


def _batches(order: np.ndarray, batch_size: int) -> Iterable[np.ndarray]:
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        if first == 0 or 2 * len(batch) >= batch_size:
            yield batch
