"""Verdicts on made-up rows, whose verdicts a reader can derive."""

import json
import re

import pytest
from made import Made, around, claim, declared

from common import claims
from common.commands import verdicts
from common.errors import Failure
from common.rows import reading, store
from common.rows.table import NoData, Table
from common.text import interval, signed
from common.verdicts import kinds, ledger
from common.verdicts.judge import Verdict, judge
from common.verdicts.kinds import NO_DATA, OPEN, REFUTED, SUPPORTED


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
    few, many = map(int, re.match(r"(\d+) to (\d+) seeds would resolve 0\.02", noisy.settled_by).groups())
    assert 5 < few < many
    assert noisy.settled_by in noisy.sentence()


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


def test_the_best_of_a_family_is_chosen_on_val_and_judged_on_test(made):
    made.add("a", around(0.95), noise=-0.3)
    made.add("b", around(0.80))
    made.add("c", around(0.90), noise=0.05)
    (verdict,) = made.judge(claim("some beat b", ["a", "c"], "b", kind="best of family"))
    assert verdict.judged == "means, c the best on val"
    assert verdict.difference == pytest.approx(0.10)


def test_verdicts_are_read_at_looks_only(made):
    made.add("a", around(0.95, 4))
    made.add("b", around(0.85, 4))
    (early,) = made.judge(claim())
    assert early.status == NO_DATA
    assert early.reason.startswith("4 of the 5 seeds")
    assert early.low < early.difference < early.high
    made.add("a", around(0.95, 7))
    made.add("b", around(0.85, 7))
    (between,) = made.judge(claim())
    assert (between.status, between.seeds) == (SUPPORTED, 5)


def test_diverged_trials_are_judged_by_ranks_and_survival_is_exact(made):
    made.add("a", around(0.95, 10))
    made.add("b", around(0.85, 10), statuses={3: "diverged"})
    accuracy, survival = made.judge(claim(), claim("a survives", metric="survival", margin=0.5))
    assert accuracy.judged == "ranks"
    assert accuracy.status == SUPPORTED
    assert "diverged: b 1 of 10" in accuracy.reason
    assert survival.status in (REFUTED, OPEN)
    assert "survival 10 against 9 of 10" in survival.reason


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
        NO_DATA,
        "its target is of an earlier protocol, not a share of the baseline's final score: run it again",
    )


def test_other_metrics(made):
    made.add("a", around(0.95, 10))
    made.add("b", around(0.85, 10))
    made.add("beside", around(0.85, 10), beside=[1] * 10)
    gap, worst, epochs, late, seconds, missing = made.judge(
        claim("a has the smaller gap", metric="gap", lower_is_better=True),
        claim("a's worst class is better", metric="worst_class_accuracy", margin=0.001),
        claim("a is faster to 85 %", metric="epochs_to_target", target=0.85, margin=0.5),
        claim("b is faster to 99.9 %", "b", "a", metric="epochs_to_target", target=0.999, margin=0.5),
        claim("a is faster than trials beside others", "a", "beside", metric="seconds", lower_is_better=True),
        claim("a has more of an unknown metric", metric="nonsense"),
    )
    assert gap.difference == pytest.approx(0.1)
    assert gap.status == SUPPORTED
    assert worst.difference > 0
    # The target is 85 % of a's 0.95 on val, 0.8075. An epoch's accuracy begins 0.1 below and rises by 0.03: a is there after
    # the first epoch, b (0.75, 0.78, 0.81) after the third.
    assert epochs.judged == "ranks"
    assert epochs.status == SUPPORTED
    assert late.difference < 0
    assert "target 0.949 reached: b 0 of 10, a 10 of 10" in late.reason
    assert (seconds.status, missing.status) == (NO_DATA, NO_DATA)
    assert "only trials that ran alone count" in seconds.reason
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
    assert crowded.status == NO_DATA
    assert "only trials that ran alone count" in crowded.reason


def test_flatness_counts_decades(made):
    for rate in (0.001, 0.01, 0.1):
        made.add(f"flat {rate:g}", around(0.9), arguments={"learning_rate": rate})
        made.add(f"steep {rate:g}", around(0.9 if rate == 0.01 else 0.5), arguments={"learning_rate": rate})
    flat, steep = ([f"{name} {rate:g}" for rate in (0.001, 0.01, 0.1)] for name in ("flat", "steep"))
    (verdict,) = made.judge(claim("flat is flatter", flat, steep, kind="flatness", margin=0.5, within=0.02))
    assert verdict.difference == pytest.approx(2 - 2 * 0.02 / 0.4, abs=0.01)
    assert verdict.status == SUPPORTED


def test_missing_arms_and_seeds_are_no_data(made):
    made.add("a", around(0.95))
    verdict, other = made.judge(claim(), claim("x", "x", "y"))
    assert (verdict.status, verdict.reason) == (NO_DATA, "no rows of b")
    assert other.status == NO_DATA


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
    assert made.judge(worded, second)[0].sentence().startswith("a does better than b: supported")
    assert made.judge(worded, second)[0].changed  # and stays so


def test_holms_procedure_covers_all_claims_of_an_experiment(made):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    alone = made.judge(claim())[0]
    among = made.judge(claim(), *(claim(f"again {i}") for i in range(3)))
    assert alone.level == pytest.approx(0.05 / 3)
    assert min(v.level for v in among) == pytest.approx(0.05 / 3 / 4)
    untrained = made.judge(claim(), *(claim(f"later {i}", "x", "y") for i in range(3)))
    assert untrained[0].level == pytest.approx(0.05 / 3 / 4)


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
    assert "a beats b: supported (test_accuracy +0.1, interval" in out
    assert "; on mnist alone" in out
    assert "b beats a: refuted" in out


def test_the_ledger_of_one_setting(made, call, tmp_path):
    made.add("a", around(0.95))
    made.add("b", around(0.85))
    made.judge(claim())
    command = (verdicts.run, "90", "--results", tmp_path)
    _, out, _ = call(*command, "SETTING=full")
    assert "a beats b: supported" in out
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
    assert not entry.demonstration
    assert ledger.discovery_rates([entry]).keys() == {0}
    made.judge(claim(datasets=["cifar10"]))
    (entry,) = ledger.entries(tmp_path)
    assert entry.demonstration  # the claim is about other images
    made.judge(claim(datasets=["mnist"]))
    store.write_declaration(made.files, declared(arms=made.arms, claims=[claim()], demonstration=True))
    (entry,) = ledger.entries(tmp_path)
    assert entry.demonstration
    assert ledger.discovery_rates([entry]) == {}


def test_support_from_two_datasets_is_counted_by_the_claims_id():
    def entry(dataset, **about):
        verdict = Verdict(kind="superiority", metric="test_accuracy", margin=0.01, status=SUPPORTED, **about)
        return ledger.Entry("exp_90_made", dataset, dataset, verdict, demonstration=False)

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
