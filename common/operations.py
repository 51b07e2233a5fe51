"""The operations that policies of augmentation are made of, with the ranges of AutoAugment (Cubuk et al. 2019, table 6).

Images are float32 0 … 255 [batch, height, width, channels].
"""

import math

import tensorflow as tf

from common.policies import OPERATIONS

GEOMETRY = ("rotate", "shear x", "shear y", "translate x", "translate y")
"""Operations that move pixels; the border becomes black."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))
"""Kernel, times 13, of the blurred image that sharpness interpolates with, as in the Python Imaging Library and the paper."""


def warp(images, a, b, x0, c, d, y0, interpolation="BILINEAR", fill="REFLECT"):
    """Affine transform: output pixel (x, y) is input pixel (a·x + b·y + x0, c·x + d·y + y0); coefficients [batch]."""
    zeros = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, x0, c, d, y0, zeros, zeros], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode=fill,
    )


def apply_drawn(images: tf.Tensor, which: tf.Tensor, direction: tf.Tensor, strength: float) -> tf.Tensor:
    """Apply to each image one operation, drawn from `OPERATIONS`.

    Args:
        which: uniforms [batch] that choose the operations.
        direction: uniforms [batch]; the sign is positive below ½.
        strength: 0 … 1, see `apply_operation`.
    """
    drawn = tf.cast(tf.floor(which * len(OPERATIONS)), tf.int32)
    signed = _signed(direction, strength)

    def on(*names):
        """Whether one of these operations was drawn: bool [batch]."""
        return tf.reduce_any([drawn == OPERATIONS.index(name) for name in names], axis=0)

    result = tf.where(on(*GEOMETRY)[:, None, None, None], _transformed(images, on, signed), images)
    for name in OPERATIONS[1:]:
        if name not in GEOMETRY:
            result = tf.where(on(name)[:, None, None, None], _recoloured(images, name, signed, strength), result)
    return result


def apply_operation(images: tf.Tensor, name: str, direction: tf.Tensor, strength: float) -> tf.Tensor:
    """Apply the same operation to all images, each with a sign of its own.

    Args:
        name: one of `OPERATIONS`.
        direction: uniforms [batch]; the sign is positive below ½.
        strength: 0 … 1, of the full range: rotate 30°, shear 0.3, translate 150/331 of the side, brightness, colour, contrast and
            sharpness by a factor of 1 ± 0.9, posterize to 4 bits, solarize all pixels. Identity, auto contrast and equalize have
            none.
    """
    signed = _signed(direction, strength)
    if name in GEOMETRY:
        return _transformed(images, lambda other: tf.fill(tf.shape(signed), other == name), signed)
    return images if name == "identity" else _recoloured(images, name, signed, strength)


def _signed(direction, strength):
    """The strength with the sign of each image: [batch]."""
    return strength * tf.where(direction < 0.5, 1.0, -1.0)


def _recoloured(images, name, signed, strength):
    """Images after an operation that moves no pixels.

    Args:
        signed: strength with its sign, [batch].
    """
    if name in BLENDED:
        other = BLENDED[name](images)
        return tf.clip_by_value(other + (1 + 0.9 * signed[:, None, None, None]) * (images - other), 0, 255)
    if name == "posterize":
        step = 2.0 ** round(4 * strength)
        return tf.floor(images / step) * step
    if name == "solarize":
        return tf.where(images >= 256 - 256 * strength, 255 - images, images)
    return {"auto contrast": _auto_contrast, "equalize": _equalize}[name](images)


def _transformed(images, on, signed):
    """Rotated, sheared or translated images; the border becomes black.

    Args:
        on: f(name of an operation) -> whether it was drawn, bool [batch].
        signed: strength with its sign, [batch].
    """

    def amount(name, most):
        return tf.where(on(name), most * signed, 0.0)

    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    angle = amount("rotate", math.radians(30))
    cos, sin = tf.cos(angle), tf.sin(angle)
    across, down = amount("shear x", 0.3), amount("shear y", 0.3)
    a, b, c, d = cos, across - sin, down + sin, cos  # each image has at most one of the three transforms
    y, x = (height - 1) / 2, (width - 1) / 2
    x0 = x - a * x - b * y + amount("translate x", 150 / 331 * width)
    y0 = y - c * x - d * y + amount("translate y", 150 / 331 * height)
    return warp(images, a, b, x0, c, d, y0, fill="CONSTANT")


def _grey(images):
    """The luma of the images, repeated in three channels; images of one channel as they are."""
    if images.shape[-1] != 3:
        return images
    return tf.repeat(tf.tensordot(images, tf.constant(LUMA), axes=1)[..., None], 3, axis=-1)


def _mean(images):
    """Images whose pixels all have the mean luma of the image."""
    return tf.zeros_like(images) + tf.reduce_mean(_grey(images), axis=[1, 2, 3], keepdims=True)


def _smooth(images):
    """Blurred images: each pixel averaged with its neighbours by `SMOOTH`; border pixels are unchanged."""
    channels = images.shape[-1]
    kernel = tf.tile(tf.constant(SMOOTH, tf.float32)[:, :, None, None] / 13, (1, 1, channels, 1))
    inner = tf.nn.depthwise_conv2d(images, kernel, (1, 1, 1, 1), "VALID")
    interior = tf.pad(tf.ones_like(inner), [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.where(interior > 0, tf.pad(inner, [[0, 0], [1, 1], [1, 1], [0, 0]]), images)


def _auto_contrast(images):
    """Each channel rescaled to 0 … 255; a constant channel is unchanged."""
    low, high = tf.reduce_min(images, axis=[1, 2], keepdims=True), tf.reduce_max(images, axis=[1, 2], keepdims=True)
    return tf.where(high > low, tf.math.divide_no_nan(255 * (images - low), high - low), images)


def _equalize(images):
    """Histogram equalisation of each channel: 255 (F(v) − F(min)) / (1 − F(min)), F the distribution function of its values v."""
    batch, height, width, channels = tf.unstack(tf.shape(images))
    values = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.int32)
    values = tf.reshape(tf.transpose(values, (0, 3, 1, 2)), (batch * channels, height * width))
    offsets = 256 * tf.range(batch * channels)[:, None]
    ones = tf.ones_like(values, tf.float32)
    counts = tf.math.unsorted_segment_sum(ones, values + offsets, 256 * batch * channels)
    below = tf.cumsum(tf.reshape(counts, (batch * channels, 256)), axis=1)
    equal = tf.gather(below, values, batch_dims=1)
    least, every = tf.reduce_min(equal, axis=1, keepdims=True), tf.cast(height * width, tf.float32)
    spread = tf.where(every > least, tf.math.divide_no_nan(255 * (equal - least), every - least), tf.cast(values, tf.float32))
    return tf.transpose(tf.reshape(spread, (batch, channels, height, width)), (0, 2, 3, 1))


BLENDED = {"brightness": tf.zeros_like, "colour": _grey, "contrast": _mean, "sharpness": _smooth}
"""Operations that blend an image with another one, by a factor of 1 ± 0.9, and the function that makes it."""
