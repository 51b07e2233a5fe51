"""Declaring, drawing and applying augmentations.

An augmentation is a function `f(images, targets, uniforms) -> images, targets`: images float32 0 … 255 [batch, height,
width, channels], targets one-hot float32 [batch, classes], uniforms float32 in [0, 1) [batch, 8]. The uniforms are its only
randomness. `draws` makes them from (seed, epoch, augmentation, example), so that the arms "flip" and "flip and crop" flip the
same images; layers of Keras cannot be seeded per example.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from common.data.streams import Streams
from common.errors import Misuse
from common.text import did_you_mean
from common.training import graphs

UNIFORMS = 8
"""Uniform random numbers per example and augmentation."""

CHANGES = ("pixels", "orientation", "targets")
"""Properties of an example that an augmentation may change; `orientation` stands for rotations, reflections and shears."""

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def changes(*what: str) -> Callable[[Augmentation], Augmentation]:
    """Decorator that declares what an augmentation changes, some of `CHANGES`.

    Without a declaration a probe on a few examples shows whether targets change, but not whether the orientation does.

    Raises:
        Misuse: a name that is not in `CHANGES`.
    """
    unknown = [name for name in what if name not in CHANGES]
    if unknown:
        hint = did_you_mean(unknown[0], CHANGES)
        raise Misuse(f"an augmentation must declare some of {', '.join(CHANGES)}. Received: {unknown[0]!r}{hint}")

    def declare(augmentation: Augmentation) -> Augmentation:
        augmentation.changes = frozenset(what)
        return augmentation

    return declare


def draws(streams: Streams, epoch: int, augmentations: Sequence[Augmentation], examples: int) -> np.ndarray:
    """Uniform random numbers of one epoch, float32 [examples, augmentations, 8]; row i is for example i of the official split."""
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


def for_probing(augmentation: Augmentation) -> Augmentation:
    """The augmentation for calls outside of updates: variables that it writes to are restored after each call."""
    built_in = getattr(augmentation, "__globals__", {}).get("__name__") == "common.augment"
    return augmentation if built_in else graphs.without_side_effects(augmentation)  # those write none, and tracing takes long


def apply(augmentations: Sequence[Augmentation], images, targets, uniforms):
    """Apply augmentations in order, each with its uniforms from [batch, augmentations, 8]."""
    for i, augmentation in enumerate(augmentations):
        images, targets = graphs.traced_call(augmentation, images, targets, uniforms[:, i])
    return images, targets
