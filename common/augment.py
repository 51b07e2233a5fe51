"""Augmentations: batches in, batches out, stateless (see `common.training.augmentation` for what they are handed).

Those that mix images (`mixup`, `cutmix`) take each example's partner from the example before it in the batch, whose order
is drawn anew in each epoch. Replicas mix within their own part of a batch, so there the partners depend on their number.
"""

import math

import tensorflow as tf

from common.errors import Misuse
from common.training.augmentation import UNIFORMS, Augmentation, changes


def _warp(images, a, b, x0, c, d, y0, interpolation="BILINEAR", fill="REFLECT"):
    """Output pixel (x, y) is taken from input (a·x + b·y + x0, c·x + d·y + y0); each coefficient [batch]."""
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
    """Mirror left to right."""

    @changes("orientation")
    def flip(images, targets, uniforms):
        return tf.where(uniforms[:, 0, None, None, None] < probability, images[:, :, ::-1], images), targets

    return flip


def translation(fraction: float = 0.1) -> Augmentation:
    """Shift by whole pixels, up to `fraction` of the side in each direction; what comes in is black."""

    @changes("pixels")
    def translation(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        reach = tf.round(side * fraction)
        # floor(u · (2r + 1)) − r is uniform on −r … r
        shift = tf.floor(uniforms[:, :2] * (2 * reach + 1)) - reach
        ones, zeros = tf.ones_like(shift[:, 0]), tf.zeros_like(shift[:, 0])
        return _warp(images, ones, zeros, shift[:, 1], zeros, ones, shift[:, 0], "NEAREST", "CONSTANT"), targets

    return translation


def rotation(degrees: float = 15) -> Augmentation:
    """Turn about the centre by up to `degrees` either way; corners are filled by reflection."""

    @changes("orientation")
    def rotation(images, targets, uniforms):
        angle = (2 * uniforms[:, 0] - 1) * math.radians(degrees)
        cos, sin = tf.cos(angle), tf.sin(angle)
        middle = (tf.cast(tf.shape(images)[1:3], tf.float32) - 1) / 2
        y, x = middle[0], middle[1]
        return _warp(images, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), targets

    return rotation


def crop(smallest: float = 0.8) -> Augmentation:
    """Cut out a window of `smallest` … 1 of the side, anywhere inside, and enlarge it to the full size."""

    @changes("pixels")
    def crop(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32) - 1
        scale = smallest + (1 - smallest) * uniforms[:, 0]
        y0 = uniforms[:, 1] * (1 - scale) * side[0]
        x0 = uniforms[:, 2] * (1 - scale) * side[1]
        zeros = tf.zeros_like(scale)
        return _warp(images, scale, zeros, x0, zeros, scale, y0), targets

    return crop


# --- strong ones -----------------------------------------------------------------------------------------------------


def _inside(size, middle, length):
    """Which of `size` pixels are among the `length` about `middle` (whole numbers [batch]): bool [batch, size]."""
    first = middle[:, None] - tf.floor(length / 2)[:, None]
    pixel = tf.range(size, dtype=tf.float32)
    return (pixel >= first) & (pixel < first + length[:, None])


def _rectangles(images, uniforms, lengths):
    """Rectangles of whole lengths [batch, 2] about a pixel drawn by uniforms [batch, 2], as masks [batch, height, width, 1]."""
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    middles = tf.floor(uniforms * tf.cast([height, width], tf.float32))
    rows = _inside(tf.cast(height, tf.float32), middles[:, 0], lengths[:, 0])
    columns = _inside(tf.cast(width, tf.float32), middles[:, 1], lengths[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _before(batch):
    """Of each example the one before it in the batch; of the first the last."""
    return tf.roll(batch, 1, axis=0)


def symmetric_beta(alpha: float, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Beta(α, α) from two uniforms: ½ + ½ t / √(1 + t²), t = √(u^(−1/α) − 1) · cos 2πv (Bailey 1994; Devroye 1996)."""
    small = first ** (1 / alpha)
    cos = tf.cos(2 * math.pi * second)
    return 0.5 + 0.5 * tf.math.divide_no_nan(cos * tf.sqrt(1 - small), tf.sqrt(small + (1 - small) * cos**2))


def cutout(fraction: float = 0.5) -> Augmentation:
    """Blacken a square of `fraction` of the side about a pixel drawn anywhere; what lies outside the image is cut off.

    DeVries & Taylor (2017), who use half the side on CIFAR-10.
    """

    @changes("pixels")
    def cutout(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        lengths = tf.ones_like(uniforms[:, :2]) * tf.round(side * fraction)
        return tf.where(_rectangles(images, uniforms[:, :2], lengths), 0.0, images), targets

    return cutout


def mixup(alpha: float = 1.0) -> Augmentation:
    """λ x + (1 − λ) x′ and the same of the targets, λ ~ Beta(α, α) per example (Zhang et al. 2018; there α = 1 on CIFAR-10)."""

    @changes("pixels", "targets")
    def mixup(images, targets, uniforms):
        share = symmetric_beta(alpha, uniforms[:, 0], uniforms[:, 1])[:, None]
        mixed = share[:, :, None, None] * images + (1 - share[:, :, None, None]) * _before(images)
        return mixed, share * targets + (1 - share) * _before(targets)

    return mixup


def cutmix(alpha: float = 1.0) -> Augmentation:
    """Paste a rectangle of the partner's image, and mix the targets by area (Yun et al. 2019; there α = 1).

    λ ~ Beta(α, α); the rectangle's sides are √(1 − λ) of the image's, its middle any pixel, what lies outside is cut off.
    The partner's target counts by the share of pixels that are truly its own.
    """

    @changes("pixels", "targets")
    def cutmix(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32)
        share = symmetric_beta(alpha, uniforms[:, 0], uniforms[:, 1])[:, None]
        pasted = _rectangles(images, uniforms[:, 2:4], tf.floor(side * tf.sqrt(1 - share)))
        area = tf.reduce_mean(tf.cast(pasted, tf.float32), axis=[1, 2])
        return tf.where(pasted, _before(images), images), (1 - area) * targets + area * _before(targets)

    return cutmix


# --- RandAugment ------------------------------------------------------------------------------------------------------

OPERATIONS = (
    *("identity", "auto contrast", "equalize", "rotate", "shear x", "shear y", "translate x", "translate y"),
    *("brightness", "colour", "contrast", "sharpness", "posterize", "solarize"),
)
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))
"""Thirteenths: what sharpness blends with, in the Python imaging library and so in the paper."""


def rand_augment(operations: int = 2, strength: float = 0.3) -> Augmentation:
    """Operations in a row, each drawn from `OPERATIONS` with equal chance, and a direction where it has two (Cubuk et al. 2020).

    The list is the paper's, the ranges are those of AutoAugment (Cubuk et al. 2019, table 6), each growing with the strength:
    at 0 nothing changes, save by AutoContrast and Equalize, which have no strength.

    Args:
        operations: N of the paper, at most 4.
        strength: its M as a share of the full scale, 0 … 1: rotate 30°, shear 0.3, translate 150/331 of the side, brightness,
            colour, contrast and sharpness by a factor of 1 ± 0.9, posterize to 4 bits, solarize all pixels.
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
    """One operation on each image, the one at `which` [batch] of the list, forwards where `direction` [batch] is below ½."""
    drawn = tf.cast(tf.floor(which * len(OPERATIONS)), tf.int32)
    signed = strength * tf.where(direction < 0.5, 1.0, -1.0)

    def on(*names):
        """Whether one of these operations is an image's own."""
        return tf.reduce_any([drawn == OPERATIONS.index(name) for name in names], axis=0)

    def where(name, changed, otherwise):
        return tf.where(on(name)[:, None, None, None], changed, otherwise)

    geometry = on("rotate", "shear x", "shear y", "translate x", "translate y")
    result = tf.where(geometry[:, None, None, None], _moved(images, on, signed), images)
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


def _moved(images, on, signed):
    """Turned, sheared or shifted about the centre; what comes in is black."""

    def amount(name, most):
        return tf.where(on(name), most * signed, 0.0)

    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    angle = amount("rotate", math.radians(30))
    cos, sin = tf.cos(angle), tf.sin(angle)
    across, down = amount("shear x", 0.3), amount("shear y", 0.3)
    a, b, c, d = cos, across - sin, down + sin, cos  # of the three only one is not the identity
    y, x = (height - 1) / 2, (width - 1) / 2
    x0 = x - a * x - b * y + amount("translate x", 150 / 331 * width)
    y0 = y - c * x - d * y + amount("translate y", 150 / 331 * height)
    return _warp(images, a, b, x0, c, d, y0, fill="CONSTANT")


def _grey(images):
    """The image without its colours; a grey one is that already."""
    if images.shape[-1] != 3:
        return images
    return tf.repeat(tf.tensordot(images, tf.constant(LUMA), axes=1)[..., None], 3, axis=-1)


def _mean(images):
    """Each image's mean grey value everywhere."""
    return tf.zeros_like(images) + tf.reduce_mean(_grey(images), axis=[1, 2, 3], keepdims=True)


def _smooth(images):
    """Each pixel averaged with its neighbours; the border stays."""
    channels = images.shape[-1]
    kernel = tf.tile(tf.constant(SMOOTH, tf.float32)[:, :, None, None] / 13, (1, 1, channels, 1))
    inner = tf.nn.depthwise_conv2d(images, kernel, (1, 1, 1, 1), "VALID")
    kept = tf.pad(tf.ones_like(inner), [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.where(kept > 0, tf.pad(inner, [[0, 0], [1, 1], [1, 1], [0, 0]]), images)


def _auto_contrast(images):
    """Each channel stretched to 0 … 255; one of a single value stays."""
    low, high = tf.reduce_min(images, axis=[1, 2], keepdims=True), tf.reduce_max(images, axis=[1, 2], keepdims=True)
    return tf.where(high > low, tf.math.divide_no_nan(255 * (images - low), high - low), images)


def _equalize(images):
    """Each channel's values v replaced by 255 (F(v) − F(least)) / (1 − F(least)), F their distribution function."""
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
