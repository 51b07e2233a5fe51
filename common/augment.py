"""Augmentations: stateless functions on batches (see `common.training.augmentation` for their arguments).

Those that mix images (`mixup`, `cutmix`) mix each example with the one before it in the batch; batches are shuffled in each
epoch. With several replicas each mixes within its part of the batch, so the pairs depend on the number of replicas.
"""

import math

import tensorflow as tf

from common.errors import Misuse
from common.operations import OPERATIONS, apply_drawn, apply_operation, warp
from common.text import did_you_mean
from common.training.augmentation import UNIFORMS, Augmentation, changes


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
        return warp(images, ones, zeros, shift[:, 1], zeros, ones, shift[:, 0], "NEAREST", "CONSTANT"), targets

    return translation


def rotation(degrees: float = 15) -> Augmentation:
    """Rotate about the centre by −degrees … degrees, uniformly; the corners are filled by reflection."""

    @changes("orientation")
    def rotation(images, targets, uniforms):
        angle = (2 * uniforms[:, 0] - 1) * math.radians(degrees)
        cos, sin = tf.cos(angle), tf.sin(angle)
        middle = (tf.cast(tf.shape(images)[1:3], tf.float32) - 1) / 2
        y, x = middle[0], middle[1]
        return warp(images, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), targets

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
        return warp(images, scale, zeros, x0, zeros, scale, y0), targets

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


# --- policies --------------------------------------------------------------------------------------------------------


def rand_augment(operations: int = 2, strength: float = 0.3) -> Augmentation:
    """RandAugment (Cubuk et al. 2020): apply N operations, drawn uniformly from `OPERATIONS`, with random signs.

    At strength 0 images are unchanged, except by auto contrast and equalize, which have no strength.

    Args:
        operations: N of the paper, at most 4.
        strength: M of the paper, 10 at most, as a fraction of 10; see `common.operations.apply_operation`.
    """
    if not (1 <= operations <= UNIFORMS // 2 and 0 <= strength <= 1):
        raise Misuse(f"rand_augment takes 1 to 4 operations and a strength from 0 to 1. Received: {operations}, {strength}")

    @changes("pixels", "orientation")
    def rand_augment(images, targets, uniforms):
        for i in range(operations):
            images = apply_drawn(images, uniforms[:, 2 * i], uniforms[:, 2 * i + 1], strength)
        return images, targets

    return rand_augment


def operation(name: str, strength: float, probability: float = 0.5) -> Augmentation:
    """Apply an operation, with a probability and a random sign: a step of a policy (AutoAugment, Cubuk et al. 2019).

    Args:
        name: one of `common.operations.OPERATIONS`.
        strength: 0 … 1, see `common.operations.apply_operation`.

    Raises:
        Misuse: another name, or a number that is not in 0 … 1.
    """
    if name not in OPERATIONS:
        raise Misuse(f"operation must be one of {', '.join(OPERATIONS)}. Received: {name!r}{did_you_mean(name, OPERATIONS)}")
    if not (0 <= strength <= 1 and 0 <= probability <= 1):
        raise Misuse(f"operation takes a strength and a probability from 0 to 1. Received: {strength}, {probability}")

    @changes("pixels", *(["orientation"] if name in ("rotate", "shear x", "shear y") else []))
    def operation(images, targets, uniforms):
        changed = apply_operation(images, name, uniforms[:, 1], strength)
        return tf.where(uniforms[:, 0, None, None, None] < probability, changed, images), targets

    return operation
