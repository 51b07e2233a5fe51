"""Arms that train a case of `classification.py` with a deliberate mistake in the training code. See `golden.py`."""

import pathlib
from unittest import mock

import keras
import tensorflow as tf

from common import losses
from common.data.streams import Streams
from common.experiment import Experiment
from common.training import augmentation, noise
from common.training.execution import load_script

CLASSIFICATION = pathlib.Path(__file__).with_name("classification.py")
squared_error, draws, generator = losses.softmax_squared_error, augmentation.draws, Streams.generator


def weighted_loss(targets, logits):
    """The loss multiplied by 1.02."""
    return 1.02 * squared_error(targets, logits)


def later_draws(streams, epoch, augmentations, examples):
    """The draws of the next epoch."""
    return draws(streams, epoch + 1, augmentations, examples)


def clip_each(optimizer, gradients):
    """Clip the gradient of each variable, instead of all together, to the global norm."""
    return [tf.clip_by_norm(gradient, optimizer.global_clipnorm) for gradient in gradients]


def other_order(streams, stream, *parts):
    """Another permutation of the examples in each epoch."""
    return generator(streams, stream, *parts, *(["again"] if stream == "order" else []))


MUTATIONS = {
    "no mutation": mock.patch.object(Streams, "generator", generator),
    "loss": mock.patch.object(losses, "softmax_squared_error", weighted_loss),
    "augmentation": mock.patch.object(augmentation, "draws", later_draws),
    "clipping": mock.patch.object(keras.optimizers.Optimizer, "_clip_gradients", clip_each),
    "shuffle": mock.patch.object(Streams, "generator", other_order),
    "dropout": mock.patch.object(noise, "seed_noise", lambda *_: None),
}
CASES = {
    "no mutation": "augment.translation",
    "loss": "losses.softmax_squared_error",
    "augmentation": "augment.translation",
    "clipping": "keras.optimizers.SGD, global_clipnorm",
    "shuffle": "keras.optimizers.SGD",
    "dropout": "models.small_cnn, dropout",
}
"""The case that each mutation affects."""


def train(trial, *, mutation, case):
    """Train the case with the mutation."""
    with MUTATIONS[mutation]:
        # Loaded again, so that its cases contain the mutated functions.
        return load_script(CLASSIFICATION).train(trial, case=case)


experiment = Experiment(
    train,
    arms={name: {"mutation": name, "case": CASES[name]} for name in MUTATIONS},
    setting=load_script(CLASSIFICATION).settings["full"],
    baseline=None,
)
