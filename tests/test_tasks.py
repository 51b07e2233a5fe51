import numpy as np
import pytest

from common import tasks
from common.data.corruptions import LEVELS, SHIFTS, shifted
from common.data.split import Split, folds
from common.data.streams import Streams
from common.errors import Misuse


def examples(digits, seed=0, task=tasks.classification, vary=None, **fields):
    streams = Streams(seed) if vary is None else Streams(seed, vary)
    return tasks.examples(digits, task, streams, **fields)


# --- subsets ---


def test_subsets_are_nested_and_keep_val(digits):
    (small, val, _), (large, same_val, _) = (examples(digits, seed=2, train_size=size) for size in (100, 500))
    assert set(small.ids) < set(large.ids)
    assert np.array_equal(small.ids, np.sort(small.ids))
    assert np.array_equal(val.ids, same_val.ids)
    assert np.bincount(small.labels).min() >= 9


def test_impossible_subset_names_the_range(digits):
    with pytest.raises(Misuse, match=r"between 1 and 1150.*Received: 1151"):
        examples(digits, train_size=1151)


def test_batches_are_the_images_of_their_ids(digits):
    train, _, _ = examples(digits, train_size=50)
    positions = np.array([3, 1])
    assert np.array_equal(train.batch(positions), train.images[positions])


@pytest.mark.parametrize("imbalance", [10, 100])
def test_a_long_tail_has_the_declared_ratio_and_size(digits, imbalance):
    train, val, _ = examples(digits, train_size=250, imbalance=imbalance)
    counts = np.bincount(train.labels, minlength=10)
    assert counts.sum() == len(train) == 250
    assert (np.diff(counts) <= 0).all()
    assert counts[0] / max(counts[-1], 1) == pytest.approx(imbalance, rel=0.35)  # the last class has 1 to 7 examples
    assert np.bincount(val.labels).min() >= 27  # val stays as it is


def test_a_long_tail_takes_no_more_than_a_class_has(digits):
    with pytest.raises(Misuse, match=r"train_size must be at most \d+ with an imbalance of 100.*Received: 1000"):
        examples(digits, train_size=1000, imbalance=100)


def test_the_published_subsets_have_not_changed(digits):
    train, _, _ = examples(digits, train_size=6)
    assert train.ids.tolist() == [58, 595, 704, 871, 1219, 1431]


def test_kept_classes_are_relabelled_and_the_other_classes_are_returned(digits):
    train, val, others = examples(digits, classes=(7, 3), train_size=20)
    everything, _, none = examples(digits)
    original = dict(zip(everything.ids, everything.labels, strict=True))
    assert [original[i] for i in train.ids] == [(7, 3)[label] for label in train.labels]
    assert (len(train), train.classes, val.classes, others.classes) == (20, 2, 2, 8)
    assert set(others.labels) == set(range(8))
    assert not {original[i] for i in others.ids} & {7, 3}
    assert len(none) == 0
    test = tasks.test(digits, (7, 3), tasks.classification)
    labels = digits.test().labels
    assert len(test) == ((labels == 7) | (labels == 3)).sum()
    assert np.array_equal(test.labels == 0, labels[np.isin(labels, (7, 3))] == 7)


# --- wrong labels ---


def test_label_noise_replaces_a_fraction_of_labels_and_wrong_labels_are_nested(digits):
    (little, val, _), (much, _, _) = (examples(digits, label_noise=share) for share in (0.2, 0.6))
    for split, share in ((little, 0.2), (much, 0.6), (val, 0.2)):
        wrong = split.labels != split.clean_labels
        assert wrong.mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / len(split)))
    first, second = little.labels != little.clean_labels, much.labels != much.clean_labels
    assert (second | ~first).all()
    assert np.array_equal(little.labels[first], much.labels[first])
    hit = np.bincount((much.labels - much.clean_labels)[second] % 10, minlength=10)
    assert hit[0] == 0
    assert hit[1:].min() > 0.6 * hit[1:].mean()  # all other classes alike


def test_label_noise_does_not_depend_on_the_subset(digits):
    (small, _, _), (large, _, _) = (examples(digits, train_size=size, label_noise=0.4) for size in (100, 500))
    known = dict(zip(large.ids, large.labels, strict=True))
    assert [known[i] for i in small.ids] == small.labels.tolist()


def test_noise_of_a_regression_is_drawn_from_the_whole_range(digits):
    train, _, _ = examples(digits, task=tasks.rotated, label_noise=0.3)
    wrong = train.labels != train.clean_labels
    assert wrong.mean() == pytest.approx(0.3, abs=0.05)
    assert train.labels[wrong].min() < -0.9 < 0.9 < train.labels[wrong].max()


def test_label_noise_is_refused_for_multi_label_tasks(digits):
    with pytest.raises(Misuse, match="label_noise needs one label per image"):
        examples(digits, task=tasks.tiles, label_noise=0.1)


# --- other tasks ---


def test_a_canvas_shows_exactly_the_classes_of_its_labels():
    # Each image of class c is filled with the value 100 + c, so a canvas can be read.
    labels = np.arange(40) % 4
    images = np.broadcast_to((100 + labels).astype(np.uint8)[:, None, None, None], (40, 3, 3, 1))
    canvas = tasks.tiles.change(Split.of(images, labels, 4), np.random.default_rng(0))
    assert canvas.images.shape == (40, 6, 6, 1)
    for image, present in zip(canvas.images, canvas.labels, strict=True):
        shown = set(np.unique(image)) - {0}
        assert shown == {100 + c for c in np.flatnonzero(present)}
        quarters = [image[y : y + 3, x : x + 3] for y in (0, 3) for x in (0, 3)]
        assert all(len(np.unique(q)) == 1 for q in quarters)
        assert 1 <= sum(q.any() for q in quarters) <= 3
    first = canvas.labels[np.arange(40), labels]
    assert first.all()  # a canvas always shows the example itself


def test_f1_of_labels_by_hand():
    logits = np.array([[1.0, -1], [1, 1], [-1, -1]])
    labels = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    # Label 0: 1 correct, 2 predicted, 2 present; label 1: 1 correct, 1 predicted, 2 present.
    assert tasks.tiles.scores(logits, labels)["f1"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    # −log σ(1) where right, −log σ(−1) where wrong: 3 of 6 are wrong.
    assert tasks.tiles.scores(logits, labels)["nll"] == pytest.approx(np.log1p(np.exp(-1)) + 0.5)


def test_images_are_rotated_by_their_label_and_cropped_to_a_disc():
    image = np.zeros((41, 41, 1), np.uint8)
    image[10, 20] = 255  # above the centre
    split = tasks.rotated.change(Split.of(np.stack([image] * 50), np.zeros(50, np.int64), 1), np.random.default_rng(0))
    y, x = np.mgrid[:41, :41]
    for turned, label in zip(split.images[..., 0].astype(float), split.labels, strict=True):
        at = (turned * (x - 20)).sum() / turned.sum(), (turned * (20 - y)).sum() / turned.sum()
        assert np.degrees(np.arctan2(-at[0], at[1])) == pytest.approx(45 * label, abs=2)
    white = tasks.rotated.change(Split.of(np.full((1, 41, 41, 1), 255, np.uint8), np.zeros(1, int), 1), np.random.default_rng(0))
    assert white.images[0, 0, 0] == white.images[0, -1, -1] == 0


def test_regression_is_scored_in_degrees_and_its_constant_is_the_median():
    assert tasks.rotated.scores(np.array([[0.5], [0.0]]), np.array([0.0, -1.0]))["error"] == pytest.approx(45 * 0.75)
    assert tasks.rotated.constant(np.array([-1.0, 0.2, 1.0]), 1, 2).tolist() == [[0.2], [0.2]]
    assert tasks.rotated.better(2.0) < tasks.rotated.better(1.0)


def test_the_tasks_test_split_is_the_same_for_every_trial(digits):
    first, second = (tasks.test(digits, None, tasks.rotated) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.labels, second.labels)


# --- shifts and folds ---


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_grows_with_its_level_and_is_the_same_each_time(digits, shift):
    test = digits.test().take(np.arange(40))
    changed = [shifted(test, shift, level).images.astype(float) for level in LEVELS]
    away = [np.abs(images - test.images).mean() for images in changed]
    assert 0 < away[0] < away[1] < away[2]
    assert np.array_equal(changed[1], shifted(test, shift, 2).images)


def test_shifts_by_hand():
    image = np.zeros((1, 33, 33, 1), np.uint8)
    image[0, 8:25, 8:25] = 100
    split = Split.of(image, np.zeros(1, np.int64), 1)
    assert shifted(split, "brightness", 1).images[0, 0, 0, 0] == 30
    mean = 100 * 17 * 17 / 33**2
    assert shifted(split, "contrast", 2).images[0, 16, 16, 0] == round(mean + 0.35 * (100 - mean))
    small = shifted(split, "scale", 3).images[0, :, :, 0] > 50
    assert small.sum(axis=0).max() in (9, 10)  # 17 · 0.55 = 9.35
    assert shifted(split, "blur", 1).images[0, 16, 8, 0] < 100
    inside = shifted(split, "noise", 1).images[0, 8:25, 8:25]
    assert inside.std() == pytest.approx(20, abs=2.5)  # 289 draws
    corner = shifted(split, "rotation", 3).images[0, :, :, 0] > 50
    assert corner[16, 16 - 11]  # a corner of the square now points left: 8.5 · √2 = 12 from the centre


def test_folds_are_disjoint_and_cover():
    parts = folds(17, 5, Streams(0))
    held_out = np.concatenate([val for _, val in parts])
    assert sorted(held_out) == list(range(17))
    assert all(not set(train) & set(val) and len(train) + len(val) == 17 for train, val in parts)
    assert {len(val) for _, val in parts} == {3, 4}
    with pytest.raises(Misuse, match=r"between 2 and the 3 examples. Received: 4"):
        folds(3, 4, Streams(0))


def test_joined_examples_have_unique_ids(digits):
    train, _, _ = examples(digits, train_size=30)
    more = train.join(np.zeros((4, *digits.shape), np.uint8), np.array([1, 2, 3, 4]))
    assert len(set(more.ids)) == len(more) == 34
    assert np.array_equal(more.batch(np.arange(30)), train.images)
    assert more.labels[-4:].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("task", "constant", "least", "too_little"),
    [
        (tasks.classification, 0.1, 0.19, 0.18),  # a tenth of the way from 0.1 to 1
        (tasks.classification, 0.5, 0.55, 0.54),
        (tasks.tiles, 0.0, 0.1, 0.09),
        (tasks.rotated, 22.5, 20.25, 20.3),  # of the way from 22.5 degrees to none
    ],
)
def test_a_trial_has_trained_from_a_tenth_of_the_way_to_a_perfect_score(task, constant, least, too_little):
    assert task.trained(least, constant)
    assert not task.trained(too_little, constant)
