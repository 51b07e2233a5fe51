import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from keras import optimizers

from common import gan
from common.data.split import Split
from common.errors import Misuse
from common.running.progress import Display
from common.training.seeding import seeded_weights


@pytest.fixture
def trial(make_trial):
    trial = make_trial(epochs=1, train_size=32)
    with seeded_weights(trial.streams):
        yield trial


def players(rate=1e-3):
    return {name: optimizers.Adam(rate, beta_1=0.5) for name in ("generator", "discriminator")}


@pytest.mark.slow
def test_a_gan_trains_both_networks_and_has_no_accuracy(trial):
    model, reported = gan.conditional_gan(trial, width=4), []
    trial.host = dataclasses.replace(trial.host, report=lambda **progress: reported.append(progress))
    before = {name: model.get_layer(name).get_weights() for name in players()}
    trial.fit(model, optimizer=players(), step=gan.adversarial)
    for name, weights in before.items():
        assert not any(
            np.array_equal(a, b) for a, b in zip(weights, model.get_layer(name).get_weights(), strict=True) if a.size > 9
        )
    assert "val_accuracy" not in trial.fits["fit"].history[0]
    shown = [cell.plain for cell in Display._cells(SimpleNamespace(entry="GAN", seed=0), reported[0])]
    assert any(text.startswith("loss") for text in shown) and not any(text.startswith("acc") for text in shown)


@pytest.mark.slow
@pytest.mark.parametrize(("moves", "stays"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_network_with_learning_rate_0_does_not_change(trial, moves, stays):
    model = gan.conditional_gan(trial, width=4)
    before = {name: model.get_layer(name).get_weights() for name in (moves, stays)}
    trial.fit(model, optimizer={moves: optimizers.SGD(0.1), stays: optimizers.SGD(0.0)}, step=gan.adversarial)
    assert arrays_equal(before[stays], model.get_layer(stays).get_weights())
    assert not arrays_equal(before[moves], model.get_layer(moves).get_weights())


def test_adversarial_losses_for_constant_logits_by_hand(trial):
    model = gan.conditional_gan(trial, width=4)
    judge = model.get_layer("discriminator")
    judge.set_weights([np.zeros_like(w) for w in judge.get_weights()])  # logit 0 for real and generated images
    images, targets = tf.zeros((6, *trial.input_shape)), tf.one_hot(np.arange(6), 10)
    losses, outputs = gan.adversarial(model, images, targets, tf.constant([1, 2]))
    assert outputs is None
    assert losses["generator"].numpy() == pytest.approx(np.full(6, np.log(2)))
    assert losses["discriminator"].numpy() == pytest.approx(np.full(6, 2 * np.log(2)))
    judge.get_layer("real").set_weights([np.zeros((8, 1)), np.array([3.0])])  # logit 3 for all images
    losses, _ = gan.adversarial(model, images, targets, tf.constant([1, 2]))
    assert losses["generator"].numpy() == pytest.approx(np.full(6, np.log1p(np.exp(-3))))
    assert losses["discriminator"].numpy() == pytest.approx(np.full(6, np.log1p(np.exp(-3)) + np.log1p(np.exp(3))))


def test_generated_images_depend_on_the_seed_and_the_class(trial):
    model = gan.conditional_gan(trial, width=4)
    labels = np.repeat([3, 7], 4)
    images = gan.generated(trial, model, labels)
    assert (images.shape, images.dtype) == ((8, *trial.input_shape), np.uint8)
    assert np.array_equal(images, gan.generated(trial, model, labels))
    other = gan.generated(trial, model, np.repeat([7, 3], 4))
    assert not np.array_equal(images, other)  # the same noise with another class


@pytest.mark.slow
def test_a_gan_learns_a_pattern_for_each_class(make_trial):
    """Two classes, bright on the left and on the right: generated images have the same pattern."""
    trial = make_trial(epochs=60, batch_size=8, train_size=64, classes=2, input_shape=(8, 8, 1))
    labels = np.arange(64) % 2
    images = np.zeros((64, 8, 8, 1), np.uint8)
    images[labels == 0, :, :4] = images[labels == 1, :, 4:] = 200
    trial.train = trial.val = Split.of(images, labels, 2)
    with seeded_weights(trial.streams):
        model = gan.conditional_gan(trial, width=8)
        trial.fit(model, optimizer=players(2e-3), step=gan.adversarial)
    for c, sign in ((0, 1), (1, -1)):
        made = gan.generated(trial, model, np.full(16, c)).astype(float)
        assert sign * (made[:, :, :4].mean() - made[:, :, 4:].mean()) > 50


def test_images_with_sides_that_are_not_multiples_of_4_are_refused(make_trial):
    with pytest.raises(Misuse, match="multiples of 4. Received: 14x14"):
        gan.conditional_gan(make_trial(input_shape=(14, 14, 1)))
    keras.utils.clear_session()
