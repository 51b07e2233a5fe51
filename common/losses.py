"""Losses that Keras lacks: functions of (one-hot targets [batch, classes], logits [batch, classes]) -> losses [batch].

One with an attribute `hard_labels` takes targets of 0 and 1 alone, and none that an augmentation has mixed.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from common.training import probes
from common.training.adapters import per_example

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
DRAWN = 256
"""Training examples over which `starting_ratio` compares two losses."""


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


def generalized_cross_entropy(q: float = 0.7) -> Loss:
    """(1 − p_true^q) / q (Zhang & Sabuncu 2018): cross-entropy for q → 0, 1 − p_true (MAE up to a factor) for q = 1.

    Args:
        q: 0.7 in the paper.
    """

    def loss(targets, logits):
        log_p = tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)
        return (1.0 - tf.exp(q * log_p)) / q

    return loss


def symmetric_cross_entropy(alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> Loss:
    """α · −Σ y log p + β · −Σ p log y, with log 0 = A (Wang et al. 2019): the second term is −A (1 − p_true).

    Args:
        alpha, beta, log_zero: 0.1, 1 and −4 as the paper has them for CIFAR-10.
    """

    def loss(targets, logits):
        forward = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        log_y = tf.where(targets > 0, tf.math.log(tf.maximum(targets, 1e-30)), log_zero)
        return alpha * forward - beta * tf.reduce_sum(tf.nn.softmax(logits) * log_y, axis=-1)

    loss.hard_labels = True  # a target of 0.001 would count for more than one of 0
    return loss


def logit_adjusted(frequencies: Sequence[float], tau: float = 1.0) -> Loss:
    """Cross-entropy of z + τ log π, π the classes' frequencies in training (Menon et al. 2021); predictions use z itself.

    Args:
        frequencies: share of each class, all above 0.
    """
    offset = tau * np.log(np.asarray(frequencies, np.float32))
    return lambda targets, logits: tf.nn.softmax_cross_entropy_with_logits(targets, logits + offset)


def negative_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """−H(p) = Σ p log p: added to a loss, it is the penalty on confidence of Pereyra et al. (2017)."""
    return tf.reduce_sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), axis=-1)


def pairwise_softmax(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """log(1 + Σ over absent labels of e^z) + log(1 + Σ over present ones of e^−z), for several labels (Su et al. 2022, ZLPR).

    Softmax cross-entropy on pairs: every present label is to lie above 0, every absent one below.
    """
    there = targets > 0.5
    never = tf.fill(tf.shape(logits), -1e9)
    zero = tf.zeros_like(logits[:, :1])
    absent = tf.reduce_logsumexp(tf.concat([zero, tf.where(there, never, logits)], axis=-1), axis=-1)
    present = tf.reduce_logsumexp(tf.concat([zero, tf.where(there, -logits, never)], axis=-1), axis=-1)
    return absent + present


pairwise_softmax.hard_labels = True


def shared_softmax(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy where the k labels that are present share the target, 1/k each (Mahajan et al. 2018)."""
    shares = targets / tf.reduce_sum(targets, axis=-1, keepdims=True)
    return tf.nn.softmax_cross_entropy_with_logits(shares, logits)


def combined(*terms: tuple[float, Loss]) -> Loss:
    """The weighted sum of several losses, each a function or a `keras.losses.Loss` on logits: (weight, loss), …"""
    parts = [(weight, per_example(loss)) for weight, loss in terms]

    def combined(targets, logits):
        return tf.add_n([weight * part(targets, logits) for weight, part in parts])

    combined.hard_labels = any(probes.declares_hard_labels(loss) for _, loss in terms)
    return combined


def starting_ratio(trial, model: keras.Model, first: Loss, second: Loss) -> float:
    """|mean of the first loss| / |mean of the second| over drawn training examples, before anything is trained.

    A second loss is as strong as a share of the first when that share times this is its weight.

    Args:
        first, second: f(targets, what the model puts out) -> losses [batch].
    """
    drawn = trial.train.drawn(DRAWN, trial.streams, "losses")
    targets = tf.one_hot(trial.train.labels[drawn], trial.classes)
    outputs = model(tf.cast(trial.train.batch(drawn), tf.float32), training=False)
    sizes = [abs(float(tf.reduce_mean(loss(targets, outputs)))) for loss in (first, second)]
    return sizes[0] / sizes[1]


def class_balanced_weights(counts: Sequence[int], beta: float) -> np.ndarray:
    """(1 − β) / (1 − β^n) of a class with n examples, scaled to a mean of 1 over classes (Cui et al. 2019).

    The effective number of n examples is (1 − β^n) / (1 − β); β = 0 weighs all classes alike, β → 1 by 1 / n.
    """
    weights = (1 - beta) / (1 - beta ** np.asarray(counts, np.float64))
    return weights / weights.mean()


def centre_loss(targets: tf.Tensor, features: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    """½ ‖x − c_y‖² (Wen et al. 2016).

    Args:
        targets: one-hot [batch, classes]; features: [batch, units]; centres: of each class, [classes, units].
    """
    own = tf.matmul(targets, tf.cast(centres, tf.float32))
    return 0.5 * tf.reduce_sum(tf.square(tf.cast(features, tf.float32) - own), axis=-1)


@keras.saving.register_keras_serializable("common")
class Centres(keras.layers.Layer):
    """Hands the logits on, and holds the centres of the classes, so that they are trained and saved with the model.

    Called with [logits [batch, classes], features [batch, units]]. The centres start at 0, as far from all features.
    """

    def __init__(self, classes: int, **options):
        super().__init__(**options)
        self.classes = classes

    def build(self, input_shape):
        self.centres = self.add_weight(shape=(self.classes, input_shape[1][-1]), initializer="zeros", name="centres")

    def call(self, inputs):
        return inputs[0]

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}
