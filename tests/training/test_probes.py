"""Losses, augmentations and models that would train wrongly are refused in one line, before training starts."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from fits import BINARY, Subclass, as_task, network, refused
from keras import layers, losses, optimizers

from common import augment, tasks
from common import losses as ours
from common.errors import Misuse
from common.training.seeding import seeded_weights

SPARSE = losses.SparseCategoricalCrossentropy(from_logits=True)


@augment.changes("orientation", "targets")
def turned_over(images, targets, uniforms):
    return images[:, ::-1, ::-1], targets


def blended(images, targets, uniforms):
    """An augmentation without a declaration."""
    return images, 0.9 * targets + 0.1 * tf.roll(targets, 1, axis=0)


def custom_hinge(targets, logits):
    """A loss without a declaration, for targets of 0 and 1."""
    signs = tf.where(targets == 1.0, 1.0, -1.0)
    return tf.reduce_mean(tf.nn.relu(1 - signs * logits), axis=-1)


def test_losses_for_hard_labels_are_refused_with_mixed_labels(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    hard = [losses.Hinge(), losses.SquaredHinge(), losses.CategoricalHinge(), losses.squared_hinge, SPARSE]
    hard += [
        losses.BinaryFocalCrossentropy(from_logits=True),
        ours.pairwise_softmax,
        ours.symmetric_cross_entropy(),
        custom_hinge,
    ]
    hard += [ours.combined((1.0, BINARY), (0.1, losses.Hinge())), lambda y, z: SPARSE.call(tf.argmax(y, axis=-1), z)]
    for loss in hard:
        refused(trial, "needs targets of 0 and 1.* mixup", loss=loss, augment=[augment.mixup()])
    for mixing in (augment.cutmix(), blended):
        refused(trial, "needs targets of 0 and 1", loss=losses.SquaredHinge(), augment=[augment.flip(), mixing])
    refused(trial, "mixes examples.* mixup", sample_weight=np.ones(32), augment=[augment.mixup()])


@pytest.mark.slow
def test_losses_for_soft_labels_train_with_mixup_and_for_hard_labels_without(make_trial):
    soft = [None, losses.MeanSquaredError(), losses.CategoricalFocalCrossentropy(from_logits=True)]
    soft += [ours.generalized_cross_entropy(), ours.combined((1.0, BINARY), (0.1, BINARY))]
    trial = make_trial(train_size=16, epochs=1)
    for i, loss in enumerate(soft):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.01), loss=loss, augment=[augment.mixup()], stage=f"soft {i}")
    for i, loss in enumerate((losses.SquaredHinge(), custom_hinge)):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.01), loss=loss, augment=[augment.flip()], stage=f"hard {i}")
    assert all(0 < fit.history[0]["train_loss"] < 10 for fit in trial.fits.values())


def test_losses_that_do_not_fit_the_task_are_refused(make_trial):
    mine = lambda **options: as_task(make_trial(train_size=32, epochs=1), **options)  # noqa: E731
    for loss in (SPARSE, losses.sparse_categorical_crossentropy):
        refused(mine(task=tasks.tiles), "one class per image|emit logits", loss=loss)
    angles = mine(task=tasks.rotated)
    refused(angles, "one class per image", loss=SPARSE)
    for loss in (losses.CategoricalCrossentropy(from_logits=True), tf.nn.softmax_cross_entropy_with_logits):
        refused(angles, "do not sum to 1", loss=loss)
        refused(mine(task=tasks.tiles), "do not sum to 1", loss=loss)
    refused(angles, "must depend on the outputs", loss=losses.CategoricalFocalCrossentropy(from_logits=True))
    refused(angles, "no lower bound for targets outside 0 … 1", loss=BINARY)
    refused(angles, "needs targets of 0 and 1", loss=losses.Hinge())
    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "must depend on the outputs", loss=lambda targets, logits: tf.reduce_sum(targets, axis=-1))
    refused(trial, "one number for each example", loss=lambda targets, logits: tf.reduce_mean(tf.square(targets - logits)))
    for loss in (losses.Dice(), losses.Tversky(), losses.CategoricalGeneralizedCrossEntropy()):
        refused(trial, "emit logits", loss=loss)


def test_an_augmentation_for_angles_must_change_both_image_and_label_or_neither(make_trial):
    angles = as_task(make_trial(train_size=32, epochs=1), tasks.rotated)
    loss = losses.MeanSquaredError()
    turning = [augment.flip(), augment.rotation(), augment.rand_augment(), augment.mixup(), augment.cutmix()]
    for one in turning:
        refused(angles, f"must change both or neither. Received: {one.__name__}", loss=loss, augment=[one])
    refused(angles, "must declare what it changes", loss=loss, augment=[blended])
    fine = [augment.translation(), augment.crop(), augment.cutout(), turned_over]
    angles.fit(network(angles), optimizer=optimizers.SGD(0.01), loss=loss, augment=fine)
    with pytest.raises(Misuse, match="some of pixels, orientation, targets. Received: 'labels'"):
        augment.changes("labels")


def test_a_layer_that_changes_orientation_is_refused_where_labels_depend_on_it(make_trial):
    def turning(trial):
        inputs = keras.Input(trial.input_shape)
        return keras.Model(inputs, network(trial)(layers.RandomRotation(0.1, name="turn")(inputs)))

    trial = make_trial(train_size=32, epochs=1)
    trial.fit(turning(trial), optimizer=optimizers.SGD(0.01))
    angles = as_task(make_trial(train_size=32, epochs=1, folder="angles"), tasks.rotated)
    message = "depend on the image's orientation, which no layer may change.* Received: RandomRotation 'turn'"
    refused(angles, message, turning, loss=losses.MeanSquaredError())


@pytest.mark.parametrize("scaled", [lambda images: images / 255, lambda images: images / 127.5 - 1])
def test_an_augmentation_to_another_range_is_refused(make_trial, scaled):
    @augment.changes("pixels")
    def unit(images, targets, uniforms):
        return scaled(images), targets

    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "images of 0 … 255.* Received: unit, which returns pixels of at most 1 for those of 255", augment=[unit])
    dark = augment.changes("pixels")(lambda images, targets, uniforms: (0.02 * images, targets))
    trial.fit(network(trial), optimizer=optimizers.SGD(0.01), augment=[dark])


@pytest.mark.slow
def test_outputs_that_are_probabilities_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)

    def behind(layer):
        def build(trial):
            model = network(trial)
            return keras.Model(model.input, layer(model.output))

        return build

    for build in (
        lambda trial: network(trial, "softmax"),
        lambda trial: network(trial, "sigmoid"),
        behind(layers.Softmax()),
        behind(keras.ops.sigmoid),
        behind(lambda x: layers.Activation("linear")(keras.ops.softmax(x))),
        behind(layers.Lambda(keras.ops.softmax)),
        behind(layers.Lambda(keras.ops.sigmoid)),
        lambda trial: keras.Model(*ending_in(trial, CustomSoftmax())),
        lambda trial: keras.Model(*ending_in(zeros(trial), CustomSoftmax())),
        lambda trial: network(trial, lambda x: keras.ops.sigmoid(x)),
        lambda _: Subclass(10, "softmax"),
        lambda _: Subclass(10, "sigmoid"),
        lambda trial: keras.Sequential([layers.Flatten(), layers.Dense(10, "softmax")]),
    ):
        with seeded_weights(trial.streams):
            refused(trial, "models must emit logits", build)
    tiled = as_task(make_trial(train_size=32, epochs=1), tasks.tiles)
    refused(tiled, "models must emit logits", lambda trial: network(trial, "sigmoid"), loss=BINARY)
    angles = as_task(make_trial(train_size=32, epochs=1), tasks.rotated)
    angles.fit(network(angles, "tanh"), optimizer=optimizers.SGD(0.01), loss=losses.MeanSquaredError())
    even = [functools.partial(zeros, bias=bias) for bias in (0.1, 0.5)]  # initial outputs with sum 1, or between 0 and 1
    even += [lambda trial: keras.Model(*ending_in(zeros(trial, bias=0.1), layers.Lambda(lambda x: 1.0 * x)))]
    even += [lambda _: Subclass(10, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.1))]
    even += [lambda _: Subclass(10, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.5))]
    for i, build in enumerate((behind(layers.Activation("log_softmax")), lambda _: Subclass(10), zeros, *even)):
        with seeded_weights(trial.streams):
            trial.fit(build(trial), optimizer=optimizers.SGD(0.01), stage=f"logits {i}")
    assert all(fit.history[0]["val_nll"] > 0 for fit in trial.fits.values())


def zeros(trial, bias=0.0):
    """A model whose initial outputs are all `bias`."""
    inputs, start = keras.Input(trial.input_shape), keras.initializers.Constant(bias)
    x = layers.Flatten(name="flatten")(inputs)
    return keras.Model(inputs, layers.Dense(10, kernel_initializer="zeros", bias_initializer=start, name="logits")(x))


class CustomSoftmax(layers.Layer):
    """A softmax as a custom layer."""

    def call(self, x):
        x = keras.ops.exp(x - keras.ops.max(x, axis=-1, keepdims=True))
        return x / keras.ops.sum(x, axis=-1, keepdims=True)


def ending_in(model, layer):
    model = model if isinstance(model, keras.Model) else network(model)
    return model.input, layer(model.output)


def test_a_bad_head_is_refused_before_the_update_is_compiled(make_trial, monkeypatch):
    monkeypatch.setattr("common.training.update.compiled", lambda *_: pytest.fail("compiled"))
    refused(make_trial(train_size=32), "models must emit logits", lambda _: Subclass(10, "softmax"))
