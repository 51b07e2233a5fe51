"""benchmarks/tuning.py: the check that tuning alone makes no difference between arms."""

import json

import numpy as np
import pytest

from benchmarks import tuning
from common.search.race import Rules, next_rates

RATES = (0.01, 0.0316, 0.1, 0.316)


def row(rate, seed, accuracy, trained="True", **fields):
    point = json.dumps({"learning_rate": rate})
    known = {"point": point, "seed": str(seed), "trained": trained, "val_accuracy": str(accuracy), "val_constant": "0.1"}
    return known | {"status": "done", "train_accuracy": str(accuracy)} | fields


def made(scores, **fields):
    """Rows with two scores for each rate; None for a seed that did not train."""
    return [
        row(rate, 1000 + i, 0.1 if score is None else score, str(score is not None), **fields)
        for rate, of_rate in zip(RATES, scores, strict=True)
        for i, score in enumerate(of_rate)
    ]


SCORES = [(0.50, 0.52), (0.90, 0.92), (0.93, 0.91), (0.94, None)]


def test_an_arm_is_read_from_its_search_trials():
    arm = tuning.arm_of("a", made(SCORES))
    assert arm.means == pytest.approx([0.51, 0.91, 0.92, 0.94])
    # Of the points near the best, 0.0316 and 0.1, and of the others.
    assert arm.deviations == pytest.approx(np.sqrt([0.0002, 0.0002, 0.0002, 0.0002]))
    assert arm.collapse == pytest.approx([tuning.RARE, tuning.RARE, tuning.BEFORE_COLLAPSE, 0.5])
    assert tuning.arm_of("a", made([(None, None)] * 4)) is None
    assert tuning.arm_of("a", made(SCORES)[:4]) is None


def test_rows_of_earlier_versions_have_trained_where_train_accuracy_says_so():
    rows = [one | {"trained": "", "val_constant": ""} for one in made(SCORES)]
    assert tuning.arm_of("a", rows).collapse == pytest.approx(tuning.arm_of("a", made(SCORES)).collapse)


def test_arms_without_noise_are_chosen_alike_and_calls_are_rare_where_all_rates_are_equal():
    points = [{"learning_rate": rate} for rate in RATES]
    rules = Rules(np.array(RATES), next_rates(points), 0.1, "accuracy")
    quiet = tuning.Arm("quiet", rules, np.array([0.5, 0.7, 0.9, 0.6]), np.zeros(4), np.zeros(4))
    tuned = tuning.tune([quiet], race=True)
    assert (tuned.means == 0.9).all()
    assert (tuned.tau2 == 0).all()
    assert tuned.trials == 4 * 2 + 3  # the others are more than 0.10 below
    equal = tuning.Arm("equal", rules, np.full(4, 0.9), np.full(4, 0.01), np.zeros(4))
    tuned = tuning.tune([equal] * 20, race=True)
    assert 0.01 < tuning.called(tuned, np.zeros((20, tuning.REPEATS))) < 0.06  # 5 % over the looks; less, as these depend
    assert tuning.called(tuned, tuned.tau2.sum(axis=1)) < 0.03


def test_the_table_compares_rules_and_says_whether_the_variance_is_doubled():
    lines = tuning.table([tuning.arm_of("a", made(SCORES))] * 3)
    assert len(lines) == 8
    assert lines[1].startswith("best mean of two seeds, no tuning variance")
    assert " 1.00x" in lines[1]
    assert lines[-1] == "tau² is used as it is"
