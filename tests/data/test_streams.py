import numpy as np
import pytest

from common.data.streams import Streams, least_counts, stratified_order


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


def test_every_prefix_of_a_stratified_order_is_stratified():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = stratified_order(labels, np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(1000))
    for n in (10, 100, 550):
        counts = np.bincount(labels[order[:n]], minlength=3)
        assert np.all(np.abs(counts - n * np.array([0.6, 0.3, 0.1])) <= 1)


@pytest.mark.parametrize(("sizes", "size"), [((30,) * 5, 135), ((7, 11, 13), 25), ((600, 300, 100), 1000), ((4, 0, 9), 5)])
def test_the_least_counts_hold_for_every_order_and_are_reached(sizes, size):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    orders = [stratified_order(labels, np.random.default_rng(seed))[:size] for seed in range(200)]
    seen = np.min([np.bincount(labels[order], minlength=len(sizes)) for order in orders], axis=0)
    assert np.array_equal(least_counts(labels, size), seen)
