"""Intervals against numbers by hand and SciPy's results."""

import numpy as np
import pytest
import scipy.stats

from common.verdicts import intervals
from common.verdicts.intervals import Estimate, Ranked, Shares, mcnemar, paired, resampled, two_way
from common.verdicts.levels import ALPHA, LEVELS


def test_paired_t_is_scipys():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.9, 0.02, 10), generator.normal(0.88, 0.02, 10)
    interval = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert paired(first - second).bounds(0.05) == pytest.approx((interval.low, interval.high))


def test_two_way_by_hand():
    """Two seeds, three images. Means of seeds 0 and 2/3, of images 0, 1/2, 1/2; of all 1/3.

    MS_seed = 3 (1/9 + 1/9) / 1 = 2/3; MS_image = 2 (1/9 + 1/36 + 1/36) / 2 = 1/6; residuals: [1/3, -1/6, -1/6] and its negative,
    MS_residual = 2 (1/9 + 1/36 + 1/36) / 2 = 1/6. Var = (2/3 + 0) / 6 = 1/9.
    """
    estimate = two_way(np.array([[0, 0, 0], [0, 1, 1]]))
    assert estimate.difference == pytest.approx(1 / 3)
    assert estimate.sources == (pytest.approx((1 / 9, 1)), pytest.approx((0.0, 2)))
    assert estimate.half_width(0.05) == pytest.approx(scipy.stats.t.ppf(0.975, 1) / 3)


def test_what_a_seed_adds_to_all_images_counts_as_variance_over_seeds():
    d = np.random.default_rng(0).integers(-1, 2, (6, 50)).astype(float)
    train = np.array([0.1, -0.2, 0.0, 0.1, 0.3, -0.1])
    alone, with_train = two_way(d), two_way(d + train[:, None])
    assert with_train.sources[0][0] == pytest.approx((d.mean(axis=1) + train).var(ddof=1) / 6)
    assert with_train.sources[1] == pytest.approx(alone.sources[1])


def test_two_way_weighs_the_quantiles_by_the_variances():
    estimate = Estimate(0.1, ((0.003, 4), (0.001, 999)))
    t = 0.75 * scipy.stats.t.ppf(0.975, 4) + 0.25 * scipy.stats.t.ppf(0.975, 999)
    assert estimate.half_width(0.05) == pytest.approx(t * np.sqrt(0.004))


def test_the_variance_of_the_search_is_a_source_with_8_degrees_of_freedom():
    estimate = Estimate(0.1, ((0.003, 4),)).with_tuning(0.001)
    t = 0.75 * scipy.stats.t.ppf(0.975, 4) + 0.25 * scipy.stats.t.ppf(0.975, 8)
    assert estimate.half_width(0.05) == pytest.approx(t * np.sqrt(0.004))
    assert Estimate(0.1, ((0.003, 4),)).with_tuning(None) == Estimate(0.1, ((0.003, 4),))


def test_many_experiments_at_once_are_the_same_as_each_alone():
    d = np.random.default_rng(0).random((3, 5, 40)) - 0.5
    together = two_way(d)
    for i in range(3):
        assert two_way(d[i]).half_width(0.01) == pytest.approx(together.half_width(0.01)[i])
        assert paired(d[i].mean(axis=1)).bounds(0.01)[0] == pytest.approx(paired(d.mean(axis=2)).bounds(0.01)[0][i])


def test_identical_outcomes_are_as_strong_as_nearly_identical_ones():
    equal, one, each = np.zeros((5, 360)), np.zeros((5, 360)), np.zeros((5, 360))
    one[2, 7] = 1  # one outcome of one seed differs
    each[:, 7] = 1  # one image differs in all seeds
    ends = [max(map(abs, two_way(d).bounds(0.01))) for d in (equal, one, each)]
    assert 0 < ends[0] <= ends[1] <= ends[2]
    # One image of 360 as standard error: for sameness within 0.01 enough, within 0.002 not.
    assert 0.002 < ends[0] < 0.014
    assert paired([0.0] * 5).bounds(0.01) == (0.0, 0.0)  # of a metric whose steps are not known: nothing differs


def test_intervals_have_a_width_without_variance():
    assert np.isinf(two_way(np.ones((1, 9))).half_width(0.05))
    assert np.isinf(paired([0.3]).half_width(0.05))
    assert 0 < paired([0.01] * 5, resolution=0.002).half_width(0.05) < 0.01
    assert np.isinf(paired([0.01] * 5).half_width(0.05))  # of a metric whose steps are not known
    # Each seed two images better, other images each time: no variance over seeds, and yet no certainty.
    d = np.zeros((5, 360))
    for seed in range(5):
        d[seed, 2 * seed : 2 * seed + 2] = 1
    low, high = two_way(d).bounds(0.05)
    assert high - low > 1e-3


def test_a_mean_over_images_resampled_has_the_variance_of_two_way():
    generator = np.random.default_rng(4)
    d = generator.normal(0.0, 0.05, (8, 1)) + generator.normal(0.0, 0.5, (1, 400)) + generator.normal(0.0, 0.3, (8, 400))
    exact, again = two_way(d), resampled(d.mean(axis=1), d @ intervals.image_weights(400) / 400)
    assert again.difference == pytest.approx(exact.difference)
    assert again.sources[0] == pytest.approx(exact.sources[0])
    assert again.sources[1][0] == pytest.approx(exact.sources[1][0], rel=0.25)  # 200 resamples


def test_ranks_are_scipys_wilcoxon():
    d = np.random.default_rng(2).normal(0.4, 1, 12)
    p = scipy.stats.wilcoxon(d, method="exact").pvalue
    assert Ranked(tuple(d)).bounds(p * 1.001)[0] > 0 or Ranked(tuple(d)).bounds(p * 1.001)[1] < 0
    low, high = Ranked(tuple(d)).bounds(p * 0.999)
    assert low <= 0 <= high
    # With five seeds no level below 1/16 has an interval.
    few = Ranked((1.0, 2.0, 3.0, 4.0, 5.0))
    assert few.bounds(0.05) == (-np.inf, np.inf)
    assert few.bounds(0.0625) == (1.0, 5.0)
    assert few.difference == 3.0


def test_ranks_of_infinite_differences():
    never = Ranked((np.inf,) * 8)  # only the first ever reaches the target
    assert never.difference == np.inf
    assert never.bounds(0.01)[0] == np.inf
    mixed = Ranked((np.inf, -np.inf, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0))
    assert mixed.difference == 2.0
    assert mixed.bounds(0.01) == (-np.inf, np.inf)


def test_mcnemars_exact_test():
    # Six seeds on which the arms differ, all for the first: 2 / 2**6.
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(np.array([2, 1]), np.array([2, 7])) == pytest.approx([1.0, scipy.stats.binomtest(1, 8).pvalue])


def test_shares_of_seeds_that_trained():
    low, high = Shares(10, 0, 10).bounds(0.01)
    assert low == pytest.approx(1 - 2 * (1 - (0.01 / 2) ** (1 / 10)))  # ten of ten, Clopper and Pearson
    assert high == 1.0
    low, high = Shares(1, 0, 20).bounds(0.05)
    assert low == pytest.approx(-(1 - 0.025 ** (1 / 20)))
    assert high == pytest.approx(scipy.stats.binomtest(1, 20).proportion_ci(0.95).high)
    assert Shares(0, 10, 10).bounds(0.01)[1] < 0


# --- simulations: arms of equal expected accuracy ---


def simulated(generator, n, m, of_seed, of_image):
    """Outcomes [n, m] of two arms whose expected accuracies are equal over all seeds and images; their difference."""

    def arm():
        shift = of_seed * generator.standard_normal((n, 1)) + of_image * generator.choice([-1.0, 1.0], (1, m))
        return generator.random((n, m)) < np.clip(0.8 + shift, 0.0, 1.0)

    return arm().astype(float) - arm().astype(float)


@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 0.2), (0.05, 0.0), (0.05, 0.2)], ids=["images", "seeds", "both"])
def test_false_positive_rates_and_coverage_are_nominal(of_seed, of_image):
    """2,000 A/A experiments, read at 5, 10 and 20 seeds, each at the level of the look: at each look and over all looks."""
    generator, experiments = np.random.default_rng(3), 2000
    alarms, covered = np.zeros((experiments, 3), bool), np.zeros((experiments, 3), bool)
    for e in range(experiments):
        d = simulated(generator, 20, 360, of_seed, of_image)
        for i, (n, alpha) in enumerate(LEVELS.items()):
            estimate = two_way(d[:n])
            low, high = estimate.bounds(alpha)
            alarms[e, i] = low > 0 or high < 0
            low, high = estimate.bounds(0.05)
            covered[e, i] = low <= 0 <= high

    def most(rate):  # three standard errors above
        return rate + 3 * np.sqrt(rate * (1 - rate) / experiments)

    print(f"alarms {alarms.mean(axis=0)}, following the looks {alarms.any(axis=1).mean():.4f}, cover {covered.mean(axis=0)}")
    assert (alarms.mean(axis=0) <= most(np.array(list(LEVELS.values())))).all()
    assert alarms.any(axis=1).mean() <= most(ALPHA)
    assert (1 - covered.mean(axis=0) <= most(0.05)).all()
