import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from common import augment
from common.data.streams import Streams
from common.errors import Misuse
from common.operations import OPERATIONS, apply_operation
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


def test_rand_augment_applies_its_operations_one_after_the_other(batch):
    images = np.floor(batch[0])
    place = {name: (i + 0.5) / len(OPERATIONS) for i, name in enumerate(OPERATIONS)}
    row = [place["solarize"], 0.1, place["brightness"], 0.9]
    changed, targets = on(augment.rand_augment(2, 0.5), (images, batch[1]), [row] * 5)
    solarized = apply_operation(tf.constant(images), "solarize", tf.fill([5], 0.1), 0.5)
    assert np.array_equal(changed, apply_operation(solarized, "brightness", tf.fill([5], 0.9), 0.5))
    assert np.array_equal(targets, batch[1])
    with pytest.raises(Misuse, match="Received: 5, 0.3"):
        augment.rand_augment(5)


def test_a_step_of_a_policy_changes_images_with_its_probability_and_either_sign(batch):
    rows = [[0.0, 0.1], [0.29, 0.9], [0.31, 0.1], [0.99, 0.9], [0.1, 0.4]]
    images, targets = on(augment.operation("rotate", 0.5, probability=0.3), batch, rows)
    forwards, backwards = (apply_operation(tf.constant(batch[0]), "rotate", tf.fill([5], u), 0.5).numpy() for u in (0.0, 1.0))
    expected = [forwards[0], backwards[1], batch[0][2], batch[0][3], forwards[4]]
    assert np.array_equal(images, expected)
    assert np.array_equal(targets, batch[1])
    assert not np.allclose(forwards[0], backwards[0], atol=1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_step_of_a_policy_declares_what_it_changes(name):
    turns = name in ("rotate", "shear x", "shear y")
    assert augment.operation(name, 0.5).changes == ({"pixels", "orientation"} if turns else {"pixels"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("rotat", 0.5), r"operation must be one of identity, .*solarize. Received: 'rotat' \(did you mean 'rotate'\?\)"),
        (("rotate", 1.5), "strength and a probability from 0 to 1. Received: 1.5, 0.5"),
        (("rotate", 0.5, -1), "Received: 0.5, -1"),
    ],
)
def test_a_step_that_cannot_be_is_refused(given, message):
    with pytest.raises(Misuse, match=message):
        augment.operation(*given)


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_augmentations_do_not_depend_on_the_batch_and_stay_within_0_and_255(channels):
    strong = [augment.cutout(), augment.rand_augment(4, 1.0), augment.operation("equalize", 1.0)]
    images = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, channels)).astype(np.float32)
    uniforms = draws(Streams(0), 0, strong, 64)
    together, _ = apply(strong, tf.constant(images), tf.zeros((64, 2)), tf.constant(uniforms))
    alone, _ = apply(strong, tf.constant(images[3:4]), tf.zeros((1, 2)), tf.constant(uniforms[3:4]))
    assert np.array_equal(together.numpy()[3], alone.numpy()[0])
    assert together.numpy().min() >= 0
    assert together.numpy().max() <= 255.001
