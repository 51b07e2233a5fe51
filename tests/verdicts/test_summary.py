"""The summary table and its answer, of made-up rows."""

import pytest
from made import Made, around, claim

from common.rows import schema
from common.rows.table import Table
from common.verdicts import summary
from common.verdicts.judge import judge
from common.verdicts.kinds import SUPPORTED


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
    assert answer.startswith("A beats b, by at least 0.02: supported (test_accuracy +0.1, interval ")
    assert (verdict.status, verdict.seeds) == (SUPPORTED, 5)
    assert verdict.difference == pytest.approx(0.10)
