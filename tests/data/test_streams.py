import keras
import numpy as np
import pytest
from keras import layers

from common.data.streams import Streams, seeded_weights, stratified_order


def test_a_stream_depends_on_seed_name_and_parts_alone():
    first = Streams(3).generator("order", 0).permutation(50)
    assert np.array_equal(first, Streams(3).generator("order", 0).permutation(50))
    for other in (Streams(4).generator("order", 0), Streams(3).generator("order", 1), Streams(3).generator("split", 0)):
        assert not np.array_equal(first, other.permutation(50))


def test_streams_that_do_not_vary_stay_at_seed_0():
    held = Streams(7, vary=("init",))
    assert held.key("order", 1) == Streams(0).key("order", 1)
    assert held.key("init", 1) == Streams(7).key("init", 1) != Streams(0).key("init", 1)


def test_unknown_stream_is_named():
    with pytest.raises(ValueError, match="Received: 'shuffle'"):
        Streams(0).key("shuffle")


def test_every_prefix_of_a_stratified_order_holds_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = stratified_order(labels, np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(1000))
    for n in (10, 100, 550):
        counts = np.bincount(labels[order[:n]], minlength=3)
        assert np.all(np.abs(counts - n * np.array([0.6, 0.3, 0.1])) <= 1)


def _net(dropout, width=4):
    with seeded_weights(Streams(5)):
        x = inputs = keras.Input((6,))
        x = layers.Dense(width, name="hidden")(x)
        if dropout:
            x = layers.Dropout(0.5, name="dropout")(x)
        return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def test_a_dropout_layer_moves_no_other_layers_weights():
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


def test_weights_of_one_layer_are_told_apart_also_without_names():
    class Two(layers.Layer):
        def build(self, _):
            self.a, self.b = self.add_weight(shape=(3, 3)), self.add_weight(shape=(3, 3))

    with seeded_weights(Streams(0)):
        first, second = Two(name="two"), Two(name="two")
        first.build(None)
        second.build(None)
    assert not np.array_equal(first.a, first.b)
    assert np.array_equal(first.a, second.a)


def test_an_initialisers_own_seed_is_respected_and_the_hook_is_removed():
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
