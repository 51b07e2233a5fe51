"""Losses that Keras lacks: functions of (one-hot targets [batch, classes], logits [batch, classes]) -> losses [batch].

A loss with the attribute `hard_labels = True` needs targets of 0 and 1, so it cannot be combined with mixup or cutmix.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from common.training import probes
from common.training.adapters import per_example

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
RATIO_EXAMPLES = 256
"""Training examples over which `starting_ratio` averages two losses."""


def log_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """−y log σ(z) − (1 − y) log(1 − σ(z)) of a model with one sigmoid output z for two classes, y = 1 for the second.

    Args:
        targets: one-hot [batch, 2]; logits: (0, z) [batch, 2], as of `models.with_one_output`.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(targets[:, 1], logits[:, 1] - logits[:, 0])


def softmax_squared_error(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """mean over classes of (softmax(z) − y)²: the mean squared error of a model that ends in a softmax layer."""
    return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - targets), axis=-1)


def softmax_absolute_error(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """mean over classes of |softmax(z) − y|, which is 2 (1 − p_true) / classes (Ghosh et al. 2017)."""
    return tf.reduce_mean(tf.abs(tf.nn.softmax(logits) - targets), axis=-1)


def rescaled_squared_error(scale: float = 1.0, target: float = 1.0) -> Loss:
    """The square loss on logits of Hui & Belkin (2021): (k (z_true − M)² + Σ over other classes of z²) / classes.

    Args:
        scale: k, the weight of the true class; target: M, the target of its logit. With 1 and 1 there is no rescaling.
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
        alpha, beta, log_zero: α, β and A; the defaults are those of the paper for CIFAR-10.
    """

    def loss(targets, logits):
        forward = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        log_y = tf.where(targets > 0, tf.math.log(tf.maximum(targets, 1e-30)), log_zero)
        return alpha * forward - beta * tf.reduce_sum(tf.nn.softmax(logits) * log_y, axis=-1)

    loss.hard_labels = True  # log 0.001 = −6.9 lies below log 0 = −4
    return loss


def logit_adjusted(frequencies: Sequence[float], tau: float = 1.0) -> Loss:
    """Cross-entropy of z + τ log π, with the class frequencies π of the train split (Menon et al. 2021); predictions use z.

    Args:
        frequencies: π [classes], all above 0.
    """
    offset = tau * np.log(np.asarray(frequencies, np.float32))
    return lambda targets, logits: tf.nn.softmax_cross_entropy_with_logits(targets, logits + offset)


def negative_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """−H(p) = Σ p log p, p = softmax(z): the confidence penalty of Pereyra et al. (2017), to be added to a loss."""
    return tf.reduce_sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), axis=-1)


def pairwise_softmax(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """log(1 + Σ over absent labels of e^z) + log(1 + Σ over present labels of e^−z), multi-label (Su et al. 2022, ZLPR).

    A softmax cross-entropy on pairs of labels: it pushes the logits of present labels above 0 and those of absent ones below.
    """
    present = targets > 0.5
    left_out = tf.fill(tf.shape(logits), -1e9)
    zero = tf.zeros_like(logits[:, :1])
    absent_term = tf.reduce_logsumexp(tf.concat([zero, tf.where(present, left_out, logits)], axis=-1), axis=-1)
    present_term = tf.reduce_logsumexp(tf.concat([zero, tf.where(present, -logits, left_out)], axis=-1), axis=-1)
    return absent_term + present_term


pairwise_softmax.hard_labels = True


def shared_softmax(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Multi-label softmax cross-entropy with target 1/k for each of the k present labels (Mahajan et al. 2018)."""
    shares = targets / tf.reduce_sum(targets, axis=-1, keepdims=True)
    return tf.nn.softmax_cross_entropy_with_logits(shares, logits)


def combined(*terms: tuple[float, Loss]) -> Loss:
    """Weighted sum of losses.

    Args:
        terms: pairs (weight, loss); each loss is a function like those of this module, or a `keras.losses.Loss` on logits.
    """
    parts = [(weight, per_example(loss)) for weight, loss in terms]

    def combined(targets, logits):
        return tf.add_n([weight * part(targets, logits) for weight, part in parts])

    combined.hard_labels = any(probes.declares_hard_labels(loss) for _, loss in terms)
    return combined


def starting_ratio(trial, model: keras.Model, first: Loss, second: Loss) -> float:
    """|mean of the first loss| / |mean of the second| before training, over a random sample of the train split.

    With the weight `share * starting_ratio(…)` the second loss starts at that share of the first.

    Args:
        first, second: f(targets, outputs of the model) -> losses [batch].
    """
    positions = trial.train.drawn(RATIO_EXAMPLES, trial.streams, "losses")
    targets = tf.one_hot(trial.train.labels[positions], trial.classes)
    outputs = model(tf.cast(trial.train.batch(positions), tf.float32), training=False)
    means = [abs(float(tf.reduce_mean(loss(targets, outputs)))) for loss in (first, second)]
    return means[0] / means[1]


def class_balanced_weights(counts: Sequence[int], beta: float) -> np.ndarray:
    """Class weights (1 − β) / (1 − β^n) [classes], scaled to mean 1 (Cui et al. 2019).

    (1 − β^n) / (1 − β) is the effective number of n examples: β = 0 gives equal weights, β → 1 gives weights ∝ 1 / n.

    Args:
        counts: n, the number of training examples of each class.
    """
    weights = (1 - beta) / (1 - beta ** np.asarray(counts, np.float64))
    return weights / weights.mean()


def centre_loss(targets: tf.Tensor, features: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    """½ ‖x − c_y‖², the squared distance of the features to the centre of their class (Wen et al. 2016): [batch].

    Args:
        targets: one-hot [batch, classes]; features: x [batch, units]; centres: c [classes, units].
    """
    class_centres = tf.matmul(targets, tf.cast(centres, tf.float32))
    return 0.5 * tf.reduce_sum(tf.square(tf.cast(features, tf.float32) - class_centres), axis=-1)


@keras.saving.register_keras_serializable("common")
class Centres(keras.layers.Layer):
    """Returns the logits unchanged; its weights are the class centres of `centre_loss`, trained and saved with the model.

    Inputs: [logits [batch, classes], features [batch, units]]. The centres start at 0.
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


def with_centres(trial, model: keras.Model, layer: str, strength: float) -> tuple[keras.Model, Callable]:
    """The model with trained class centres, and a `step` of `Trial.fit`: cross-entropy plus strength · `centre_loss`.

    The loss draws the features to the centres; the centres follow the features, whatever the strength.

    Args:
        layer: name of the layer whose output [batch, units] are the features.
    """
    features = model.get_layer(layer).output
    both = keras.Model(model.input, [features, model.output])
    centres = Centres(trial.classes, name="centres")

    def step(_, images, targets, seed):
        seen, logits = (tf.cast(output, tf.float32) for output in both(images, training=True))
        inward = centre_loss(targets, seen, tf.stop_gradient(centres.centres))
        follow = centre_loss(targets, tf.stop_gradient(seen), centres.centres)  # gradient to the centres only
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits) + strength * inward + follow, logits

    return keras.Model(model.input, centres([model.output, features])), step
