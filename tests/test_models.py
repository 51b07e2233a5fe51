import types

import keras
import numpy as np
import pytest

from common import models
from common.errors import Misuse


def trial(height=32, channels=3, classes=10):
    return types.SimpleNamespace(input_shape=(height, height, channels), classes=classes, replicas=1)


@pytest.mark.parametrize(
    ("build", "shape", "parameters"),
    [
        (models.loss_tuning, (32, 3), 122_570),
        (models.loss_choice, (28, 1), 693_962),
        (models.speed_accuracy, (28, 1), 121_930),
        (models.gradient_descent, (32, 3), 72_906),
    ],
)
def test_published_parameter_counts(build, shape, parameters):
    assert build(trial(*shape)).count_params() == parameters


@pytest.mark.parametrize(("blocks", "depth"), [(3, 20), (1, 8)])
def test_resnet_has_as_many_layers_as_its_name_says(blocks, depth):
    model = models.resnet(trial(), blocks=blocks)
    assert model.name == f"resnet{depth}"
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == depth - 1


def test_resnet20_has_the_published_size():
    assert sum(int(np.prod(v.shape)) for v in models.resnet(trial()).trainable_variables) == 269_722


def test_published_layers_are_those_of_the_tutorials():
    kinds = [type(layer).__name__ for layer in models.loss_tuning(trial()).layers[2:]]
    assert kinds == ["Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Conv2D", "Flatten", "Dense", "Dense"]


def test_models_divide_by_255_and_emit_logits():
    model = models.small_cnn(trial(28, 1))
    assert model.get_layer("rescale").scale == 1 / 255
    assert model.get_layer("logits").activation is keras.activations.linear


@pytest.mark.parametrize("build", [models.loss_tuning, models.speed_accuracy, models.small_cnn, models.resnet])
def test_models_adapt_to_shape_and_classes(build):
    assert build(trial(40, 1, 7)).output_shape == (None, 7)


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.loss_tuning(trial(12)),
        lambda: models.gradient_descent(trial(2)),
        lambda: models.small_cnn(trial(8), widths=(4, 4, 4, 4)),
    ],
)
def test_a_model_that_is_too_deep_for_the_image_is_refused_in_one_line(build):
    with pytest.raises(Misuse, match="too deep for these images.*Received: ") as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"normalization": "batch"}, {"BatchNormalization": 2}),
        ({"normalization": "layer"}, {"GroupNormalization": 2}),
        ({"pooling": "average"}, {"AveragePooling2D": 2}),
        ({"pooling": "strided"}, {"Conv2D": 4}),
        ({"pooling": None, "global_pooling": True}, {"MaxPooling2D": 0, "GlobalAveragePooling2D": 1}),
        ({"depth": 3, "widths": (4, 8)}, {"Conv2D": 6}),
        ({"dropout": 0.5, "spatial_dropout": 0.1, "dense": (9,)}, {"Dropout": 2, "SpatialDropout2D": 2, "Dense": 2}),
    ],
)
def test_small_cnn_options(options, kinds):
    names = [type(layer).__name__ for layer in models.small_cnn(trial(28, 1), **options).layers]
    assert {kind: names.count(kind) for kind in kinds} == kinds


@pytest.mark.parametrize("options", [{"normalization": "bach"}, {"pooling": "mean"}])
def test_an_unknown_option_is_named(options):
    with pytest.raises(Misuse, match=f"Received: '{next(iter(options.values()))}'"):
        models.small_cnn(trial(), **options)


def test_a_monotone_activation_after_the_pool_is_the_same_function():
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    fast = models.small_cnn(trial(8, 1), widths=(3,), activation="relu")
    names = [layer.name for layer in fast.layers]
    assert names.index("pool1") < names.index("activation1_1")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.ops.relu(fast.get_layer("conv1_1")(x))  # the textbook order
    x = fast.get_layer("logits")(fast.get_layer("flatten")(fast.get_layer("pool1")(x)))
    assert np.allclose(fast(images), x, atol=1e-6)
    slow = [layer.name for layer in models.small_cnn(trial(8, 1), widths=(3,), activation="gelu").layers]
    assert slow.index("activation1_1") < slow.index("pool1")


def test_penalties_reach_every_kernel():
    model = models.small_cnn(trial(28, 1), dense=(5,), kernel_regularizer=keras.regularizers.L2(0.5))
    kernels = [w for w in model.trainable_variables if w.name == "kernel"]
    assert len(kernels) == len(model.losses) == 4
    assert float(sum(model.losses)) == pytest.approx(0.5 * sum(float(np.sum(np.square(k))) for k in kernels), rel=1e-5)


def test_deep_dense_is_as_deep_as_asked_and_penalised():
    model = models.deep_dense(trial(28, 1), depth=6, kernel_regularizer=keras.regularizers.L1(0.5))
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [64] * 6 + [10]
    assert len(model.losses) == 7


def test_a_residual_connection_adds_the_input_of_a_layer():
    model = models.deep_dense(trial(2, 1), depth=3, width=4, residual=True, kernel_initializer="zeros")
    first = model.get_layer("dense1")
    first.set_weights([np.eye(4), np.zeros(4)])
    inner = keras.Model(model.input, model.get_layer("add3").output)
    images = 255.0 * np.arange(4).reshape(1, 2, 2, 1)
    assert np.allclose(inner(images), [[0, 1, 2, 3]])  # the later layers have no weights yet, and pass it on
    for name in ("dense2", "dense3"):
        model.get_layer(name).set_weights([np.eye(4), np.zeros(4)])
    assert np.allclose(inner(images), [[0, 4, 8, 12]])  # x + relu(x), twice


@pytest.mark.parametrize(("wanted", "width"), [(1, 1), (19, 3), (20, 3), (23, 4), (100, 16)])
def test_matched_takes_the_nearest_width(wanted, width):
    def build(units):  # 6 · units + 1 parameters
        inputs = keras.Input((5,))
        return keras.Model(inputs, keras.layers.Dense(1, name="out")(keras.layers.Dense(units, use_bias=False)(inputs)))

    model = models.matched(build, wanted)
    assert model.count_params() == 6 * width + 1


def test_a_network_with_one_output_has_its_sigmoid_as_probability_of_the_second_class():
    model = models.with_one_output(models.small_cnn(trial(8, 1, classes=2)))
    images = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 1)).astype("float32")
    logits = np.asarray(model(images))
    assert logits.shape == (5, 2)
    assert (logits[:, 0] == 0).all()
    one = np.asarray(keras.Model(model.input, model.get_layer("logit").output)(images))[:, 0]
    assert np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1) == pytest.approx(1 / (1 + np.exp(-one)), rel=1e-5)
    assert "logits" not in {layer.name for layer in model.layers}


def test_the_published_network_for_raw_pixels_takes_them_as_they_are():
    raw, scaled = (models.loss_choice(trial(28, 1), raw=raw) for raw in (True, False))
    scaled.set_weights(raw.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 1)).astype("float32")
    assert np.asarray(raw(images)) == pytest.approx(np.asarray(scaled(255 * images)), rel=1e-4, abs=1e-3)
    assert raw.count_params() == scaled.count_params() == 693_962
