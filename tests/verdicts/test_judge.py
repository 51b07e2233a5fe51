"""Verdicts on made-up rows, whose verdicts a reader can derive."""

import json
import math
import re

import numpy as np
import pytest
from made import Made, around, claim, declared

from common import claims
from common.commands import verdicts
from common.errors import Failure
from common.rows import reading, store
from common.rows.table import NoData, Table
from common.text import interval, signed
from common.verdicts import kinds, ledger
from common.verdicts.contrasts import OVER_SEEDS
from common.verdicts.intervals import paired, two_way
from common.verdicts.judge import judge
from common.verdicts.verdict import NO_VERDICT, OPEN, REFUTED, SUPPORTED, Verdict


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def test_superiority_is_supported_refuted_or_open(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.add("c", around(0.85))
    made.add("d", [0.95, 0.75, 0.96, 0.74, 0.9])
    better, worse, equal, noisy = made.judge(
        claim(), claim("b beats a", "b", "a"), claim("b beats c", "b", "c"), claim("d beats b", "d", "b")
    )
    assert (better.status, worse.status, equal.status, noisy.status) == (SUPPORTED, REFUTED, REFUTED, OPEN)
    assert better.difference == pytest.approx(0.1)
    assert better.low > 0
    assert better.seeds == 5
    assert better.p < better.level
    assert noisy.p > noisy.level
    assert noisy.low < 0.02 < noisy.high
    assert re.fullmatch(
        r"chance of a verdict if the truth is 0, 0.02, or as seen: (\d+%, ){2}\d+% with 10 seeds \(30 s more\); "
        r"(\d+%, ){2}\d+% with 20 seeds \(2 min more\)",
        noisy.missing,
    )
    assert noisy.notes() == [noisy.missing]
    assert better.text == "a beats b, by at least 0.02"


def test_a_difference_below_the_margin_is_not_supported(made):
    made.add("a", around(0.86))
    made.add("b", around(0.85))
    (verdict,) = made.judge(claim(margin=0.05))
    assert verdict.status == REFUTED
    assert verdict.high < 0.05


def test_a_difference_beyond_the_margin_is_judged_by_the_nearer_margin(made):
    made.add("a", [0.9, 0.84, 0.93, 0.86, 0.92])
    made.add("b", [0.85, 0.85, 0.85, 0.85, 0.85])
    (verdict,) = made.judge(claim(kind="same", margin=0.01))
    assert verdict.status == OPEN
    assert verdict.p > verdict.level


def test_not_worse_same_and_interaction(made):
    made.add("a", around(0.85))
    made.add("b", around(0.85))
    made.add("c", around(0.95))
    made.add("d", around(0.75))
    not_worse, far, same, different, interaction = made.judge(
        claim("a is not worse than b", kind="not worse"),
        claim("d is not worse than b", "d", "b", kind="not worse"),
        claim("a is b", kind="same"),
        claim("c is b", "c", "b", kind="same"),
        claim("a gains more over d than c over b", ["c", "d"], ["a", "b"], kind="interaction"),
    )
    assert [v.status for v in (not_worse, far, same, different)] == [SUPPORTED, REFUTED, SUPPORTED, REFUTED]
    assert interaction.difference == pytest.approx((0.95 - 0.75) - (0.85 - 0.85))
    assert interaction.status == SUPPORTED


def test_the_best_of_a_family_pays_for_the_choice(made):
    made.add("a", around(0.95))
    made.add("b", around(0.80))
    made.add("c", around(0.90))
    family, alone = made.judge(claim("some beat b", ["a", "c"], "b", kind="best of family"), claim("a beats b"))
    assert (family.status, family.judged) == (SUPPORTED, "means over seeds and test images, a, one of 2")
    assert family.difference == pytest.approx(0.15)
    half = two_way(np.array([made.right("a", seed) - made.right("b", seed) for seed in range(5)])).half_width(0.010 / 2)
    assert family.high - family.difference == pytest.approx(half)
    assert family.high - family.low > alone.high - alone.low


def test_the_best_of_a_family_is_refuted_if_each_arm_is(made):
    made.add("a", around(0.85))
    made.add("b", around(0.85))
    made.add("c", around(0.80))
    made.add("d", [0.95, 0.75, 0.96, 0.74, 0.9])
    none, perhaps = made.judge(
        claim("some beat b", ["a", "c"], "b", kind="best of family"),
        claim("some others beat b", ["c", "d"], "b", kind="best of family"),
    )
    assert (none.status, perhaps.status) == (REFUTED, OPEN)
    assert perhaps.judged.endswith("d, one of 2")


def test_verdicts_are_read_at_looks_only(made):
    made.add("a", around(0.95, 4))
    made.add("b", around(0.85, 4))
    (early,) = made.judge(claim())
    assert early.status == NO_VERDICT
    assert early.reason.startswith("4 of the 5 seeds")
    assert early.low < early.difference < early.high
    made.add("a", around(0.95, 7))
    made.add("b", around(0.85, 7))
    (between,) = made.judge(claim())
    assert (between.status, between.seeds) == (SUPPORTED, 5)


def test_the_first_look_that_decides_is_final(made):
    made.add("a", around(0.95) + [0.85] * 15)
    made.add("b", around(0.85) + [0.95] * 15)
    (verdict,) = made.judge(claim())
    assert (verdict.status, verdict.seeds) == (SUPPORTED, 5)
    assert verdict.difference == pytest.approx(0.1)
    assert "all 20 seeds: test accuracy -0.050 (" in verdict.reason  # later rows stand beside it


def test_a_verdict_that_does_not_come_at_the_first_look_may_at_the_next(made):
    made.add("a", [0.95, 0.85, 0.96, 0.84, 0.9] + [0.95] * 6)
    made.add("b", [0.85] * 11)
    (verdict,) = made.judge(claim())
    assert (verdict.status, verdict.seeds, verdict.level) == (SUPPORTED, 10, 0.015)
    assert verdict.p < 0.015


def test_there_is_no_verdict_until_failed_seeds_are_done(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85), statuses={2: "failed"})
    (verdict,) = made.judge(claim())
    assert (verdict.status, verdict.seeds) == (NO_VERDICT, 2)


def test_a_sure_winner_with_a_dead_seed_of_ten_is_supported(made):
    made.add("a", around(0.95, 10), statuses={7: "diverged"})
    made.add("b", around(0.85, 10), trained=["True"] * 3 + ["False"] + ["True"] * 6)
    (verdict,) = made.judge(claim())
    assert verdict.status == SUPPORTED
    assert verdict.counts.startswith("did not train: 'a' 1 of 10 (diverged), 'b' 1 of 10; difference over all seeds +0.100")
    assert verdict.difference == pytest.approx(0.1)  # of the eight seeds in which both trained


def test_an_arm_that_dies_in_two_of_twenty_and_is_worse_otherwise_is_never_supported(made):
    made.add("a", around(0.84, 20), statuses={3: "diverged", 11: "diverged"})
    made.add("b", around(0.85, 20))
    made.add("better", around(0.95, 20), statuses={3: "diverged", 4: "diverged"})
    dying, better = made.judge(claim(), claim("better beats b", "better", "b"))
    assert dying.status == REFUTED
    assert (better.status, better.seeds) == (OPEN, 20)


def test_too_few_seeds_that_trained_are_open_until_the_counts_decide(made):
    made.add("a", around(0.95, 10))
    made.add("b", around(0.85, 10), statuses=dict.fromkeys(range(10), "diverged"))
    made.add("c", around(0.85, 10), statuses={0: "diverged"})
    dead, few = made.judge(claim(), claim("a beats c", "a", "c"))
    assert (dead.status, dead.seeds) == (SUPPORTED, 10)
    assert (few.status, few.seeds) == (SUPPORTED, 10)
    made.judge(claim())
    table = Table.read(made.files)
    table.by_trial = {trial: row for trial, row in table.by_trial.items() if trial[1] < 5}
    (verdict,) = judge(table)
    assert (verdict.status, verdict.seeds, verdict.low) == (OPEN, 5, -math.inf)
    assert verdict.counts.endswith("; fewer than 5 seeds in which all trained")


def test_survival_is_judged_by_counts(made):
    made.add("a", around(0.95, 20))
    made.add("b", around(0.85, 20), statuses=dict.fromkeys(range(12), "diverged"))
    made.add("c", around(0.85, 20), statuses={3: "diverged"})
    often, once = (claim(f"a survives more often than {arm}", "a", arm, metric="survival", margin=0.1) for arm in "bc")
    often, once = made.judge(often, once)
    assert (often.status, often.seeds) == (SUPPORTED, 10)  # all ten differ: p = 2 / 2**10
    assert (once.status, once.seeds) == (OPEN, 20)
    assert once.counts == "'a' trained in 20 of 20, 'c' in 19"
    (seldom,) = made.judge(claim("b survives less often", "b", "a", metric="survival", margin=0.1, lower_is_better=True))
    assert (seldom.status, seldom.difference, seldom.instead) == (SUPPORTED, 1.0, "")
    assert seldom.changes[0].difference == -1.0


def test_a_target_uses_only_compared_seeds_that_have_trained(made):
    made.add("a", [0.9] * 7, trained=["True"] * 5 + ["False"] + ["True"], val_accuracy=[0.8, 0.8, 0.8, 0.8, 0.8, 0.1, 0.4])
    made.judge()
    table = Table.read(made.files)
    assert table.target(0.5, range(5)) == pytest.approx(0.4)
    assert table.target(0.5) == pytest.approx(0.5 * (5 * 0.8 + 0.4) / 6)
    with pytest.raises(NoData, match="its target needs a seed in which a has trained"):
        table.target(0.5, [5])


def test_targets_of_earlier_protocols_have_no_verdict(made):
    made.add("a", around(0.95, 5))
    made.add("b", around(0.85, 5))
    sooner = claim("a is faster", metric="epochs_to_target", target=0.5, margin=1)
    store.write_declaration(made.files, declared(arms=made.arms, claims=[sooner], protocol=2))
    (verdict,) = judge(Table.read(made.files))
    assert (verdict.status, verdict.reason) == (
        NO_VERDICT,
        "its target is of an earlier protocol, not a share of the baseline's final score: run it again",
    )


def test_other_metrics(made):
    made.add("a", around(0.95, 10))
    made.add("b", around(0.85, 10))
    made.add("beside", around(0.85, 10), beside=[1] * 10)
    gap, worst, epochs, late, seconds, total, missing = made.judge(
        claim("a has the smaller gap", metric="gap", lower_is_better=True),
        claim("a's worst class is better", metric="worst_class_accuracy", margin=0.001),
        claim("a is faster to 85 %", metric="epochs_to_target", target=0.85, margin=0.5),
        claim("b is faster to 99.9 %", "b", "a", metric="epochs_to_target", target=0.999, margin=0.5),
        claim("a is faster than trials beside others", "a", "beside", metric="seconds", lower_is_better=True),
        claim("its trials are shorter, too", "a", "beside", metric="total_seconds", lower_is_better=True),
        claim("a has more of an unknown metric", metric="nonsense"),
    )
    assert gap.difference == pytest.approx(0.1)
    assert gap.status == SUPPORTED
    assert worst.difference > 0
    # The target is 85 % of a's 0.95 on val, 0.8075. An epoch's accuracy begins 0.1 below and rises by 0.03: a is there after
    # the first epoch, b (0.75, 0.78, 0.81) after the third or fourth.
    assert epochs.judged == "ranks"
    assert epochs.difference == 2.5
    assert epochs.status == SUPPORTED
    assert (late.difference, late.high) == (-math.inf, -math.inf)  # b never reaches it
    assert late.status == REFUTED
    assert late.counts == "target 0.949 reached: 'b' 0 of 10, 'a' 10 of 10"
    assert (seconds.status, total.status, missing.status) == (NO_VERDICT,) * 3
    assert "only trials that ran alone count" in seconds.reason
    assert total.reason == "total_seconds: only trials that ran alone count"
    assert "'nonsense'" in missing.reason


def test_measures_that_count_and_measures_of_time(made):
    for arm, size, time in (("a", 100_000, 1.0), ("b", 400_000, 2.0), ("beside", 1, 0.1)):
        made.add(arm, around(0.9), beside=[int(arm == "beside")] * 5)
        for seed in range(5):
            identity = {"experiment": made.files.experiment, "arm": arm, "seed": seed}
            row = next(r for r in store.read_rows(made.files) if (r["arm"], r["seed"]) == (arm, str(seed)))
            measured = [("size_bytes", size, "bytes"), ("latency", time * (1 + seed / 100), "ms")]
            measures = [identity | dict(zip(("name", "value", "unit"), one, strict=True)) for one in measured]
            store.store(made.files, store.Outcome(row=row, measures=measures), list(made.arms))
    smaller, sooner, crowded = made.judge(
        claim("a is smaller", metric="size_bytes", lower_is_better=True, margin=1000),
        claim("a answers sooner", metric="latency", lower_is_better=True, margin=0.1),
        claim("the trials beside others answer sooner", "beside", "a", metric="latency", lower_is_better=True, margin=0.1),
    )
    assert smaller.status == SUPPORTED  # though no seed differs: a byte is the smallest step
    assert sooner.status == SUPPORTED
    assert crowded.status == NO_VERDICT
    assert "only trials that ran alone count" in crowded.reason


def test_flatness_counts_decades(made):
    for rate in (0.001, 0.01, 0.1):
        made.add(f"flat {rate:g}", around(0.9), arguments={"learning_rate": rate})
        made.add(f"steep {rate:g}", around(0.9 if rate == 0.01 else 0.5), arguments={"learning_rate": rate})
    flat, steep = ([f"{name} {rate:g}" for rate in (0.001, 0.01, 0.1)] for name in ("flat", "steep"))
    (verdict,) = made.judge(claim("flat is flatter", flat, steep, kind="flatness", margin=0.5, within=0.02))
    assert verdict.difference == pytest.approx(2 - 2 * 0.02 / 0.4, abs=0.01)
    assert verdict.status == SUPPORTED


@pytest.mark.parametrize("numbers", [(0.0, 0.1, 1.0), ("a", "b", "c"), (False, True, 2)])
def test_flatness_needs_numbers_above_0(made, numbers):
    arms = {side: [f"{side} {number}" for number in numbers] for side in ("flat", "steep")}
    for side in arms.values():
        for arm, number in zip(side, numbers, strict=True):
            made.add(arm, around(0.9), arguments={"l2": number})
    (verdict,) = made.judge(claim("x", arms["flat"], arms["steep"], kind="flatness", margin=0.5, within=0.02))
    assert (verdict.status, verdict.reason) == (NO_VERDICT, "its arms must differ in one number, above 0")


def test_a_column_of_texts_has_no_verdict(made):
    for arm in "ab":
        made.add(arm, around(0.9), device=["cpu"] * 5)
    (verdict,) = made.judge(claim(metric="device"))
    assert (verdict.status, verdict.reason) == (NO_VERDICT, "the column 'device' holds no numbers")


def test_flatness_covers_the_test_images_and_needs_every_score(made):
    """If all seeds are wrong on the same images, other images would give other decades."""
    rates, scores = (0.001, 0.01, 0.1), {"flat": (0.85, 0.9, 0.87), "steep": (0.6, 0.9, 0.6)}
    arms = {side: [f"{side} {rate:g}" for rate in rates] for side in scores}
    about = claim("flat is flatter", arms["flat"], arms["steep"], kind="flatness", margin=0.1, within=0.04)
    for side, accuracies in scores.items():
        for i, (arm, rate, accuracy) in enumerate(zip(arms[side], rates, accuracies, strict=True)):
            made.add(arm, around(accuracy), arguments={"learning_rate": rate}, images=i)
    (verdict,) = made.judge(about)
    seeds_alone = paired([verdict.difference] * 5, 1.0)
    assert verdict.high - verdict.low > 2 * seeds_alone.half_width(verdict.level)
    assert verdict.judged == "means of decades over seeds and resampled test images"
    assert (
        verdict.reason == "the range of 'flat 0.1' may go on beyond the numbers of its side, as this is within 0.04 of the best"
    )
    made.add("flat 0.1", around(0.87), arguments={"learning_rate": 0.1}, test_nll=[1.0] * 5)
    (verdict,) = made.judge(about | {"metric": "test_nll", "lower_is_better": True})
    assert (verdict.status, verdict.reason) == (NO_VERDICT, "test_nll: some rows lack it")


def test_a_target_that_neither_arm_reaches_tells_nothing(made):
    for arm in "cab":
        made.add(arm, around(0.9 if arm == "c" else 0.5, 10))
    about = {"metric": "epochs_to_target", "margin": 1.0, "target": 0.9, "lower_is_better": True}
    same, sooner, reached = made.judge(
        claim("a is as fast as b", "a", "b", kind="same", **about),
        claim("a is sooner than b", "a", "b", **about),
        claim("c is sooner than a", "c", "a", **about),
    )
    assert (same.status, sooner.status) == (OPEN, OPEN)
    assert same.difference is None
    assert sooner.counts.endswith("reached: 'a' 0 of 10, 'b' 0 of 10")
    assert reached.status == SUPPORTED


def test_five_seeds_are_said_to_be_too_few_for_ranks(made):
    made.add("slow", around(0.84))
    made.add("fast", around(0.95))
    about = {"metric": "epochs_to_target", "margin": 1.0, "target": 0.95, "lower_is_better": True}
    (verdict,) = made.judge(claim("fast is sooner", "fast", "slow", **about))
    assert (verdict.status, verdict.low, verdict.high) == (OPEN, -math.inf, math.inf)
    assert verdict.missing == "5 seeds are too few for ranks: their p-value is at least 0.062"


def test_values_that_a_later_look_lacks_are_named(made):
    """The rows of ten seeds are there, so their chance of a verdict cannot be said, and UNTIL=decided ends for this reason."""
    for arm, seconds in (("a", 9.0), ("b", 9.5)):
        times = [seconds + (seed * 7 % 5) for seed in range(10)]
        made.add(arm, around(0.9, 10), train_seconds=times, beside=[0] * 5 + [1] * 5)
    (verdict,) = made.judge(claim("a is faster", metric="seconds", lower_is_better=True, margin=1.0))
    assert (verdict.status, verdict.seeds, verdict.chances) == (OPEN, 5, ())
    assert "at 10 seeds: seconds: only trials that ran alone count" in verdict.reason


@pytest.mark.parametrize("infinite", [math.inf, math.nan])
def test_values_that_are_not_finite_are_no_data(made, infinite):
    made.add("a", around(0.9), test_nll=[1.0, infinite, 1.0, 1.0, 1.0])
    made.add("b", around(0.9), test_nll=[2.0] * 5)
    (verdict,) = made.judge(claim(metric="test_nll", lower_is_better=True))
    lacking = "some rows have an infinite one" if math.isinf(infinite) else "some rows lack it"
    assert (verdict.status, verdict.reason) == (NO_VERDICT, f"test_nll: {lacking}")


def test_missing_arms_and_seeds_are_no_data(made):
    made.add("a", around(0.95))
    verdict, other = made.judge(claim(), claim("x", "x", "y"))
    assert (verdict.status, verdict.reason) == (NO_VERDICT, "no rows of 'b'")
    assert other.status == NO_VERDICT


def test_a_claim_changed_after_its_rows_is_marked(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    first, second = claim(), claim("b beats a", "b", "a")
    assert [verdict.changed for verdict in made.judge(first, second)] == [False, False]
    changed = {**first, "margin": 0.01}
    assert [(verdict.id, verdict.changed) for verdict in made.judge(changed, second)] == [
        ("a-beats-b", True),
        ("b-beats-a", False),
    ]
    worded = {**changed, "text": "a does better than b"}
    assert (
        made.judge(worded, second)[0]
        .sentence()
        .startswith("Supported (claim changed after rows were written): a does better than b, by at least 0.01. ")
    )
    assert made.judge(worded, second)[0].changed  # and stays so


def test_the_first_claim_has_a_level_to_itself_and_the_others_share_one(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    assert made.judge(claim())[0].level == pytest.approx(0.010)
    first, *others = made.judge(claim(), *(claim(f"again {i}") for i in range(3)))
    assert first.level == pytest.approx(0.010)
    assert sorted(verdict.level for verdict in others) == pytest.approx([0.010 / 3, 0.010 / 2, 0.010])
    _, known, *_ = made.judge(claim(), claim("again"), *(claim(f"later {i}", "x", "y") for i in range(3)))
    assert known.level == pytest.approx(0.010 / 4)  # claims without rows count too


def test_a_claim_decided_earlier_leaves_its_level_to_the_others(made):
    made.add("a", around(0.95, 10))
    made.add("b", around(0.85, 10))
    made.add("c", [0.95, 0.85, 0.96, 0.84, 0.9] * 2)
    _, early, late = made.judge(claim(), claim("again"), claim("c beats b", "c", "b", margin=0.04))
    assert (early.status, early.seeds, early.level) == (SUPPORTED, 5, pytest.approx(0.010 / 2))
    assert (late.seeds, late.level) == (10, 0.015)


def test_the_chance_of_a_verdict_is_named_and_more_images_only_where_they_are_what_is_missing(made):
    made.add("a", [0.95, 0.86, 0.95, 0.85, 0.9])
    made.add("b", [0.85] * 5)
    (seeds,) = made.judge(claim(margin=0.04))
    assert seeds.status == OPEN
    assert "10 seeds (30 s more)" in seeds.missing
    assert "20 seeds (2 min more)" in seeds.missing
    assert "test images" not in seeds.missing
    assert not seeds.futile
    made.add("c", [0.9] * 5, images=1)
    made.add("d", [0.9] * 5, images=2)
    (images,) = made.judge(claim("c beats d", "c", "d", margin=0.005))
    assert images.status == OPEN
    assert images.futile
    assert images.missing.endswith("more seeds do not help: that takes more test images")


def test_the_chances_of_sameness_do_not_depend_on_the_order_of_the_arms(made):
    """Two seeds more were lost by b, so neither order can be supported by the next look."""
    made.add("a", around(0.9, 10))
    made.add("b", around(0.9, 10)[::-1], statuses=dict.fromkeys((3, 7), "diverged"))
    first, second = made.judge(claim("same", kind="same", margin=0.05), claim("as well", "b", "a", kind="same", margin=0.05))
    assert first.status == second.status == OPEN
    assert first.chances[0] == pytest.approx(second.chances[0], abs=1e-6)
    assert first.chances[0] < 0.01


def test_more_images_are_asked_for_only_where_the_images_widen_the_interval(made):
    """τ² is what widens this one, which has no outcomes of images."""
    for arm in "ab":
        made.add(arm, around(0.9), search=["e" * 12] * 5, best_test_accuracy=around(0.9))
    arms = {arm: {"values": {}, "tau2": 1e-3} for arm in "ab"}
    made.files.tuned.write_text(json.dumps({"experiment": made.files.experiment, "arms": arms}))
    (verdict,) = made.judge(claim(metric="best_test_accuracy"), search={"a": {}, "b": {}})
    assert OVER_SEEDS in verdict.reason
    assert verdict.missing.endswith("more seeds do not help: that takes a search with more seeds")


def test_a_gap_is_judged_over_seeds_and_test_images(made):
    made.add("a", around(0.95), train_accuracy=[0.99, 0.98, 0.97, 0.98, 0.99])
    made.add("b", around(0.85), train_accuracy=[0.99] * 5)
    (gap,) = made.judge(claim("a has the smaller gap", metric="gap", lower_is_better=True))
    train = np.array([0.0, 0.01, 0.02, 0.01, 0.0])
    d = np.array([made.right("a", seed) - made.right("b", seed) for seed in range(5)]) + train[:, None]
    assert (gap.low, gap.high) == pytest.approx(two_way(d).bounds(0.010))
    assert gap.judged == "means over seeds and test images"


def test_overfitting_less_is_one_claim_of_two_halves(made):
    overfits = {"kind": "overfits less", "metric": "gap", "lower_is_better": True, "within": 0.02}
    made.add("a", around(0.85), train_accuracy=[0.87] * 5)
    made.add("b", around(0.85), train_accuracy=[0.99] * 5)
    made.add("worse", around(0.70), train_accuracy=[0.72] * 5)
    made.add("unclear", around(0.70), train_accuracy=[0.79, 0.89, 0.76, 0.87, 0.79])
    both, one, neither, unclear = made.judge(
        claim("a overfits less than b", "a", "b", **overfits),
        claim("worse overfits less than b", "worse", "b", **overfits),
        claim("b overfits less than a", "b", "a", **overfits),
        claim("unclear overfits less than b", "unclear", "b", **overfits),
    )
    assert (both.status, one.status, neither.status) == (SUPPORTED, REFUTED, REFUTED)
    assert both.difference == pytest.approx(0.12)
    assert [change.status for change in one.changes] == [SUPPORTED, REFUTED]
    assert [change.difference for change in one.changes] == pytest.approx([-0.12, -0.15])
    assert one.instead == "the gap is smaller, but the score is worse by more than 0.02"
    assert [change.status for change in unclear.changes] == [OPEN, REFUTED]
    assert unclear.instead == "the score is worse by more than 0.02"
    assert neither.instead == "the gap is smaller by less than 0.02, if at all"


def test_metrics_that_are_no_means_over_images_are_resampled(made):
    for arm, accuracy in (("a", 0.95), ("b", 0.85)):
        scores = around(accuracy, 10)
        others = [score + 0.001 * (seed % 3) * (arm == "a") for seed, score in enumerate(scores)]
        made.add(arm, scores, test_f1=others, test_recall=scores, test_ece=[1 - other for other in others])
    worst, f1, recall, ece = made.judge(
        claim("a's worst class is better", metric="worst_class_accuracy"),
        claim("a has the better F1", metric="test_f1"),
        claim("a has the better recall", metric="test_recall"),
        claim("a is calibrated better", metric="test_ece", lower_is_better=True),
    )
    for verdict in (worst, f1):
        assert verdict.judged == "means over seeds and resampled test images"
        assert verdict.status == SUPPORTED
    assert recall.judged == "means over seeds and test images"
    assert recall.difference == pytest.approx(0.1)
    assert ece.judged == "means over seeds"
    assert ece.reason.startswith("interval over seeds alone: outcomes of the test images are not stored")


def test_the_variance_of_the_search_widens_the_interval(made):
    made.add("a", around(0.95), search=["e" * 12] * 5)
    made.add("b", around(0.85), search=["e" * 12] * 5)
    (before,) = made.judge(claim(), search={"a": {}, "b": {}})
    made.files.tuned.write_text(json.dumps({"arms": {"a": {"tau2": 0.0009}, "b": {"tau2": 0.0009}}}))
    (after,) = made.judge(claim(), search={"a": {}, "b": {}})
    assert (before.status, after.status) == (SUPPORTED, OPEN)
    d = np.array([made.right("a", seed) - made.right("b", seed) for seed in range(5)])
    assert (after.low, after.high) == pytest.approx(two_way(d).with_tuning(0.0018).bounds(0.010))
    assert after.missing.endswith("more seeds do not help: that takes a search with more seeds")


def test_a_common_rate_that_disagrees_is_named(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.add("a", around(0.80), rate=["common"] * 5)
    made.add("b", around(0.85), rate=["common"] * 5)
    (verdict,) = made.judge(claim())
    assert verdict.status == SUPPORTED
    assert "at the common rate refuted: test accuracy -0.050 (" in verdict.reason


def test_a_verdict_stands_where_rows_beside_it_lack_the_metric(made):
    """The first five seeds ran alone; the later ones and those at the common rate did not, so they have no time that counts."""
    for arm, seconds in (("a", 3.0), ("b", 12.0)):
        times, beside = [seconds * (1 + seed / 100) for seed in range(10)], [0] * 5 + [1] * 5
        made.add(arm, around(0.9, 10), train_seconds=times, beside=beside)
        made.add(arm, around(0.9), train_seconds=times[:5], beside=[1] * 5, rate=["common"] * 5)
    faster = claim("a is faster", metric="seconds", lower_is_better=True, margin=1.0)
    (verdict,) = made.judge(faster)
    assert (verdict.status, verdict.seeds) == (SUPPORTED, 5)
    reason = "seconds: only trials that ran alone count"
    assert verdict.reason.split("; ")[-2:] == [f"all 10 seeds: {reason}", f"at the common rate no verdict: {reason}"]


def test_a_searched_arm_is_compared_at_the_common_rate_only_if_it_was_trained_there(made):
    """Otherwise its own rate would be compared with the other's common one; an arm that was not searched has no other rate."""
    searched, rates = ["b97e1f"] * 5, {"a": 0.38, "b": 0.0079, "c": 0.0079}
    for arm, accuracy in (("a", 0.95), ("b", 0.85), ("c", 0.85)):
        made.add(arm, around(accuracy), arguments={"learning_rate": rates[arm]}, search=searched)
    made.add("fixed", around(0.85))
    made.add("a", around(0.70), arguments={"learning_rate": 0.0208}, rate=["common"] * 5, search=searched)
    made.add("c", around(0.75), arguments={"learning_rate": 0.0548}, rate=["common"] * 5, search=searched)
    verdicts = made.judge(claim(), claim("a beats c", worse="c"), claim("a beats fixed", worse="fixed"))
    assert ["common rate" in verdict.reason for verdict in verdicts] == [False, False, True]


def test_arms_at_the_common_rate_without_a_seed_in_common_are_passed_over(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.add("a", around(0.80)[:1], rate=["common"])
    made.add("b", around(0.85)[:2], rate=["common"] * 2, statuses={0: "failed"})
    assert made.judge(claim())[0].status == SUPPORTED


def test_an_improvement_by_less_than_the_margin_is_said_to_be_one(made):
    made.add("a", around(0.86))
    made.add("b", around(0.85))
    (verdict,) = made.judge(claim(margin=0.05))
    assert (verdict.status, verdict.instead) == (REFUTED, "it does, by less")


def test_the_ledger_prints_every_claim_and_names_damaged_files(made, call, tmp_path):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.judge(claim(), claim("b beats a", "b", "a"))
    broken = tmp_path / "cifar10" / "exp_91_broken.csv"
    broken.parent.mkdir()
    broken.write_text("experiment,arm,seed\nx\n")
    broken.with_suffix(".json").write_text(json.dumps(declared()))
    status, out, err = call(verdicts.run, "all", "--results", tmp_path)
    assert status == 1
    assert err.splitlines() == [f"{broken} line 2: 1 fields instead of 3. {reading.REMEDY}"]
    assert out.splitlines()[0] == "exp_90_made, mnist"
    assert "  Supported: a beats b, by at least 0.02. Test accuracy +0.100 (99 % interval" in out
    assert "    supported on mnist alone\n" in out
    assert "  Refuted: b beats a, by at least 0.02 (the reverse is true)." in out


def test_the_ledger_of_one_setting(made, call, tmp_path):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.judge(claim())
    command = (verdicts.run, "90", "--results", tmp_path)
    _, out, _ = call(*command, "SETTING=full")
    assert "  Supported: a beats b, by at least 0.02." in out
    assert list(ledger.entries(tmp_path, "90", "small")) == []
    got = f"Received: {tmp_path}"
    for name, said in (
        ("small", f"there are no rows of experiment 90 in the small setting: run it first (make exp-90 SETTING=small). {got}"),
        ("tiny", "setting must be one of quick, small, full. Received: 'tiny'"),
    ):
        status, _, err = call(*command, f"SETTING={name}")
        assert (status, err) == (2, f"{said}\n")


def test_demonstrations_and_claims_about_other_datasets_do_not_count(made, tmp_path):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.judge(claim())
    (entry,) = ledger.entries(tmp_path)
    assert not entry.verdict.demonstration
    assert ledger.discovery_rates([entry]).keys() == {0}
    made.judge(claim(datasets=["cifar10"]))
    (entry,) = ledger.entries(tmp_path)
    assert entry.verdict.demonstration  # the claim is about other images
    made.judge(claim(datasets=["mnist"]))
    store.write_declaration(made.files, declared(arms=made.arms, claims=[claim()], demonstration=True))
    (entry,) = ledger.entries(tmp_path)
    assert entry.verdict.demonstration
    assert ledger.discovery_rates([entry]) == {}


def test_support_from_two_datasets_is_counted_by_the_claims_id():
    def entry(dataset, **about):
        verdict = Verdict(metric="test_accuracy", margin=0.01, status=SUPPORTED, dataset=dataset, **about)
        return ledger.Entry("exp_90_made", dataset, verdict, section=dataset)

    first, again = entry("mnist", id="helps", text="it helps"), entry("cifar10", id="helps", text="it improves accuracy")
    other = entry("cifar10", id="hurts", text="it helps")
    assert not ledger.single([first, again], first)
    assert ledger.single([first, other], first)


def test_an_experiment_without_rows_is_one_line(call, tmp_path):
    status, _, err = call(verdicts.run, "03", "--results", tmp_path)
    assert status == 2
    assert err == f"there are no rows of experiment 03: run it first (make exp-03). Received: {tmp_path}\n"


def test_an_experiment_without_claims_says_so(made, call, tmp_path):
    made.add("a", around(0.95))
    made.judge()
    command = (verdicts.run, "90", "--results", tmp_path)
    assert call(*command) == (0, "experiment 90 has no claims\n", "")
    status, _, err = call(*command, "--nonsense")
    assert (status, len(err.splitlines())) == (2, 1)


def test_differences_are_formatted_with_few_digits():
    assert [signed(-0.00125), signed(842_134.5), signed(0.1, "+.4g")] == ["-0.0013", "+842,134", "+0.1"]
    assert [interval(-0.5, 1234.0), interval(0.0, float("inf"))] == ["-0.5000 to +1,234", "unbounded"]


def test_every_kind_of_claim_can_be_judged():
    assert claims.KINDS.keys() == kinds.KINDS.keys()


def test_an_unknown_kind_in_a_declaration_is_a_failure_that_names_the_file(made):
    made.add("a", around(0.9))
    made.add("b", around(0.8))
    with pytest.raises(Failure, match=r"exp_90_made\.json: a claim's kind must be one of"):
        made.judge(claim(kind="hunch"))


def test_arms_on_different_kinds_of_processors_are_reported(made):
    made.add("a", around(0.95), kind=["AMD"] * 5)
    made.add("b", around(0.85), kind=["AMD", "AMD", "Intel", "AMD", "Intel"])
    (verdict,) = made.judge(claim())
    assert "arms of seeds 2, 4 ran on different kinds of processors" in verdict.reason
    made.add("b", around(0.85), kind=["AMD"] * 5)
    assert "processors" not in made.judge(claim())[0].reason
