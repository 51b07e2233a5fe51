"""The variance that the choice of learning rates adds, of made-up results of searches."""

import json

import pytest
from made import Made, around, declared

from common.errors import Failure
from common.rows import store
from common.rows.table import Table
from common.verdicts import tuning


@pytest.fixture
def table(tmp_path):
    """read(arm -> τ² in the file, arms with a search, those searched for each seed) reads rows of three arms and one without."""
    made = Made(tmp_path)
    for arm in ("a", "b", "c"):
        made.add(arm, around(0.9), search=["e" * 12] * 5)
    made.add("fixed", around(0.9))

    def read(tau2, searched=None, each_seed=()):
        for arm in each_seed:
            made.add(arm, around(0.9), search=["e" * 12] * 5, tuning=["halton, 3 points for each seed"] * 5)
        search = {arm: {} for arm in (tau2 if searched is None else searched)}
        store.write_declaration(made.files, declared(arms=made.arms, search=search))
        arms = {arm: {"values": {}, "tau2": value} for arm, value in tau2.items()}
        made.files.tuned.write_text(json.dumps({"experiment": made.files.experiment, "arms": arms}))
        return Table.read(made.files)

    return read


def between(first, second):
    return [(1.0, first), (-1.0, second)]


def variance(of, terms):
    return tuning.variance(of, terms)[0]


def test_each_search_counts_with_at_least_the_mean_of_all(table):
    searched = table({"a": 1e-5, "b": 3e-5, "c": 8e-5})  # mean 4e-5
    assert variance(searched, between("a", "c")) == pytest.approx(4e-5 + 8e-5)
    assert variance(searched, [(1.0, "a"), (-1.0, "b"), (-1.0, "a"), (1.0, "c")]) == pytest.approx(4e-5 + 8e-5)
    assert variance(searched, between("a", "fixed")) == pytest.approx(4e-5)


def test_arms_that_share_a_search_differ_without_it(table):
    shared = table({"a": 4e-5})
    assert variance(shared, between("b", "a")) is None
    assert variance(shared, between("b", "fixed")) == pytest.approx(4e-5)
    of_one = table({"a": 4e-5, "c": 4e-5})
    assert variance(of_one, between("c", "b")) == pytest.approx(8e-5)  # b has the value of a's search


def test_results_that_do_not_say_add_nothing_but_a_note(table):
    unknown = "interval without the variance of the choice of a rate: tuned_90_made.json has none of "
    assert tuning.variance(table({"a": None, "b": None}), between("a", "b")) == (None, [f"{unknown}'a', 'b'"])
    assert tuning.variance(table({"a": 4e-5, "b": None}), between("a", "b")) == (4e-5, [f"{unknown}'b'"])
    assert tuning.variance(table({"a": 4e-5}), between("b", "a")) == (None, [])  # they share a search
    unsearched = table({"a": 4e-5, "b": 4e-5})
    unsearched.files.tuned.unlink()
    assert tuning.variance(unsearched, between("a", "b")) == (None, [f"{unknown}'a', 'b'"])
    assert tuning.variance(unsearched, between("fixed", "fixed")) == (None, [])
    unsearched.files.tuned.write_text("{")
    with pytest.raises(Failure, match=r"tuned_90_made\.json is empty or damaged"):
        tuning.variance(unsearched, between("a", "b"))


def test_a_search_for_each_seed_is_in_the_variance_over_seeds(table):
    anew = table({"a": 4e-5}, searched=["a", "b", "c"], each_seed=["b", "c"])
    assert tuning.variance(anew, between("b", "c"))[1] == []
    assert variance(anew, between("b", "c")) is None
    assert variance(anew, between("b", "a")) == pytest.approx(4e-5)
