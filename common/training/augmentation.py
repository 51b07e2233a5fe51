"""The engine of augmentation: what an augmentation is, what it draws from, and how several are applied.

An augmentation is a function `f(images, targets, uniforms) -> images, targets`: images float32 0 … 255 [batch, height,
width, channels], targets one-hot float32 [batch, classes], uniforms float32 in [0, 1) [batch, 8]. All its chance comes
from the uniforms, which `draws` makes from (seed, epoch, augmentation, example): the arm "flip" and the arm "flip and
crop" flip the same images. Keras' own layers cannot be seeded per example.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from common.data.streams import Streams

UNIFORMS = 8
"""Numbers that each augmentation may use per example."""

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def draws(streams: Streams, epoch: int, augmentations: Sequence[Augmentation], examples: int) -> np.ndarray:
    """One epoch's uniforms, float32 [examples, augmentations, 8]; row i belongs to example i of the official split."""
    if not augmentations:
        return np.zeros((examples, 0, UNIFORMS), np.float32)
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
