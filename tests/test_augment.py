import numpy as np
import pytest
import tensorflow as tf

from common import augment
from common.streams import Streams

ALL = [augment.flip(), augment.rotation(), augment.translation(), augment.crop()]


def run(augmentation, image, uniforms):
    """One augmentation on one image [h, w] with the first uniforms given."""
    row = np.zeros((1, augment.UNIFORMS), np.float32)
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


def test_draws_belong_to_the_example_whatever_the_arm():
    alone = augment.draws(Streams(1), 2, [ALL[0]], 100)
    among = augment.draws(Streams(1), 2, ALL, 100)
    assert np.array_equal(alone[:, 0], among[:, 0])
    assert np.array_equal(alone, augment.draws(Streams(1), 2, [ALL[0]], 60 + 40))
    assert np.array_equal(alone[:60], augment.draws(Streams(1), 2, [ALL[0]], 60))
    for other in (augment.draws(Streams(2), 2, [ALL[0]], 100), augment.draws(Streams(1), 3, [ALL[0]], 100)):
        assert not np.array_equal(alone, other)
    assert 0 <= among.min() <= among.max() < 1


def test_the_same_augmentation_twice_draws_twice():
    twice = augment.draws(Streams(0), 0, [ALL[2], ALL[2]], 10)
    assert not np.array_equal(twice[:, 0], twice[:, 1])


def test_an_example_is_changed_alike_in_any_batch():
    images = np.random.default_rng(0).uniform(0, 255, (6, 8, 8, 3)).astype(np.float32)
    uniforms = augment.draws(Streams(0), 0, ALL, 6)
    together, _ = augment.apply(ALL, tf.constant(images), tf.zeros((6, 2)), tf.constant(uniforms))
    alone, _ = augment.apply(ALL, tf.constant(images[3:4]), tf.zeros((1, 2)), tf.constant(uniforms[3:4]))
    assert np.array_equal(together.numpy()[3], alone.numpy()[0])
    assert not np.array_equal(together.numpy(), images)
