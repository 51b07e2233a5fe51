"""What a loss of Keras means on logits, one value per example."""

import inspect
from collections.abc import Callable

import keras
import tensorflow as tf

from common.errors import Misuse

WANT_PROBABILITIES = (
    *(keras.losses.KLDivergence, keras.losses.Poisson),
    *(keras.losses.kl_divergence, keras.losses.poisson),
)
"""Losses of Keras that cannot be told to take logits."""


def per_example(loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The losses [batch] of a Keras loss or function, from one-hot targets. Raises `Misuse` for what would train wrongly."""
    if loss is None:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if isinstance(loss, str) or not callable(loss):
        raise Misuse(
            "loss must be a keras.losses.Loss or a function of (targets, logits): a name stands for probabilities, and models "
            f"here emit logits. Received: {loss!r}"
        )
    if loss in WANT_PROBABILITIES or type(loss) in WANT_PROBABILITIES or _takes_probabilities(loss):
        raise Misuse(
            "models here emit logits: the loss must take them (from_logits=True), or be a function that applies softmax itself. "
            f"Received: {getattr(loss, '__name__', type(loss).__name__)}"
        )
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    if config.get("reduction", "sum_over_batch_size") not in ("sum_over_batch_size", "mean"):
        raise Misuse(f"the loss is always averaged over the batch. Received: reduction={config['reduction']!r}")
    call = loss.call if isinstance(loss, keras.losses.Loss) else loss
    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    def losses(targets, outputs):
        values = call(tf.argmax(targets, axis=-1) if sparse else targets, outputs)
        return tf.reduce_mean(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

    return losses


def _takes_probabilities(loss: Callable) -> bool:
    """Whether a loss has a choice, `from_logits`, and has not made it."""
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits", True) is False
    try:
        choice = inspect.signature(loss).parameters.get("from_logits")
    except ValueError:  # a callable without a signature
        return False
    return choice is not None and choice.default is False
