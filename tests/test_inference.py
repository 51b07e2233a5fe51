import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

from common import inference, models
from common.errors import Misuse
from common.training.seeding import seeded_weights


@pytest.fixture
def trial(make_trial):
    trial = make_trial(epochs=2)
    with seeded_weights(trial.streams):
        yield trial


@pytest.mark.slow
def test_a_converted_model_predicts_like_the_original(trial):
    model = trial.fit(models.small_cnn(trial), optimizer=optimizers.Adam(0.01))
    plain = trial.predict(model, trial.val)
    images = trial.train.images
    near = {"float32": 1e-4, "float16": 0.01, "int8": 0.4}
    sizes = {}
    for precision, distance in near.items():
        predictor = inference.Converted(inference.convert(model, precision, images))
        assert np.allclose(predictor.predict(trial.val.images), plain, atol=distance), precision
        sizes[precision] = len(predictor.content)
    with pytest.raises(ValueError, match="Received: 'int4'"):
        inference.convert(model, "int4", images)


def test_int8_is_four_times_and_float16_two_times_smaller(trial):
    model = models.small_cnn(trial, dense=(128,))  # 200,000 weights, so that the overhead of the file format is small
    sizes = {p: len(inference.convert(model, p, trial.train.images)) for p in inference.PRECISIONS}
    assert sizes["float32"] == pytest.approx(4 * model.count_params(), rel=0.03)
    assert sizes["float32"] / sizes["float16"] == pytest.approx(2, rel=0.05)
    assert sizes["float32"] / sizes["int8"] == pytest.approx(4, rel=0.08)


def test_sizes_and_latencies_are_recorded(trial):
    predictor = inference.deployed(trial, models.small_cnn(trial))
    measures = {name: value for name, value, _ in trial.measures}
    assert measures["size_bytes"] == len(predictor.content) > measures["gzip_bytes"] > 0
    assert 0 < measures["latency_1"] < measures["latency_64"]
    # The same predictor takes any number of images.
    assert [len(predictor.predict(trial.val.batch(np.arange(n)))) for n in (1, 7, 1)] == [1, 7, 1]


def test_the_smallest_weights_are_pruned_by_hand():
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(1, name="hidden")
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(hidden(inputs)))
    hidden.set_weights([np.array([[0.5], [-0.1], [0.3], [-4.0], [0.2]], np.float32), np.ones(1, np.float32)])
    head = model.get_layer("logits").get_weights()[0]
    inference.prune(model, 0.6)
    assert hidden.get_weights()[0][:, 0].tolist() == [0.5, 0, 0, -4, 0]
    assert np.array_equal(model.get_layer("logits").get_weights()[0], head)
    assert inference.sparsity_of(model) == pytest.approx((3 + 2) / 10)  # of 5 + 1 + 2 + 2 weights; the 2 biases of the head are 0


def test_kernels_of_nested_models_and_of_separable_convolutions_are_pruned():
    body = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.SeparableConv2D(4, 3, name="c"), layers.Flatten(name="f")], name="body"
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), body, layers.Dense(6, name="hidden"), layers.Dense(2, name="logits")])
    inference.prune(model, 0.5)
    shares = {weight.path.split("/", 1)[-1]: float(np.mean(np.array(weight) == 0)) for weight in model.weights}
    assert {name.split("/")[-2:][0] + "/" + name.split("/")[-1]: share for name, share in shares.items() if "kernel" in name} == {
        "c/depthwise_kernel": pytest.approx(0.5, abs=0.1),
        "c/pointwise_kernel": 0.5,
        "hidden/kernel": 0.5,
        "logits/kernel": 0.0,
    }
    with pytest.raises(Misuse, match="pruning needs a kernel before the last layer's. Received: the model small"):
        inference.prune(keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="small"), 0.5)


@pytest.mark.slow
def test_pruned_weights_stay_zero_and_the_others_learn(trial):
    network = models.small_cnn(trial, activation="leaky_relu")  # without dead units
    model = trial.fit(network, optimizer=optimizers.Adam(0.01), stage="teacher")
    inference.prune(model, 0.8)
    before = [layer.get_weights()[0] for layer in (model.get_layer("conv1_1"), model.get_layer("conv2_1"))]
    trial.fit(model, optimizer=optimizers.Adam(0.01), stage="fine-tuning")
    after = [layer.get_weights()[0] for layer in (model.get_layer("conv1_1"), model.get_layer("conv2_1"))]
    for old, new in zip(before, after, strict=True):
        assert (old == 0).mean() == pytest.approx(0.8, abs=0.01)
        assert np.all(new[old == 0] == 0)
        assert (new != old)[old != 0].mean() > 0.95


def test_a_student_learns_from_soft_targets_by_hand():
    """The gradient is share · T (softmax(z/T) − softmax(t/T)) + (1 − share) (softmax(z) − y)."""
    t, z, y = np.array([[2.0, 0, 1]]), np.array([[0.5, 1, 0]]), np.array([[1.0, 0, 0]])
    teacher = lambda images, training: tf.constant(t, tf.float32)  # noqa: E731
    logits = tf.Variable(z, dtype=tf.float32)
    student = lambda images, training: logits  # noqa: E731
    step = inference.distillation(teacher, temperature=2.0, share=0.75)
    with tf.GradientTape() as tape:
        losses, outputs = step(student, None, tf.constant(y, tf.float32), None)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    expected = 0.75 * 2 * (softmax(z / 2) - softmax(t / 2)) + 0.25 * (softmax(z) - y)
    assert np.allclose(tape.gradient(losses, logits), expected, atol=1e-6)
    assert losses.shape == (1,)
    assert np.array_equal(outputs, logits)


@pytest.mark.slow
def test_distillation_reduces_the_distance_to_the_teacher(trial):
    teacher = trial.fit(models.small_cnn(trial), optimizer=optimizers.Adam(0.01), stage="teacher", epochs=8)
    before = teacher.get_weights()
    student = models.small_cnn(trial, widths=(4,))
    wanted = trial.predict(teacher, trial.val)
    first = np.abs(trial.predict(student, trial.val) - wanted).mean()
    trial.fit(student, optimizer=optimizers.Adam(0.01), step=inference.distillation(teacher, share=1.0), epochs=8)
    assert np.abs(trial.predict(student, trial.val) - wanted).mean() < 0.8 * first
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
