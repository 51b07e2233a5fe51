"""Curves, best epochs, losses and learning rates agree with other computations from the returned models."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from fits import Subclass, against, as_task, network, two_players
from keras import callbacks, initializers, layers, losses, optimizers

from common import augment, calibration, inference, metrics, models, tasks
from common.errors import Misuse
from common.search.scores import Score
from common.training import prediction
from common.training.scoring import score
from common.training.seeding import seeded_weights


def fit(trial, model, **options):
    trial.fit(model, **{"optimizer": optimizers.SGD(0.1), **options})
    return trial.fits[options.get("stage", "fit")]


def of_val(trial, model):
    outputs = trial.predict(model, trial.val)
    return metrics.accuracy(outputs, trial.val.labels), metrics.nll(outputs, trial.val.labels)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_with_moving_averages_curves_and_best_weights_use_the_averages(make_trial, precision):
    keras.config.set_dtype_policy(precision)
    try:
        trial = make_trial(epochs=3)
        averaged = optimizers.SGD(0.5, momentum=0.9, use_ema=True, ema_momentum=0.9)
        with seeded_weights(trial.streams):
            model = network(trial)
        saved = callbacks.EarlyStopping("val_accuracy", patience=9, restore_best_weights=True)
        done = fit(trial, model, optimizer=averaged, callbacks=[saved])
    finally:
        keras.config.set_dtype_policy("float32")
    best = done.contenders[0]["epoch"] - 1
    assert of_val(trial, model) == pytest.approx([done.history[best][f"val_{name}"] for name in ("accuracy", "nll")], rel=1e-5)
    assert arrays_equal(model.get_weights(), saved.best_weights)
    model.set_weights(done.contenders[0]["weights"])
    assert of_val(trial, model)[0] == done.contenders[0]["val_accuracy"]


def parted(**options):
    """An optimizer for biases, one for other weights, and one without weights."""
    others, biases, unused = (optimizers.SGD(0.1, **options) for _ in range(3))
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(others, {".*bias": biases, "nothing": unused}))


@pytest.mark.parametrize("optimizer", [functools.partial(optimizers.SGD, 0.1), parted])
def test_the_last_validation_is_that_of_the_returned_weights_and_averages_do_not_change_updates(make_trial, tmp_path, optimizer):
    ends = []
    for average in (True, False):
        trial = make_trial(folder=tmp_path / str(average), epochs=2)
        with seeded_weights(trial.streams):
            model = network(trial)
        done = fit(trial, model, optimizer=optimizer(use_ema=average, ema_momentum=0.9))
        assert of_val(trial, model) == pytest.approx([done.history[-1][f"val_{name}"] for name in ("accuracy", "nll")])
        ends.append([row["train_loss"] for row in done.history])
    assert ends[0] == ends[1]  # the updates are the same


def test_a_callback_that_changes_weights_under_averages_is_refused(make_trial):
    class Zero(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([0 * w for w in self.model.get_weights()])

    trial = make_trial(epochs=1)
    with pytest.raises(Misuse, match="no callback may change weights"):
        fit(trial, network(trial), optimizer=optimizers.SGD(0.1, use_ema=True), callbacks=[Zero()])


class Adding(layers.Layer):
    def call(self, x):
        self.add_loss(0.01 * tf.reduce_mean(x))
        return x


def test_val_loss_includes_class_weights_sample_weights_and_penalties(make_trial):
    trial = make_trial(train_size=30, epochs=1, batch_size=7)
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten()(Adding(name="adding")(inputs))
    x = layers.Dense(4, activity_regularizer=keras.regularizers.L2(1e-6), name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(10, kernel_regularizer=keras.regularizers.L2(0.1), name="logits")(x))
    factors = np.arange(10) / 3

    def sample_weight(split):
        return 1 + split.ids % 3

    # With learning rate 0, train_loss and val_loss are those of the same weights.
    row = fit(trial, model, optimizer=optimizers.SGD(0.0), class_weight=factors, sample_weight=sample_weight).history[-1]
    hidden = keras.Model(inputs, [model.get_layer("hidden").output, model.output])
    for split, measured in ((trial.train, row["train_loss"]), (trial.val, row["val_loss"])):
        images = split.images.astype(np.float32)
        inner, logits = (np.asarray(value, np.float64) for value in hidden(images))
        nll = -metrics.log_softmax(logits)[np.arange(len(split)), split.labels]
        expected = (factors[split.labels] * sample_weight(split) * nll).mean() + 0.01 * images.mean()
        expected += 1e-6 * (inner**2).sum(axis=1).mean() + 0.1 * (model.get_layer("logits").get_weights()[0] ** 2).sum()
        assert measured == pytest.approx(expected, rel=1e-4)


def test_a_step_of_a_regression_without_loss_has_no_val_loss(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    trial.task, trial.classes = tasks.rotated, 1
    trial.train, trial.val = (tasks.rotated.change(s, np.random.default_rng(0)) for s in (trial.train, trial.val))

    def step(model, images, targets, seed):
        outputs = model(images, training=True)
        return tf.reduce_mean(tf.abs(targets - outputs), axis=-1), outputs

    row = fit(trial, network(trial), step=step).history[-1]
    assert "val_loss" not in row
    assert row["val_error"] > 0


@pytest.mark.parametrize("as_function", [False, True])
def test_sample_weights_give_the_gradient_of_the_weighted_mean(make_trial, as_function):
    trial = make_trial(train_size=50, batch_size=50, epochs=1)
    weights = np.random.default_rng(0).uniform(0, 2, 50)
    with seeded_weights(trial.streams):
        model = network(trial)
    kernel, bias = map(np.float64, model.get_weights())
    x, y = trial.train.images.reshape(50, -1) / 255, np.eye(10)[trial.train.labels]
    log_q = metrics.log_softmax(x @ kernel + bias)
    factor = (weights * np.where(trial.train.labels == 3, 2.0, 1.0))[:, None]
    d = factor * (np.exp(log_q) - y) / 50  # divided by the number of examples, not by the sum of weights
    given = (lambda split: weights if len(split) == 50 else np.ones(len(split))) if as_function else weights
    done = fit(trial, model, sample_weight=given, class_weight={3: 2.0})
    assert done.history[0]["train_loss"] == pytest.approx(-(factor * y * log_q).sum() / 50, rel=1e-5)
    assert np.allclose(model.get_weights()[0], kernel - 0.1 * x.T @ d, atol=2e-6)
    assert np.allclose(model.get_weights()[1], bias - 0.1 * d.sum(axis=0), atol=2e-6)


def test_sample_weight_two_equals_two_copies_of_the_example(make_trial, tmp_path):
    results = []
    for twice in (False, True):
        trial = make_trial(folder=tmp_path / str(twice), train_size=10, batch_size=100, epochs=3)
        with seeded_weights(trial.streams):
            model = network(trial)
        some = np.arange(10) if not twice else np.repeat(np.arange(10), np.arange(10) % 2 + 1)
        scale = 1.0 if twice else 10 / 15  # the mean is over the examples in the batch
        weights = np.ones(15) if twice else scale * (np.arange(10) % 2 + 1)
        fit(trial, model, on=trial.train.take(some), sample_weight=weights, augment=[augment.flip(1.0)])
        results.append(model.get_weights())
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_update(make_trial):
    class Lower(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.optimizer.learning_rate = 0.01

    trial = make_trial(epochs=2)
    history = fit(trial, network(trial), optimizer=optimizers.SGD(0.1), callbacks=[trial.unsaved(Lower())]).history
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.01])
    assert [row["steps"] for row in history] == [4, 8]


def test_a_penalty_counts_once_for_all_players(make_trial):
    reported = []
    for strength in (0.0, 0.5):
        trial = make_trial(folder=f"penalty{strength}", train_size=16, batch_size=16, epochs=1)
        with seeded_weights(trial.streams):
            model = two_players(trial, kernel_regularizer=keras.regularizers.L2(strength))
        squares = sum(float((w**2).sum()) for w in model.get_weights())
        players = {name: optimizers.SGD(0.0) for name in ("up", "down")}
        reported.append(fit(trial, model, optimizer=players, step=against).history[0]["train_loss"])
    assert reported == pytest.approx([0.0, 0.5 * squares], abs=1e-4)


def test_predictions_in_train_equal_those_of_scoring(make_trial):
    trial = make_trial(train_size=100, epochs=4)
    with seeded_weights(trial.streams):
        model = models.small_cnn(trial, widths=(4,), normalization="batch")
        fit(trial, model, optimizer=optimizers.Adam(0.01))
    before = model.get_weights()
    within, tempered = trial.predict(model, trial.val), calibration.Tempered(trial, model)
    small = inference.deployed(trial, model)
    assert arrays_equal(before, model.get_weights())
    raw = model(trial.val.images.astype(np.float32), training=False)
    assert not np.allclose(raw, within, atol=0.1)  # the moving averages have not converged
    _, outputs = score(trial, model, trial.fits["fit"], test=None)
    assert np.allclose(outputs["val"], within, atol=1e-5)
    assert tempered.temperature == calibration.best_temperature(within, trial.val.labels)
    assert np.allclose(small.predict(trial.val.images), within, atol=1e-3)


class Multiply(layers.Layer):
    """Multiplies by attributes of Python."""

    def __init__(self, **options):
        super().__init__(**options)
        self.factor, self.others = 1.0, {"second": 1.0}

    def call(self, inputs):
        return self.factor * self.others["second"] * inputs


def test_predictions_follow_python_state_of_layers(make_trial):
    trial = make_trial(epochs=1)
    before, after = Multiply(name="before"), Multiply(name="after")
    inputs = keras.Input(trial.input_shape)
    x = layers.BatchNormalization(name="norm")(before(layers.Flatten(name="flatten")(inputs)))
    model = keras.Model(inputs, after(layers.Dense(trial.classes, name="logits")(x)))
    fit(trial, model)
    outputs = trial.predict(model, trial.val)
    traced = dict(trial._compiled)
    assert np.array_equal(trial.predict(model, trial.val), outputs)
    assert all(trial._compiled[key] is one for key, one in traced.items())
    after.factor = 0.5
    assert np.array_equal(trial.predict(model, trial.val), 0.5 * outputs)
    after.others["second"] = 0.5
    assert np.array_equal(trial.predict(model, trial.val), 0.25 * outputs)
    means = []
    for before.factor in (1.0, 2.0):
        with trial.scoring_statistics(model):
            means.append(np.array(model.get_layer("norm").moving_mean))
    assert np.allclose(means[1], 2 * means[0])


@pytest.mark.slow
def test_statistics_are_reestimated_once_for_the_same_weights(make_trial, monkeypatch):
    passes, estimate = [], prediction.reestimate_batch_norm
    monkeypatch.setattr(prediction, "reestimate_batch_norm", lambda *given: passes.append(estimate(*given)))
    trial = make_trial(train_size=100, epochs=1)
    with seeded_weights(trial.streams):
        model = models.small_cnn(trial, widths=(4, 4), normalization="batch")

    def by_hand():
        """Predictions without the cache."""
        kept = model.get_weights()
        norms, train = prediction.updated_norms(model, trial.input_shape), trial.trained_on(model)
        estimate(model, norms, train, trial.scoring_order(train), trial.batch_size)
        outputs = prediction.predict(prediction.forward(model), trial.val)
        model.set_weights(kept)
        return outputs

    def changed(change, count):
        change()
        kept = model.get_weights()
        outputs = trial.predict(model, trial.val)
        assert np.array_equal(outputs, by_hand())
        assert np.array_equal(outputs, trial.predict(model, trial.val.images))
        assert arrays_equal(kept, model.get_weights())
        assert len(passes) == count

    changed(lambda: fit(trial, model), 1)
    changed(lambda: fit(trial, model, stage="second"), 2)
    changed(lambda: model.set_weights([1.1 * w for w in model.get_weights()]), 3)
    changed(lambda: model.get_layer("conv1_1").kernel.assign_add(model.get_layer("conv1_1").kernel), 4)
    changed(lambda: fit(trial, model, optimizer=optimizers.SGD(0.0), on=trial.train.take(np.arange(40)), stage="half"), 5)
    changed(lambda: setattr(model.get_layer("norm1_1"), "trainable", False), 6)
    by_chunks = type("Chunks", (), {"predict": lambda self, images: trial.predict(model, images)})()
    score(trial, by_chunks, None, test=trial.val)
    assert len(passes) == 6


def test_invalid_arguments_of_predict_give_one_line(make_trial):
    trial = make_trial(epochs=1)
    fit(trial, network(trial), stage="first")
    head = keras.Sequential([keras.Input((5,)), layers.Dense(10)])
    words = keras.Sequential([keras.Input((7,)), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(10)])
    images = keras.Input(trial.input_shape)
    both = keras.Model(images, [layers.Flatten()(images), layers.Flatten()(images)])
    large = np.zeros((3, 40, 40, 1), np.uint8)
    convolutions = models.small_cnn(trial, widths=(4,), normalization="batch")
    fit(trial, convolutions, stage="convolutions")
    inputs = keras.Input((40, 40, 1))
    x = inputs
    for layer in convolutions.layers[1:]:
        x = layer(x)
        if isinstance(layer, layers.BatchNormalization):
            break
    other = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    for model, given, message in (
        (head, trial.val, r"must be that of the images, .* Received: \(5,\)"),
        (head, np.zeros((3, 5)), "images must be uint8 .* Received: float64"),
        (words, trial.val, r"must be that of the images, .* Received: \(7,\)"),
        (both, trial.val, "Received: 1 inputs and 2 outputs"),
        (network(trial), large, r"must be that of the images, .* Received: "),
        (Subclass(10), large, r"of the trial's shape .* Received: \(40, 40, 1\)"),
        (network(trial), trial.val.take(np.arange(0)), "predict needs at least one image. Received: 0 images"),
        (other, large, r"must be that of the images, .* Received: \(40, 40, 1\)"),
        (keras.Model(images, 1.0 * images), trial.val, "must return scores"),
    ):
        with pytest.raises(Misuse, match=message) as caught:
            trial.predict(model, given)
        assert "\n" not in str(caught.value)
    anywhere = keras.Input((None, None, 1))
    sums = keras.Model(anywhere, layers.GlobalAveragePooling2D()(anywhere))
    assert trial.predict(sums, large + np.uint8(3)).tolist() == [[3.0]] * 3


def test_batch_norm_statistics_come_from_the_split_that_a_stage_trained_on(make_trial):
    trial = make_trial(epochs=1)
    model = models.small_cnn(trial, widths=(4,), normalization="batch")
    half = trial.train.take(np.arange(32))
    fit(trial, model, on=half)
    assert trial.trained_on(model) is half
    assert trial.trained_on(network(trial)) is trial.train


def test_int8_of_a_sorted_folder_is_calibrated_on_all_classes(make_trial):
    # Class 0 is dark, class 1 bright: ranges of the first 100 images would clip all of class 1.
    images = np.repeat(np.array([0, 255], np.uint8), 150)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer="ones")(x))
    outputs = inference.Converted(inference.convert(model, "int8", images)).predict(images)
    assert outputs[-1, 0] == pytest.approx(64, rel=0.05)


def test_test_images_are_not_rotated_where_labels_are_angles(make_trial):
    trial = as_task(make_trial(train_size=32, epochs=1), tasks.rotated)
    model = network(trial)
    done = fit(trial, model, optimizer=optimizers.SGD(0.001), loss=losses.MeanAbsoluteError())
    score(trial, model, done, test=trial.val, shifts=True)
    errors = {name: value for name, value, _ in trial.measures if " " not in name}
    assert errors.keys() == {f"{shift}_error" for shift in ("brightness", "contrast", "scale", "noise", "blur", "shifted")}
    mean = errors.pop("shifted_error")
    assert mean == pytest.approx(np.mean(list(errors.values())))


class Exploding(Subclass):
    """A model with finite weights but infinite outputs."""

    def call(self, images, training=None):
        return super().call(images) / (0.0 if not training else 1.0)


def test_outputs_that_are_not_finite_count_as_divergence_and_never_as_best_epoch(make_trial):
    trial = make_trial(train_size=32, epochs=2)
    model = Exploding(10)
    stop = callbacks.EarlyStopping("val_nll", patience=0)
    done = fit(trial, model, callbacks=[stop])
    assert done.contenders == []
    assert all(np.isnan([row["val_accuracy"], row["val_nll"]]).all() for row in done.history)
    assert stop.best == np.inf
    row, outputs = score(trial, model, done, test=trial.val)
    assert (row["status"], row["reason"]) == ("diverged", "the outputs on train are not finite")
    assert np.isfinite(outputs["test"]).all()
    assert row["test_nll"] == pytest.approx(np.log(10), abs=0.2)
    assert "train_accuracy" not in row


def test_finite_outputs_do_not_set_the_status(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    model = network(trial)
    row, _ = score(trial, model, fit(trial, model), test=None)
    assert "status" not in row
    for predict, remedy in ((shares_of, "the logarithm of probabilities"), (odds_of, r"log p/\(1-p\) of separate probabilities")):
        predictor = type("Shares", (), {"predict": lambda self, images, of=predict: of(trial, model, images)})()
        with pytest.raises(Misuse, match=f"return {remedy}"):
            score(trial, predictor, None, test=None)


@pytest.mark.parametrize("columns", [1, 9, 11, 12])
def test_a_predictor_with_another_number_of_columns_than_classes_is_refused(make_trial, columns):
    """It would be counted in a wrong class, or never be right for a class."""
    predictor = type("Other", (), {"predict": lambda self, images: np.eye(columns)[np.arange(len(images)) % columns]})()
    with pytest.raises(Misuse, match=rf"shape \(images, 10\).* Received: {columns} columns") as refused:
        score(make_trial(train_size=32), predictor, None, test=None)
    assert "\n" not in str(refused.value)


def test_logits_with_sum_1_are_scored(make_trial):
    """As of a squared error that gives all images nearly the shares of the classes."""
    trial = make_trial(train_size=32, epochs=1)
    inputs = keras.Input(trial.input_shape)
    near_zero, share = initializers.RandomNormal(stddev=1e-8), initializers.Constant(0.1)
    head = layers.Dense(10, kernel_initializer=near_zero, bias_initializer=share)
    model = keras.Model(inputs, head(layers.Flatten()(inputs)))
    for predictor in (model, type("Same", (), {"predict": lambda self, images: trial.predict(model, images)})()):
        row, outputs = score(trial, predictor, None, test=None)
        assert np.ptp(outputs["train"]) > 0
        assert outputs["train"].sum(axis=1) == pytest.approx(1, abs=1e-3)
        assert "status" not in row


def test_a_model_that_was_not_fitted_is_refused_if_it_emits_probabilities(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    logits = network(trial)
    for head, name in ((layers.Softmax(), "softmax"), (layers.Activation("sigmoid"), "sigmoid"), (keras.ops.sigmoid, "sigmoid")):
        with pytest.raises(Misuse, match=f"models must emit logits.*ends in {name}"):
            score(trial, keras.Model(logits.input, head(logits.output)), None, test=None)


def shares_of(trial, model, images):
    return np.exp(metrics.log_softmax(trial.predict(model, images)))


def odds_of(trial, model, images):
    return 1 / (1 + np.exp(-trial.predict(model, images)))


def test_a_number_is_recorded_once(make_trial):
    trial = make_trial()
    trial.record("steepness", 1)
    with pytest.raises(Misuse, match="records one number of a name.*Received twice: 'steepness'"):
        trial.record("steepness", 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seconds", 1.0, "rows hold another number of this name.* Received: 'seconds'"),
        ("test_accuracy", 1.0, "Received: 'test_accuracy'"),
        ("gap", 1.0, "Received: 'gap'"),
        ("memorised", 1.0, "Received: 'memorised'"),
        ("noise_accuracy 2", 1.0, "Received: 'noise_accuracy 2'"),
        ("x", np.ones(2), "records single numbers. Received: 'x': array"),
        ("x", np.ones(1), "records single numbers"),
        ("x", None, "records single numbers. Received: 'x': None"),
    ],
)
def test_what_cannot_be_recorded_is_refused(make_trial, name, value, message):
    with pytest.raises(Misuse, match=message):
        make_trial().record(name, value)


def test_a_nan_score_never_wins_a_search():
    scores = [Score(float("nan"), 0.1), Score(0.2, float("nan")), Score(0.2, 3.0), Score(0.1, 0.1)]
    for order in (scores, scores[::-1]):
        assert max(order, key=lambda one: one.rank) == Score(0.2, 3.0)


def test_a_subclassed_model_trains_like_the_same_functional_model(make_trial, tmp_path):
    ends = []
    for i, build in enumerate((network, lambda trial: Subclass(trial.classes))):
        trial = make_trial(folder=tmp_path / str(i), epochs=2)
        with seeded_weights(trial.streams):
            model = build(trial)
            model(keras.Input(trial.input_shape))
            model.set_weights([np.zeros_like(w) for w in model.get_weights()])
            history = fit(trial, model, loss=losses.CategoricalCrossentropy(from_logits=True)).history
        ends.append([row["val_nll"] for row in history])
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)
