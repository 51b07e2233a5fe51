"""Levels of significance, by hand."""

import math

import pytest

from common.verdicts import levels


def test_the_levels_of_the_looks_sum_to_that_of_the_claim():
    assert sum(levels.LEVELS.values()) == pytest.approx(levels.ALPHA)
    assert levels.LOOKS == (5, 10, 20)


def test_holm_by_hand():
    # 0.01 < 0.05/4; 0.015 < 0.05/3; 0.03 > 0.05/2: this one and all after it fail at that level.
    judged = levels.holm([0.03, 0.01, 0.04, 0.015], 0.05)
    assert [passed for _, passed in judged] == [False, True, False, True]
    assert [level for level, _ in judged] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert levels.holm([], 0.05) == []


def test_the_p_value_is_the_smallest_level_that_decides():
    assert levels.smallest_level(lambda alpha: alpha >= 0.02) == pytest.approx(0.02)
    assert levels.smallest_level(lambda alpha: True) == levels.SURE
    assert math.isclose(levels.smallest_level(lambda alpha: False), 1.0)


def test_false_discovery_rates_by_hand():
    # 0.01·3/1, 0.02·3/2 and 0.04·3/3, made monotone.
    assert levels.benjamini_hochberg([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.03])
    assert levels.benjamini_hochberg([]) == []
