"""Augmentations: stateless functions on batches (see `common.training.augmentation` for their arguments).

Those that mix images (`mixup`, `cutmix`) mix each example with the one before it in the batch; batches are shuffled in each
epoch. With several replicas each mixes within its part of the batch, so the pairs depend on the number of replicas.
"""

import math

import tensorflow as tf

from common.errors import Misuse
from common.training.augmentation import UNIFORMS, Augmentation, changes


def _warp(images, a, b, x0, c, d, y0, interpolation="BILINEAR", fill="REFLECT"):
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


def flip(probability: float = 0.5) -> Augmentation:
    """Mirror an image left to right, with a probability."""

    @changes("orientation")
    def flip(images, targets, uniforms):
        return tf.where(uniforms[:, 0, None, None, None] < probability, images[:, :, ::-1], images), targets

    return flip


def translation(fraction: float = 0.1) -> Augmentation:
    """Shift by whole pixels, uniformly up to `fraction` of height and width in either direction; the border becomes black."""

    @changes("pixels")
    def translation(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        largest = tf.round(side * fraction)
        # floor(u · (2 m + 1)) − m is uniform on −m … m
        shift = tf.floor(uniforms[:, :2] * (2 * largest + 1)) - largest
        ones, zeros = tf.ones_like(shift[:, 0]), tf.zeros_like(shift[:, 0])
        return _warp(images, ones, zeros, shift[:, 1], zeros, ones, shift[:, 0], "NEAREST", "CONSTANT"), targets

    return translation


def rotation(degrees: float = 15) -> Augmentation:
    """Rotate about the centre by −degrees … degrees, uniformly; the corners are filled by reflection."""

    @changes("orientation")
    def rotation(images, targets, uniforms):
        angle = (2 * uniforms[:, 0] - 1) * math.radians(degrees)
        cos, sin = tf.cos(angle), tf.sin(angle)
        middle = (tf.cast(tf.shape(images)[1:3], tf.float32) - 1) / 2
        y, x = middle[0], middle[1]
        return _warp(images, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), targets

    return rotation


def crop(smallest: float = 0.8) -> Augmentation:
    """Crop a window at a random place, with `smallest` … 1 of the height and width, and resize it to the full size."""

    @changes("pixels")
    def crop(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32) - 1
        scale = smallest + (1 - smallest) * uniforms[:, 0]
        y0 = uniforms[:, 1] * (1 - scale) * side[0]
        x0 = uniforms[:, 2] * (1 - scale) * side[1]
        zeros = tf.zeros_like(scale)
        return _warp(images, scale, zeros, x0, zeros, scale, y0), targets

    return crop


# --- cutout, mixup, cutmix -------------------------------------------------------------------------------------------


def _inside(size, middle, length):
    """Mask bool [batch, size] of the `length` pixels around pixel `middle`; both are whole numbers [batch]."""
    first = middle[:, None] - tf.floor(length / 2)[:, None]
    pixel = tf.range(size, dtype=tf.float32)
    return (pixel >= first) & (pixel < first + length[:, None])


def _rectangles(images, uniforms, lengths):
    """Masks bool [batch, height, width, 1] of rectangles with random centres.

    Args:
        uniforms: [batch, 2], for the centres; lengths: height and width in whole pixels, [batch, 2].
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    middles = tf.floor(uniforms * tf.cast([height, width], tf.float32))
    rows = _inside(tf.cast(height, tf.float32), middles[:, 0], lengths[:, 0])
    columns = _inside(tf.cast(width, tf.float32), middles[:, 1], lengths[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _previous(batch):
    """For each example the one before it in the batch; for the first the last."""
    return tf.roll(batch, 1, axis=0)


def symmetric_beta(alpha: float, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Sample of Beta(α, α) from uniforms u, v: ½ + ½ t / √(1 + t²), t = √(u^(−1/α) − 1) · cos 2πv (Bailey 1994; Devroye 1996).

    Args:
        first: u [batch]; second: v [batch].
    """
    small = first ** (1 / alpha)
    cos = tf.cos(2 * math.pi * second)
    return 0.5 + 0.5 * tf.math.divide_no_nan(cos * tf.sqrt(1 - small), tf.sqrt(small + (1 - small) * cos**2))


def cutout(fraction: float = 0.5) -> Augmentation:
    """Set a window with `fraction` of height and width to black, around a random pixel and clipped at the border.

    DeVries & Taylor (2017), with half the side on CIFAR-10.
    """

    @changes("pixels")
    def cutout(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        lengths = tf.ones_like(uniforms[:, :2]) * tf.round(side * fraction)
        return tf.where(_rectangles(images, uniforms[:, :2], lengths), 0.0, images), targets

    return cutout


def mixup(alpha: float = 1.0) -> Augmentation:
    """Images λ x + (1 − λ) x′ and targets λ y + (1 − λ) y′, λ ~ Beta(α, α) per example (Zhang et al. 2018; α = 1 on CIFAR-10)."""

    @changes("pixels", "targets")
    def mixup(images, targets, uniforms):
        share = symmetric_beta(alpha, uniforms[:, 0], uniforms[:, 1])[:, None]
        mixed = share[:, :, None, None] * images + (1 - share[:, :, None, None]) * _previous(images)
        return mixed, share * targets + (1 - share) * _previous(targets)

    return mixup


def cutmix(alpha: float = 1.0) -> Augmentation:
    """Replace a rectangle of each image by that of the one before it, and mix the targets by area (Yun et al. 2019; α = 1).

    λ ~ Beta(α, α); the rectangle has √(1 − λ) of height and width, around a random pixel and clipped at the border. The weight
    of the other target is the fraction of pixels that were replaced.
    """

    @changes("pixels", "targets")
    def cutmix(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        share = symmetric_beta(alpha, uniforms[:, 0], uniforms[:, 1])[:, None]
        pasted = _rectangles(images, uniforms[:, 2:4], tf.floor(side * tf.sqrt(1 - share)))
        area = tf.reduce_mean(tf.cast(pasted, tf.float32), axis=[1, 2])
        return tf.where(pasted, _previous(images), images), (1 - area) * targets + area * _previous(targets)

    return cutmix


# --- RandAugment ------------------------------------------------------------------------------------------------------

OPERATIONS = (
    *("identity", "auto contrast", "equalize", "rotate", "shear x", "shear y", "translate x", "translate y"),
    *("brightness", "colour", "contrast", "sharpness", "posterize", "solarize"),
)
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))
"""Kernel, times 13, of the blurred image that sharpness interpolates with, as in the Python Imaging Library and the paper."""


def rand_augment(operations: int = 2, strength: float = 0.3) -> Augmentation:
    """RandAugment (Cubuk et al. 2020): apply N operations, drawn uniformly from `OPERATIONS`, with random signs.

    The operations are those of the paper, their ranges those of AutoAugment (Cubuk et al. 2019, table 6). At strength 0 images
    are unchanged, except by auto contrast and equalize, which have no strength.

    Args:
        operations: N of the paper, at most 4.
        strength: M of the paper as a fraction of the full range, 0 … 1. At 1: rotate 30°, shear 0.3, translate 150/331 of the
            side, brightness, colour, contrast and sharpness by a factor of 1 ± 0.9, posterize to 4 bits, solarize all pixels.
    """
    if not (1 <= operations <= UNIFORMS // 2 and 0 <= strength <= 1):
        raise Misuse(f"rand_augment takes 1 to 4 operations and a strength from 0 to 1. Received: {operations}, {strength}")

    @changes("pixels", "orientation")
    def rand_augment(images, targets, uniforms):
        for i in range(operations):
            images = apply_operation(images, uniforms[:, 2 * i], uniforms[:, 2 * i + 1], strength)
        return images, targets

    return rand_augment


def apply_operation(images: tf.Tensor, which: tf.Tensor, direction: tf.Tensor, strength: float) -> tf.Tensor:
    """Apply one operation to each image.

    Args:
        images: float32 0 … 255 [batch, height, width, channels].
        which: uniforms [batch] that choose from `OPERATIONS`.
        direction: uniforms [batch]; the sign is positive below ½.
        strength: 0 … 1, see `rand_augment`.
    """
    drawn = tf.cast(tf.floor(which * len(OPERATIONS)), tf.int32)
    signed = strength * tf.where(direction < 0.5, 1.0, -1.0)

    def on(*names):
        """Whether one of these operations was drawn: bool [batch]."""
        return tf.reduce_any([drawn == OPERATIONS.index(name) for name in names], axis=0)

    def where(name, changed, otherwise):
        return tf.where(on(name)[:, None, None, None], changed, otherwise)

    geometry = on("rotate", "shear x", "shear y", "translate x", "translate y")
    result = tf.where(geometry[:, None, None, None], _transformed(images, on, signed), images)
    blends = {
        "brightness": tf.zeros_like(images),
        "colour": _grey(images),
        "contrast": _mean(images),
        "sharpness": _smooth(images),
    }
    for name, other in blends.items():
        factor = 1 + 0.9 * signed[:, None, None, None]
        result = where(name, tf.clip_by_value(other + factor * (images - other), 0, 255), result)
    result = where("auto contrast", _auto_contrast(images), result)
    result = where("equalize", _equalize(images), result)
    step = 2.0 ** round(4 * strength)
    result = where("posterize", tf.floor(images / step) * step, result)
    return where("solarize", tf.where(images >= 256 - 256 * strength, 255 - images, images), result)


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
    return _warp(images, a, b, x0, c, d, y0, fill="CONSTANT")


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
