"""The grid search of a learning rate, on made-up scores."""

import itertools
import json
import math
import random

import pytest

from common import space, tasks
from common.search.grid import Grids

RATES = space.log_range(0.01, 1.0)  # 0.01, 0.0316, 0.1, 0.316, 1


class FinishedPlan:
    """A plan whose trials all have rows, with scores f(arm, rate, seed)."""

    def __init__(self, trials, score, metric="accuracy", constant=0.1):
        self.trials = trials
        self._rows = []
        for variant, seed in trials:
            value = score(variant.arm, variant.values["learning_rate"], seed)
            trained = value is not None and math.isfinite(value)
            row = {"arm": variant.arm, "point": variant.point, "seed": str(seed), "val_nll": "", "val_constant": str(constant)}
            self._rows.append(row | {"trained": str(trained), f"val_{metric}": str(value if trained else 0.77)})

    def rows(self):
        return self._rows

    def shuffle(self):
        random.Random(1).shuffle(self._rows)


def finished(score, spaces=None, task=tasks.classification, **made):
    """A grid search at its end, and its plan."""
    grids = Grids(spaces or {"a": {"learning_rate": RATES}}, task)
    plan = FinishedPlan(grids.trials(), score, **made)
    while grids.advance(plan):
        plan = FinishedPlan(grids.trials(), score, **made)
    return grids, plan


def search(score, spaces=None, task=tasks.classification, **made):
    """Run a grid search. Returns arm -> chosen rate, and (arm, rate) -> seeds of its trials."""
    grids, plan = finished(score, spaces, task, **made)
    seeds_of = {}
    for variant, seed in plan.trials:
        seeds_of.setdefault((variant.arm, variant.values["learning_rate"]), []).append(seed)
    return {arm: result.values["learning_rate"] for arm, result in grids.results(plan).items()}, seeds_of


def by_rate(scores):
    return lambda arm, rate, seed: scores[rate]


def test_every_rate_has_two_seeds_and_the_best_three_have_three_more():
    scores = {0.01: 0.30, 0.0316: 0.45, 0.1: 0.50, 0.316: 0.48, 1.0: 0.20}
    chosen, seeds_of = search(by_rate(scores))
    assert chosen == {"a": 0.1}  # 0.5 - 0.035 · 0.02 is more than 0.48 - 0.035 · 0.28
    few, more = [1000, 1001], [1000, 1001, 1002, 1003, 1004]
    assert seeds_of == {("a", 0.01): few, ("a", 0.0316): more, ("a", 0.1): more, ("a", 0.316): more, ("a", 1.0): few}


def test_contenders_are_within_a_tenth_of_the_best():
    _, seeds_of = search(by_rate({0.01: 0.30, 0.0316: 0.39, 0.1: 0.50, 0.316: 0.41, 1.0: 0.20}))
    assert [rate for (_, rate), seeds in seeds_of.items() if len(seeds) == 5] == [0.1, 0.316]


def test_a_rate_whose_next_higher_one_fails_is_penalised():
    # 0.1: 0.500 - 0.035 · (0.5 - 0.1) = 0.486; 0.0316: 0.490 without penalty, as 0.1 is better.
    chosen, _ = search(by_rate({0.01: 0.40, 0.0316: 0.49, 0.1: 0.50, 0.316: None, 1.0: None}))
    assert chosen == {"a": 0.0316}
    chosen, _ = search(by_rate({0.01: 0.40, 0.0316: 0.48, 0.1: 0.50, 0.316: None, 1.0: None}))
    assert chosen == {"a": 0.1}


def test_an_untrained_trial_counts_as_a_constant_prediction():
    # Untrained trials have a score of 0.77 in these rows, which would win.
    chosen, _ = search(by_rate({0.01: 0.12, 0.0316: 0.13, 0.1: 0.20, 0.316: None, 1.0: None}))
    assert chosen == {"a": 0.1}


def test_the_contenders_further_seeds_count():
    def score(arm, rate, seed):
        late = {0.0316: 0.49, 0.1: 0.40}
        return late.get(rate, 0.3) if seed >= 1002 else {0.01: 0.3, 0.0316: 0.48, 0.1: 0.50, 0.316: 0.45, 1.0: 0.3}[rate]

    chosen, _ = search(score)
    assert chosen == {"a": 0.0316}  # (2 · 0.48 + 3 · 0.49) / 5 against (2 · 0.5 + 3 · 0.4) / 5


def test_of_rates_with_equal_scores_the_lowest_wins():
    chosen, _ = search(lambda arm, rate, seed: 0.5 if 0.02 < rate < 0.5 else 0.3)
    assert chosen == {"a": 0.0316}


def test_the_grid_is_extended_for_all_arms_until_no_best_rate_is_at_its_edge():
    best = {"low": 0.00316, "high": 0.316}
    spaces = {arm: {"learning_rate": RATES} for arm in best}
    chosen, seeds_of = search(lambda arm, rate, seed: 0.5 - 0.05 * abs(math.log10(rate / best[arm])), spaces)
    assert chosen == best
    assert {rate for arm, rate in seeds_of if arm == "low"} == {rate for arm, rate in seeds_of if arm == "high"}
    assert min(rate for _, rate in seeds_of) == 0.001  # two points below 0.01 and no more
    assert max(rate for _, rate in seeds_of) == 1.0


def test_a_contender_that_wins_at_the_edge_extends_the_grid_again():
    def score(arm, rate, seed):
        if rate == 1.0 and seed >= 1002:
            return 0.6
        return {0.01: 0.3, 0.0316: 0.3, 0.1: 0.50, 0.316: 0.52, 1.0: 0.51}.get(rate, 0.2)

    chosen, seeds_of = search(score)
    assert max(rate for _, rate in seeds_of) == 10.0
    # (2 · 0.51 + 3 · 0.6) / 5 = 0.564, less 0.035 · (0.564 - 0.2)
    assert chosen == {"a": 1.0}


@pytest.mark.parametrize(
    ("task", "metric", "constant", "scores", "contending"),
    [
        # A tenth of the difference between a constant prediction and the best: 0.1 · (20 - 5) = 1.5 degrees.
        (tasks.rotated, "error", 20.0, {0.01: 12.0, 0.0316: 6.4, 0.1: 5.0, 0.316: 6.6, 1.0: 15.0}, [0.0316, 0.1]),
        # 0.1 · (0.4 - 0) = 0.04.
        (tasks.tiles, "f1", 0.0, {0.01: 0.1, 0.0316: 0.37, 0.1: 0.4, 0.316: 0.35, 1.0: 0.1}, [0.0316, 0.1]),
    ],
)
def test_for_other_metrics_the_distance_of_contenders_is_relative(task, metric, constant, scores, contending):
    chosen, seeds_of = search(by_rate(scores), task=task, metric=metric, constant=constant)
    assert chosen == {"a": 0.1}
    assert [rate for (_, rate), seeds in seeds_of.items() if len(seeds) == 5] == contending


def test_a_point_holds_the_searched_values_and_its_trial_also_the_fixed_ones():
    grids = Grids({"a": {"learning_rate": RATES}}, tasks.classification, fixed={"a": {"teacher_rate": 0.5}})
    variant, _ = grids.trials()[0]
    assert json.loads(variant.point) == {"learning_rate": 0.01}
    assert variant.values == {"teacher_rate": 0.5, "learning_rate": 0.01}


def test_a_result_has_the_variance_of_its_choice():
    """Without noise the same point is chosen again; with noise another of three similar points may be."""
    grids, plan = finished(by_rate({0.01: 0.30, 0.0316: 0.40, 0.1: 0.50, 0.316: 0.40, 1.0: 0.20}))
    assert grids.results(plan)["a"].tau2 == 0
    grids, plan = finished(lambda arm, rate, seed: {0.0316: 0.48, 0.1: 0.50, 0.316: 0.47}.get(rate, 0.3) + 0.02 * (-1) ** seed)
    result = grids.results(plan)["a"]
    assert 0 < result.tau2 < 0.03**2
    assert grids.results(plan)["a"] == result
    assert result.tuning == "grid of 5 points, 2 seeds; 3 of them with 3 more"


def test_the_result_does_not_depend_on_the_order_of_the_rows():
    grids, plan = finished(lambda arm, rate, seed: 0.5 - 0.01 * math.log10(rate) ** 2 + 0.01 * math.sin(1000 * rate + seed))
    result = grids.results(plan)
    plan.shuffle()
    assert grids.results(plan) == result


def test_an_arm_that_trains_at_no_rate_is_not_trained():
    grids, plan = finished(lambda arm, rate, seed: None)
    result = grids.results(plan)["a"]
    assert (result.trained, result.tau2) == (False, 0)
    assert result.tuning.endswith("none trained")
    assert {seed for _, seed in plan.trials} == {1000, 1001}  # there are no contenders
    assert {variant.values["learning_rate"] for variant, _ in plan.trials} >= {0.0001, 1.0}  # lower rates were tried


def test_points_of_a_grid_are_at_most_half_a_decade_apart():
    assert space.log_range(1e-3, 0.1).grid() == [0.001, 0.00316, 0.01, 0.0316, 0.1]
    narrow = space.log_range(1e-3, 0.3).grid()
    assert len(narrow) == 6
    assert all(b / a <= math.sqrt(10) for a, b in itertools.pairwise(narrow))
