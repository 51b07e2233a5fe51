import keras
import numpy as np
import pytest

from common import models, preprocessing
from common.data.split import Split
from common.training.trial import Trial


@pytest.fixture
def train():
    """800 images of 3 × 3 pixels with different channels and correlated neighbouring pixels."""
    generator = np.random.default_rng(0)
    smooth = generator.normal(120, 30, (800, 1, 1, 3)) + generator.normal(0, 15, (800, 3, 3, 3)) + [0, 20, 50]
    return Split.of(np.clip(smooth, 0, 255).astype(np.uint8), np.zeros(800, np.int64), 1)


def output(layer, split):
    return np.asarray(layer(split.images.astype(np.float32)))


def test_raw_and_divided_by_hand(train):
    assert np.array_equal(output(preprocessing.raw(), train), train.images)
    assert output(preprocessing.divided(), train) == pytest.approx(train.images / 255, abs=1e-6)


def test_standardised_has_mean_0_and_variance_1_on_train(train):
    x = output(preprocessing.standardised(train), train)
    assert (x.mean(), x.var()) == pytest.approx((0, 1), abs=1e-4)
    assert abs(x[..., 0].mean()) > 0.3  # the channels keep their differences


def test_per_channel_each_has_mean_0_and_variance_1(train):
    x = output(preprocessing.standardised(train, per_channel=True), train)
    assert x.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-4)
    assert x.var(axis=(0, 1, 2)) == pytest.approx(np.ones(3), abs=1e-4)


def test_statistics_come_from_the_train_split(train):
    brighter = Split.of(train.images // 2, train.labels, 1)
    assert output(preprocessing.standardised(train), brighter).mean() < -0.5


def test_standardised_image_removes_brightness_and_contrast(train):
    layer = preprocessing.standardised_image()
    x = output(layer, train)
    assert x.mean(axis=(1, 2, 3)) == pytest.approx(np.zeros(800), abs=1e-4)
    other = np.asarray(layer(0.5 * train.images.astype(np.float32) + 60))
    assert np.abs(other - x).max() < 0.05  # not 0, because of the 1 added to the variance
    assert not layer.weights


def test_grey_has_one_channel():
    pixel = np.array([[[[255, 0, 0]], [[0, 255, 0]], [[255, 255, 255]]]], np.float32)
    x = np.asarray(preprocessing.grey(3)(pixel))
    assert x.shape == (1, 3, 1, 1)
    assert x.ravel() == pytest.approx([0.299, 0.587, 1.0], abs=1e-6)
    assert np.asarray(preprocessing.grey(1)(pixel[..., :1])).ravel() == pytest.approx([1, 0, 1], abs=1e-6)


def test_whitened_pixels_are_uncorrelated_with_variance_1(train):
    x = output(preprocessing.whitened(train, epsilon=1e-9), train)
    assert x.shape == train.images.shape
    flat = x.reshape(800, 27)
    assert flat.mean(axis=0) == pytest.approx(np.zeros(27), abs=1e-3)
    assert np.cov(flat.T, bias=True) == pytest.approx(np.eye(27), abs=1e-3)


def test_whitened_variances_follow_the_formula_with_epsilon(train):
    x = output(preprocessing.standardised(train), train).reshape(800, 27).astype(np.float64)
    strengths = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    variances = np.linalg.eigvalsh(
        np.cov(output(preprocessing.whitened(train, epsilon=0.1), train).reshape(800, 27).T, bias=True)
    )
    assert variances == pytest.approx(strengths / (strengths + 0.1), abs=1e-4)


def test_the_whitening_matrix_is_symmetric(train):
    # Zero-phase whitening, the one nearest to the identity, has a symmetric matrix.
    matrix = preprocessing.whitened(train).matrix
    assert np.allclose(matrix, matrix.T, atol=1e-5)


def test_whitening_of_a_constant_pixel_is_bounded(digits):
    train = digits.test().take(np.arange(100))  # the corner pixels are black in all of them
    x = output(preprocessing.whitened(train), Split.of(np.full((1, 28, 28, 1), 255, np.uint8), np.zeros(1, int), 1))
    assert np.isfinite(x).all()
    assert np.abs(x).max() < 100


def test_a_saved_model_keeps_its_preprocessing(make_trial, tmp_path):
    trial: Trial = make_trial()
    model = models.small_cnn(trial, preprocessing=preprocessing.whitened(trial.train))
    assert model.count_params() == models.small_cnn(trial).count_params()
    model.save(tmp_path / "model.keras")
    images = trial.val.images[:5].astype(np.float32)
    assert np.array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))
