"""Statistics of searches against counts by hand."""

import itertools

import numpy as np
import pytest

from common.verdicts import stats


def test_expected_best_is_the_mean_over_all_subsets():
    scores = [0.1, 0.5, 0.2, 0.9]
    # Of the six pairs the best are 0.5, 0.2, 0.9, 0.5, 0.9, 0.9.
    assert stats.expected_best(scores, 2) == pytest.approx((0.5 + 0.2 + 0.9 + 0.5 + 0.9 + 0.9) / 6)
    assert stats.expected_best(scores, 1) == pytest.approx(np.mean(scores))
    assert stats.expected_best(scores, 4) == 0.9
    many = np.random.default_rng(0).random(9)
    for size in range(1, 10):
        counted = np.mean([max(subset) for subset in itertools.combinations(many, size)])
        assert stats.expected_best(many, size) == pytest.approx(counted)
    with pytest.raises(ValueError, match=r"size must be 1 … 4. Received: 5"):
        stats.expected_best(scores, 5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_chance_of_best_is_counted_over_all_pairs_of_subsets(size):
    scores = {"a": [0.1, 0.5, 0.5, 0.9], "b": [0.5, 0.5, 0.6, 0.2], "c": [0.9, 0.1, 0.3, 0.5]}
    wins = dict.fromkeys(scores, 0.0)
    draws = list(itertools.product(*(list(itertools.combinations(points, size)) for points in scores.values())))
    for draw in draws:
        bests = [max(subset) for subset in draw]
        winners = [arm for arm, best in zip(scores, bests, strict=True) if best == max(bests)]
        for arm in winners:
            wins[arm] += 1 / len(winners)
    chances = stats.chance_of_best(scores, size)
    assert chances == pytest.approx({arm: won / len(draws) for arm, won in wins.items()})
    assert sum(chances.values()) == pytest.approx(1)


def test_decades_within_a_distance_of_the_best():
    rates = [0.001, 0.01, 0.1, 1.0]
    assert stats.decades_within(rates, [0.9, 0.9, 0.9, 0.9], 0.02) == pytest.approx(3)
    # Falls from 0.9 by 0.1 in a decade: 0.02 is a fifth of it, on either side.
    assert stats.decades_within(rates, [0.7, 0.8, 0.9, 0.8], 0.02) == pytest.approx(0.4)
    assert stats.decades_within(rates, [0.9, 0.1, 0.1, 0.1], 0.02) == pytest.approx(0.02 / 0.8)
    assert stats.decades_within(rates, [0.9, 0.1, 0.9, 0.9], 0.02) == pytest.approx(1 + 2 * 0.02 / 0.8)
