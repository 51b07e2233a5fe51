"""Which trials `make status` shows, while their run holds their locks."""

from types import SimpleNamespace

from common.commands import status
from common.rows.schema import Files
from common.running.locks import TrialLocks


def test_trials_that_are_locked_are_shown_with_their_node_and_progress(tmp_path, call):
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    locks = TrialLocks(SimpleNamespace(files=files, missing=list, trials=[]))
    trials = [SimpleNamespace(entry="a", seed=seed, fingerprint=f"f{seed}", folder_name=f"a-{seed}-0") for seed in range(3)]
    for trial in trials:
        assert locks.take(trial)
    locks.note(trials[0], node="", pid=7)
    locks.note(trials[0], node="10.0.0.2", pid=7, epoch=3, epochs=20)
    locks.note(trials[1], node="", pid=7, stage="scoring")  # the third waits for a node
    shown = (
        "exp_90_x, quick-digits: a seed 0 on 10.0.0.2, epoch 3/20 (run 7)\nexp_90_x, quick-digits: a seed 1, scoring (run 7)\n"
    )
    assert call(status.run, "--results", tmp_path) == (0, shown, "")
    for trial in trials:
        locks.release(trial)
    assert call(status.run, "--results", tmp_path) == (0, f"no run is training into {tmp_path}\n", "")


def test_a_trial_of_a_killed_run_is_not_shown(tmp_path, call):
    path = Files(tmp_path / "quick-digits", "exp_90_x").state / "a-0-0.lock"
    path.parent.mkdir(parents=True)
    path.write_text('{"trial": "a seed 0", "node": "", "pid": 7}')
    assert call(status.run, "--results", tmp_path) == (0, f"no run is training into {tmp_path}\n", "")
