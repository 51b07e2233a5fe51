"""The rules of verdicts on contrasts and counts that a reader can judge by hand."""

import math

import numpy as np
import pytest

from common.verdicts import chances, rules
from common.verdicts.intervals import Estimate, Ranked
from common.verdicts.rules import Sample

CALM = ((1e-6, 9),)
"""A standard error of 0.001: half widths of 0.003 to 0.005."""


def sample(difference, only_better=0, only_worse=0, overall=None, sources=CALM):
    overall = difference if overall is None else overall
    return Sample(Estimate(difference, sources), only_better, only_worse, difference, overall)


def counted(only_better, only_worse, difference=math.nan, overall=0.0):
    """Too few seeds in which both trained."""
    return Sample(None, only_better, only_worse, difference, overall)


def test_superiority_by_hand():
    judged = [rules.superiority(sample(d), 0.01, 0.02) for d in (0.05, 0.018, 0.01, 0.0, -0.05)]
    assert judged == [1, 0, -1, -1, -1]  # 0.018 is neither at least 0.02 nor, with 0.003 to either side, below it


def test_one_lost_seed_leaves_a_winner_and_two_do_not():
    assert [rules.superiority(sample(0.05, only_worse=n), 0.01, 0.02) for n in (0, 1, 2)] == [1, 1, 0]
    assert rules.superiority(sample(0.05, only_better=1), 0.01, 0.02) == 1
    # An arm that dies in two of twenty seeds and is worse otherwise.
    assert rules.superiority(sample(-0.05, only_worse=2), 0.01, 0.02) == -1
    # The other arm loses two seeds: that the difference is small does not refute the claim.
    assert [rules.superiority(sample(0.0, only_better=n), 0.01, 0.02) for n in (1, 2)] == [-1, 0]


def test_an_arm_that_trains_more_often_is_better_unless_it_is_worse_where_both_train():
    # 10 of 10 for one side: p = 2 / 2**10 = 0.00195, below a fifth of 0.015.
    assert rules.superiority(sample(0.0, only_better=10, overall=0.2), 0.015, 0.02) == 1
    assert rules.superiority(sample(-0.01, only_better=10, overall=0.2), 0.015, 0.02) == 0
    assert rules.superiority(counted(10, 0, overall=0.4), 0.015, 0.02) == 1
    assert rules.superiority(counted(10, 0, overall=0.4), 0.005, 0.02) == 0
    assert rules.superiority(counted(0, 10, overall=-0.4), 0.015, 0.02) == -1
    assert rules.superiority(sample(0.05, only_worse=10, overall=0.1), 0.015, 0.02) == 0
    assert rules.superiority(counted(7, 0, overall=0.4), 1.0, 0.02) == 0  # too few to be tested


def test_the_level_is_shared_where_counts_are_tested():
    few, many = sample(0.05, only_better=7), sample(0.05, only_better=8)
    assert [one.level(0.01) for one in (few, many)] == pytest.approx([0.01, 0.008])
    assert np.ptp(many.bounds(0.01)) > np.ptp(few.bounds(0.01))


def test_not_worse_and_same_by_hand():
    assert [rules.not_worse(sample(d), 0.01, 0.02) for d in (0.0, -0.018, -0.05)] == [1, 0, -1]
    assert [rules.not_worse(sample(0.0, only_worse=n), 0.01, 0.02) for n in (1, 2)] == [1, 0]
    assert rules.not_worse(counted(0, 10, overall=-0.4), 0.015, 0.02) == -1
    assert [rules.same(sample(d), 0.01, 0.02) for d in (0.0, 0.018, 0.05, -0.05)] == [1, 0, -1, -1]
    assert [rules.same(sample(0.0, only_better=n), 0.01, 0.02) for n in (1, 2)] == [1, 0]
    assert rules.same(counted(10, 0, overall=0.4), 0.015, 0.02) == -1


def test_a_claim_of_two_halves_needs_both():
    assert [int(rules.every(parts)) for parts in ([1, 1], [1, 0], [1, -1], [0, -1])] == [1, 0, -1, -1]


def test_the_best_of_a_family_pays_for_the_choice():
    # Of one arm 0.0034 is beyond the half width 0.00325 of 1 %; of three arms that of a third of 1 % is 0.00397.
    one, margin = sample(0.0034), 0.001
    assert rules.superiority(one, 0.01, margin) == 1
    assert rules.best_of(rules.superiority, [one], 0.01, margin) == 1
    assert rules.best_of(rules.superiority, [one, sample(0.0), sample(0.0)], 0.01, margin) == 0
    assert rules.best_of(rules.superiority, [sample(0.02), sample(0.0), sample(0.0)], 0.01, margin) == 1
    # Refuted only if each arm is, for which nothing is to be paid.
    assert rules.best_of(rules.superiority, [sample(0.0)] * 3, 0.01, 0.02) == -1
    assert rules.best_of(rules.superiority, [sample(0.0), sample(0.019)], 0.01, 0.02) == 0


def test_many_experiments_are_judged_at_once():
    many = Sample(Estimate(np.array([0.05, 0.0]), ((np.full(2, 1e-6), 9),)), np.array([0, 2]), 0, np.array([0.05, 0.0]), 0.0)
    assert rules.superiority(many, 0.01, 0.02).tolist() == [1, 0]


# --- the chance of a verdict ---


def chance(one, truth, margin=0.02, seeds=10, alphas=None, **options):
    return chances.of_sample(one, seeds, alphas or {20: 0.025}, truth, chances.superiority, margin, **options)


def test_the_chance_of_a_verdict_by_hand():
    """10 seeds with a variance of 0.0004 each, no other noise; the mean of 20 is half the seen one, half new seeds.

    Its standard deviation is 0.02 √10 / 20 = 0.00316, the half width at 2.5 % with 19 degrees of freedom 2.433 · 0.02 / √20 =
    0.01088. Seen is 0.01; if the truth is 0.04 the mean is 0.025, and the claim is supported from 0.02 on: Φ(1.58) = 0.943.
    """
    one = sample(0.01, sources=((0.0004 / 10, 9),))
    supported, refuted = chance(one, 0.04, apart=True)
    assert supported == pytest.approx(0.943, abs=0.002)
    assert refuted < 1e-6
    # If the truth is 0 the mean is 0.005, and the claim is refuted below 0.02 - 0.01088: Φ(1.30) = 0.903.
    assert chance(one, 0.0) == pytest.approx(0.903, abs=0.003)
    assert chance(one, None) == pytest.approx(chance(one, 0.01))


def test_noise_that_seeds_share_is_not_averaged_out():
    images = sample(0.0, sources=((1e-8, 9), (0.0004, 359)))
    assert max(chance(images, truth) for truth in (0.0, 0.02, None)) < 0.1
    assert chance(images, 0.0, margin=0.1) > 0.99
    assert chance(sample(0.05, only_worse=2), None) == 0.0  # lost seeds do not come back
    assert chance(Sample(Ranked((1.0,) * 10), difference=1.0), 0.0) is None


def test_two_looks_give_two_chances():
    one = sample(0.015, sources=((0.0004 / 5, 4),))
    early, late = (chance(one, 0.04, seeds=5, alphas=alphas) for alphas in ({10: 0.015}, {20: 0.025}))
    both = chance(one, 0.04, seeds=5, alphas={10: 0.015, 20: 0.025})
    assert max(early, late) < both < 1
