"""The race between the points of a sweep, on made-up scores, and the file of its results."""

import json
import types

import pytest

from common import tasks
from common.errors import Failure
from common.rows import schema
from common.search import tuned
from common.search.scores import SearchResult
from common.search.sweep import Sweep
from common.space import choice, log_range

NAME = "exp_92_search"
SPACE = {"learning_rate": log_range(0.001, 1.0, default=0.03)}


class FinishedPlan:
    """A plan whose trials all have rows, with scores f(values, seed); None for a trial that did not train."""

    def __init__(self, trials, score):
        self.trials, self._rows = trials, []
        for variant, seed in trials:
            value = score(variant.values, seed)
            row = {"arm": variant.arm, "point": variant.point, "seed": str(seed), "val_nll": "1", "val_constant": "0.1"}
            self._rows.append(row | {"trained": str(value is not None), "val_accuracy": str(0.77 if value is None else value)})

    def rows(self):
        return self._rows


def played(score, *, entries=SPACE, count=8, sweeps=1, tuner="random", race=True):
    """A sweep of one arm at its end, and (values, as JSON) -> seeds of its trials."""
    about = types.SimpleNamespace(name=NAME, task=tasks.classification)
    amount = {"count": count, "sweeps": sweeps, "epochs": {"a": 9}, "fixed": {"a": {}}, "known": {"a": entries}}
    one = Sweep(about, {"a": entries}, {"a": tuner}, **amount, race=race)
    more = True
    while more:
        plan = FinishedPlan(one.trials(), score)
        more = one.tell(plan)
    seeds = {}
    for variant, seed in plan.trials:
        seeds.setdefault(variant.point, []).append(seed)
    return one, seeds


def by_rate(values, seed):
    return 0.9 - 0.1 * abs(values["learning_rate"] - 0.03)


def test_the_contenders_of_a_sweep_run_with_four_more_seeds():
    one, seeds = played(by_rate)
    assert sorted(map(len, seeds.values())) == [1] * 6 + [5] * 3
    best = sorted(seeds, key=lambda point: -by_rate(json.loads(point), 0))[:3]
    assert {point for point in seeds if len(seeds[point]) == 5} == set(best)
    assert all(seeds[point] == [1000, 1001, 1002, 1003, 1004] for point in best)
    result = one.results()["a"]
    assert result.values == {"learning_rate": 0.03}  # the default values are a point too
    assert result.tuning == "random, 8 points; 3 of them with 4 more"
    assert result.tau2 == pytest.approx(0, abs=1e-6)


def test_a_contender_that_does_worse_with_further_seeds_does_not_win():
    def score(values, seed):
        return by_rate(values, seed) - (0.02 if values["learning_rate"] == 0.03 and seed > 1000 else 0)

    one, _ = played(score)
    result = one.results()["a"]
    assert result.values["learning_rate"] != 0.03
    assert result.tau2 >= 0


def test_points_of_all_repetitions_race_each_with_five_seeds():
    one, seeds = played(by_rate, sweeps=2)
    five = {point: of for point, of in seeds.items() if len(of) == 5}
    assert len(five) == 3
    assert all(set(of) == {1000, 1001, 1002, 1003, 1004} for of in five.values())
    assert {of[0] for of in seeds.values()} == {1000, 1001}
    assert one.results()["a"].tuning == "random, 8 points, 2 sweeps; 3 of them with 4 more"


def test_without_a_race_each_repetition_has_its_best_point():
    one, seeds = played(by_rate, sweeps=3, race=False, entries=SPACE | {"kind": choice("x", "y")})
    assert {len(of) for of in seeds.values()} <= {1, 3}  # the default values run in each
    assert [one.results_of(sweep)["a"].values for sweep in range(3)] == [{"learning_rate": 0.03, "kind": "x"}] * 3
    assert one.results_of(0)["a"] == SearchResult({"learning_rate": 0.03, "kind": "x"}, "random, 8 points for each seed")


def test_an_arm_that_trains_at_no_point_of_a_sweep_is_not_trained():
    one, seeds = played(lambda values, seed: None)
    assert {len(of) for of in seeds.values()} == {1}
    assert (one.results()["a"].trained, one.results()["a"].tau2) == (False, 0)


@pytest.mark.parametrize("tuner", ["halton", "bayesian", "hyperband"])
def test_the_number_of_further_trials_is_never_exceeded(tuner):
    one, seeds = played(by_rate, tuner=tuner)
    assert sum(map(len, seeds.values())) <= one.further(0)
    if tuner == "halton":
        assert one.further(9) == 12


# --- the file ---

COST = {"a": 4}
"""Epochs of the search that a sweep replaces."""


def entries_of(files, part="swept"):
    return json.loads(files.tuned.read_text())[part]


def test_a_later_sweep_with_a_worse_score_does_not_replace_values(tmp_path):
    files, scores = schema.Files(tmp_path, NAME), {}
    for score in (0.5, 0.9, 0.7):
        one, _ = played(lambda values, seed, score=score: score, count=2)
        tuned.write_swept(files, one, {"a": "code"}, COST)
        scores[score] = entries_of(files)["a"]["score"]
    assert scores == pytest.approx({0.5: 0.5, 0.9: 0.9, 0.7: 0.9})
    tuned.write_swept(files, one, {"a": "other code"}, COST)
    assert entries_of(files)["a"]["score"] == pytest.approx(0.7)
    files.tuned.write_text(files.tuned.read_text()[:50])
    with pytest.raises(Failure, match=r"tuned_92_search.json is empty or damaged: run the sweep again.*; or remove it"):
        tuned.swept(files, {"a": SPACE}, {"a": "code"}, {"a": 0})
    tuned.write_swept(files, one, {"a": "code"}, COST)
    assert entries_of(files)["a"]["score"] == pytest.approx(0.7)


def test_a_short_sweep_replaces_neither_one_that_is_long_enough_nor_an_equally_good_one(tmp_path):
    files, epochs = schema.Files(tmp_path, NAME), []
    for score, count in ((0.5, 2), (0.5, 1), (0.4, 3), (0.9, 1), (0.9, 2)):
        one, _ = played(lambda values, seed, score=score: score, count=count)
        tuned.write_swept(files, one, {"a": "code"}, {"a": 17})
        epochs.append(entries_of(files)["a"]["epochs"] // 9)
    assert epochs == [2, 2, 2, 2, 2]
    assert entries_of(files)["a"]["score"] == pytest.approx(0.9)


def test_chosen_values_stand_beside_those_of_sweeps(tmp_path):
    files = schema.Files(tmp_path, NAME)
    one, _ = played(by_rate)
    tuned.write_swept(files, one, {"a": "code"}, COST)
    tuned.write_chosen(files, {"b": SearchResult({"learning_rate": 0.1}, "grid", 1e-5)}, ["a", "b"])
    tuned.write_chosen(files, {"a": SearchResult({"learning_rate": 0.3}, "grid", 2e-5, trained=False)}, ["a", "b"])
    assert list(entries_of(files, "arms").items()) == [
        ("a", {"values": {"learning_rate": 0.3}, "tuning": "grid", "tau2": 2e-5, "trained": False}),
        ("b", {"values": {"learning_rate": 0.1}, "tuning": "grid", "tau2": 1e-5, "trained": True}),
    ]
    assert tuned.swept(files, {"a": SPACE}, {"a": "code"}, {"a": 8 * 9 - 1}) == one.results()
    before = files.tuned.stat().st_mtime_ns
    tuned.write_chosen(files, {}, ["a", "b"])
    assert files.tuned.stat().st_mtime_ns == before
    tuned.write_chosen(files, {}, ["b"])  # a is no longer searched
    assert list(entries_of(files, "arms")) == ["b"]
