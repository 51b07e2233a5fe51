"""Effects of arms against the baseline, of made-up rows."""

import math

import pytest
from made import Made, around, claim, declared

from common.rows import schema, store
from common.rows.table import NoData, Table
from common.text import number_of
from common.verdicts import contrasts, effects, summary


def table_of(made, **fields):
    store.write_declaration(made.files, declared(arms=made.arms, baseline="b", **fields))
    return Table.read(made.files)


def by_name(comparison):
    return {schema.entry_name(effect.arm, effect.rate): effect for effect in comparison.effects}


def test_effects_are_the_differences_of_the_summary_and_the_best_arm_is_first(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85))
    made.add("worse", around(0.80))
    made.add("a", around(0.95))
    table = table_of(made, claims=[claim(better="a", worse="b", margin=0.03), claim("gap", "a", "b", metric="gap", margin=0.5)])
    found = effects.of_arms(table)
    assert [effect.arm for effect in found.effects] == ["a", "worse"]
    first = found.effects[0]
    assert (first.difference, first.mean, first.reference_mean, first.seeds) == pytest.approx((0.10, 0.95, 0.85, 5))
    assert (first.difference, first.low, first.high) == summary.contrasts(table)["a", "b"]
    assert (found.margin, found.direction, found.label, found.reference_mean) == (0.03, 1, "test accuracy", pytest.approx(0.85))
    gap = effects.of_arms(table, "gap")  # train accuracy is 0.99 everywhere, and a small gap is better
    assert (gap.margin, gap.direction) == (0.5, 1)  # as its claim says
    assert by_name(gap)["a"].difference == pytest.approx(-0.10)
    assert effects.of_arms(table, "test_nll").direction == -1
    assert first.words("+.4f").startswith("+0.1000 (+0.0")


def test_seeds_in_which_the_reference_did_not_train_are_told_and_only_compared_ones(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.5), statuses=dict.fromkeys((0, 3), "diverged"))
    made.add("a", around(0.9, 10), statuses=dict.fromkeys(range(5, 10), "diverged"))
    (effect,) = effects.of_arms(table_of(made)).effects
    assert (effect.seeds, effect.diverged, effect.reference_untrained) == (5, 0, 2)
    assert effect.words("+.4f").endswith("), b did not train in 2 of 5")


def test_what_arms_lack_is_told(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85, 3))
    made.add("short", around(0.90, 2), trained=["False", "True"])
    made.add("single", [0.90])
    made.add("diverging", around(0.1, 3), statuses={1: "diverged"})
    made.arms |= {"never": {}, "crashed": {}}
    failed = {"experiment": made.files.experiment, "arm": "crashed", "seed": 0, "status": "failed", "reason": "out of memory"}
    store.store(made.files, store.Outcome(row=failed), list(made.arms))
    comparison = effects.of_arms(table_of(made))
    found = by_name(comparison)
    assert (found["short"].seeds, found["short"].untrained) == (2, 1)
    assert found["short"].words("+.4f").endswith(", 1 did not train")
    assert found["short"].reference_mean == pytest.approx(0.8525)  # over the two seeds that both have
    assert comparison.reference_mean == pytest.approx(0.85)  # over all
    assert (found["single"].seeds, found["single"].difference) == (1, pytest.approx(0.05))
    assert math.isnan(found["single"].low)
    assert found["single"].words("+.4f") == "+0.0500 (1 seed)"
    assert found["diverging"].words("+.4f").endswith("1 diverged")
    assert (found["never"].reason, found["crashed"].reason) == ("there are no rows", "failed: out of memory")
    assert list(found)[-2:] == ["crashed", "never"]


def test_an_arm_at_the_common_rate_is_compared_with_the_baseline_at_that_rate(tmp_path):
    made = Made(tmp_path)
    for arm, own, common in (("b", 0.85, 0.80), ("a", 0.95, 0.70), ("c", 0.97, 0.60)):
        made.add(arm, around(own))
        made.add(arm, around(common), rate=[schema.COMMON] * 5)
    found = effects.of_arms(table_of(made)).effects
    assert [(effect.arm, effect.rate) for effect in found] == [(arm, rate) for arm in "ca" for rate in ("own", "common")]
    assert [effect.difference for effect in found] == pytest.approx([0.12, -0.20, 0.10, -0.10])
    assert found[1].reference == "b, common rate"


def test_of_an_error_the_lowest_is_first_and_of_an_unknown_direction_the_highest(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.5), test_error=[3.0] * 5)
    made.add("worse", around(0.5), test_error=[4.0] * 5, parameters=[9] * 5)
    made.add("better", around(0.5), test_error=[2.0] * 5, parameters=[7] * 5)
    task = {"metric": "error", "lower_is_better": True, "unit": "degrees"}
    table = table_of(made, task=task)
    table.arrays.clear()  # predicted classes, of which the errors would be computed
    found = effects.of_arms(table)
    assert [(effect.arm, effect.difference) for effect in found.effects] == [("better", -1.0), ("worse", 1.0)]
    assert (found.direction, found.label) == (-1, "test error (degrees)")
    parameters = effects.of_arms(table, "parameters")
    assert parameters.direction == 0
    same = claim("alike", "better", "worse", kind="same", metric="test_nll")
    assert effects.of_arms(table_of(made, claims=[same]), "test_nll").direction == -1
    assert effects.of_arms(table_of(made, claims=[same | {"metric": "parameters"}]), "parameters").direction == 0
    assert parameters.effects[0].reason == "parameters: some rows lack it"


def test_without_a_baseline_the_first_arm_is_the_reference(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    store.write_declaration(made.files, declared(arms=made.arms))
    found = effects.of_arms(Table.read(made.files))
    assert (found.reference, found.role) == ("a", effects.FIRST)
    assert found.against() == "no baseline; against a, 0.95 (5 epochs, 100 images)"


def test_a_first_claim_is_compared_in_another_metric(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85), train_seconds=[3.0, 3.1, 3.2, 3.0, 3.0])
    made.add("low", around(0.90))
    made.add("a", around(0.95), train_seconds=[5.0, 5.1, 5.2, 5.0, 5.0])
    family = claim("one helps", ["low", "a"], "b", kind="best of family")
    (effect,) = effects.of_first_claim(table_of(made, claims=[family]), "seconds").effects
    assert (effect.arm, effect.reference, effect.difference) == ("a", "b", pytest.approx(2.0))
    low = claim("it helps", "a", "low")
    assert effects.of_first_claim(table_of(made, claims=[low]), "seconds").against() == "against low, 3 (5 epochs, 100 images)"
    crossed = claim("more", ["a", "low"], ["low", "b"], kind="interaction")
    with pytest.raises(NoData, match=r"more than two arms \(interaction\)"):
        effects.of_first_claim(table_of(made, claims=[crossed]), "seconds")
    with pytest.raises(NoData, match="claims nothing"):
        effects.of_first_claim(table_of(made), "seconds")
    with pytest.raises(NoData, match="no rows of 'c'"):
        effects.of_arms(with_baseline(made, "c"))


def with_baseline(made, arm):
    store.write_declaration(made.files, declared(arms={arm: {}, **made.arms}, baseline=arm))
    return Table.read(made.files)


def test_experiments_are_ordered_by_their_largest_effect_and_their_baselines_compared(tmp_path):
    compared = []
    for number, best, weights in (("91", 0.90, "x"), ("92", 0.99, "x"), ("93", 0.10, "y")):
        made = Made(tmp_path)
        made.files = schema.Files(tmp_path / "mnist", f"exp_{number}_made")
        made.add("b", around(0.85), weights=[f"{weights}{seed}" for seed in range(5)])
        made.add("a", around(best))
        compared.append(effects.of_arms(table_of(made)))
    assert [one.number for one in effects.ordered(compared)] == ["93", "92", "91"]
    assert effects.baselines(compared) == (
        "The baselines differ (equal are those of 91 and 92): each effect is against that of its own experiment."
    )
    assert effects.baselines(compared[:2]) == "All experiments have the same baseline."
    assert effects.baselines(compared[:1]) == ""
    assert number_of("exp_3_x") == "03"


def test_what_an_interval_leaves_out_is_said(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85), test_nll=[1.0, 1.1, 1.2, 1.3, 1.4])
    made.add("a", around(0.95), test_nll=[0.9, 1.0, 1.1, 1.2, 1.3])
    made.add("dead", around(0.1), statuses={0: "diverged"})
    found = effects.of_arms(table_of(made), "test_nll")
    assert {effect.arm: effect.notes for effect in found.effects if not effect.reason} == {"a": (contrasts.OVER_SEEDS,)}
    assert found.notes == [contrasts.OVER_SEEDS]
    assert effects.of_arms(table_of(made)).notes == [summary.DIVERGED]


def test_why_there_is_no_difference_is_said(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85))
    made.add("a", around(0.95))
    for arm in ("a", "b"):
        for row in [row for row in store.read_rows(made.files) if row["arm"] == arm]:
            identity = {"experiment": made.files.experiment, "arm": arm, "seed": int(row["seed"])}
            value = math.inf if arm == "a" else 1.0
            measures = [identity | {"name": "latency", "value": value, "unit": "ms"}]
            store.store(made.files, store.Outcome(row=row, measures=measures), list(made.arms))
    (latency,) = effects.of_arms(table_of(made), "latency").effects
    assert latency.reason == "latency: some rows have an infinite one"
    (seconds,) = effects.of_arms(table_of(made), "compile_seconds").effects
    assert seconds.reason == "compile_seconds: some rows lack it"


def test_that_seed_0_alone_is_missing_is_said(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85), statuses={0: "failed"})
    made.add("a", around(0.95))
    with pytest.raises(NoData, match="no row of seed 0 of 'b': failed"):
        effects.of_arms(table_of(made))
