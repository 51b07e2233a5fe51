"""`Feed`: the inputs of compiled updates, which take the examples of many batches in one call."""

import numpy as np
import tensorflow as tf

from common.training import adapters, augmentation
from common.training.stage import Stage

RESIDENT_BYTES = 2**30
"""Images of a train split that rest in the memory of a GPU, at most; those of a larger one are sent with each call."""


class Feed:
    """Inputs for the updates of a stage, as `signature` lists them.

    On a GPU the train split rests in its memory, and the order and the uniforms of an epoch are sent once. Elsewhere a call
    gets the examples of its batches alone.
    """

    def __init__(self, trial, stage: Stage):
        self.trial, self.stage = trial, stage
        train = stage.train
        size = np.prod(trial.input_shape) * len(train)
        self.device = trial.strategy.extended.worker_devices[0]
        self.is_resident = is_gpu(self.device) and size <= RESIDENT_BYTES
        self.arrays = [train.labels, *([] if stage.sample_weight is None else [stage.sample_weight])]
        if self.is_resident:
            with tf.device(self.device):
                self.images, *self.arrays = map(tf.constant, (train.images, *self.arrays))

    def start_epoch(self, epoch: int) -> None:
        """Draw the order and the uniforms of an epoch, counted over all stages."""
        train, streams = self.stage.train, self.trial.streams
        self.order = streams.generator("order", epoch).permutation(len(train)).astype(np.int32)
        self.uniforms = self.draws(epoch)
        if self.is_resident:
            with tf.device(self.device):
                self.order_there, self.uniforms = tf.constant(self.order), tf.constant(self.uniforms)

    def draws(self, epoch: int) -> np.ndarray:
        """Uniforms of an epoch for each training example, drawn for all ids, so that they do not depend on the subset."""
        ids = self.stage.train.ids
        count = max(self.trial.official_size, int(ids.max()) + 1)
        return augmentation.draws(self.trial.streams, epoch, self.stage.augment, count)[ids]

    def edges(self, first: int, last: int) -> np.ndarray:
        """Positions in the epoch's order at which the batches `first` to `last` (exclusive) begin, and that of the end."""
        return np.minimum(np.arange(first, last + 1) * self.trial.batch_size, len(self.stage.train)).astype(np.int32)

    def inputs(self, first: int, last: int, number: int) -> tuple:
        """Inputs of a call for the batches `first` to `last` (exclusive) of the epoch.

        Args:
            number: number of the first update within the stage.
        """
        edges = self.edges(first, last)
        bounds, counts = zip(*(adapters.split_batch(size, self.trial.replicas) for size in np.diff(edges)), strict=True)
        shares = np.stack(counts), np.stack(bounds), np.int32(number)
        if self.is_resident:
            labels, *weights = self.arrays
            return (self.images, labels, self.uniforms, self.order_there, edges, *shares, *weights)
        positions = self.order[edges[0] : edges[-1]]
        labels, *weights = (array[positions] for array in self.arrays)
        here = np.arange(len(positions), dtype=np.int32)
        images = self.stage.train.batch(positions)
        return (images, labels, self.uniforms[positions], here, edges - edges[0], *shares, *weights)


def is_gpu(device: str) -> bool:
    """Whether a device, by its name in TensorFlow, is a GPU."""
    return "GPU" in device.upper()


def signature(trial, stage: Stage) -> list[tf.TensorSpec]:
    """Inputs of a call of updates.

    Images uint8 [n, height, width, channels], labels [n, …] and uniforms float32 [n, augmentations, 8] of examples; int32
    [positions] of the examples in the order of the batches; int32 [updates + 1], where in it each batch begins and the last
    ends; float32 [updates], the divisors of summed losses, and int32 [updates, 2, replicas], the replicas' parts (see
    `adapters.split_batch`); the number of the first update; and, if there are any, sample weights [n].
    """
    labels = stage.train.labels
    return [
        tf.TensorSpec((None, *trial.input_shape), tf.uint8),
        tf.TensorSpec((None, *labels.shape[1:]), labels.dtype),
        tf.TensorSpec((None, len(stage.augment), augmentation.UNIFORMS), tf.float32),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None, 2, trial.replicas), tf.int32),
        tf.TensorSpec((), tf.int32),
        *([tf.TensorSpec((None,), tf.float32)] if stage.sample_weight is not None else []),
    ]
