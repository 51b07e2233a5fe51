"""How much training goes to and fro: the cosine between successive updates, and the ups and downs of the loss within an epoch."""

import keras
import numpy as np
import tensorflow as tf

COSINE, UPS_AND_DOWNS = "cosine of successive updates", "ups and downs of the loss"
"""Names of the measures."""


class Oscillation:
    """Measures an optimizer's updates without changing them.

    The mean over the updates u of a training of the cosine between u and the update before, over all variables together; updates
    of length 0 are left out. The numbers are variables of the optimizer, so that checkpoints save them.

    Args:
        optimizer: a new optimizer, not built yet.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self.optimizer, self.build, self.apply = optimizer, optimizer.build, optimizer.apply
        self.before: list[keras.Variable] = []
        optimizer.build, optimizer.apply = self._build, self._apply

    def _build(self, variables):
        self.build(variables)

        def added(shape, name):
            # All replicas make the same update.
            return self.optimizer.add_variable(shape, dtype="float32", aggregation="only_first_replica", name=name)

        self.before = [added(variable.shape, f"update_before_{i}") for i, variable in enumerate(variables)]
        self.total, self.count = added((), "cosines"), added((), "counted_cosines")

    def _apply(self, gradients, variables=None):
        weights = [tf.identity(variable.value) for variable in variables]
        self.apply(gradients, variables)
        updates = [tf.cast(variable.value - old, tf.float32) for variable, old in zip(variables, weights, strict=True)]
        before = [tf.identity(one.value) for one in self.before]
        lengths = tf.linalg.global_norm(updates), tf.linalg.global_norm(before)
        product = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(updates, before, strict=True)])
        self.total.assign(self.total.value + tf.math.divide_no_nan(tf.math.divide_no_nan(product, lengths[0]), lengths[1]))
        self.count.assign(self.count.value + tf.cast(tf.minimum(*lengths) > 0, tf.float32))
        for one, update in zip(self.before, updates, strict=True):
            one.assign(update)

    def record(self, trial, stage: str = "fit") -> None:
        """Record the mean cosine and the `ups_and_downs` of a trial's stage, as measures, as far as there are two updates."""
        count = float(self.count)
        if count:
            trial.record(COSINE, float(self.total) / count)
        losses = trial.fits[stage].losses
        per_epoch = len(losses) // max(trial.fits[stage].epoch, 1)
        if per_epoch > 1:
            trial.record(UPS_AND_DOWNS, ups_and_downs(losses, per_epoch), "nats")


def ups_and_downs(losses, per_epoch: int) -> float:
    """Mean of |Lₜ₊₁ − Lₜ| over successive batches of an epoch, and over the epochs.

    Args:
        losses: L, the mean loss of each batch, of whole epochs; per_epoch: batches in an epoch, at least 2.
    """
    by_epoch = np.reshape(losses, (-1, per_epoch))
    return float(np.abs(np.diff(by_epoch, axis=1)).mean())
