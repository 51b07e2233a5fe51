"""Augmentations: batches in, batches out, stateless.

An augmentation is a function `f(images, targets, uniforms) -> images, targets`: images float32 0 … 255 [batch, height,
width, channels], targets one-hot float32 [batch, classes], uniforms float32 in [0, 1) [batch, 8]. All its chance comes
from the uniforms, which `draws` makes from (seed, epoch, augmentation, example): the arm "flip" and the arm "flip and
crop" flip the same images. Keras' own layers cannot be seeded per example.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from common.streams import Streams

UNIFORMS = 8
"""Numbers that each augmentation may use per example."""

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def draws(streams: Streams, epoch: int, augmentations: Sequence[Augmentation], examples: int) -> np.ndarray:
    """One epoch's uniforms, float32 [examples, augmentations, 8]; row i belongs to example i of the official split."""
    names = [augmentation.__name__ for augmentation in augmentations]
    return np.stack(
        [
            tf.random.stateless_uniform(
                (examples, UNIFORMS), seed=(streams.key("augment", epoch, name, names[:i].count(name)), 0)
            ).numpy()
            for i, name in enumerate(names)
        ],
        axis=1,
    )


def apply(augmentations: Sequence[Augmentation], images, targets, uniforms):
    """Apply augmentations in order; uniforms [batch, augmentations, 8]."""
    for i, augmentation in enumerate(augmentations):
        images, targets = augmentation(images, targets, uniforms[:, i])
    return images, targets


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

    def flip(images, targets, uniforms):
        return tf.where(uniforms[:, 0, None, None, None] < probability, images[:, :, ::-1], images), targets

    return flip


def translation(fraction: float = 0.1) -> Augmentation:
    """Shift by whole pixels, up to `fraction` of the side in each direction; what comes in is black."""

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

    def rotation(images, targets, uniforms):
        angle = (2 * uniforms[:, 0] - 1) * math.radians(degrees)
        cos, sin = tf.cos(angle), tf.sin(angle)
        middle = (tf.cast(tf.shape(images)[1:3], tf.float32) - 1) / 2
        y, x = middle[0], middle[1]
        return _warp(images, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), targets

    return rotation


def crop(smallest: float = 0.8) -> Augmentation:
    """Cut out a window of `smallest` … 1 of the side, anywhere inside, and enlarge it to the full size."""

    def crop(images, targets, uniforms):
        side = tf.cast(tf.shape(images)[1:3], tf.float32) - 1
        scale = smallest + (1 - smallest) * uniforms[:, 0]
        y0 = uniforms[:, 1] * (1 - scale) * side[0]
        x0 = uniforms[:, 2] * (1 - scale) * side[1]
        zeros = tf.zeros_like(scale)
        return _warp(images, scale, zeros, x0, zeros, scale, y0), targets

    return crop
