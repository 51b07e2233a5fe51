"""The output at the end of a run."""

from made import Made

from common.commands import outcome
from common.rows import schema, store


def row(arm, seed, status="done", trained="True"):
    return {**dict.fromkeys(schema.NAMES, ""), "arm": arm, "rate": "own", "seed": seed, "status": status, "trained": trained}


def test_arms_that_did_not_train_are_reported():
    rows = [row("flip", seed) for seed in range(5)]
    rows += [row("rotation", seed, trained="False" if seed < 2 else "True") for seed in range(5)]
    rows += [row("all", seed, "diverged" if seed < 3 else "done", "True" if seed == 4 else "False") for seed in range(5)]
    rows += [row("high", 0, "diverged", "False"), row("broken", 0, "failed", "")]
    assert outcome.untrained(rows, "accuracy") == [
        "rotation did not train in 2 of 5 seeds (train accuracy at chance)",
        "all did not train in 4 of 5 seeds (1 train accuracy at chance, 3 diverged)",
        "high did not train in 1 of 1 seed (diverged)",
    ]


def test_rows_of_earlier_versions_are_not_reported_as_untrained():
    assert outcome.untrained([row("flip", seed, trained="") for seed in range(5)], "accuracy") == []


def test_the_mean_at_the_common_rate_stands_beside_that_at_the_arms_rate(tmp_path, capsys):
    made = Made(tmp_path)
    made.add("a", [0.9, 0.8])
    made.add("longer", [0.7, 0.6])
    rows = [row | {"rate": "common", "test_accuracy": 0.5} for row in store.read_rows(made.files) if row["arm"] == "a"]
    for one in rows:
        store.store(made.files, store.Outcome(row=one), ["a", "longer"])
    made.judge()
    outcome.show(made.files, "accuracy", svg=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "a       test accuracy 0.8500 (mean of 2), at the common rate 0.5000 (mean of 2)",
        "longer  test accuracy 0.6500 (mean of 2)",
    ]
