"""Arms of the experiments on architecture build and fit what their names say."""

import math
import types

import keras
import numpy as np
import pytest
from keras import layers

from common import gradients, models
from common.files import experiment_scripts
from common.training.execution import load_script
from common.training.seeding import seeded_weights

SCRIPTS = {path.stem[4:6]: path for path in experiment_scripts()}
SHAPES = pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)], ids=["digits and MNIST", "CIFAR-10"])


def script(number):
    """The experiment of a number, and the functions of its script."""
    experiment = load_script(str(SCRIPTS[number]))
    return experiment, experiment.train.__globals__


class Spy:
    """A stand-in for a trial that keeps the arguments of `fit`."""

    replicas, classes, epochs, batch_size, steps, train = 1, 10, 3, 5, 96, range(160)

    def __init__(self, shape=(28, 28, 1)):
        self.input_shape = shape

    def fit(self, model, **options):
        self.model, self.options = model, options
        return model


def fitted(number, arm, learning_rate=0.1, shape=(28, 28, 1)):
    experiment, _ = script(number)
    trial = Spy(shape)
    experiment.train(trial, **experiment.arguments(arm), learning_rate=learning_rate)
    return trial


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


# --- 01: published networks ---


def test_each_published_network_has_the_loss_optimizer_and_pixels_of_its_tutorial():
    experiment, _ = script("01")
    for arm in experiment.arms:
        trial = Spy()
        experiment.train(trial, **experiment.arguments(arm))
        sparse = isinstance(trial.options["loss"], keras.losses.SparseCategoricalCrossentropy)
        assert sparse == (arm == "speed_accuracy")
        optimizer = trial.options["optimizer"]
        assert type(optimizer).__name__ == ("SGD" if arm == "gradient_descent" else "Adam")
        first = type(trial.model.layers[1]).__name__
        assert first == ("Identity" if arm == "loss_choice" else "Rescaling")
    settings = {arm: experiment.arms[arm]["batch_size"] for arm in experiment.arms}
    assert [arm for arm, batch in settings.items() if batch != 32] == ["loss_tuning"]


def test_the_published_decay_divides_the_rate_by_one_plus_a_hundredth_per_update():
    experiment, _ = script("01")
    trial = Spy()
    experiment.train(trial, **experiment.arguments("gradient_descent"))
    rates = [float(trial.options["optimizer"]._learning_rate(t)) for t in (0, 100, 300)]
    assert rates == pytest.approx([0.01, 0.005, 0.0025])


# --- 14: vanishing gradients ---


def test_gradient_norms_are_those_of_back_propagation_by_hand():
    trial = types.SimpleNamespace(input_shape=(1, 2, 1), classes=2)
    model = models.deep_dense(trial, depth=2, width=2, activation="linear")
    second, out = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[1.0, -1.0], [3.0, 2.0]])
    for name, kernel in (("dense1", np.eye(2)), ("dense2", second), ("logits", out)):
        model.get_layer(name).set_weights([kernel, np.zeros(2)])
    norms = gradients.layer_norms(model, np.zeros((1, 1, 2, 1)), np.array([0]), "dense")
    # Both logits are 0, so that the gradient of the cross-entropy at them is (½, ½) − (1, 0).
    last = out @ [-0.5, 0.5]
    assert np.allclose(norms, [np.linalg.norm(second @ last), np.linalg.norm(last)], rtol=1e-5)


def test_gradient_norms_are_those_of_layers_called_by_a_name_and_a_number():
    trial = types.SimpleNamespace(input_shape=(8, 8, 1), classes=2)
    model = models.small_cnn(trial, widths=(2,), dense=(3, 3))
    assert {"dense1", "dense2", "dense_activation1"} <= {layer.name for layer in model.layers}
    assert len(gradients.layer_norms(model, np.zeros((1, 8, 8, 1)), np.array([0]), "dense")) == 2


@pytest.mark.parametrize(("variance", "factor"), [(0.5, 0.5), (2.0, 1.0), (8.0, 2.0)])
def test_initial_weights_have_the_variance_that_decides_how_gradients_grow(variance, factor):
    """A ReLU lets half of the variance through: a layer scales a gradient by the root of variance / 2."""
    trial = types.SimpleNamespace(input_shape=(8, 8, 1), classes=10)
    keras.utils.set_random_seed(0)
    model = models.deep_dense(
        trial, depth=6, width=256, kernel_initializer=keras.initializers.VarianceScaling(variance, "fan_in")
    )
    for i in range(2, 7):
        kernel = model.get_layer(f"dense{i}").get_weights()[0]
        assert kernel.var() == pytest.approx(variance / 256, rel=0.05)
    images = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, 1))
    norms = gradients.layer_norms(model, images, np.arange(64) % 10, "dense")
    assert np.log2(norms[0] / norms[-1]) == pytest.approx(5 * math.log2(factor), abs=1)


@pytest.mark.slow
def test_gradients_are_measured_on_training_images_before_and_after(make_trial):
    experiment, _ = script("14")
    trial = make_trial(epochs=1)
    experiment.train(trial, **experiment.arguments("small weights"), learning_rate=0.1)
    values = {name: value for name, value, _ in trial.measures}
    assert len(values) == 2 * (6 + 1)
    assert all(claim.metric in (*values, "test_accuracy") for claim in experiment.claims)
    first, last = (values[f"gradient norm of layer {i}, untrained"] for i in (1, 6))
    assert values["decades between first and last layer, untrained"] == pytest.approx(abs(math.log10(first / last)))


@pytest.mark.slow
def test_the_norm_over_all_weights_is_that_of_the_update_of_a_batch_of_the_same_images(make_trial):
    trial = make_trial(train_size=64, batch_size=64, epochs=1)
    with seeded_weights(trial.streams):
        model = models.deep_dense(trial, depth=2)
    norm = gradients.weights_norm(trial, model)
    trial.fit(model, optimizer=keras.optimizers.SGD(0.1))
    assert trial.fits["fit"].norms == pytest.approx([norm], rel=1e-4)


@pytest.mark.slow
def test_gradients_are_clipped_at_a_share_of_the_untrained_networks_norm(make_trial):
    experiment, _ = script("14")
    assert {arm for arm, space in experiment.search.items() if "share" in space} == {"large weights, clipping"}
    trial = make_trial(epochs=1, batch_size=64)
    with seeded_weights(trial.streams):
        experiment.train(trial, **experiment.arguments("large weights, clipping"), learning_rate=1e-6, share=0.1)
    state, optimizer = trial.fits["fit"], trial.models["fit"].optimizer
    assert optimizer.global_clipnorm == pytest.approx(0.1 * state.norms[0], rel=1e-3)
    assert (optimizer.clipnorm, optimizer.momentum) == (None, 0.0)


def test_each_remedy_is_judged_by_accuracy_and_by_the_gradients_of_the_layers():
    experiment, functions = script("14")
    for weights, names in functions["REMEDIES"].items():
        for name in names:
            pair = (f"{weights} weights, {name}", f"{weights} weights")
            metrics = {claim.metric for claim in experiment.claims if (claim.better, claim.worse) == pair}
            assert metrics == {"test_accuracy", functions["TRAINED"]}


# --- 15: activations ---


@pytest.mark.parametrize(
    ("arm", "formula"),
    [
        ("ReLU", lambda x: max(x, 0)),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("tanh", math.tanh),
        ("leaky ReLU", lambda x: x if x > 0 else 0.2 * x),
        ("ELU", lambda x: x if x > 0 else math.exp(x) - 1),
        ("GELU", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("swish", lambda x: x / (1 + math.exp(-x))),
    ],
)
def test_each_activation_is_its_formula(arm, formula):
    activations = [layer for layer in fitted("15", arm).model.layers if isinstance(layer, layers.Activation)]
    assert len(activations) == 2
    for layer in activations:
        assert np.allclose(layer(np.array([-2.0, -0.5, 0.0, 1.5])), [formula(x) for x in (-2.0, -0.5, 0.0, 1.5)], atol=1e-6)


# --- 16: normalisation ---


@pytest.mark.parametrize(
    ("arm", "axes", "groups"), [("batch norm", (0, 1, 2), 16), ("layer norm", (1, 2, 4), 1), ("group norm", (1, 2, 4), 8)]
)
def test_each_normalisation_gives_its_groups_mean_0_and_variance_1(arm, axes, groups):
    norm = fitted("16", f"{arm}, large batches").model.get_layer("norm1_1")
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 28, 28, 16)).astype("float32")
    y = np.array(norm(x, training=True) if arm == "batch norm" else norm(x))
    if arm == "batch norm":
        by_hand = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3)
    else:
        parts = x.reshape(4, 28, 28, groups, -1)
        by_hand = (parts - parts.mean(axes, keepdims=True)) / np.sqrt(parts.var(axes, keepdims=True) + 1e-3)
    assert np.allclose(y, by_hand.reshape(x.shape), atol=1e-4)


def test_without_normalisation_there_is_none():
    assert not any("Normalization" in kind for kind in kinds(fitted("16", "none, small batches").model))


# --- 17 and 18: pooling and kernel size, at matched parameters ---


@SHAPES
@pytest.mark.parametrize("number", ["17", "18"])
def test_matched_arms_have_the_parameters_of_the_baseline(number, shape):
    experiment, functions = script(number)
    counts = {arm: functions["build"](Spy(shape), **experiment.arguments(arm)).count_params() for arm in experiment.arms}
    matched = [arm for arm in counts if arm.endswith("matched")]
    assert len(matched) == 3
    for arm in matched:
        assert counts[arm] == pytest.approx(counts[experiment.baseline], rel=0.05), arm
        assert counts[arm.removesuffix(", matched")] != pytest.approx(counts[experiment.baseline], rel=0.02), arm


def test_matched_arms_without_pooling_keep_the_heads_units():
    experiment, functions = script("17")
    for arm in experiment.arms:
        assert functions["build"](Spy(), **experiment.arguments(arm)).get_layer("dense1").units == 64, arm


def test_pooling_and_strided_convolutions_halve_the_image_and_no_pooling_does_not():
    for arm, side in (("max", 7), ("average", 7), ("strided", 7), ("none", 28)):
        assert fitted("17", arm).model.get_layer("flatten").input.shape[1:] == (side, side, 32), arm
    assert fitted("17", "global average").model.get_layer("global_pool").output.shape[1:] == (32,)


@pytest.mark.parametrize(("arm", "field"), [("3x3", 3), ("5x5", 5), ("7x7", 7), ("two 3x3", 5)])
def test_an_impulse_shows_the_receptive_field_of_a_block(arm, field):
    experiment, _ = script("18")
    arguments = experiment.arguments(arm)
    model = models.small_cnn(Spy(), kernel_initializer="ones", pooling=None, widths=(2,), **arguments)
    seen = keras.Model(model.input, model.get_layer("flatten").input)
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[0, 14, 14] = 255
    response = np.array(seen(image))
    assert response.shape == (1, 28, 28, 2)  # `same` padding
    rows, columns = np.nonzero(response[0, :, :, 0])
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (14 - field // 2, 14 + field // 2)
    assert len(rows) == field**2


# --- 19: capacity ---


def test_parameters_grow_with_width_and_with_depth():
    ladders = [["width=4", "width=8", "baseline", "width=32", "width=64"], ["baseline", "depth=2", "depth=3"]]
    for ladder in ladders:
        counts = [fitted("19", arm).model.count_params() for arm in ladder]
        assert counts == sorted(set(counts))
    assert kinds(fitted("19", "depth=3").model).count("Conv2D") == 6


def test_a_claim_about_a_gap_is_one_about_accuracy_too():
    experiment, _ = script("19")
    assert {claim.kind for claim in experiment.claims if claim.metric == "gap"} == {"overfits less"}


# --- 34: the whole recipe ---


def ingredients(trial):
    """The names of the ingredients that model and arguments of `fit` show."""
    optimizer = trial.options["optimizer"]
    ends = float(optimizer._learning_rate(trial.steps)) if callable(optimizer._learning_rate) else None
    signs = {
        "batch norm": kinds(trial.model).count("BatchNormalization") == 2,
        "augmentation": [a.__name__ for a in trial.options["augment"]] == ["translation", "rotation"],
        "dropout": "Dropout" in kinds(trial.model),
        "L2": len(trial.model.losses) == 3,
        "cosine": ends is not None and abs(ends) < 1e-8,
    }
    return {name for name, there in signs.items() if there}


def test_each_recipe_holds_the_ingredients_that_its_name_says():
    experiment, _ = script("34")
    names = {"batch norm", "augmentation", "dropout", "L2", "cosine"}
    expected = (
        {"baseline": set(), "all": names} | {f"+ {n}": {n} for n in names} | {f"all without {n}": names - {n} for n in names}
    )
    assert {arm: ingredients(fitted("34", arm)) for arm in experiment.arms} == expected


# --- 36: search ---


@pytest.mark.parametrize(
    ("optimizer", "kind", "nesterov"),
    [("Adam", "Adam", None), ("momentum", "SGD", False), ("Nesterov", "SGD", True), ("Lion", "Lion", None)],
)
def test_the_optimizer_is_a_searched_choice_of_the_published_network(optimizer, kind, nesterov):
    experiment, _ = script("36")
    arm = "published, searched optimizer"
    assert optimizer in experiment.search[arm]["optimizer"].values
    assert "learning_rate" in experiment.search[arm]
    trial = Spy()
    experiment.train(trial, learning_rate=0.03, optimizer=optimizer)
    made = trial.options["optimizer"]
    assert trial.model.name == "loss_tuning"
    assert type(made).__name__ == kind
    assert getattr(made, "nesterov", None) == nesterov
    assert getattr(made, "momentum", None) == (0.9 if kind == "SGD" else None)
    assert float(made._learning_rate.get_config()["warmup_target"]) == pytest.approx(0.03)


def test_every_optimizer_of_the_search_can_be_made():
    experiment, _ = script("36")
    for optimizer in experiment.search["published, searched optimizer"]["optimizer"].values:
        trial = Spy()
        experiment.train(trial, learning_rate=0.03, optimizer=optimizer)
        assert isinstance(trial.options["optimizer"], keras.optimizers.Optimizer)


# --- 38: optimizers and scale ---


def test_gradient_descent_sees_all_images_in_each_update_and_makes_as_many_with_few_images_as_sgd():
    experiment, _ = script("38")
    selected = experiment.select("small")
    updates, batches = {}, {}
    for arm in experiment.arms:
        setting = experiment.arm_setting(arm, selected.setting, selected)
        batches[arm] = setting.batch_size or setting.train_size
        updates[arm] = setting.epochs * -(-setting.train_size // batches[arm])
    full = [arm for arm in experiment.arms if arm.startswith("gradient descent")]
    assert len(full) == 2
    for arm in full:
        same = arm.replace("gradient descent", "SGD")
        assert batches[arm] == (100 if "100 images" in arm else selected.setting.train_size)
        assert updates[arm] == (updates[same] if "100 images" in arm else selected.setting.epochs)
    trial = fitted("38", "gradient descent, 100 images, simple")
    assert type(trial.options["optimizer"]).__name__ == "SGD"
    assert trial.options["optimizer"].momentum == 0


@pytest.mark.parametrize(("side", "network"), [(14, "resnet8"), (28, "resnet8"), (32, "resnet20")])
def test_the_complex_network_is_the_larger_where_images_are(side, network):
    assert fitted("38", "SGD, more images, complex", shape=(side, side, 1)).model.name == network


def test_each_optimizer_is_the_one_named():
    expected = {"SGD": ("SGD", 0.0), "momentum": ("SGD", 0.9), "AdaGrad": ("Adagrad", None), "RMSprop": ("RMSprop", 0.0)}
    for name, (kind, momentum) in expected.items():
        optimizer = fitted("38", f"{name}, 100 images, simple").options["optimizer"]
        assert type(optimizer).__name__ == kind
        assert getattr(optimizer, "momentum", None) == momentum
