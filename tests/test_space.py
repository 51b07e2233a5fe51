"""Search spaces and grids."""

import pytest

from common import space
from common.errors import Misuse
from common.space import Grid, choice, linear_range, log_range


def test_ranges_map_positions_to_values_and_back():
    rate = log_range(1e-3, 10)
    assert [rate.at(u) for u in (0, 0.25, 0.5, 1)] == [0.001, 0.01, 0.1, 10]
    assert rate.place(0.01) == pytest.approx(0.25)
    assert linear_range(0, 0.8).at(0.25) == 0.2
    width = log_range(8, 32, whole=True)
    assert (width.at(0), width.at(0.5), width.at(1)) == (8, 16, 32)
    assert isinstance(width.at(0.5), int)
    assert [choice("a", "b").at(u) for u in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]


def test_a_grid_holds_both_ends_in_round_numbers():
    assert log_range(1e-3, 1.0).grid() == [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0]
    assert linear_range(0, 0.6, points=4).grid() == [0, 0.2, 0.4, 0.6]
    assert log_range(1, 4, whole=True, points=7).grid() == [1, 2, 3, 4]
    both = Grid({"rate": log_range(0.1, 1, points=2), "kind": choice("a", "b")})
    assert list(both.points()) == [{"rate": r, "kind": k} for r in (0.1, 1) for k in "ab"]


def test_a_grid_grows_by_two_points_beyond_an_edge_with_a_best_point():
    grid = Grid({"rate": log_range(0.01, 1, points=3)})
    assert not grid.extend([{"rate": 0.1}])
    assert grid.extend([{"rate": 0.1}, {"rate": 1}])
    assert grid.axes["rate"] == [0.01, 0.1, 1, 10, 100]
    assert grid.extend([{"rate": 0.01}])
    assert grid.axes["rate"] == [0.0001, 0.001, 0.01, 0.1, 1, 10, 100]
    assert not grid.extend([{"rate": 0.0001}, {"rate": 100}])  # the limits: 100 times beyond either end


def test_a_grid_grows_along_the_axis_of_the_edge_and_up_to_its_limit():
    grid = Grid({"rate": log_range(0.1, 10, points=3, limits=(0.1, 100)), "drop": linear_range(0, 0.5, points=2)})
    assert grid.extend([{"rate": 10, "drop": 0.5}])
    assert grid.axes == {"rate": [0.1, 1, 10, 100], "drop": [0, 0.5]}
    assert not grid.extend([{"rate": 0.1, "drop": 0}])


def test_the_outer_tenth_of_a_range_is_its_edge():
    searched = {"rate": log_range(1e-4, 1.0), "kind": choice("a", "b")}
    inside = [10**-3.59, 10**-0.41]
    outside = [10**-3.61, 10**-0.39]
    assert [space.at_edges(searched, {"rate": rate, "kind": "a"}) for rate in inside] == [[], []]
    assert [space.at_edges(searched, {"rate": rate, "kind": "a"}) for rate in outside] == [["rate"], ["rate"]]


def test_an_end_of_0_is_no_edge_as_nothing_lies_beyond():
    dropout, centred = linear_range(0.0, 0.5), linear_range(-0.5, 0.5)
    assert [dropout.at_edge(value) for value in (0.0, 0.04, 0.3, 0.46)] == [False, False, False, True]
    assert [centred.at_edge(value) for value in (-0.5, 0.0, 0.5)] == [True, False, True]


def test_a_build_function_of_keras_tuner_is_a_space():
    def build(hp):
        units = hp.Int("units", 32, 128, step=32)
        rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log", default=1e-3)
        hp.Float("dropout", 0.0, 0.5, step=0.25)
        hp.Float("momentum", 0.0, 0.9)
        if hp.Boolean("augment"):
            raise AssertionError("the default is False")
        assert (units, rate) == (32, 1e-3)
        return hp.Choice("activation", ["relu", "gelu"])

    assert space.of_build(build) == {
        "units": choice(32, 64, 96, 128),
        "learning_rate": log_range(1e-4, 1e-1, default=1e-3),
        "dropout": choice(0.0, 0.25, 0.5),
        "momentum": linear_range(0.0, 0.9, default=0.0),
        "augment": choice(False, True),
        "activation": choice("relu", "gelu"),
    }
    with pytest.raises(
        Misuse, match="the same hyperparameters whatever their values.* Received: 'momentum', which depends on 'sgd'"
    ):
        space.of_build(lambda hp: hp.Boolean("sgd") and hp.Float("momentum", 0.0, 0.9))
    with pytest.raises(Misuse, match="Received: 'units_1', which depends on 'layers'"):
        space.of_build(lambda hp: [hp.Int(f"units_{i}", 8, 64) for i in range(hp.Int("layers", 1, 2))])
    with pytest.raises(Misuse, match="Received: hp.conditional_scope"):
        space.of_build(lambda hp: hp.conditional_scope("a", [1]))
    with pytest.raises(Misuse, match="Received: 'reverse_log'"):
        space.of_build(lambda hp: hp.Float("a", 1, 2, sampling="reverse_log"))


def test_spaces_survive_json_and_differ_by_hash():
    searched = {"rate": log_range(1e-3, 1), "kind": choice("a", "b"), "width": linear_range(1, 9, whole=True)}
    again = space.of_json(space.to_json(searched))
    assert space.space_hash(again) == space.space_hash(searched)
    assert again["rate"].grid() == searched["rate"].grid()
    assert space.space_hash({**searched, "rate": log_range(1e-3, 2)}) != space.space_hash(searched)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: log_range(0, 1), "0 < low < high. Received: 0, 1"),
        (lambda: linear_range(2, 1), "low < high. Received: 2, 1"),
        (lambda: log_range(1, 2, points=1), "at least 2 grid points, as a whole number. Received: 1"),
        (lambda: log_range(1, 2, points=3.5), "Received: 3.5"),
        (lambda: log_range(1, 2, default=1000.0), "default must lie within"),
        (lambda: choice("a", default="b"), "a default among them"),
        (choice, "a choice needs values"),
    ],
)
def test_impossible_ranges_are_refused(make, message):
    with pytest.raises(Misuse, match=message):
        make()
