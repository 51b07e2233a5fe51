"""Models for fits that the tests of training share, and what a refused fit must look like."""

import keras
import numpy as np
import pytest
from keras import callbacks, layers, losses, optimizers

from common.errors import Misuse


def network(trial, activation=None, **options):
    inputs = keras.Input(trial.input_shape, **options)
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, activation, name="logits")(x))


class Subclass(keras.Model):
    """A subclassed model."""

    def __init__(self, classes, activation=None, **options):
        super().__init__(name="subclass")
        self.flatten, self.logits = layers.Flatten(), layers.Dense(classes, activation, name="logits", **options)

    def call(self, images, training=None):
        return self.logits(self.flatten(images) / 255)


def as_task(trial, task):
    """Change the task of a trial. Returns it."""
    generator = np.random.default_rng(0)
    trial.task, trial.classes = task, task.outputs(trial.classes)
    trial.train, trial.val = (task.change(split, generator) for split in (trial.train, trial.val))
    trial.input_shape = trial.train.batch(np.arange(1)).shape[1:]
    return trial


def refused(trial, message, build=network, **options):
    """Check that `Trial.fit` raises `Misuse` with a message, in one line and before any update."""
    began = []
    options = {"optimizer": optimizers.SGD(0.1), "loss": losses.CategoricalCrossentropy(from_logits=True), **options}
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: began.append(epoch))
    options["callbacks"] = [*options.get("callbacks", []), trial.unsaved(watch)]
    with pytest.raises(Misuse, match=message) as caught:
        trial.fit(build(trial), **options)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not began
    trial.fits.clear()


BINARY = losses.BinaryCrossentropy(from_logits=True)


def two_players(trial, **options):
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(inputs)
    return keras.Model(inputs, [layers.Dense(1, name=name, **options)(x) for name in ("up", "down")])


def against(model, images, targets, seed):
    total = keras.ops.sum(sum(model(images, training=True)), axis=-1)
    return {"up": -total, "down": total}, None
