import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from fits import against, two_players
from keras import layers, losses, optimizers

from common import augment, metrics, models, tasks
from common.data.split import Split
from common.data.streams import Streams
from common.errors import Misuse
from common.training import loop, prediction
from common.training.loop import Diverged
from common.training.seeding import seeded_weights


def linear(trial, **options):
    """Softmax regression, which NumPy can reproduce."""
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits", **options)(x))


def seeded(trial, build, **options):
    with seeded_weights(trial.streams):
        return build(trial, **options)


def fit(trial, model, **options):
    trial.fit(model, **{"optimizer": optimizers.SGD(0.1), **options})
    return trial.fits[options.get("stage", "fit")]


@pytest.mark.slow
def test_the_loss_at_initialisation_is_near_ln_classes(make_trial):
    trial = make_trial(batch_size=64, epochs=1)
    for build in (models.small_cnn, models.loss_tuning, models.speed_accuracy):
        trial = make_trial(batch_size=64, epochs=1)
        history = fit(trial, seeded(trial, build)).history
        assert history[0]["train_loss"] == pytest.approx(np.log(10), abs=0.35)


@pytest.mark.slow
def test_one_batch_can_be_overfitted(make_trial):
    trial = make_trial(train_size=16, batch_size=16, epochs=60)
    history = fit(trial, seeded(trial, models.small_cnn), optimizer=optimizers.Adam(0.01)).history
    assert history[-1]["train_accuracy"] == 1.0
    assert history[-1]["train_loss"] < 0.05


def numpy_epoch(trial, weights, bias, rate, l2=0.0, momentum=0.0, clip=None, class_weight=None):
    """Reference in NumPy: one epoch of softmax regression. Returns weights, bias, mean loss with penalty, mean gradient norm."""
    x_all = trial.train.images.reshape(len(trial.train), -1) / 255
    y_all = np.eye(trial.classes)[trial.train.labels]
    factor = np.ones(trial.classes) if class_weight is None else np.asarray(class_weight)
    order = trial.streams.generator("order", 0).permutation(len(trial.train))
    velocity, norms, total = [0.0, 0.0], [], 0.0
    for first in range(0, len(order), trial.batch_size):
        batch = order[first : first + trial.batch_size]
        x, y = x_all[batch], y_all[batch]
        z = x @ weights + bias
        log_q = z - z.max(1, keepdims=True)
        log_q -= np.log(np.exp(log_q).sum(1, keepdims=True))
        scale = (y @ factor)[:, None]
        total += len(batch) * (-(scale * y * log_q).sum(1).mean() + l2 * (weights**2).sum())
        d = scale * (np.exp(log_q) - y) / len(batch)
        gradients = [x.T @ d + 2 * l2 * weights, d.sum(0)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        norms.append(norm)
        if clip:
            gradients = [g * min(1, clip / norm) for g in gradients]
        velocity = [momentum * v - rate * g for v, g in zip(velocity, gradients, strict=True)]
        weights, bias = weights + velocity[0], bias + velocity[1]
    return weights, bias, total / len(order), np.mean(norms)


@pytest.mark.parametrize(
    ("options", "fit_options", "reference"),
    [
        ({}, {}, {}),
        ({"kernel_regularizer": keras.regularizers.L2(0.01)}, {}, {"l2": 0.01}),
        ({}, {"optimizer": lambda: optimizers.SGD(0.1, momentum=0.9)}, {"momentum": 0.9}),
        ({}, {"optimizer": lambda: optimizers.SGD(0.1, global_clipnorm=0.05)}, {"clip": 0.05}),
        ({}, {"class_weight": {0: 3.0, 4: 0.5}}, {"class_weight": [3, 1, 1, 1, 0.5, 1, 1, 1, 1, 1]}),
        ({}, {"loss": losses.SparseCategoricalCrossentropy(from_logits=True)}, {}),
    ],
    ids=["plain", "l2", "momentum", "clipped", "class weights", "sparse labels"],
)
def test_an_epoch_agrees_with_numpy(make_trial, options, fit_options, reference):
    trial = make_trial(train_size=50, batch_size=16, epochs=1)  # the last batch has 2 examples
    model = seeded(trial, linear, **options)
    weights, bias = model.get_weights()
    made = {key: value() if key == "optimizer" else value for key, value in fit_options.items()}
    history = fit(trial, model, **made).history
    expected = numpy_epoch(trial, weights.astype(float), bias.astype(float), 0.1, **reference)
    assert np.allclose(model.get_weights()[0], expected[0], atol=2e-6)
    assert np.allclose(model.get_weights()[1], expected[1], atol=2e-6)
    assert history[0]["train_loss"] == pytest.approx(expected[2], rel=1e-5)
    assert history[0]["gradient_norm"] == pytest.approx(expected[3], rel=1e-5)


@pytest.mark.slow
def test_two_trials_are_bit_identical(make_trial, tmp_path):
    finals = []
    for run in range(2):
        keras.utils.clear_session()
        trial = make_trial(folder=tmp_path / str(run))
        model = seeded(trial, models.small_cnn, dropout=0.5, normalization="batch")
        history = fit(trial, model, augment=[augment.flip(), augment.rotation()]).history
        finals.append((model.get_weights(), [{**row, "seconds": 0} for row in history]))
    assert arrays_equal(finals[0][0], finals[1][0])
    assert finals[0][1] == finals[1][1]


@pytest.mark.slow
def test_dropout_masks_follow_the_seed_and_the_layer_not_the_construction_order(make_trial):
    def build(trial, extra):
        inputs = keras.Input(trial.input_shape)
        x = layers.Dropout(0.0, name="extra")(inputs) if extra else inputs
        x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(x))
        return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(layers.Dropout(0.5, name="dropout")(x)))

    weights = []
    for seed, extra in ((0, False), (0, True), (1, False)):
        trial = make_trial(folder=f"{seed}{extra}", epochs=1, streams=Streams(seed, vary=("noise",)))
        model = seeded(trial, build, extra=extra)
        fit(trial, model)
        weights.append(model.get_weights()[0])
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.slow
def test_each_epoch_trains_on_every_example_once_in_an_order_by_epoch_and_seed(make_trial, monkeypatch):
    def orders(seed, folder):
        trial, batches, batch = make_trial(seed=seed, folder=folder, epochs=2), [], Split.batch

        def recorded(split, positions):
            if split is trial.train:
                batches.append(positions)
            return batch(split, positions)

        with monkeypatch.context() as patch:
            patch.setattr(Split, "batch", recorded)
            fit(trial, seeded(trial, linear))
        return np.concatenate(batches)[-2 * 64 :].reshape(2, 64).tolist()

    first, second = orders(0, "a")
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    assert orders(0, "b") == [first, second]
    assert first != orders(1, "c")[0]


def test_callbacks_work_as_in_keras(make_trial, tmp_path):
    rates = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(round(float(self.model.optimizer.learning_rate), 6))
            assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(logs)

    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=2, min_delta=1.0, restore_best_weights=True)
    trial = make_trial(epochs=9)
    model = seeded(trial, models.small_cnn)
    done = fit(
        trial,
        model,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch),
            trial.unsaved(Watch()),
            stop,
            keras.callbacks.TensorBoard(tmp_path / "board"),
        ],
    )
    assert rates == [0.1, 0.05, 0.025]  # the first epoch always improves, the next two do not
    assert done.epoch == 3
    assert list((tmp_path / "board").rglob("events*"))
    assert arrays_equal(model.get_weights(), stop.best_weights)
    assert [row["learning_rate"] for row in done.history] == pytest.approx(rates)


def test_reduce_on_plateau_lowers_the_rate(make_trial):
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=100.0)
    trial = make_trial(epochs=4)
    history = fit(trial, seeded(trial, linear), callbacks=[plateau]).history
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_a_schedule_ends_with_the_run(make_trial):
    trial = make_trial(epochs=3)
    rate = optimizers.schedules.PolynomialDecay(0.1, trial.steps, end_learning_rate=0.0)
    history = fit(trial, seeded(trial, linear), optimizer=optimizers.SGD(rate)).history
    assert trial.steps == 12
    # The rate of each epoch's last update: the next one would be at 0, where the run ends.
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1 * (1 - t / 12) for t in (3, 7, 11)])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("categorical_crossentropy", "Received: 'categorical_crossentropy'"),
        (losses.CategoricalCrossentropy(), "Received: CategoricalCrossentropy"),
        (losses.categorical_crossentropy, "Received: categorical_crossentropy"),
        (losses.sparse_categorical_crossentropy, "Received: sparse_categorical_crossentropy"),
        (losses.KLDivergence(), "Received: KLDivergence"),
        (losses.kl_divergence, "Received: kl_divergence"),
        (losses.MeanSquaredError(reduction="sum"), "reduction='sum'"),
    ],
)
def test_a_loss_that_would_train_wrongly_is_refused(make_trial, loss, message):
    trial = make_trial()
    with pytest.raises(Misuse, match=message):
        trial.fit(linear(trial), optimizer=optimizers.SGD(), loss=loss)


def test_a_loss_function_with_from_logits_bound_to_true_is_accepted(make_trial):
    trial = make_trial()
    loss = functools.partial(losses.categorical_crossentropy, from_logits=True)
    assert fit(trial, seeded(trial, linear), loss=loss).history[0]["train_loss"] < 4


def test_divergence_names_epoch_and_step(make_trial):
    trial = make_trial(epochs=5)
    with pytest.raises(Diverged, match=r"the (loss is|weights are) not finite at epoch 1, step \d"):
        fit(trial, seeded(trial, models.small_cnn, depth=2), optimizer=optimizers.SGD(1e30))


def test_weights_that_are_not_finite_diverge_even_when_the_loss_is(make_trial):
    @tf.custom_gradient
    def poisoned(outputs):
        return tf.ones_like(outputs[:, 0]), lambda _: np.nan * outputs

    trial = make_trial()
    with pytest.raises(Diverged, match="the weights are not finite at epoch 1, step 1"):
        fit(trial, seeded(trial, linear), loss=lambda targets, outputs: poisoned(outputs))


def test_the_best_epoch_is_the_one_of_highest_val_accuracy_then_lowest_nll(make_trial):
    trial = make_trial(epochs=6)
    done = fit(trial, seeded(trial, models.small_cnn), optimizer=optimizers.SGD(0.05, momentum=0.9))
    ranked = sorted(done.history, key=lambda row: (-row["val_accuracy"], row["val_nll"], row["epoch"]))
    assert done.contenders[0]["epoch"] == ranked[0]["epoch"]


def test_stages_need_different_names(make_trial):
    trial = make_trial(epochs=1)
    model = seeded(trial, linear)
    fit(trial, model, stage="first")
    fit(trial, model, stage="second", epochs=2)
    assert [trial.fits[name].epoch for name in ("first", "second")] == [1, 2]
    with pytest.raises(Misuse, match="stage='second' twice"):
        fit(trial, model, stage="second")
    with pytest.raises(Misuse, match="Received: 'first-finished'"):
        fit(trial, model, stage="first-finished")


def test_a_finished_stage_is_loaded_not_repeated(make_trial, tmp_path):
    first = make_trial(epochs=2)
    model = seeded(first, linear)
    fit(first, model, stage="pretrain")
    again = make_trial(epochs=2)
    other = seeded(again, linear)
    loaded = fit(again, other, stage="pretrain")
    assert arrays_equal(model.get_weights(), other.get_weights())
    assert loaded.history == first.fits["pretrain"].history
    assert again.resumes == 1
    assert again.clocks["compile"] == first.clocks["compile"]


class Interrupted(Exception):
    """Stands for SIGKILL within one process."""


def stateful_run(trial, stop_at=None):
    """Train with dropout, augmentation, batch norm, callbacks with state and a step that draws noise; 4 updates an epoch."""

    class Stop(keras.callbacks.Callback):
        made = 0

        def on_train_batch_end(self, batch, logs=None):
            Stop.made += 1
            if Stop.made == stop_at:
                raise Interrupted

    def step(model, images, targets, seed):
        logits = model(images + tf.random.stateless_normal(tf.shape(images), seed), training=True)
        return losses.categorical_crossentropy(targets, logits, from_logits=True), logits

    keras.utils.clear_session()
    model = seeded(trial, models.small_cnn, widths=(4,), dropout=0.5, normalization="batch")
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.5)
    early = keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.05, restore_best_weights=True)
    done = fit(
        trial,
        model,
        optimizer=optimizers.Adam(0.01),
        callbacks=[plateau, early, trial.unsaved(Stop())],
        augment=[augment.flip(), augment.translation()],
        step=step,
    )
    rows = [{**row, "seconds": 0} for row in done.history]
    return model.get_weights(), rows, {**done.contenders[0], "weights": None}, plateau.wait, early.best, trial.resumes


@pytest.fixture(scope="module")
def undisturbed(make_shared_trial):
    return stateful_run(make_shared_trial(epochs=5))


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 6, 8, 11])
def test_a_trial_interrupted_within_an_epoch_resumes_bit_for_bit(undisturbed, make_trial, at):
    options = {"epochs": 5, "checkpoint_steps": 1 if at % 2 else 3}
    with pytest.raises(Interrupted):
        stateful_run(make_trial(**options), stop_at=at)
    resumed = stateful_run(make_trial(**options))
    assert arrays_equal(undisturbed[0], resumed[0])
    assert undisturbed[1:-1] == resumed[1:-1]
    assert (undisturbed[-1], resumed[-1]) == (0, 1)


@pytest.mark.slow
def test_epochs_are_checkpointed_at_most_once_a_second(make_trial, monkeypatch):
    """With epochs of a few updates a checkpoint takes longer than the training; a kill loses a second at most."""

    def saved(folder, seconds, **options):
        positions = []
        monkeypatch.setattr(loop.checkpoint, "save", lambda folder, name, position, *_: positions.append((name, position)))
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
        trial = make_trial(epochs=3, folder=folder, **options)
        fit(trial, seeded(trial, linear))
        return positions

    finished = ("fit-finished", 12)
    assert saved("short", 100) == [finished]
    assert saved("long", 0) == [("fit", 4), ("fit", 8), finished]
    assert saved("asked", 100, checkpoint_steps=4) == [("fit", 4), ("fit", 8), finished]


def test_noise_from_keras_global_generator_is_refused(make_trial):
    def step(model, images, targets, seed):
        logits = model(images + keras.random.normal((1,)), training=True)
        return losses.categorical_crossentropy(targets, logits, from_logits=True), logits

    trial = make_trial()
    with pytest.raises(Misuse, match="global random generator"):
        fit(trial, seeded(trial, linear), step=step)
    keras.utils.clear_session()


def test_a_moving_average_becomes_the_weights(make_trial, tmp_path):
    finals = []
    for average in (False, True):
        trial = make_trial(folder=tmp_path / str(average), epochs=1)
        model = seeded(trial, linear)
        fit(trial, model, optimizer=optimizers.SGD(0.1, use_ema=average, ema_momentum=0.5))
        finals.append(model.get_weights()[0])
    assert not np.allclose(finals[0], finals[1], atol=1e-5)


def test_a_callback_may_stop_within_an_epoch(make_trial):
    class StopAtTwo(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.stop_training = True

    trial = make_trial(epochs=3)
    done = fit(trial, seeded(trial, linear), callbacks=[StopAtTwo()])
    assert (done.steps, done.epoch, len(done.history)) == (2, 1, 1)


def test_activity_penalties_and_unbuilt_models_train(make_trial):
    trial = make_trial(epochs=2)
    stack = [
        layers.Rescaling(1 / 255, name="rescale"),
        layers.Flatten(name="flatten"),
        layers.Dense(8, activity_regularizer=keras.regularizers.L2(1e-8), name="hidden"),
        layers.Dense(10, name="logits"),
    ]
    with seeded_weights(trial.streams):
        assert len(fit(trial, keras.Sequential(stack)).history) == 2


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_float32_weights_to_about_the_same_losses(make_trial, tmp_path, precision):
    histories = []
    for policy in ("float32", precision):
        keras.config.set_dtype_policy(policy)
        try:
            trial = make_trial(folder=tmp_path / policy)
            model = seeded(trial, models.small_cnn)
            histories.append(fit(trial, model, optimizer=optimizers.SGD(0.01)).history)
        finally:
            keras.config.set_dtype_policy("float32")
    assert model.compute_dtype == precision.removeprefix("mixed_")
    assert model.get_weights()[0].dtype == np.float32
    for exact, rounded in zip(*histories, strict=True):
        for name in ("train_loss", "val_nll", "gradient_norm"):  # without the loss scale
            assert rounded[name] == pytest.approx(exact[name], rel=0.03)
    assert histories[0][0]["train_loss"] != histories[1][0]["train_loss"]


def test_stages_have_different_orders_and_masks(make_trial):
    trial = make_trial(epochs=1)
    asked = []
    original = trial.streams.generator
    trial.streams.generator = lambda *key: asked.append(key) or original(*key)
    model = seeded(trial, models.small_cnn, dropout=0.5)
    states = []
    for stage in ("one", "two"):
        fit(trial, model, stage=stage)
        states.append(int(model.get_layer("dropout").seed_generator.state.numpy()[0]))
    assert [key for key in asked if key[0] == "order"] == [("order", 0), ("order", 1)]
    assert states[0] != states[1]


def test_distillation_is_a_step_function(make_trial, tmp_path):
    trial = make_trial(epochs=1)
    teacher, student = seeded(trial, models.small_cnn), seeded(trial, linear)
    teacher.trainable = False
    before = teacher.get_weights()

    def step(model, images, targets, seed):
        logits = model(images, training=True)
        soft = keras.ops.softmax(teacher(images, training=False))
        return keras.losses.categorical_crossentropy(soft, logits, from_logits=True), logits

    history = fit(trial, student, step=step).history
    assert arrays_equal(before, teacher.get_weights())
    assert 0 < history[0]["train_accuracy"] < 1
    assert history[0]["train_loss"] == pytest.approx(np.log(10), abs=0.5)


def test_a_stage_may_train_and_validate_on_other_examples(make_trial):
    trial = make_trial(train_size=64, batch_size=16, epochs=2)
    half, rest = trial.train.take(np.arange(24)), trial.train.take(np.arange(24, 64))
    model = seeded(trial, linear)
    history = fit(trial, model, on=half, validate=rest).history
    assert trial.fits["fit"].steps == 4  # two epochs of 16 + 8
    outputs = trial.predict(model, rest)
    assert history[-1]["val_accuracy"] == pytest.approx(metrics.accuracy(outputs, rest.labels))
    assert np.array_equal(trial.predict(model, rest.images), outputs)


@pytest.mark.slow
def test_the_stage_fit_has_the_same_batches_with_and_without_an_earlier_stage(make_trial, tmp_path):
    alone, after = (make_trial(folder=tmp_path / name, epochs=2) for name in ("alone", "after"))
    fit(after, seeded(after, linear), stage="pretrain", on=after.val)
    noisy = functools.partial(models.small_cnn, widths=(4,), dropout=0.5)
    augmentations = [augment.translation(0.2)]
    first, second = (fit(trial, seeded(trial, noisy), augment=augmentations).history for trial in (alone, after))
    assert [row["train_loss"] for row in first] == [row["train_loss"] for row in second]


def test_the_gradient_norm_of_each_update_is_recorded(make_trial):
    trial = make_trial(train_size=64, batch_size=16, epochs=2)
    done = fit(trial, seeded(trial, linear))
    assert len(done.norms) == done.steps == 8
    assert done.history[0]["gradient_norm"] == pytest.approx(np.mean(done.norms[:4]))


def test_a_regression_is_trained_validated_and_ranked_by_its_error(digits, make_trial):
    trial = make_trial(epochs=3)
    generator = np.random.default_rng(0)
    trial.task, trial.classes = tasks.rotated, 1
    trial.train, trial.val = (tasks.rotated.change(split, generator) for split in (trial.train, trial.val))
    with pytest.raises(Misuse, match="the task rotated needs a loss"):
        fit(trial, seeded(trial, linear), stage="without")
    model = seeded(trial, linear)
    done = fit(trial, model, loss=losses.MeanAbsoluteError())
    error = tasks.rotated.scores(trial.predict(model, trial.val), trial.val.labels)["error"]
    assert done.history[-1]["val_error"] == pytest.approx(error)
    assert done.history[-1]["val_loss"] == pytest.approx(error / 45, rel=1e-5)
    assert done.contenders[0]["val_error"] == min(row["val_error"] for row in done.history)
    assert done.history[-1]["train_accuracy"] is None


def test_two_players_each_train_their_own_layers(make_trial):
    trial = make_trial(epochs=1)
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(inputs)
    up, down = layers.Dense(1, name="up"), layers.Dense(1, name="down")
    model = keras.Model(inputs, [up(x), down(x)])

    def step(model, images, targets, seed):
        a, b = model(images, training=True)
        total = keras.ops.sum(a + b, axis=-1)
        return {"up": -total, "down": total}, None

    history = fit(trial, model, optimizer={"up": optimizers.SGD(0.1), "down": optimizers.SGD(0.1)}, step=step).history
    # The bias' gradient is −1 or +1 in each of the 4 updates.
    assert model.get_layer("up").get_weights()[1] == pytest.approx([0.4])
    assert model.get_layer("down").get_weights()[1] == pytest.approx([-0.4])
    assert "val_accuracy" not in history[0]  # the model is not a predictor


def reestimate(trial, model):
    norms = prediction.updated_norms(model, trial.input_shape)
    prediction.reestimate_batch_norm(model, norms, trial.train, np.arange(len(trial.train)), 16)


def test_batch_norm_statistics_are_those_of_the_train_split(make_trial):
    trial = make_trial(epochs=1)
    model = seeded(trial, models.small_cnn, widths=(4,), normalization="batch", dropout=0.5)
    fit(trial, model)
    reestimate(trial, model)
    inner = keras.Model(model.inputs, model.get_layer("conv1_1").output)
    values = inner.predict(trial.train.images.astype("float32"), verbose=0)
    norm = model.get_layer("norm1_1")
    assert np.allclose(norm.moving_mean, values.mean((0, 1, 2)), atol=1e-4)
    assert np.allclose(norm.moving_variance, values.var((0, 1, 2)), rtol=1e-3, atol=1e-5)
    assert norm.momentum == 0.9


def test_frozen_batch_norm_keeps_its_statistics(make_trial):
    trial = make_trial(epochs=1)
    model = seeded(trial, models.small_cnn, widths=(4,), normalization="batch")
    model.get_layer("norm1_1").trainable = False
    fit(trial, model)
    reestimate(trial, model)
    assert np.array_equal(model.get_layer("norm1_1").moving_mean, np.zeros(4))


class InInference(keras.Model):
    """A head on a network that is always called in inference mode."""

    def __init__(self, network, classes):
        super().__init__(name="in_inference")
        self.network, self.head = network, layers.Dense(classes, name="logits")

    def call(self, images, training=None):
        return self.head(self.network(images, training=False))


def test_batch_norm_that_a_model_calls_in_inference_mode_keeps_its_statistics(make_trial):
    trial = make_trial(epochs=1)
    inputs = keras.Input(trial.input_shape)
    x = layers.BatchNormalization(name="norm")(layers.Flatten(name="flatten")(inputs))
    network = keras.Model(inputs, layers.Dense(4, name="hidden")(x), name="network")
    model = seeded(trial, lambda trial: InInference(network, trial.classes))
    fit(trial, model, optimizer=optimizers.SGD(1e-4))
    norm = network.get_layer("norm")
    predicted = trial.predict(model, trial.val)
    reestimate(trial, model)
    assert np.array_equal(norm.moving_mean, np.zeros(784))
    assert np.array_equal(norm.moving_variance, np.ones(784))
    assert np.allclose(predicted, model(trial.val.images.astype("float32")), rtol=1e-4)


def test_statistics_of_a_shared_batch_norm_are_those_of_all_its_inputs(make_trial):
    trial = make_trial(train_size=50)  # the last batch of 2 is left out
    inputs = keras.Input(trial.input_shape)
    norm, x = layers.BatchNormalization(), layers.Flatten()(inputs)
    model = keras.Model(inputs, layers.Dense(10)(norm(x) + norm(3 * x + 1)))
    reestimate(trial, model)
    images = trial.train.images[:48].reshape(48, -1).astype(np.float64)
    both = np.concatenate([images, 3 * images + 1])
    assert np.allclose(norm.moving_mean, both.mean(axis=0), rtol=1e-5)
    assert np.allclose(norm.moving_variance, both.var(axis=0), rtol=1e-4, atol=1e-3)


def test_predictions_do_not_change_variables_of_renormalisation(make_trial):
    trial = make_trial(epochs=1)
    inputs = keras.Input(trial.input_shape)
    x = layers.BatchNormalization(renorm=True, name="norm")(layers.Flatten(name="flatten")(inputs))
    model = keras.Model(inputs, layers.Dense(10, name="logits")(x))
    fit(trial, model)
    before = model.get_weights()
    trial.predict(model, trial.val)
    assert arrays_equal(before, model.get_weights())
    reestimate(trial, model)
    changed = [v.name for v, old in zip(model.weights, before, strict=True) if not np.array_equal(old, v)]
    assert changed == ["moving_mean", "moving_variance"]


def test_a_callback_that_changes_one_of_two_learning_rates_is_refused(make_trial):
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.05

    trial = make_trial(train_size=32, epochs=2)
    players = {name: optimizers.SGD(0.1) for name in ("up", "down")}
    with pytest.raises(Misuse, match="no callback may change a learning rate.* Received: 0.1, then 0.05"):
        trial.fit(two_players(trial), optimizer=players, step=against, callbacks=[Halve()])


class Moved(keras.callbacks.Callback):
    """Changes the learning rate within an epoch, then raises `Interrupted` if `dies`."""

    def __init__(self, at, dies):
        super().__init__()
        self.at, self.dies, self.seen = at, dies, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.at:
            self.model.optimizer.learning_rate = 0.05
        if self.seen > self.at and self.dies:
            raise Interrupted


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_a_change_of_one_of_two_learning_rates_is_refused_after_a_kill_too(make_trial, rate):
    for dies, raised in ((True, Interrupted), (False, Misuse)):
        trial = make_trial(train_size=64, epochs=1, checkpoint_steps=1)
        players = {name: optimizers.SGD(rate) for name in ("up", "down")}
        with pytest.raises(raised, match=None if dies else f"several optimizers.* Received: {rate:g}, then 0.05"):
            trial.fit(two_players(trial), optimizer=players, step=against, callbacks=[trial.unsaved(Moved(1, dies))])
    assert trial.resumes == 1
    assert trial.fits["fit"].batches == 1  # it is refused after the first update


class Running:
    """Cross-entropy times 1 + its running mean, a variable that is created at once, or in the first call if `late`."""

    __name__ = "running"

    def __init__(self, late):
        self.mean = None if late else tf.Variable(0.0)

    def __call__(self, targets, logits):
        values = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        if self.mean is None:
            self.mean = tf.Variable(0.0)
        self.mean.assign(0.5 * self.mean + 0.5 * tf.reduce_mean(tf.stop_gradient(values)))
        return (1 + self.mean) * values


@pytest.mark.parametrize("late", [False, True])
def test_a_running_mean_in_a_loss_is_changed_by_updates_only(make_trial, late):
    trial = make_trial(train_size=40, batch_size=40, epochs=3)
    model, loss, seen = seeded(trial, linear), Running(late), tf.Variable(0)

    def counted(images, targets, uniforms):
        seen.assign_add(1)
        return images, targets

    weights, bias = (w.astype(np.float64) for w in model.get_weights())
    fit(trial, model, loss=loss, augment=[counted])
    x, y = trial.train.images.reshape(40, -1) / 255, np.eye(10)[trial.train.labels]
    mean = 0.0
    for _ in range(3):
        log_q = metrics.log_softmax(x @ weights + bias)
        mean = 0.5 * mean - 0.5 * (y * log_q).sum(axis=1).mean()
        d = (1 + mean) * (np.exp(log_q) - y) / 40
        weights, bias = weights - 0.1 * x.T @ d, bias - 0.1 * d.sum(axis=0)
    assert float(loss.mean) == pytest.approx(mean, rel=1e-5)
    assert np.allclose(model.get_weights()[0], weights, atol=1e-5)
    assert np.allclose(model.get_weights()[1], bias, atol=1e-5)
    assert int(seen) == 3


def test_validation_restores_variables_that_a_loss_writes(make_trial):
    """The step reads a variable that only the loss writes, in validation."""
    count = tf.Variable(0.0, trainable=False)

    def loss(targets, logits):
        count.assign_add(1.0)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits) + count

    def step(model, images, targets, seed):
        logits = model(images, training=True)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits) + 100 * count, logits

    trial = make_trial(epochs=3)
    history = fit(trial, seeded(trial, linear), loss=loss, step=step).history
    assert float(count) == 0
    assert all(row["train_loss"] < 5 for row in history)
    assert [row["val_loss"] - row["val_nll"] for row in history] == pytest.approx([1, 1, 1], abs=1e-5)


class Calls(layers.Layer):
    """Counts its calls in a weight and in a variable of the script."""

    def __init__(self, shared, **options):
        super().__init__(**options)
        self._count = [lambda: shared.assign_add(1)]

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)
        self._count[0]()
        return x


def test_validation_and_probes_restore_the_counters_of_layers(make_trial):
    trial, shared = make_trial(train_size=64, batch_size=16, epochs=2), tf.Variable(0)
    inputs = keras.Input(trial.input_shape)
    x = Calls(shared, name="calls")(layers.Flatten(name="flatten")(inputs))
    shown = keras.Model(inputs, layers.Lambda(lambda x: 1.0 * x)(layers.Dense(10, name="logits")(x)))
    before = int(shared)
    fit(trial, shown)
    assert float(shown.get_layer("calls").calls) == 8
    assert int(shared) - before == 8


def test_a_loss_that_writes_to_a_table_is_refused(make_trial):
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)

    def loss(targets, logits):
        table.insert(tf.constant(0, tf.int64), tf.reduce_mean(logits))
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    trial = make_trial()
    with pytest.raises(Misuse, match="use tf.Variable. Received: a lookup table or a queue"):
        fit(trial, seeded(trial, linear), loss=loss)
    assert int(table.size()) == 0
