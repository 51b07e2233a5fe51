"""Scoring of models that `train` returns with averaged or pretrained weights, and refusal of untrained ones."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from keras import layers, losses, optimizers

from common.calibration import Tempered
from common.errors import Misuse
from common.models import small_cnn
from common.training.execution import _last_stage
from common.training.model_checks import check_predictor, forbid_custom_loops
from common.training.scoring import score
from common.training.seeding import seeded_weights


def normalised(trial, trainable=True):
    """Two dense layers, batch normalisation with Keras' momentum between them."""
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs := keras.Input(trial.input_shape)))
    x = layers.Dense(8, name="hidden")(x)
    x = layers.BatchNormalization(name="norm", trainable=trainable)(x)
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


def other(trial):
    """A model with other shapes of weights."""
    inputs = keras.Input(trial.input_shape)
    return keras.Model(inputs, layers.Dense(trial.classes, name="head")(layers.Flatten(name="flat")(inputs)))


def fit(trial, model, rate=0.1, stage="fit", **options):
    return trial.fit(model, optimizer=optimizers.SGD(rate), stage=stage, **options)


def scored(trial, model):
    """Outputs on val that the scores of a row are computed from."""
    check_predictor(trial, model)
    return score(trial, model, None, test=None)[1]["val"]


def without_reestimation(trial, model):
    return model(trial.val.images.astype(np.float32), training=False).numpy()


@pytest.fixture
def trial(make_trial):
    trial = make_trial(epochs=2)
    with seeded_weights(trial.streams), forbid_custom_loops():
        yield trial


def test_an_average_of_trained_models_is_scored_with_re_estimated_statistics(trial):
    """So is a trained model to which the same weights are assigned."""
    members = [fit(trial, normalised(trial), rate, f"member{rate:g}") for rate in (0.05, 0.2)]
    mean = [np.mean(weights, axis=0) for weights in zip(*(one.get_weights() for one in members), strict=True)]
    soup = normalised(trial)
    soup.set_weights(mean)
    before = without_reestimation(trial, soup)
    predicted, outputs = trial.predict(soup, trial.val), scored(trial, soup)
    members[0].set_weights(mean)
    assert np.array_equal(outputs, scored(trial, members[0]))
    assert np.array_equal(outputs, predicted)
    assert np.abs(outputs - before).max() > 0.1  # eight updates with momentum 0.99 are too few


def test_frozen_batch_norm_of_an_average_keeps_its_statistics(trial):
    fit(trial, normalised(trial, trainable=False))
    soup = normalised(trial, trainable=False)
    soup.set_weights(pretrained(soup))
    assert np.allclose(scored(trial, soup), without_reestimation(trial, soup), atol=1e-5)


def pretrained(model):
    """Random weights that stand for those of a file."""
    generator = np.random.default_rng(0)
    return [generator.uniform(0.5, 1.0, weight.shape) for weight in model.get_weights()]


@pytest.mark.parametrize("first", ["nothing", "another model"])
def test_pretrained_models_keep_their_batch_norm_statistics(trial, first):
    if first == "another model":
        fit(trial, other(trial))
    model = normalised(trial)
    model.set_weights(pretrained(model))
    before = model.get_weights()
    assert np.allclose(scored(trial, model), without_reestimation(trial, model), atol=1e-5)
    assert np.allclose(trial.predict(model, trial.val), without_reestimation(trial, model), atol=1e-5)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def images(trial):
    return trial.train.images[:16].astype(np.float32), trial.train.labels[:16]


def by_tape(trial):
    fit(trial, other(trial))
    model = normalised(trial)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images(trial)[0]) ** 2)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        variable.assign(variable - 0.01 * gradient)
    return model


def compiled(trial):
    model = normalised(trial)
    model.compile(optimizers.SGD(0.1), losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def by_keras(trial):
    model = compiled(trial)
    model.fit(*images(trial), verbose=0)
    return model


def by_batches(trial):
    model = compiled(trial)
    model.train_on_batch(*images(trial))
    return model


def onto_a_fresh_head(trial):
    model = fit(trial, normalised(trial))
    return keras.Model(model.input, layers.Dense(10, name="fresh")(model.get_layer("hidden").output))


def half_loaded(trial):
    model = normalised(trial)
    model.get_layer("hidden").set_weights(pretrained(model.get_layer("hidden")))
    return model


REFUSED = {
    "a GradientTape": (by_tape, r"custom loops with a GradientTape .* Received: Functional"),
    "model.fit": (by_keras, "trained by trial.fit alone; .* Received: fit of Functional"),
    "train_on_batch": (by_batches, "trained by trial.fit alone; .* Received: fit of Functional"),
    "a model as it was made": (
        normalised,
        r"loaded or set \(set_weights\). .* whose hidden/kernel has its random initial values",
    ),
    "a fresh head": (onto_a_fresh_head, "whose fresh/kernel has its random initial values"),
    "half of the weights": (half_loaded, "whose logits/kernel has its random initial values"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_untrained_models_and_custom_training_loops_are_refused(trial, make, message):
    with pytest.raises(Misuse, match=message) as refused:
        check_predictor(trial, make(trial))
    assert "\n" not in str(refused.value)


def test_keras_fit_works_again_afterwards(make_trial):
    with forbid_custom_loops():
        pass
    by_keras(make_trial())


@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_predictions_of_keras_are_refused_where_scoring_has_other_statistics(make_trial, method):
    """An ensemble's weights or a temperature would be fitted to outputs other than those that are scored."""
    trial = make_trial()
    images = trial.val.images[:4]
    for normalization in ("batch", "layer"):
        model = small_cnn(trial, widths=(4,), normalization=normalization)
        with forbid_custom_loops():
            if normalization == "batch":
                with pytest.raises(Misuse, match=rf"use trial.predict\(model, images\).* Received: {method} of"):
                    getattr(model, method)(images)
            else:
                assert getattr(model, method)(images).shape == (4, trial.classes)
        assert getattr(model, method)(images).shape == (4, trial.classes)


def automatic(trial):
    return keras.Sequential([keras.Input(trial.input_shape), layers.Flatten(), layers.Dense(trial.classes)])


def test_a_model_with_automatic_names_can_be_kept(make_trial, tmp_path):
    """Outside of the contexts of `train`."""
    trial = make_trial(epochs=1)
    with seeded_weights(trial.streams):
        model = fit(trial, automatic(trial))
    outputs = score(trial, model, None, test=None, keep=tmp_path / "kept.keras")[1]["val"]
    assert np.array_equal(without_reestimation(trial, keras.saving.load_model(tmp_path / "kept.keras", compile=False)), outputs)


def test_a_model_with_automatic_names_can_be_saved_in_train(trial, tmp_path):
    model = automatic(trial)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "all.weights.h5")
    model.save_weights(tmp_path / "parts.weights.json", max_shard_size=1)
    other = keras.saving.load_model(tmp_path / "model.keras")
    for name in ("all.weights.h5", "parts.weights.json"):
        other.set_weights([np.zeros(weight.shape) for weight in other.get_weights()])
        other.load_weights(tmp_path / name)
        assert arrays_equal(model.get_weights(), other.get_weights())


class Held:
    """A predictor that calls a Keras model."""

    def __init__(self, model):
        self.members = [model]

    def predict(self, images):
        return self.members[0](images.astype(np.float32), training=False).numpy()


def test_a_copy_of_a_trained_model_in_an_object_is_scored_with_re_estimated_statistics(trial):
    model = fit(trial, normalised(trial))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    expected = scored(trial, model)
    assert not np.allclose(without_reestimation(trial, copy), expected, atol=0.01)
    assert np.allclose(scored(trial, Held(copy)), expected, atol=1e-4)
    tempered = Tempered(trial, copy)
    assert np.allclose(scored(trial, tempered), expected / tempered.temperature, atol=1e-4)


class Mirrored(keras.Model):
    """Test-time augmentation where scoring does not see it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, images):
        return self.model(images)

    def predict(self, images):
        return self(images) + self(images[:, :, ::-1])


def test_a_keras_model_with_its_own_predict_is_refused(trial):
    mirrored = Mirrored(fit(trial, other(trial)))
    with pytest.raises(Misuse, match=r"its predict would be ignored: .* Received: Mirrored.predict"):
        check_predictor(trial, mirrored)


def activated(trial, activation):
    inputs = keras.Input(trial.input_shape)
    x = layers.Dense(4, activation=activation, name="hidden")(layers.Flatten(name="flat")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


def test_a_model_that_keras_cannot_serialise_is_trained_and_scored(trial):
    model = fit(trial, activated(trial, functools.partial(keras.activations.leaky_relu, negative_slope=0.3)))
    assert np.isfinite(scored(trial, model)).all()


def test_a_model_that_keras_cannot_save_loses_its_file_and_not_its_row(make_trial, tmp_path):
    warnings = []
    trial = make_trial(epochs=1)
    object.__setattr__(trial.host, "report", lambda **progress: warnings.append(progress.get("warning")))
    model = fit(trial, activated(trial, functools.partial(keras.activations.leaky_relu, negative_slope=0.3)))
    row, _ = score(trial, model, trial.fits["fit"], test=None, keep=tmp_path / "models" / "kept.keras")
    assert row["val_accuracy"] > 0
    assert not (tmp_path / "models" / "kept.keras").exists()
    assert next(filter(None, warnings)).startswith("the model cannot be kept, as Keras cannot save it: ")


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_quantised_model_has_no_best_epoch(trial):
    model = fit(trial, other(trial))
    model.quantize("int8")
    row, _ = score(trial, model, trial.fits["fit"], test=trial.val)
    assert "best_epoch" not in row
    assert row["test_accuracy"] == row["val_accuracy"]


def test_the_stage_of_a_model_is_the_one_that_trained_its_weights_last(trial):
    """The second stage trains the base within another model, so the epochs of the first are not those of its weights."""
    base = fit(trial, other(trial), stage="head")
    assert _last_stage(trial, base) == "head"
    inputs = keras.Input(trial.input_shape)
    fit(trial, keras.Model(inputs, base(layers.GaussianNoise(0.1, name="noise")(inputs))), stage="fine")
    assert _last_stage(trial, base) is None
    assert _last_stage(trial, object()) is None


@pytest.mark.slow
def test_a_teacher_with_other_statistics_than_those_of_scoring_is_refused(trial):
    model = fit(trial, normalised(trial))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())

    def learning_from(teacher):
        def step(student, images, targets, seed):
            soft = tf.nn.softmax(teacher(images, training=False))
            logits = student(images, training=True)
            return losses.categorical_crossentropy(soft, logits, from_logits=True), logits

        return step

    message = "must be a model that trial.fit trained, .* Received: .*, as norm would have others"
    with pytest.raises(Misuse, match=message):
        fit(trial, other(trial), stage="student", step=learning_from(copy))
    trial.fits.pop("student")
    fit(trial, other(trial), stage="student", step=learning_from(model))


def test_a_base_that_a_later_stage_holds_frozen_keeps_its_stage(trial):
    base = fit(trial, other(trial), stage="base")
    base.trainable = False
    inputs = keras.Input(trial.input_shape)
    fit(trial, keras.Model(inputs, layers.Dense(trial.classes, name="probe")(base(inputs))), stage="probe")
    assert _last_stage(trial, base) == "base"
