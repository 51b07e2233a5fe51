"""Steps that return wrong losses, and models that cannot be trained, are refused in one line before an update."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses, optimizers, regularizers

from common.errors import Misuse
from common.training.seeding import seeded_weights


def two_layers(trial, **options):
    """A model with the hidden layer `hidden`; the layer `scale` has no weights."""
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="scale")(inputs := keras.Input(trial.input_shape)))
    x = layers.Dense(4, name="hidden", **options)(x)
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


def frozen(trial):
    model = two_layers(trial)
    model.trainable = False
    return model


def entropy(targets, logits):
    return losses.categorical_crossentropy(targets, logits, from_logits=True)


def plain(model, images, targets, seed):
    logits = model(images, training=True)
    return entropy(targets, logits), logits


def two_views(model, images, targets, seed):
    logits = model(tf.concat([images, images], axis=0), training=True)
    return entropy(tf.concat([targets, targets], axis=0), logits), None


def one_mean(model, images, targets, seed):
    losses, logits = plain(model, images, targets, seed)
    return tf.reduce_mean(losses)[None], logits


def one_output(model, images, targets, seed):
    losses, logits = plain(model, images, targets, seed)
    return losses, tf.reduce_mean(logits, axis=0, keepdims=True)


def of_targets(model, images, targets, seed):
    model(images, training=True)
    return tf.reduce_sum(targets, axis=1), None


def by_name(*names):
    return lambda model, *batch: (dict.fromkeys(names, plain(model, *batch)[0]), None)


def each(*names):
    return {name: optimizers.SGD(0.1) for name in names}


WEIGHTS = {"class_weight": [2.0] * 10}
WRONG = {
    "a frozen model": (frozen, {}, "needs trainable weights: .* Received: Functional '.*', without trainable weights"),
    "two losses an example": (two_layers, {"step": two_views}, "one loss, .* for each image: .* Received: 32 for 16 images"),
    "two losses, weighted": (two_layers, {"step": two_views, **WEIGHTS}, "Received: 32 for 16 images"),
    "a mean": (two_layers, {"step": one_mean}, "leave reduce_mean over images out. Received: 1 for 16 images"),
    "a mean, weighted": (two_layers, {"step": one_mean, **WEIGHTS}, "Received: 1 for 16 images"),
    "outputs of none": (two_layers, {"step": one_output}, "Received: 1 for 16 images"),
    "losses of targets": (two_layers, {"step": of_targets}, "depend on the weights that are trained: .* weight of the model"),
    "losses of targets, penalised": (
        lambda trial: two_layers(trial, kernel_regularizer=regularizers.L2(0.1)),
        {"step": of_targets},
        "depend on the weights that are trained",
    ),
    "losses alone": (two_layers, {"step": lambda *batch: plain(*batch)[0]}, r"must return \(losses \[batch\], outputs or None\)"),
    "an unknown layer": (
        two_layers,
        {"step": by_name("hidden", "head"), "optimizer": each("hidden", "head")},
        "layers of the model: .*, hidden, logits. Received: 'head'",
    ),
    "a layer without weights": (
        two_layers,
        {"step": by_name("scale"), "optimizer": each("scale")},
        "needs trainable weights: .* Received: Rescaling 'scale', without",
    ),
    "a name without losses": (
        two_layers,
        {"step": by_name("hidden"), "optimizer": each("hidden", "logits")},
        r"names \['hidden', 'logits'\]. Received: \['hidden'\]",
    ),
    "losses without a name": (two_layers, {"step": plain, "optimizer": each("hidden", "logits")}, "Received: .*Tensor"),
    "losses that none trains by": (
        two_layers,
        {"step": by_name("hidden", "logits"), "optimizer": each("hidden")},
        r"\['hidden'\]. Received: \['hidden', 'logits'\]",
    ),
    "names for one": (two_layers, {"step": by_name("hidden")}, r"one tensor of losses. Received: a dict with \['hidden'\]"),
}


@pytest.mark.parametrize(("build", "options", "message"), WRONG.values(), ids=WRONG)
def test_invalid_steps_and_models_give_one_line(make_trial, build, options, message):
    trial = make_trial(epochs=1, train_size=16)
    with seeded_weights(trial.streams), pytest.raises(Misuse, match=message) as refused:
        trial.fit(build(trial), **{"optimizer": optimizers.SGD(0.1), **options})
    assert "\n" not in str(refused.value)
    assert not list(trial.host.folder.glob("*.npz"))


def test_a_step_that_averages_the_losses_of_two_views_has_the_gradient_of_their_mean(make_trial):
    """With two equal views the gradient norms are those of the plain step, in batches of 16 and 4."""

    def mean_of_two(model, images, targets, seed):
        losses, _ = two_views(model, images, targets, seed)
        return tf.reduce_mean(tf.reshape(losses, (2, -1)), axis=0), None

    norms = []
    for step in (plain, mean_of_two):
        trial = make_trial(epochs=2, train_size=20, folder=step.__name__)
        with seeded_weights(trial.streams):
            trial.fit(two_layers(trial), optimizer=optimizers.SGD(0.1), step=step, **WEIGHTS)
        norms.append(trial.fits["fit"].norms)
    assert len(norms[0]) == 4
    assert np.allclose(*norms, rtol=1e-5)
