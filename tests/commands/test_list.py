"""`make list`."""

import subprocess
import sys

from conftest import PROJECT

from common.commands import list as list_command
from common.rows import schema, store
from common.running import scripts


def test_list_shows_the_progress_in_each_setting(call, tmp_path):
    status, out, _ = call(list_command.run, "--results", tmp_path)
    assert status == 0
    folders = [f"      {name}: none\n" for name in ("quick-digits", "small-cifar10", "full-cifar10")]
    assert "03  does an L2 penalty help a small CNN?\n" + "".join(folders) in out


def test_list_ends_without_an_error_if_its_pipe_is_closed():
    command = f"{sys.executable} -m common.commands.list | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_list_counts_each_arm_and_seed_once(tmp_path):
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_03_l2.py")
    files = schema.Files(tmp_path / "quick-digits", experiment.name)
    store.write_declaration(files, experiment.declare(experiment.select()) | {"protocol": 1})
    identity = {"experiment": experiment.name, "status": "done", "test_accuracy": 0.5}
    for seed in range(25):
        store.store(files, store.Outcome(row={**identity, "arm": "baseline", "seed": seed}), list(experiment.arms))
    store.store(files, store.Outcome(row={**identity, "arm": "l2=1e-4", "seed": 0, "status": "failed"}), list(experiment.arms))
    assert dict(list_command.progress(experiment, tmp_path))["quick-digits"] == "5 of 25, 1 failed"


def test_list_shows_one_setting_with_its_overridden_folders(tmp_path):
    experiment = scripts.read_script(PROJECT / "experiments" / "exp_03_l2.py")
    for name, folder in (
        ("small", "small-cifar10-epochs=3"),
        ("quick", "quick-digits-epochs=3"),
        ("quick", "quick-digits-smoke"),
    ):
        files = schema.Files(tmp_path / folder, experiment.name)
        selected = experiment.select(name, smoke=folder.endswith("smoke"))
        store.write_declaration(files, experiment.declare(selected) | {"protocol": 1})
        row = {"experiment": experiment.name, "status": "done", "arm": "baseline", "seed": 0, "test_accuracy": 0.5}
        store.store(files, store.Outcome(row=row), list(experiment.arms))
    assert list_command.progress(experiment, tmp_path, "small") == [
        ("small-cifar10", "none"),
        ("small-cifar10-epochs=3", "1 of 25"),
    ]
    assert (
        dict(list_command.progress(experiment, tmp_path, "quick"))["quick-digits-smoke"] == "1 of 5"
    )  # a smoke run has one seed
    assert len(list_command.progress(experiment, tmp_path)) == 6
