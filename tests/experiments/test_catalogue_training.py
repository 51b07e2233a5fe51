"""Arms of the experiments on training (04 to 13) train what their names say."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import PROJECT
from keras import layers, losses, optimizers, regularizers

from common import models
from common.optimizers import decay_kernels_alone
from common.running import plan
from common.training import prediction
from common.training.execution import load_script
from common.training.seeding import seeded_weights

pytestmark = pytest.mark.slow


def script(number):
    """The experiment of a number."""
    (path,) = (PROJECT / "experiments").glob(f"exp_{number:02}_*.py")
    return load_script(str(path))


def train(number, trial, **arguments):
    with seeded_weights(trial.streams):
        return script(number).train(trial, **arguments)


def updated(make_trial, name, optimizer, **options):
    """The weights of a small network by name and variable, before and after an update."""
    trial = make_trial(train_size=16, epochs=1, folder=name)
    with seeded_weights(trial.streams):
        model = models.small_cnn(trial, **options)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(variable + 0.1)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    trial.fit(model, optimizer=optimizer)
    return before, {variable.path: variable.numpy() for variable in model.trainable_variables}


# --- 04: penalties and decay -----------------------------------------------------------------------------------------


def test_penalties_pull_kernels_alone_and_as_their_formula_says(make_trial):
    rate, strength = 0.1, 0.03
    before, plain = updated(make_trial, "plain", optimizers.SGD(rate))
    gradients = {
        "L1": (regularizers.L1L2(strength, 0.0), np.sign),
        "L2": (regularizers.L1L2(0.0, strength), lambda w: 2 * w),
        "both": (regularizers.L1L2(strength / 10, strength), lambda w: 2 * w + np.sign(w) / 10),
    }
    for name, (penalty, gradient) in gradients.items():
        _, pulled = updated(make_trial, name, optimizers.SGD(rate), kernel_regularizer=penalty)
        for path, weight in before.items():
            pull = rate * strength * gradient(weight) if "kernel" in path else 0.0
            assert np.allclose(pulled[path], plain[path] - pull, atol=1e-6), (name, path)


def test_for_plain_sgd_decay_is_an_l2_penalty_of_half_its_strength(make_trial):
    _, penalised = updated(make_trial, "l2", optimizers.SGD(0.1), kernel_regularizer=regularizers.L2(0.05))
    _, decayed = updated(make_trial, "decay", decay_kernels_alone(optimizers.SGD(0.1, weight_decay=0.1)))
    assert all(np.allclose(decayed[path], penalised[path], atol=1e-6) for path in decayed)


def test_for_adam_decay_is_not_an_l2_penalty(make_trial):
    _, penalised = updated(make_trial, "l2", optimizers.Adam(0.01), kernel_regularizer=regularizers.L2(0.05))
    _, decayed = updated(make_trial, "decay", decay_kernels_alone(optimizers.Adam(0.01, weight_decay=0.1)))
    assert not np.allclose(decayed["logits/kernel"], penalised["logits/kernel"], atol=1e-4)


@pytest.mark.parametrize("arm", ["SGD, L1 + L2", "SGD, decay", "Adam, L2", "Adam, decay"])
def test_experiment_4_gives_each_arm_what_it_names(make_trial, arm):
    trial = make_trial(train_size=32, epochs=1)
    model = train(4, trial, **script(4).arms[arm], learning_rate=0.01, strength=0.02)
    optimizer, penalty = model.optimizer, model.get_layer("logits").kernel_regularizer
    assert type(optimizer).__name__ == arm.partition(",")[0]
    if arm.endswith("decay"):
        assert optimizer.weight_decay == 0.02
        assert [v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)] == ["kernel"] * 3
        assert penalty is None
    else:
        assert not optimizer.weight_decay
        assert float(penalty.l2) == pytest.approx(0.02)
        assert float(penalty.l1) == pytest.approx(0.002 if "L1" in arm else 0.0)


# --- 05: dropout -----------------------------------------------------------------------------------------------------


def test_dropout_acts_in_training_only(make_trial):
    model = models.small_cnn(make_trial(), dense=(64,), dropout=0.3, spatial_dropout=0.5)
    rates = {layer.name: layer.rate for layer in model.layers if "dropout" in layer.name}
    assert rates == {"spatial_dropout1": 0.5, "spatial_dropout2": 0.5, "dropout": 0.3, "dropout1": 0.3}
    maps = tf.ones((50, 4, 4, 32))
    dropped = model.get_layer("spatial_dropout2")(maps, training=True).numpy()
    assert set(np.unique(dropped)) == {0.0, 2.0}  # the rest is scaled up
    assert np.all(dropped == dropped[:, :1, :1])  # whole maps
    assert (dropped == 0).mean() == pytest.approx(0.5, abs=0.05)
    units = model.get_layer("dropout")(tf.ones((50, 400)), training=True).numpy()
    assert (units == 0).mean() == pytest.approx(0.3, abs=0.02)
    images = make_trial().train.batch(np.arange(4)).astype(np.float32)
    assert np.array_equal(model(images, training=False), model(images, training=False))
    assert not np.array_equal(model(images, training=True), model(images, training=True))


# --- 06: early stopping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_ends_in_time_and_brings_the_best_weights_back(make_trial, restore):
    trial = make_trial(train_size=40, epochs=60)
    model = train(6, trial, patience=2 / 60, learning_rate=0.01, restore=restore)
    history = trial.fits["fit"].history
    losses_seen = [row["val_loss"] for row in history]
    best = int(np.argmin(losses_seen))
    assert len(losses_seen) == best + 1 + 2 < 60  # two epochs that were no better
    logits = prediction.predict(prediction.forward(model), trial.val)
    reached = float(tf.reduce_mean(losses.SparseCategoricalCrossentropy(from_logits=True)(trial.val.labels, logits)))
    assert reached == pytest.approx(losses_seen[best if restore else -1], rel=1e-5)
    assert ("budget_used", len(history) / 60, "share of the updates") in trial.measures


# --- 08: label smoothing ---------------------------------------------------------------------------------------------


def test_label_smoothing_trains_on_softened_targets(make_trial):
    trial = make_trial(train_size=16, batch_size=16, epochs=1)
    with seeded_weights(trial.streams):
        fresh = models.small_cnn(trial)
    log_q = np.asarray(tf.nn.log_softmax(prediction.predict(prediction.forward(fresh), trial.train)))
    targets = 0.9 * np.eye(10)[trial.train.labels] + 0.1 / 10
    train(8, trial, learning_rate=0.1, label_smoothing=0.1)
    assert trial.fits["fit"].history[0]["train_loss"] == pytest.approx(-(targets * log_q).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["cutout", "mixup", "CutMix", "RandAugment"])
def test_experiment_8_trains_with_each_augmentation(make_trial, name):
    trial = make_trial(train_size=32, epochs=1)
    model = train(8, trial, learning_rate=0.01, augment=name)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    shown = trial.train.drawn(len(trial.samples), trial.streams, "samples")
    assert not np.array_equal(trial.samples, trial.train.batch(shown))


# --- 11: schedules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["inverse time", "step", "exponential", "linear", "cosine", "warm-up + cosine"])
def test_every_schedule_ends_with_the_run(make_trial, arm):
    trial = make_trial(train_size=16, batch_size=2, epochs=8)
    train(11, trial, **script(11).arms[arm], learning_rate=0.01)
    rates = [row["learning_rate"] for row in trial.fits["fit"].history]
    # After the last update, the rate of which the last row has.
    assert float(trial.models["fit"].optimizer.learning_rate) <= 0.0001 * 1.001
    assert rates[-1] <= 0.01 / 64 * 1.001
    assert max(rates) <= 0.01
    assert sorted(rates, reverse=True) == rates


def test_a_plateau_lowers_the_rate_and_constant_stays(make_trial):
    trial = make_trial(train_size=40, epochs=40)
    train(11, trial, schedule="on_plateau", learning_rate=0.05)
    rates = [row["learning_rate"] for row in trial.fits["fit"].history]
    assert rates[0] == pytest.approx(0.05)
    assert rates[-1] <= 0.005 * 1.001
    trial = make_trial(epochs=2, batch_size=64, folder="constant")
    train(11, trial, schedule="constant", learning_rate=0.05)
    assert [row["learning_rate"] for row in trial.fits["fit"].history] == pytest.approx([0.05, 0.05])


# --- 12: batch size --------------------------------------------------------------------------------------------------


def test_arms_of_equal_updates_make_as_many_as_the_one_they_name(make_trial, tmp_path):
    steps = {}
    for name, batch_size, updates_of in (
        ("8", 8, None),
        ("2", 2, 8),
        ("32", 32, 8),
        ("all", 64, 8),
        ("all, equal passes", 64, None),
    ):
        trial = make_trial(train_size=64, batch_size=batch_size, epochs=4, folder=tmp_path / name)
        train(12, trial, learning_rate=0.01, updates_of=updates_of)
        steps[name] = trial.fits["fit"].steps
    assert steps == {"8": 32, "2": 32, "32": 32, "all": 32, "all, equal passes": 4}


def test_a_smoke_run_of_large_batches_fits_its_few_images(tmp_path):
    experiment = script(12)
    trials = [(plan.Variant("batch 512", values={"learning_rate": 0.1}), 0)]
    made = plan.Planner(experiment, experiment.select(smoke=True), tmp_path).plan(trials)
    assert made.trials[0].setting.batch_size == 256


# --- 13: gradient clipping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", ["value", "norm", "global"])
def test_no_clipped_gradient_is_longer_than_the_limit(make_trial, clip):
    def step(name, options):
        before, after = updated(make_trial, name, optimizers.SGD(1.0, **options))
        return np.concatenate([(before[path] - after[path]).ravel() for path in before])

    model = models.small_cnn(make_trial())
    options = script(13).train.__globals__["clipping"](clip, 0.1, model)
    whole, clipped = step("whole", {}), step("clipped", options)
    assert np.linalg.norm(whole) > 0.2
    assert 0 < np.linalg.norm(clipped) <= 0.1 * 1.001
    cosine = whole @ clipped / np.linalg.norm(whole) / np.linalg.norm(clipped)
    assert cosine == pytest.approx(1.0, abs=1e-4) if clip == "global" else cosine < 0.999  # the direction


def height(optimizer):
    """The highest rate of a schedule that rises and falls."""
    return optimizer._learning_rate.get_config()["warmup_target"]


def test_clipping_uses_the_norms_of_a_calm_run(make_trial):
    trial = make_trial(epochs=2)
    train(13, trial, learning_rate=0.02, times=10, clip="global", quantile=0.9)
    norms = trial.fits["measure"].norms
    assert len(norms) == trial.steps
    ((name, longest, _),) = trial.measures
    assert (name, longest) == ("longest_gradient", pytest.approx(np.quantile(norms, 0.9)))
    clipped = trial.models["clipped"].optimizer
    assert clipped.global_clipnorm == pytest.approx(longest)
    assert height(clipped) == pytest.approx(0.2)
    assert trial.models["measure"].optimizer.global_clipnorm is None
    assert height(trial.models["measure"].optimizer) == pytest.approx(0.02)


def test_the_control_only_lowers_the_rate(make_trial):
    trial = make_trial(epochs=1)
    train(13, trial, learning_rate=0.02, times=10, clip="rate", quantile=0.5)
    norms = np.array(trial.fits["measure"].norms)
    optimizer = trial.models["clipped"].optimizer
    assert (optimizer.global_clipnorm, optimizer.clipnorm, optimizer.clipvalue) == (None, None, None)
    expected = 0.2 * np.minimum(1, np.median(norms) / norms).mean()
    assert height(optimizer) == pytest.approx(expected, rel=1e-5)
    assert expected < 0.2
    assert isinstance(trial.models["clipped"].get_layer("activation1_1"), layers.Activation)
    assert keras.activations.serialize(trial.models["clipped"].get_layer("activation1_1").activation) == "leaky_relu"
