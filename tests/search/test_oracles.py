"""The points that the oracles of keras-tuner propose."""

import json

import numpy as np
import pytest
from scipy.stats import qmc

from common import space
from common.search.oracles import Searcher
from common.space import choice, log_range


def searcher(tuner, *, sweep=0, count=8, arm="a", **entries):
    entries = entries or {"rate": log_range(1e-4, 1.0), "kind": choice("x", "y", "z")}
    return Searcher("exp_92_search", arm, entries, tuner, sweep, 9, count)


def play(one):
    """Run a search with a score that is highest at a rate of 0.01. Returns its points."""
    while not one.finished:
        one.ask()
        rows = {}
        for point in one.points:
            score = 1 - abs(np.log10(point.values["rate"]) + 2) / 4
            row = {"trained": "True", "val_accuracy": str(score), "val_nll": str(-score)}
            rows[one.arm, one.variant(point).point, one.seed] = row
        one.tell(rows)
    return [(point.number, point.values, point.epochs) for point in one.points]


@pytest.mark.parametrize("tuner", ["halton", "random", "bayesian", "hyperband"])
def test_an_oracle_repeats_its_points_and_proposes_others_in_another_sweep(tuner):
    first, other = play(searcher(tuner, count=6)), play(searcher(tuner, count=6, sweep=1))
    assert play(searcher(tuner, count=6)) == first
    assert other != first
    assert first[0] == (0, {"rate": 0.01, "kind": "x"}, 9)
    assert sum(epochs for number, _, epochs in first if number > 0) <= 6 * 9
    values = [json.dumps(values) for _, values, _ in first]
    assert len(set(values)) > 4
    if tuner != "hyperband":
        assert len(first) == 7
        assert {epochs for _, _, epochs in first} == {9}
    else:
        assert len({epochs for _, _, epochs in first}) > 1
    # The points of sweep 1 must not be those of sweep 0 shifted by one.
    assert len(set(values[1:]) & {json.dumps(values) for _, values, _ in other[1:]}) <= 1


def test_halton_points_are_those_of_scipy_and_equal_for_all_arms():
    entries = {"rate": log_range(1e-4, 1.0), "width": log_range(8, 128, whole=True)}
    points_of_a = [values for _, values, _ in play(searcher("halton", **entries))][1:]
    assert points_of_a == [values for _, values, _ in play(searcher("halton", arm="b", **entries))][1:]
    narrow = {"rate": log_range(1e-3, 1e-1), "width": log_range(8, 128, whole=True)}
    points_of_c = [values for _, values, _ in play(searcher("halton", arm="c", **narrow))][1:]
    for a, b in zip(points_of_a, points_of_c, strict=True):
        assert entries["rate"].place(a["rate"]) == pytest.approx(narrow["rate"].place(b["rate"]), abs=0.005)
    seed = searcher("halton").oracle.seed
    expected = qmc.Halton(2, scramble=True, rng=seed).random(8)
    assert points_of_a == [space.at(entries, place) for place in expected]
    # Unscrambled, the first coordinates are 0, 1/2, 1/4, 3/4, …; scrambled or not, each quarter holds equally many points.
    quarters = np.floor(4 * np.array([entries["rate"].place(values["rate"]) for values in points_of_a]))
    assert sorted(quarters) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_diverged_point_scores_as_a_constant_prediction_and_the_search_continues():
    one = searcher("random")
    one.ask()
    diverged = {"trained": "False", "val_accuracy": "0.1", "val_constant": "0.1", "val_nll": "2.3"}
    rows = {(one.arm, one.variant(p).point, one.seed): diverged for p in one.points}
    one.tell(rows)
    one.ask()
    assert one.finished
    assert all(point.row is not None for point in one.points)
    assert one.best().number == 0  # the first of ties
