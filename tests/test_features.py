import numpy as np
import pytest

from common import features
from common.data.corruptions import select_classes
from common.errors import Misuse


def image(pixels):
    return np.asarray(pixels, np.uint8)[None, :, :, None]


def bins(features):
    """Votes of the nine bins, summed over the cells of all blocks."""
    return features.reshape(-1, 4, 9).sum(axis=(0, 1))


def test_a_vertical_edge_votes_for_the_first_bin_alone():
    edge = np.zeros((8, 8))
    edge[:, 4:] = 255  # brightness grows to the right: a gradient at 0°, in the columns 3 and 4
    descriptor = features.hog(image(edge))
    assert descriptor.shape == (1, 36)  # one block of 2 × 2 cells with 9 bins
    votes = descriptor.reshape(4, 9)
    # Each cell has 4 pixels of the edge with a gradient of 1: four equal votes, brought to length 1, are ½ each. Clipped at
    # 0.2 and brought to length 1 again, they are ½ once more.
    assert votes[:, 0] == pytest.approx(0.5, abs=1e-4)
    assert np.all(votes[:, 1:] == 0)
    assert np.array_equal(features.hog(image(255 - edge)), descriptor)  # directions count, not signs


def test_a_horizontal_edge_is_shared_between_80_and_100_degrees():
    edge = np.zeros((8, 8))
    edge[4:] = 255
    votes = bins(features.hog(image(edge)))
    assert votes[4] == pytest.approx(votes[5])  # the centres nearest to 90° are 80° and 100°
    assert votes[[4, 5]].sum() == pytest.approx(votes.sum())
    assert votes.sum() > 0


def test_a_diagonal_edge_votes_by_its_distance_to_the_two_nearest_bins():
    ramp = 127 + 8 * (np.arange(8)[:, None] + np.arange(8)[None, :]) / 2  # brightness grows towards the lower right
    roots = np.sqrt(ramp.astype(np.uint8) / 255.0)
    down, across = roots[4, 3] - roots[2, 3], roots[3, 4] - roots[3, 2]
    assert np.degrees(np.arctan2(down, across)) == pytest.approx(45)
    inner = features.hog(image(np.pad(ramp, 8, mode="edge")), block=1)  # blocks of one cell, the third of each line inside
    votes = inner.reshape(6, 6, 9)[2:4, 2:4].sum(axis=(0, 1))
    # 45° lies between 40° and 60°: three quarters and one quarter; clipping and normalising keep their order.
    assert np.argsort(votes)[-2:].tolist() == [3, 2]


def test_images_smaller_than_a_block_are_refused():
    with pytest.raises(Misuse, match="at least 8 pixels per side. Received: 6x9"):
        features.hog(np.zeros((2, 6, 9, 1), np.uint8))


def test_hog_of_constant_images_is_0_and_almost_invariant_to_contrast():
    assert np.all(features.hog(image(np.full((8, 8), 90))) == 0)
    texture = np.random.default_rng(0).integers(0, 64, (16, 16)).astype(np.uint8)
    assert np.allclose(features.hog(image(texture)), features.hog(image(4 * texture)), atol=0.01)


def test_the_channel_with_the_longest_gradient_counts():
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[0, :, 4:, 0] = 20
    edge[0, 4:, :, 2] = 255
    votes = bins(features.hog(edge))
    assert votes[[4, 5]].sum() > votes[0] > 0


def test_features_of_an_image_do_not_depend_on_other_images():
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1)).astype(np.uint8)
    assert np.array_equal(features.hog(images)[3:4], features.hog(images[3:4]))
    assert features.hog(images).shape == (7, 6 * 6 * 36)
    assert features.pixels(images).max() <= 1


def test_a_linear_classifier_takes_the_strength_that_is_best_on_val(make_trial):
    for build in (features.hog_svm, features.pixel_regression):
        trial = make_trial(train_size=200)
        predictor = build(trial)
        scores = predictor.predict(trial.val.images)
        assert scores.shape == (len(trial.val), 10)
        assert (scores.argmax(axis=1) == trial.val.labels).mean() > 0.85
        assert predictor.strength in features.STRENGTHS
        assert trial.clocks["train"] > 0
    assert predictor.learned == 28 * 28 * 10 + 10


def test_a_class_without_training_examples_is_never_predicted(make_trial):
    trial = make_trial(train_size=100)
    trial.train = trial.train.take(np.flatnonzero(trial.train.labels != 3))
    scores = features.pixel_regression(trial).predict(trial.val.images)
    assert 3 not in scores.argmax(axis=1)
    assert np.isfinite(scores).all()


def test_two_classes_have_a_score_each(make_trial):
    trial = make_trial(train_size=200)
    trial.train, trial.val = (select_classes(split, (0, 1)) for split in (trial.train, trial.val))
    trial.classes = 2
    for build in (features.hog_svm, features.pixel_regression):
        scores = build(trial).predict(trial.val.images)
        assert scores.shape == (len(trial.val), 2)
        assert (scores.argmax(axis=1) == trial.val.labels).mean() > 0.95
