import numpy as np
import tensorflow as tf

from common import augment
from common.data.streams import Streams
from common.training.augmentation import apply, draws

ALL = [augment.flip(), augment.rotation(), augment.translation(), augment.crop()]


def test_draws_depend_on_the_example_and_not_on_other_augmentations():
    alone = draws(Streams(1), 2, [ALL[0]], 100)
    among = draws(Streams(1), 2, ALL, 100)
    assert np.array_equal(alone[:, 0], among[:, 0])
    assert np.array_equal(alone, draws(Streams(1), 2, [ALL[0]], 60 + 40))
    assert np.array_equal(alone[:60], draws(Streams(1), 2, [ALL[0]], 60))
    for other in (draws(Streams(2), 2, [ALL[0]], 100), draws(Streams(1), 3, [ALL[0]], 100)):
        assert not np.array_equal(alone, other)
    assert 0 <= among.min() <= among.max() < 1


def test_the_same_augmentation_applied_twice_has_different_draws():
    twice = draws(Streams(0), 0, [ALL[2], ALL[2]], 10)
    assert not np.array_equal(twice[:, 0], twice[:, 1])


def test_augmentation_of_an_example_does_not_depend_on_its_batch():
    images = np.random.default_rng(0).uniform(0, 255, (6, 8, 8, 3)).astype(np.float32)
    uniforms = draws(Streams(0), 0, ALL, 6)
    together, _ = apply(ALL, tf.constant(images), tf.zeros((6, 2)), tf.constant(uniforms))
    alone, _ = apply(ALL, tf.constant(images[3:4]), tf.zeros((1, 2)), tf.constant(uniforms[3:4]))
    assert np.array_equal(together.numpy()[3], alone.numpy()[0])
    assert not np.array_equal(together.numpy(), images)
