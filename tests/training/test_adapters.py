import keras
import numpy as np
from keras import layers

from common.data.streams import Streams
from common.training.adapters import split_batch
from common.training.seeding import seeded_weights


def test_a_batch_is_split_evenly_and_a_small_one_goes_to_every_replica():
    bounds, count = split_batch(7, 3)
    assert (bounds.tolist(), count) == ([[0, 3, 5], [3, 5, 7]], 7)
    bounds, count = split_batch(2, 4)
    assert (bounds.tolist(), count) == ([[0] * 4, [2] * 4], 8)


def _net(dropout, width=4):
    with seeded_weights(Streams(5)):
        x = inputs = keras.Input((6,))
        x = layers.Dense(width, name="hidden")(x)
        if dropout:
            x = layers.Dropout(0.5, name="dropout")(x)
        return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def test_a_dropout_layer_does_not_change_the_weights_of_other_layers():
    plain, dropped = _net(False), _net(True)
    for name in ("hidden", "logits"):
        for a, b in zip(plain.get_layer(name).get_weights(), dropped.get_layer(name).get_weights(), strict=True):
            assert np.array_equal(a, b)


def test_initial_weights_depend_on_seed_layer_and_shape():
    net = _net(False, width=6)
    hidden, logits = net.get_layer("hidden").get_weights()[0], net.get_layer("logits").get_weights()[0]
    assert not np.array_equal(hidden[:, :3], logits)
    with seeded_weights(Streams(6)):
        other = layers.Dense(6, name="hidden")
        other.build((None, 6))
    assert not np.array_equal(other.get_weights()[0], hidden)


def test_unnamed_weights_of_one_layer_differ():
    class Two(layers.Layer):
        def build(self, _):
            self.a, self.b = self.add_weight(shape=(3, 3)), self.add_weight(shape=(3, 3))

    with seeded_weights(Streams(0)):
        first, second = Two(name="two"), Two(name="two")
        first.build(None)
        second.build(None)
    assert not np.array_equal(first.a, first.b)
    assert np.array_equal(first.a, second.a)


def test_an_explicit_seed_of_an_initialiser_is_used_and_keras_is_restored_afterwards():
    def kernel():
        layer = layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=11), name="hidden")
        layer.build((None, 6))
        return layer.get_weights()[0]

    outside = kernel()
    with seeded_weights(Streams(1)):
        assert np.array_equal(kernel(), outside)
    with seeded_weights(Streams(1)):
        inside = layers.Dense(4, name="hidden")
        inside.build((None, 6))
    after = layers.Dense(4, name="hidden")
    after.build((None, 6))
    assert not np.array_equal(inside.get_weights()[0], after.get_weights()[0])
