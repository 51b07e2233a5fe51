"""Losses that Keras lacks: functions of (one-hot targets [batch, classes], logits [batch, classes]) -> losses [batch]."""

from collections.abc import Callable

import tensorflow as tf

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def softmax_squared_error(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """mean over classes of (softmax(z) − y)²: the mean squared error as tutorials compile it, behind a softmax layer."""
    return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - targets), axis=-1)


def softmax_absolute_error(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """mean over classes of |softmax(z) − y|, which is 2 (1 − p_true) / classes (Ghosh et al. 2017)."""
    return tf.reduce_mean(tf.abs(tf.nn.softmax(logits) - targets), axis=-1)


def rescaled_squared_error(scale: float = 1.0, target: float = 1.0) -> Loss:
    """The square loss on logits of Hui & Belkin (2021): (k (z_true − M)² + Σ over other classes of z²) / classes.

    Args:
        scale: k, the weight of the true class; target: M, the logit that it should reach. Both 1 without rescaling.
    """

    def loss(targets, logits):
        squares = targets * scale * tf.square(logits - target) + (1.0 - targets) * tf.square(logits)
        return tf.reduce_mean(squares, axis=-1)

    return loss
