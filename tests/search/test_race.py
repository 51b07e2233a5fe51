"""The rules of the race and the tuning variance, on tables of scores that a reader can check."""

import time

import numpy as np
import pytest

from common.search.race import Curve, Rules, next_rates, tuning_variance

RATES = [0.01, 0.0316, 0.1, 0.316, 1.0]
LEVEL = np.zeros(5)


def rules(rates=RATES, constant=0.1, metric="accuracy"):
    points = [{"learning_rate": rate} for rate in rates]
    return Rules(np.array(rates), next_rates(points), constant, metric)


def test_points_are_ordered_by_score_then_nll_then_rate():
    scores = np.array([0.5, 0.7, 0.5, 0.5, np.nan])
    nll = np.array([1.0, 2.0, 0.5, 1.0, 0.1])
    assert list(rules().order(scores, nll)) == [1, 2, 0, 3, 4]


@pytest.mark.parametrize(
    ("scores", "contending"),
    [
        ([0.30, 0.45, 0.50, 0.48, 0.47], [2, 3, 4]),  # three at most
        ([0.30, 0.39, 0.50, 0.41, 0.20], [2, 3]),  # 0.10 below the best at most
        ([0.30, 0.30, 0.30, 0.30, 0.30], [0, 1, 2]),  # of equal ones the lowest rates
        ([0.90, 0.10, 0.10, 0.10, 0.10], [0]),
    ],
)
def test_contenders_are_the_best_three_within_a_tenth(scores, contending):
    assert list(np.flatnonzero(rules().contenders(np.array(scores), LEVEL))) == contending


def test_for_other_metrics_the_distance_is_a_tenth_of_that_to_a_constant_prediction():
    errors = np.array([-12.0, -6.4, -5.0, -6.6, -15.0])  # degrees; 0.1 · (20 − 5) = 1.5
    assert list(np.flatnonzero(rules(constant=-20.0, metric="error").contenders(errors, LEVEL))) == [1, 2]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([0.40, 0.49, 0.50, 0.10, 0.10], 1),  # 0.5 − 0.035 · 0.4 = 0.486
        ([0.40, 0.48, 0.50, 0.10, 0.10], 2),
        ([0.40, 0.48, 0.50, 0.40, 0.10], 2),  # 0.5 − 0.035 · 0.1 = 0.4965
        ([0.40, 0.41, 0.48, 0.49, 0.50], 4),  # nothing is taken off at the top of the range
    ],
)
def test_the_winner_has_the_highest_mean_after_the_penalty(scores, chosen):
    scores = np.array(scores)
    assert rules().winner(scores, LEVEL, rules().contenders(scores, LEVEL)) == chosen


def test_only_contenders_win():
    assert rules().winner(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), LEVEL, np.array([True, True, False, False, False])) == 1


def test_the_next_higher_rate_is_that_of_the_point_with_equal_other_values():
    points = [{"learning_rate": rate, "strength": s} for rate in (1.0, 0.1, 0.01) for s in (1, 2)]
    assert list(next_rates(points)) == [-1, -1, 0, 1, 2, 3]
    assert list(next_rates([{"strength": 1}, {"strength": 2}])) == [-1, -1]


def test_many_races_at_once_end_as_each_alone():
    scores = np.random.default_rng(1).uniform(0.1, 0.9, (4, 6, 5, 5))
    together, contending = rules().race(scores, 2)
    for i, j in np.ndindex(4, 6):
        alone, few = rules().race(scores[i, j], 2)
        assert alone == together[i, j]
        assert (few == contending[i, j]).all()


def test_further_seeds_count_for_contenders_alone():
    scores = np.full((5, 5), 0.9)
    scores[:, :2] = np.array([[0.3], [0.48], [0.50], [0.3], [0.3]])
    scores[2, 2:] = 0.1
    chosen, contending = rules().race(scores, 2)
    assert (chosen, list(np.flatnonzero(contending))) == (1, [1, 2])


# --- the variance of the choice ---


def test_the_curve_of_trials():
    scores = np.array([[0.5, 0.7, np.nan], [0.9, 0.8, 0.7], [0.6, 0.1, np.nan], [0.1, 0.1, np.nan]])
    trained = np.array([[True, True, False], [True, True, True], [True, False, False], [False, False, False]])
    curve = Curve.of(scores, trained, 0.1)
    assert curve.means == pytest.approx([0.6, 0.8, 0.6, 0.1])
    assert curve.collapse == pytest.approx([0, 0, 0.5, 1])
    # Squares 2 · 0.1² of the first point and 2 · 0.1² of the second, with 1 + 2 degrees of freedom.
    assert curve.deviation == pytest.approx(np.sqrt(0.04 / 3))


def test_a_choice_without_noise_adds_no_variance():
    curve = Curve(np.array([0.3, 0.4, 0.5, 0.4, 0.3]), np.array(0.0), np.zeros(5), 0.1)
    assert tuning_variance(rules(), curve, np.array(2), 2, 3) == 0


def test_a_choice_between_equal_points_adds_no_variance():
    curve = Curve(np.full(5, 0.5), np.array(0.05), np.zeros(5), 0.1)
    assert tuning_variance(rules(), curve, np.array(2), 2, 3) == 0


def test_a_point_that_collapses_is_then_not_chosen():
    """The best point trains in half of all seeds: with one seed it is chosen in half of the races, the other one 0.4 below it."""
    curve = Curve(np.array([0.5, 0.9]), np.array(0.0), np.array([0.0, 0.5]), 0.1)
    tau2 = tuning_variance(rules([0.01, 0.1]), curve, np.array(1), 1, 0)
    assert tau2 == pytest.approx(0.5 * 0.4**2, rel=0.15)
    assert tau2 * 200 / 0.4**2 == pytest.approx(round(tau2 * 200 / 0.4**2))  # a number of races


def test_of_two_points_the_better_is_missed_as_often_as_two_normal_means_allow():
    """With one seed and no contenders' seeds the lower point wins with probability Φ(−0.05 / (0.05 √2)) = 0.24."""
    curve = Curve(np.array([0.55, 0.5]), np.array(0.05), np.zeros(2), 0.1)
    two = Rules(np.zeros(2), np.array([-1, -1]), 0.1, "accuracy")
    assert tuning_variance(two, curve, np.array(0), 1, 0) == pytest.approx(0.24 * 0.05**2, rel=0.3)


def test_the_variance_of_many_arms_at_once_is_that_of_each_and_takes_little_time():
    generator = np.random.default_rng(2)
    scores = generator.normal(0.5, 0.05, (3, 9, 5))
    curve = Curve.of(scores, np.ones_like(scores, bool), 0.1)
    chosen = np.array([1, 2, 3])
    nine = rules([10.0 ** (i / 2) for i in range(9)])
    start = time.perf_counter()
    of_one = [
        tuning_variance(nine, Curve(curve.means[i], curve.deviation[i], curve.collapse[i], 0.1), chosen[i], 2, 3)
        for i in range(3)
    ]
    assert (time.perf_counter() - start) / 3 < 1
    assert (tuning_variance(nine, curve, chosen, 2, 3) > 0).all()
    assert tuning_variance(nine, Curve(curve.means[0], curve.deviation[0], curve.collapse[0], 0.1), chosen[0], 2, 3) == of_one[0]
