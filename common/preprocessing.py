"""Preprocessing as the first layer of a model: it maps images float32 0 … 255 to the input of the first convolution.

Statistics of the data are computed on the train split alone and applied to val and test as they are.
"""

import keras
import numpy as np
from keras import layers

from common.data.split import Split
from common.operations import LUMA

CHUNK = 1000
"""Images per chunk, for sums over a whole split."""


def raw() -> layers.Layer:
    """Identity: pixels 0 … 255."""
    return layers.Rescaling(1.0, name="raw")


def divided() -> layers.Layer:
    """x / 255, in 0 … 1: the default of `common.models`."""
    return layers.Rescaling(1 / 255, name="rescale")


def standardised(train: Split, *, per_channel: bool = False) -> layers.Layer:
    """(x − mean) / standard deviation, over all pixels and channels of the train split, or separately for each channel."""
    mean, variance = _moments(train, per_channel)
    return layers.Normalization(axis=-1 if per_channel else None, mean=mean, variance=variance, name="standardise")


def standardised_image() -> layers.Layer:
    """(x − mean) / √(variance + 1), with mean and variance of each image: removes its brightness and contrast."""
    return layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False, epsilon=1.0, name="standardise_image")


def grey(channels: int) -> layers.Layer:
    """Luma / 255 in a single channel: (0.299 R + 0.587 G + 0.114 B) / 255.

    Args:
        channels: of the images; for other numbers than 3 their mean is taken.
    """
    weights = np.array(LUMA if channels == 3 else [1 / channels] * channels, np.float32)
    return Linear(weights[:, None] / 255, np.zeros(1, np.float32), axes=1, name="grey")


def whitened(train: Split, *, epsilon: float = 0.1) -> layers.Layer:
    """ZCA whitening (Bell & Sejnowski 1997; with ε as Coates et al. 2011, section 3.1): (x − mean) U (S + ε)^−½ Uᵀ.

    x is the standardised image as a vector, U S Uᵀ its covariance over the train split. The output has almost uncorrelated
    pixels with variance S / (S + ε) along each principal direction.

    Args:
        epsilon: ε, relative to a mean variance of 1; it limits the amplification of directions with little variance, among them
            those that a train split with fewer images than pixels does not span.
    """
    mean, variance = _moments(train, per_channel=False)
    shape = train.batch(np.arange(1)).shape[1:]
    n, pixels = len(train), int(np.prod(shape))
    total, products = np.zeros(pixels), np.zeros((pixels, pixels))
    for first in range(0, n, CHUNK):
        x = (train.batch(np.arange(first, min(first + CHUNK, n))).reshape(-1, pixels) - mean) / np.sqrt(variance)
        total += x.sum(axis=0)
        products += x.T @ x
    centre = total / n
    strengths, directions = np.linalg.eigh(products / n - np.outer(centre, centre))
    matrix = (directions / np.sqrt(np.maximum(strengths, 0) + epsilon)) @ directions.T / np.sqrt(variance)
    offset = -(mean + centre * np.sqrt(variance)) @ matrix
    return Linear(matrix.astype(np.float32), offset.astype(np.float32), axes=3, name="whiten")


def _moments(train: Split, per_channel: bool) -> tuple:
    """Mean and variance, as floats or as lists with one for each channel, from exact counts of the 256 pixel values."""
    images, values = train.images, np.arange(256.0)
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])])
    shares = counts / counts.sum(axis=1, keepdims=True)
    if not per_channel:
        shares = shares.mean(axis=0, keepdims=True)
    mean = shares @ values
    variance = shares @ values**2 - mean**2
    return (mean.tolist(), variance.tolist()) if per_channel else (float(mean[0]), float(variance[0]))


@keras.saving.register_keras_serializable("common")
class Linear(layers.Layer):
    """x A + b over the last axes. A and b are constants, not weights, so they do not count as parameters of the model.

    Args:
        matrix: A [inputs, outputs]; offset: b [outputs]; None for zeros, when a saved model is loaded.
        axes: number of axes that x A contracts: 1 for the channels, 3 for the flattened image, whose shape is restored.
        size: shape of A where `matrix` is None.
    """

    def __init__(self, matrix=None, offset=None, *, axes: int, size: tuple[int, int] | None = None, **options):
        super().__init__(**options)
        self.axes = axes
        self.matrix = np.zeros(size, np.float32) if matrix is None else matrix
        self.offset = np.zeros(size[1:], np.float32) if offset is None else offset

    def call(self, inputs):
        x = keras.ops.cast(inputs, "float32")
        if self.axes == 1:
            return keras.ops.cast(keras.ops.matmul(x, self.matrix) + self.offset, self.compute_dtype)
        flat = keras.ops.reshape(x, (-1, self.matrix.shape[0]))
        whole = keras.ops.matmul(flat, self.matrix) + self.offset
        return keras.ops.cast(keras.ops.reshape(whole, (-1, *inputs.shape[1:])), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "axes": self.axes, "size": self.matrix.shape}

    def save_own_variables(self, store):
        store["matrix"], store["offset"] = self.matrix, self.offset

    def load_own_variables(self, store):
        self.matrix, self.offset = np.array(store["matrix"]), np.array(store["offset"])
