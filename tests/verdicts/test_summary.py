"""The summary table and its answer, of made-up rows."""

import pytest
from made import Made, around, claim

from common.rows import schema
from common.rows.table import Table
from common.verdicts import summary
from common.verdicts.judge import judge
from common.verdicts.verdict import SUPPORTED


def test_arms_at_the_common_rate_have_lines_but_are_neither_ranked_nor_judged(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85))
    made.add("a", around(0.95))
    made.add("a", around(0.80), rate=[schema.COMMON] * 5)
    made.add("b", around(0.97), rate=[schema.COMMON] * 5)
    made.judge(claim())
    table = Table.read(made.files)
    table.declaration["baseline"] = "b"
    frame = summary.summarize(table)
    assert set(frame["arm"]) == {"a", "b", "a, common rate", "b, common rate"}
    lines = frame.set_index("arm")
    assert lines["score"].to_dict() == pytest.approx({"b": 0.85, "a": 0.95, "b, common rate": 0.97, "a, common rate": 0.80})
    assert lines["difference"].drop("b").to_dict() == pytest.approx({"a": 0.10, "b, common rate": 0.12, "a, common rate": -0.05})
    (verdict,) = judge(table)
    answer = summary.answer(table, frame, [verdict])
    assert answer == verdict.sentence()
    assert (verdict.status, verdict.seeds) == (SUPPORTED, 5)
    assert verdict.difference == pytest.approx(0.10)


def answer(table):
    return summary.answer(table, summary.summarize(table), judge(table))


def test_the_answer_is_about_what_the_question_is_about_and_not_about_the_highest_arm(tmp_path):
    made = Made(tmp_path)
    made.add("slow", around(0.99), train_seconds=[9.0 + seed / 100 for seed in range(5)])
    made.add("b", around(0.85))
    made.add("a", around(0.95))
    faster = claim("a trains faster than slow", "a", "slow", margin=1, metric="seconds", lower_is_better=True)
    made.judge(faster, claim("b is faster too", "b", "slow", margin=1, metric="seconds", lower_is_better=True), claim())
    table = Table.read(made.files)
    of_seconds = (
        "Supported: a trains faster than slow, by at least 1 s. Training time -6.0 s (99 % interval -6.1 to -6.0), 5 seeds."
    )
    assert answer(table) == of_seconds
    table.declaration["about"] = ["seconds", "test_accuracy"]
    assert answer(table).startswith(f"{of_seconds} Supported: a beats b, by at least 0.02. Test accuracy +0.100 (")


def test_without_claims_the_answer_is_each_arms_mean_and_interval(tmp_path):
    made = Made(tmp_path)
    made.add("b", around(0.85))
    made.add("a", around(0.95))
    made.judge()
    half = 2.776445 * 0.0079057 / 5**0.5  # Student's t for 4 degrees of freedom, standard deviation of SPREAD
    means = [f"{arm} {mean:.4f} ({mean - half:.4f} to {mean + half:.4f})" for arm, mean in (("b", 0.85), ("a", 0.95))]
    expected = f"Mean test accuracy over 5 seeds (95 % interval): {'; '.join(means)}."
    assert answer(Table.read(made.files)) == expected


def test_trials_that_diverged_are_counted_where_there_are_no_claims(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.95))
    made.add("b", around(0.85), statuses={0: "diverged"})
    made.judge()
    assert answer(Table.read(made.files)).endswith("; 1 trial diverged.")
