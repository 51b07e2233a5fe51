"""Python control flow on tensors, in functions of scripts that are compiled, has the effect of operations on tensors."""

import functools

import keras
import pytest
import tensorflow as tf
from conftest import arrays_equal
from keras import layers, losses, optimizers

from common.training.seeding import seeded_weights


def entropy(targets, logits):
    return losses.categorical_crossentropy(targets, logits, from_logits=True)


def is_first_class(targets):
    """Whether the batch's first example is of class 0 to 4; in some batches it is, in others not."""
    return tf.argmax(targets[0]) < 5


def doubled(targets, logits):
    """The losses, doubled in some batches."""
    if is_first_class(targets):
        return 2 * entropy(targets, logits)
    return entropy(targets, logits)


class Doubled(losses.Loss):
    def call(self, targets, logits):
        return doubled(targets, logits)


class Callable:
    def __call__(self, targets, logits):
        return doubled(targets, logits)


def scaled(factor, targets, logits):
    if is_first_class(targets):
        return factor * entropy(targets, logits)
    return entropy(targets, logits)


def in_step(model, images, targets, seed):
    logits = model(images, training=True)
    return doubled(targets, logits), logits


def brighter(images, targets, uniforms):
    for _ in tf.range(2):
        if is_first_class(targets):
            images = images + 10.0
    return images, targets


def by_operations(targets, logits):
    return tf.where(is_first_class(targets), 2.0, 1.0) * entropy(targets, logits)


def brighter_by_operations(images, targets, uniforms):
    return images + tf.where(is_first_class(targets), 20.0, 0.0), targets


def weights(trial, **options):
    """The weights of a linear model after an epoch of six batches."""
    with seeded_weights(trial.streams):
        linear = keras.Sequential([keras.Input(trial.input_shape), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10)])
        return trial.fit(linear, optimizer=optimizers.SGD(0.1), epochs=1, **options).get_weights()


CASES = {
    "function": {"loss": doubled},
    "Loss": {"loss": Doubled()},
    "object": {"loss": Callable()},
    "partial": {"loss": functools.partial(scaled, 2.0)},
    "step": {"step": in_step},
}


@pytest.fixture(scope="module")
def by_tensors(make_shared_trial):
    """The weights with the same losses without control flow."""
    return weights(make_shared_trial(train_size=96), loss=by_operations)


@pytest.mark.parametrize("kind", CASES)
def test_control_flow_in_losses_is_compiled(make_trial, by_tensors, kind):
    assert arrays_equal(weights(make_trial(train_size=96), **CASES[kind]), by_tensors)


def test_these_losses_are_doubled_in_some_batches(make_trial, by_tensors):
    assert not arrays_equal(weights(make_trial(train_size=96)), by_tensors)
    twice = weights(make_trial(train_size=96, folder="twice"), loss=lambda targets, logits: 2 * entropy(targets, logits))
    assert not arrays_equal(twice, by_tensors)


def test_control_flow_in_augmentations_is_compiled(make_trial):
    controlled, by_operations = (
        weights(make_trial(train_size=96, folder=augmentation.__name__), augment=[augmentation])
        for augmentation in (brighter, brighter_by_operations)
    )
    assert arrays_equal(controlled, by_operations)
