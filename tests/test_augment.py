import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from common import augment
from common.data.streams import Streams
from common.errors import Misuse
from common.training.augmentation import UNIFORMS, apply, draws


def run(augmentation, image, uniforms):
    """Augment one image [height, width]; `uniforms` are the first ones, the rest are 0."""
    row = np.zeros((1, UNIFORMS), np.float32)
    row[0, : len(uniforms)] = uniforms
    images, _ = augmentation(tf.constant(image[None, :, :, None], tf.float32), tf.zeros((1, 2)), tf.constant(row))
    return images.numpy()[0, :, :, 0]


@pytest.fixture
def picture():
    return np.arange(25, dtype=np.float32).reshape(5, 5)


def test_flip_by_hand(picture):
    assert np.array_equal(run(augment.flip(), picture, [0.49]), picture[:, ::-1])
    assert np.array_equal(run(augment.flip(), picture, [0.51]), picture)


def test_translation_by_hand(picture):
    # Reach 1: u = 0 shifts by −1, 0.5 by 0, 0.99 by +1. A shift of +1 in y takes each row from the one below.
    moved = run(augment.translation(0.2), picture, [0.99, 0.5])
    assert np.array_equal(moved[:-1], picture[1:])
    assert np.all(moved[-1] == 0)
    assert np.array_equal(run(augment.translation(0.2), picture, [0.5, 0.0])[:, 1:], picture[:, :-1])


def test_rotation_by_hand(picture):
    # u = 1 − ε turns by +90°, u = 0 by −90°, about the centre.
    quarter = run(augment.rotation(90), picture, [0.0])
    assert np.allclose(quarter, np.rot90(picture, -1), atol=1e-3) or np.allclose(quarter, np.rot90(picture), atol=1e-3)
    assert np.allclose(run(augment.rotation(90), quarter, [1.0]), picture, atol=1e-2)
    assert np.allclose(run(augment.rotation(30), picture, [0.5]), picture)


def test_crop_by_hand(picture):
    # Scale 0.5 at the upper left corner: output pixel i comes from i / 2.
    cut = run(augment.crop(0.5), picture, [0.0, 0.0, 0.0])
    assert np.allclose(cut[::2, ::2], picture[:3, :3], atol=1e-4)
    assert np.allclose(run(augment.crop(0.5), picture, [1.0, 0.7, 0.7]), picture, atol=1e-4)


# --- cutout, mixup, cutmix, RandAugment ------------------------------------------------------------------------------


@pytest.fixture
def batch():
    """Five images with height 6 and width 8, of three classes."""
    images = np.random.default_rng(1).uniform(0, 255, (5, 6, 8, 3)).astype(np.float32)
    return images, np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 0]]


def on(augmentation, batch, rows):
    """Augment a batch; `rows` are the first uniforms of each example, the rest are 0."""
    uniforms = np.zeros((len(rows), UNIFORMS), np.float32)
    uniforms[:, : len(rows[0])] = rows
    return [value.numpy() for value in augmentation(*map(tf.constant, batch), tf.constant(uniforms))]


def test_cutout_blackens_exactly_its_window(batch):
    # Half of 6 × 8 is 3 × 4. About row 3, column 4: rows 2 … 4, columns 2 … 5. About the corner only what is inside is left.
    images, targets = on(augment.cutout(0.5), batch, [[0.5, 0.5], [0.0, 0.0], [0.99, 0.99], [0.5, 0.0], [0.2, 0.8]])
    expected = batch[0].copy()
    expected[0, 2:5, 2:6] = 0
    expected[1, 0:2, 0:2] = 0
    expected[2, 4:6, 5:8] = 0
    expected[3, 2:5, 0:2] = 0
    expected[4, 0:3, 4:8] = 0
    assert np.array_equal(images, expected)
    assert np.array_equal(targets, batch[1])


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_symmetric_beta_has_the_beta_distribution(alpha):
    drawn = augment.symmetric_beta(alpha, *tf.random.stateless_uniform((2, 20_000), seed=(3, 4))).numpy()
    places = np.linspace(0.001, 0.999, 99)  # not the very ends: float32 rounds them to 0 and 1
    reached = (drawn[:, None] <= places).mean(axis=0)
    assert np.abs(reached - stats.beta(alpha, alpha).cdf(places)).max() < 1.95 / np.sqrt(20_000)  # Kolmogorov, p = 0.001
    edges = augment.symmetric_beta(alpha, tf.constant([0.0, 0.0, 0.5, 0.999]), tf.constant([0.0, 0.25, 0.25, 0.5])).numpy()
    assert np.all((edges >= 0) & (edges <= 1))


def test_mixup_is_a_convex_combination_with_the_example_before(batch):
    # With α = 1 and v = 0 the share is ½ + ½ √(1 − u): 1 at u = 0, 0.9 at 0.36, 0.8 at 0.64, 0.5 at 1.
    rows = [[0.0, 0.0], [0.36, 0.0], [0.64, 0.0], [1.0, 0.0], [0.36, 0.0]]
    shares = np.array([1.0, 0.9, 0.8, 0.5, 0.9])
    images, targets = on(augment.mixup(1.0), batch, rows)
    for i, share in enumerate(shares):
        assert np.allclose(images[i], share * batch[0][i] + (1 - share) * batch[0][i - 1], atol=1e-3)
        assert np.allclose(targets[i], share * batch[1][i] + (1 - share) * batch[1][i - 1], atol=1e-6)
    assert np.allclose(targets.sum(axis=1), 1)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels(batch):
    # Share 0.5 (u = 1): √½ of 6 × 8 is 4 × 5 whole pixels; about row 3, column 4 rows 1 … 4, columns 2 … 6.
    rows = [[1.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.99, 0.5], [1.0, 0.5, 0.5, 0.5]]
    images, targets = on(augment.cutmix(1.0), batch, rows)
    boxes = [(1, 5, 2, 7), (0, 2, 0, 3), (0, 0, 0, 0), (3, 6, 2, 7), (1, 5, 2, 7)]
    for i, (top, bottom, left, right) in enumerate(boxes):
        expected = batch[0][i].copy()
        expected[top:bottom, left:right] = batch[0][i - 1][top:bottom, left:right]
        assert np.array_equal(images[i], expected)
        area = (bottom - top) * (right - left) / 48
        assert np.allclose(targets[i], (1 - area) * batch[1][i] + area * batch[1][i - 1])
    assert np.allclose(targets.sum(axis=1), 1)


@pytest.mark.parametrize("mix", [augment.mixup(), augment.cutmix()])
def test_a_single_example_is_mixed_with_itself(batch, mix):
    alone = tuple(value[:1] for value in batch)
    for mixed, value in zip(on(mix, alone, [[0.7, 0.1, 0.5, 0.5]]), alone, strict=True):
        assert np.allclose(mixed, value, atol=1e-4)


def operation(name, images, strength, forwards=True):
    which = (augment.OPERATIONS.index(name) + 0.5) / len(augment.OPERATIONS)
    one = tf.ones(len(images))
    return augment.apply_operation(tf.constant(images), which * one, (0.1 if forwards else 0.9) * one, strength).numpy()


def grey(images):
    return (images @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=-1)


def test_colour_operations_by_numpy(batch):
    images = np.floor(batch[0])
    assert np.array_equal(operation("identity", images, 1.0), images)
    assert np.array_equal(operation("posterize", images, 1.0), images // 16 * 16)
    assert np.array_equal(operation("posterize", images, 0.5), images // 4 * 4)
    assert np.array_equal(operation("solarize", images, 0.5), np.where(images >= 128, 255 - images, images))
    assert np.array_equal(operation("solarize", images, 1.0), 255 - images)
    others = {"brightness": 0 * images, "colour": grey(images)}
    others["contrast"] = grey(images).mean(axis=(1, 2, 3), keepdims=True)
    smooth = images.copy()
    for y in range(1, 5):
        for x in range(1, 7):
            window = images[:, y - 1 : y + 2, x - 1 : x + 2]
            smooth[:, y, x] = (window.sum(axis=(1, 2)) + 4 * images[:, y, x]) / 13
    others["sharpness"] = smooth
    for name, other in others.items():
        for forwards, factor in ((True, 1.45), (False, 0.55)):
            expected = np.clip(other + factor * (images - other), 0, 255)
            assert np.allclose(operation(name, images, 0.5, forwards), expected, atol=0.01), name


def test_auto_contrast_and_equalize_by_numpy(batch):
    images = np.floor(batch[0] / 3) + 20
    images[0, :, :, 1] = 7.0  # a channel of one value stays
    stretched, equal = operation("auto contrast", images, 0.0), operation("equalize", images, 0.0)
    for i in range(len(images)):
        for c in range(3):
            channel = images[i, :, :, c]
            low, high = channel.min(), channel.max()
            if low == high:
                assert np.array_equal(stretched[i, :, :, c], channel)
                assert np.array_equal(equal[i, :, :, c], channel)
                continue
            assert np.allclose(stretched[i, :, :, c], 255 * (channel - low) / (high - low), atol=0.01)
            share = np.array([[(channel <= value).mean() for value in row] for row in channel])
            assert np.allclose(equal[i, :, :, c], 255 * (share - share.min()) / (1 - share.min()), atol=0.01)


def test_geometric_operations_by_hand():
    # A point in the right place of a 31 × 31 image, whose middle is (15, 15).
    def moved(name, row, column, strength, forwards=True):
        image = np.zeros((1, 31, 31, 1), np.float32)
        image[0, row, column] = 255
        changed = operation(name, image, strength, forwards)[0, :, :, 0]
        weights = changed / changed.sum()
        return (weights.sum(axis=1) @ np.arange(31), weights.sum(axis=0) @ np.arange(31))

    shift = 0.5 * 31 * 150 / 331
    assert moved("translate x", 15, 15, 0.5) == pytest.approx((15, 15 - shift), abs=0.05)
    assert moved("translate y", 15, 15, 0.5, forwards=False) == pytest.approx((15 + shift, 15), abs=0.05)
    assert moved("shear x", 25, 15, 1.0) == pytest.approx((25, 15 - 3), abs=0.05)  # 0.3 of the ten rows from the middle
    assert moved("shear y", 15, 5, 1.0) == pytest.approx((15 + 3, 5), abs=0.05)
    for forwards, side in ((True, -1), (False, 1)):
        row, column = moved("rotate", 15, 25, 1.0, forwards)  # ten to the right, turned by 30°: upwards first
        assert (row - 15, column - 15) == pytest.approx((side * 10 * 0.5, 10 * np.sqrt(3) / 2), abs=0.3)


def test_rand_augment_draws_operations_uniformly_and_strength_0_is_the_identity(batch):
    steps = np.floor(np.linspace(0, 1, 1400, endpoint=False) * len(augment.OPERATIONS))
    assert set(np.bincount(steps.astype(int))) == {100}
    images = np.floor(batch[0])
    without = [name for name in augment.OPERATIONS if name not in ("auto contrast", "equalize")]
    assert all(np.allclose(operation(name, images, 0.0), images, atol=1e-3) for name in without)
    assert all(not np.allclose(operation(name, images, 0.3), images, atol=0.5) for name in augment.OPERATIONS[1:])


def test_rand_augment_applies_its_operations_one_after_the_other(batch):
    images = np.floor(batch[0])
    place = {name: (i + 0.5) / len(augment.OPERATIONS) for i, name in enumerate(augment.OPERATIONS)}
    row = [place["solarize"], 0.1, place["brightness"], 0.9]
    changed, targets = on(augment.rand_augment(2, 0.5), (images, batch[1]), [row] * 5)
    expected = operation("brightness", operation("solarize", images, 0.5), 0.5, forwards=False)
    assert np.array_equal(changed, expected)
    assert np.array_equal(targets, batch[1])
    with pytest.raises(Misuse, match="Received: 5, 0.3"):
        augment.rand_augment(5)


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_augmentations_do_not_depend_on_the_batch_and_stay_within_0_and_255(channels):
    strong = [augment.cutout(), augment.rand_augment(4, 1.0)]
    images = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, channels)).astype(np.float32)
    uniforms = draws(Streams(0), 0, strong, 64)
    together, _ = apply(strong, tf.constant(images), tf.zeros((64, 2)), tf.constant(uniforms))
    alone, _ = apply(strong, tf.constant(images[3:4]), tf.zeros((1, 2)), tf.constant(uniforms[3:4]))
    assert np.array_equal(together.numpy()[3], alone.numpy()[0])
    assert together.numpy().min() >= 0
    assert together.numpy().max() <= 255.001
