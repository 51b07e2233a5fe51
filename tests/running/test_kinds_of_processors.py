"""A run on another kind of processor than that of its earlier rows: oneDNN is switched, which changes the kind."""

from linear import SCRIPT as LINEAR_SCRIPT
from processes import run_here
from survival import files_in, write

from common import machine
from common.rows import store


def test_all_arms_of_a_seed_started_on_another_kind_of_processor_are_trained_again(tmp_path, monkeypatch):
    script, options = write(tmp_path, LINEAR_SCRIPT), ["--results", tmp_path / "out", "--jobs", "1"]
    first, files = machine.kind(), files_in(tmp_path / "out")
    assert run_here(script, [*options, "--seeds", "1"]).returncode == 0
    assert run_here(script, [*options, "--arms", "baseline", "--seeds", "2"]).returncode == 0
    before = {(row["arm"], row["seed"]): row for row in store.read_rows(files)}
    assert {row["kind"] for row in before.values()} == {first}

    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    second = machine.kind()
    announced = run_here(script, [*options, "--dry"]).stdout
    start = f"seed 1 started on another kind of processor ({first}; this one: {second}): all arms are trained again"
    assert f"{start}\n" in announced
    assert "2 of 4 trials to run" in announced
    done = run_here(script, options)
    assert done.returncode == 0, done.stderr
    moved = files.folder / "superseded" / "exp_90_survive.1.csv"
    assert f"{start}; 1 rows moved to {moved}" in done.stdout.splitlines()
    rows = {(row["arm"], row["seed"]): row for row in store.read_rows(files)}
    assert {key: row["kind"] for key, row in rows.items()} == {
        **dict.fromkeys([("baseline", "0"), ("momentum", "0")], first),  # a finished seed stays
        **dict.fromkeys([("baseline", "1"), ("momentum", "1")], second),
    }
    assert rows["baseline", "0"] == before["baseline", "0"]
    assert second in rows["baseline", "1"]["device"]
    assert "all 4 trials are done" in run_here(script, [*options, "--dry"]).stdout

    monkeypatch.undo()
    announced = run_here(script, [*options, "--arms", "momentum", "--seeds", "3", "--dry"]).stdout
    assert "1 of 3 trials to run" in announced
    assert "another kind" not in announced  # seed 2 starts on this kind, the others are finished
