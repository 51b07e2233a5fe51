"""The sentence of a verdict: understood by a reader who has read nothing else, and the same wherever it is printed."""

import dataclasses
import html
import math
import re

import pytest
from made import Made, around, claim, declared

from common.commands import compare, report, verdicts
from common.report import markdown, page
from common.rows import schema, store
from common.rows.metric import Primary, unit_of
from common.text import Unit, coverage
from common.verdicts.levels import LEVELS
from common.verdicts.verdict import NO_VERDICT, OPEN, REFUTED, SUPPORTED, Change, Verdict

ACCURACY = Unit("test accuracy")
FLIPS = Verdict("flips-help", "flips improve accuracy, by at least 0.015", "test_accuracy", 0.015, OPEN, seeds=5)


def changed(difference=0.0126, low=0.002, high=0.0232, level=0.010, unit=ACCURACY, margin=0.015, status=""):
    return Change(unit, margin, difference, low, high, level, status)


def sentence(**fields):
    return dataclasses.replace(FLIPS, **{"changes": (changed(),), **fields}).sentence()


def test_an_accuracy_is_written_with_its_interval():
    claimed = "flips improve accuracy, by at least 0.015"
    assert sentence() == f"Open: {claimed}. Test accuracy +0.013 (99 % interval +0.002 to +0.023), 5 seeds."
    assert sentence(status=SUPPORTED, demonstration=True).startswith(f"Supported (demonstration): {claimed}. Test")
    assert sentence(status=REFUTED, instead="the reverse is true").startswith(f"Refuted: {claimed} (the reverse is true). Test")
    assert sentence(changed=True).startswith(f"Open (claim changed after rows were written): {claimed}.")
    assert sentence(about="with 'flip', one of 3 arms").endswith(
        "0.015. With 'flip', one of 3 arms: test accuracy +0.013 (99 % interval +0.002 to +0.023), 5 seeds."
    )


@pytest.mark.parametrize(("seeds", "level"), [(5, "99 %"), (10, "98.5 %"), (20, "97.5 %")])
def test_an_interval_has_the_level_of_its_look(seeds, level):
    assert f"({level} interval +0.002 to +0.023), {seeds} seeds." in sentence(
        seeds=seeds, changes=(changed(level=LEVELS[seeds]),)
    )


@pytest.mark.parametrize(
    ("alpha", "text"), [(0.2, "80 %"), (0.05, "95 %"), (0.01 / 3, "99.67 %"), (0.01 / 23, "99.957 %"), (0.008, "99.2 %")]
)
def test_the_coverage_of_an_interval_is_never_rounded_to_all(alpha, text):
    assert coverage(alpha) == text


def test_without_rows_or_seeds_the_sentence_says_what_is_missing():
    assert sentence(status=NO_VERDICT, changes=(), reason="no rows of flip") == (
        "No verdict: flips improve accuracy, by at least 0.015. No rows of flip."
    )
    few = "3 of the 5 seeds at which a verdict is first read"
    assert sentence(status=NO_VERDICT, seeds=3, reason=few).endswith(f"(99 % interval +0.002 to +0.023), {few}.")


def test_seeds_that_did_not_train_are_counted():
    assert sentence(counts="did not train: 'high' 3 of 5 (diverged)").endswith(
        "+0.023), 5 seeds; did not train: 'high' 3 of 5 (diverged)."
    )
    assert sentence(status=SUPPORTED, changes=(), counts="did not train: 'high' 5 of 5").endswith(
        "0.015. 5 seeds; did not train: 'high' 5 of 5."
    )


def test_a_claim_of_two_halves_has_both():
    gap = changed(-0.274, -0.354, -0.194, unit=Unit("gap between training and test accuracy"), status=SUPPORTED)
    assert sentence(changes=(gap, changed(status=OPEN))).endswith(
        "Gap between training and test accuracy -0.274 (99 % interval -0.354 to -0.194, supported), "
        "test accuracy +0.013 (99 % interval +0.002 to +0.023, open), 5 seeds."
    )


def test_bounds_that_are_infinite_are_no_interval():
    updates = Unit("time to the target", "updates")
    one = changed(-30.0, -math.inf, -10.0, unit=updates, margin=10)
    assert one.words() == "time to the target -30 updates (99 % interval -∞ to -10)"
    none = changed(math.inf, -math.inf, math.inf, unit=updates, margin=10)
    assert none.words() == "time to the target +∞ updates (no 99 % interval)"


ERROR = Primary("error", lower_is_better=True, display="error (degrees, mean absolute)", unit="degrees")


@pytest.mark.parametrize(
    ("metric", "primary", "recorded", "difference", "margin", "text"),
    [
        ("test_accuracy", Primary(), "", 0.1, 0.005, "test accuracy +0.1000"),
        ("test_f1", Primary("f1"), "", -0.1, 0.015, "test F1 -0.100"),
        ("test_error", ERROR, "", -1.25, 0.5, "test error -1.25 degrees"),
        ("gap", ERROR, "", 1.25, 0.5, "gap between training and test error +1.25 degrees"),
        ("gap", Primary(), "", 0.1, 0.015, "gap between training and test accuracy +0.100"),
        ("train_nll", Primary(), "", -0.1, 0.01, "training NLL -0.100 nats"),
        ("test_ece", Primary(), "", 0.1, 0.005, "test ECE +0.1000"),
        ("seconds", Primary(), "", -6.02, 1, "training time -6.0 s"),
        ("eval_seconds", Primary(), "", -6.02, 1, "eval seconds -6.0 s"),
        ("survival", Primary(), "", 0.4, 0.1, "share of seeds that train +0.40"),
        ("epochs_to_target", Primary(), "", -3.0, 1, "time to the target -3.0 epochs"),
        ("estimate_error", Primary(), "", -0.01, 0.005, "error of the estimate -0.0100"),
        ("rotation_accuracy", Primary(), "", 0.1, 0.015, "rotation accuracy +0.100"),
        ("size_bytes", Primary(), "bytes", -841_976.0, 500_000, "size -841,976 bytes"),
        ("latency_1", Primary(), "ms", -0.031, 0.02, "latency 1 -0.031 ms"),
        ("doublings of speed", Primary(), "log2 images/s", 0.8, 0.5, "doublings of speed +0.80 doublings"),
        ("made up", Primary(), "", 3.0, 1, "made up +3.0"),
        ("budget used", Primary(), "share of the updates", -0.77, 0.25, "budget used -0.77"),
        ("test_f1", Primary("f1", unit="mean over labels"), "", 0.031, 0.015, "test F1 +0.031"),
    ],
)
def test_a_metric_is_written_in_its_unit(metric, primary, recorded, difference, margin, text):
    one = Change(unit_of(metric, primary, recorded), margin, difference, difference - margin, difference + margin, 0.01)
    assert one.words().startswith(f"{text} (99 % interval ")


def test_kinds_of_claims_say_of_which_arms_a_difference_is(tmp_path):
    made = Made(tmp_path)
    for arm, accuracy in (("a", 0.95), ("b", 0.85), ("c", 0.90), ("d", 0.75)):
        made.add(arm, around(accuracy))
    best, interaction, lower = made.judge(
        claim("some beat b", ["a", "c"], "b", kind="best of family"),
        claim("a gains more over d than c over b", ["a", "d"], ["c", "b"], kind="interaction"),
        claim("a has the smaller gap", "a", "b", metric="gap", lower_is_better=True),
    )
    assert re.search(r"\. With 'a', one of 2 arms: test accuracy \+0\.100 \(99\.5 % interval ", best.sentence())
    assert "0.02. Difference of the two differences: test accuracy +0.150 (99" in interaction.sentence()
    assert lower.difference == pytest.approx(0.1)  # in favour of the claim
    assert ". Gap between training and test accuracy -0.100 (99" in lower.sentence()
    assert lower.changes[0].low < -0.1 < lower.changes[0].high < 0


def test_of_a_supported_family_an_arm_that_supports_the_claim_is_shown_though_another_has_a_higher_mean(tmp_path):
    made = Made(tmp_path)
    made.add("steady", around(0.90))
    made.add("noisy", [1.0, 0.82, 1.0, 0.83, 0.95])
    made.add("b", around(0.80))
    family, noisy = made.judge(
        claim("some beat b", ["steady", "noisy"], "b", kind="best of family"), claim("noisy beats b", "noisy", "b")
    )
    assert (family.status, noisy.status) == (SUPPORTED, OPEN)
    assert noisy.difference > family.difference == pytest.approx(0.1)
    assert "With 'steady', one of 2 arms: test accuracy +0.100" in family.sentence()
    assert family.low > 0


def test_an_interval_beside_tested_counts_has_the_contrasts_share_of_the_level(tmp_path):
    made = Made(tmp_path)
    made.add("a", [0.95, 0.75, 0.96, 0.74, 0.9] * 4)
    made.add("b", around(0.85, 20), statuses=dict.fromkeys(range(10, 18), "diverged"))
    (one,) = made.judge(claim())
    assert one.seeds == 20
    assert one.changes[0].level == pytest.approx(0.8 * 0.025)
    assert " (98 % interval " in one.sentence()


def test_the_sentence_is_the_same_wherever_it_is_printed(tmp_path, call):
    for name, demonstration in (("exp_03_made", False), ("exp_05_made", True)):
        made = Made(tmp_path)
        made.files = schema.Files(tmp_path / f"full-{demonstration}", name)
        made.add("a", around(0.95))
        made.add("b", around(0.85), statuses={2: "diverged"})
        claims = [claim("a & 'b' < c"), claim("b beats a", "b", "a")]
        fields = {"arms": made.arms, "claims": claims, "demonstration": demonstration, "baseline": "b"}
        store.write_declaration(made.files, declared(**fields, experiment=name))
    sections, _, _ = page.read(tmp_path)
    first, shown = (section.verdicts[0].sentence() for section in sections)
    assert first.startswith("Open: a & 'b' < c, by at least 0.02.") or first.startswith("Supported: a & 'b' < c")
    assert "did not train: 'b' 1 of 5 (diverged)" in first
    assert shown.replace(" (demonstration)", "") == first

    assert call(report.run, "--results", tmp_path)[0] == 0
    assert call(compare.run, "--results", tmp_path)[0] == 0
    _, printed, _ = call(verdicts.run, "all", "--results", tmp_path)
    assert [f"  {one}" in printed.splitlines() for one in (first, shown)] == [True, True]
    text = html.unescape(re.sub(r"<[^>]+>", "", (tmp_path / "index.html").read_text().partition("<main>")[2]))
    assert [text.count(one) for one in (first, shown)] == [3, 3]  # among the answers, in its section, among all claims
    escaped = [markdown.cell(one) for one in (first, shown)]
    written = (tmp_path / "REPORT.md").read_text()
    assert [written.count(one) for one in escaped] == [3, 3]
    assert markdown.answers(sections)[2:] == [
        f"| Regularisation | [03](experiments/exp_03_made.py) | mnist: {escaped[0]} |",
        "|  |  | not run yet: [05](experiments/exp_05_made.py) |",
    ]
    for folder, one in (("full-False", first), ("full-True", shown)):
        assert html.unescape((tmp_path / folder / "compare.md").read_text()).count(one) == 1
