"""Statistics against counts by hand and SciPy's results."""

import itertools

import numpy as np
import pytest
import scipy.stats

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


# --- intervals ---


def test_paired_t_is_scipys():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.9, 0.02, 10), generator.normal(0.88, 0.02, 10)
    estimate = stats.paired(first - second)
    theirs = scipy.stats.ttest_rel(first, second)
    assert estimate.p_beyond(0.0) == pytest.approx(theirs.pvalue, rel=1e-6)
    interval = theirs.confidence_interval(0.95)
    assert estimate.bounds(0.05) == pytest.approx((interval.low, interval.high))


def test_two_way_by_hand():
    """Two seeds, three images. Means of seeds 0 and 2/3, of images 0, 1/2, 1/2; of all 1/3.

    MS_seed = 3 (1/9 + 1/9) / 1 = 2/3; MS_image = 2 (1/9 + 1/36 + 1/36) / 2 = 1/6; residuals: [1/3, -1/6, -1/6] and its negative,
    MS_residual = 2 (1/9 + 1/36 + 1/36) / 2 = 1/6. Var = (2/3 + 0) / 6 = 1/9.
    """
    estimate = stats.two_way(np.array([[0, 0, 0], [0, 1, 1]]))
    assert estimate.difference == pytest.approx(1 / 3)
    assert estimate.sources == (pytest.approx((1 / 9, 1)), pytest.approx((0.0, 2)))
    assert estimate.half_width(0.05) == pytest.approx(scipy.stats.t.ppf(0.975, 1) / 3)


def test_two_way_weighs_the_quantiles_by_the_variances():
    estimate = stats.Estimate(0.1, ((0.003, 4), (0.001, 999)))
    t = 0.75 * scipy.stats.t.ppf(0.975, 4) + 0.25 * scipy.stats.t.ppf(0.975, 999)
    assert estimate.half_width(0.05) == pytest.approx(t * np.sqrt(0.004))


@pytest.mark.parametrize("value", [-0.05, 0.0, 0.02, 0.1])
def test_a_p_value_is_the_level_whose_interval_reaches_the_value(value):
    generator = np.random.default_rng(1)
    ranked = stats.Ranked(tuple(generator.normal(0.03, 0.05, 9)))
    for estimate in (stats.two_way(generator.random((5, 40)) - 0.45), stats.paired(generator.normal(0.03, 0.05, 5)), ranked):
        p = estimate.p_beyond(value)
        low, high = estimate.bounds(min(1.0, p * 1.001))
        assert not low < value < high or p == 1.0
        low, high = estimate.bounds(p * 0.999)
        assert low <= value <= high


def test_intervals_have_a_width_without_variance():
    same = stats.two_way(np.zeros((5, 360)))
    low, high = same.bounds(0.05)
    # None of 360 images differs: with probability 5 % that happens where 1 % of images would.
    assert low == -high
    assert high == pytest.approx(1 - 0.025 ** (1 / 360))
    assert same.p_beyond(0.0) == 1.0
    assert same.p_beyond(0.02) < 0.05
    assert np.isinf(stats.two_way(np.ones((1, 9))).half_width(0.05))
    assert np.isinf(stats.paired([0.3]).half_width(0.05))
    flat = stats.paired([0.01] * 5, resolution=0.002)
    assert 0 < flat.half_width(0.05) < 0.01
    assert np.isinf(stats.paired([0.01] * 5).half_width(0.05))  # of a metric whose steps are not known
    # Each seed two images better, other images each time: no variance over seeds, and yet no certainty.
    d = np.zeros((5, 360))
    for seed in range(5):
        d[seed, 2 * seed : 2 * seed + 2] = 1
    low, high = stats.two_way(d).bounds(0.05)
    assert high - low > 1e-4


def test_ranks_are_scipys_wilcoxon():
    d = np.random.default_rng(2).normal(0.4, 1, 12)
    ranked = stats.Ranked(tuple(d))
    assert ranked.p_beyond(0.0) == pytest.approx(scipy.stats.wilcoxon(d, method="exact").pvalue)
    # With five seeds no level below 1/16 has an interval.
    few = stats.Ranked((1.0, 2.0, 3.0, 4.0, 5.0))
    assert few.bounds(0.05) == (-np.inf, np.inf)
    assert few.bounds(0.0625) == (1.0, 5.0)
    assert few.p_beyond(0.0) == 0.0625
    assert few.difference == 3.0


def test_survival_is_mcnemars_exact_test():
    # Six seeds on which the arms differ, all for the first: 2 / 2**6.
    assert stats.survival_p([True] * 8, [True, True] + [False] * 6) == pytest.approx(2 / 64)
    assert stats.survival_p([True] * 5, [True] * 5) == 1.0


def test_holm_by_hand():
    # 0.01 < 0.05/4; 0.015 < 0.05/3; 0.03 > 0.05/2: this one and all after it fail at that level.
    judged = stats.holm([0.03, 0.01, 0.04, 0.015], 0.05)
    assert [passed for _, passed in judged] == [False, True, False, True]
    assert [level for level, _ in judged] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert stats.holm([], 0.05) == []


def test_false_discovery_rates_by_hand():
    # 0.01·3/1, 0.02·3/2 and 0.04·3/3, made monotone.
    assert stats.benjamini_hochberg([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.03])
    assert stats.benjamini_hochberg([]) == []


def test_seeds_needed_come_from_the_deviation_alone():
    d = np.array([0.01, 0.03, -0.01, 0.02, 0.0])
    few, many = stats.seeds_needed(stats.paired(d), 0.01, 0.05)
    assert (few, many) == stats.seeds_needed(stats.paired(d + 0.5), 0.01, 0.05)
    sd = d.std(ddof=1)
    assert (
        scipy.stats.t.ppf(0.975, few - 1) * sd / np.sqrt(few) <= 0.01 < scipy.stats.t.ppf(0.975, few - 2) * sd / np.sqrt(few - 1)
    )
    assert many > few
    # The variance over test images alone is too large for any number of seeds.
    (of_seeds,) = stats.paired(d).sources
    assert stats.seeds_needed(stats.Estimate(0.0, (of_seeds, (0.01**2, 359))), 0.01, 0.05) is None
    more, _ = stats.seeds_needed(stats.Estimate(0.0, (of_seeds, (0.004**2, 359))), 0.01, 0.05)
    assert more > few


# --- simulations: arms of equal expected accuracy ---


def simulated(generator, n, m, of_seed, of_image):
    """Outcomes [n, m] of two arms whose expected accuracies are equal over all seeds and images; their difference."""

    def arm():
        shift = of_seed * generator.standard_normal((n, 1)) + of_image * generator.choice([-1.0, 1.0], (1, m))
        return generator.random((n, m)) < np.clip(0.8 + shift, 0.0, 1.0)

    return arm().astype(float) - arm().astype(float)


@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 0.2), (0.05, 0.0), (0.05, 0.2)], ids=["images", "seeds", "both"])
def test_false_positive_rates_and_coverage_are_nominal(of_seed, of_image):
    """2,000 A/A experiments, read at 5, 10 and 20 seeds, each look at a third of 5 %: at each look and over all looks."""
    generator, experiments, looks, alpha = np.random.default_rng(3), 2000, (5, 10, 20), 0.05 / 3
    alarms, covered = np.zeros((experiments, 3), bool), np.zeros((experiments, 3), bool)
    for e in range(experiments):
        d = simulated(generator, 20, 360, of_seed, of_image)
        for i, n in enumerate(looks):
            estimate = stats.two_way(d[:n])
            low, high = estimate.bounds(alpha)
            alarms[e, i] = low > 0 or high < 0
            low, high = estimate.bounds(0.05)
            covered[e, i] = low <= 0 <= high

    def most(rate):  # three standard errors above
        return rate + 3 * np.sqrt(rate * (1 - rate) / experiments)

    print(f"alarms {alarms.mean(axis=0)}, following the looks {alarms.any(axis=1).mean():.4f}, cover {covered.mean(axis=0)}")
    assert (alarms.mean(axis=0) <= most(alpha)).all()
    assert alarms.any(axis=1).mean() <= most(0.05)
    assert (1 - covered.mean(axis=0) <= most(0.05)).all()
