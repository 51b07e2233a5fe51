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
from common.errors import Misuse
from common.text import did_you_mean
from common.training import graphs

UNIFORMS = 8
"""Numbers that each augmentation may use per example."""

CHANGES = ("pixels", "orientation", "targets")
"""What an augmentation may change of an example: what it shows, how it is turned, mirrored or sheared, and its target."""

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def changes(*what: str) -> Callable[[Augmentation], Augmentation]:
    """A decorator by which an augmentation declares what it changes, among `CHANGES`.

    One that declares nothing is tried on a few examples: that shows whether targets change, not whether images are turned.

    Raises:
        Misuse: a name that is not there.
    """
    unknown = [name for name in what if name not in CHANGES]
    if unknown:
        hint = did_you_mean(unknown[0], CHANGES)
        raise Misuse(f"an augmentation changes some of {', '.join(CHANGES)}. Received: {unknown[0]!r}{hint}")

    def declare(augmentation: Augmentation) -> Augmentation:
        augmentation.changes = frozenset(what)
        return augmentation

    return declare


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


def apart(augmentation: Augmentation) -> Augmentation:
    """An augmentation that may be called outside of updates, and leaves the variables that it writes to as they were."""
    ours = getattr(augmentation, "__globals__", {}).get("__name__") == "common.augment"
    return augmentation if ours else graphs.putting_back(augmentation)  # ours write to none, and take long to trace


def apply(augmentations: Sequence[Augmentation], images, targets, uniforms):
    """Apply augmentations in order; uniforms [batch, augmentations, 8]."""
    for i, augmentation in enumerate(augmentations):
        images, targets = augmentation(images, targets, uniforms[:, i])
    return images, targets
