"""Training the trial of a row again."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

from common import machine
from common.commands import reproduce
from common.commands import run as run_command
from common.files import experiment_scripts
from common.rows import schema, store
from common.rows.schema import entry_of
from common.running.fingerprint import PROTOCOL
from common.setting import Setting

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of two seeds of an arm: the results folder and the path of the rows."""
    folder = tmp_path_factory.mktemp("rows")
    options = ["ARMS=l2=1e-4", "SEEDS=2", "EPOCHS=1", "TRAIN=64", "RATE=0.05", f"RESULTS={folder}", "JOBS=1"]
    command = [sys.executable, "-m", "experiments.exp_03_l2", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=200)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*/exp_03_l2.csv")
    return folder, path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_is_identical_when_its_trial_is_run_again(rows, call):
    folder, path = rows
    row = read(path)[1]
    status, out, err = call(reproduce.main, "--row", row["fingerprint"][:8], "--results", folder)
    assert status == 0, out + err
    assert out.splitlines()[-1] == "IDENTICAL"
    assert out.startswith(f"exp_03_l2, l2=1e-4 seed 1, from {path}")


def test_another_kind_of_processor_is_named(rows, call, monkeypatch):
    folder, path = rows
    row = read(path)[1]
    monkeypatch.setenv(machine.ONEDNN, str(int(not machine.uses_onednn())))
    _, out, _ = call(reproduce.main, "--row", row["fingerprint"][:8], "--results", folder)
    assert f"kind: {row['kind']} then, {machine.kind()} now" in out.splitlines()


def test_columns_that_differ_are_named(rows):
    _, path = rows
    first, second = read(path)
    accuracies = [0.2, 0.3]
    assert reproduce.compare(first, dict(first), accuracies) == "IDENTICAL"
    near = {**first, "weights": "other", "test_accuracy": str(float(first["test_accuracy"]) + 0.05)}
    assert reproduce.compare(first, near, accuracies) == "WITHIN NOISE (z = +0.71; weights, test_accuracy differ)"
    far = {**first, "test_accuracy": str(float(first["test_accuracy"]) + 0.5)}
    assert reproduce.compare(first, far, accuracies) == "DIFFERS (test_accuracy)"
    assert reproduce.compare(first, {**first, "status": "diverged"}, accuracies) == "DIFFERS (status)"
    assert reproduce.compare(first, far, [0.2]) == "DIFFERS (test_accuracy)"
    other_clock = {**first, "total_seconds": "9", "device": second["device"] + "!"}
    assert reproduce.compare(first, other_clock, accuracies) == "IDENTICAL"


def test_other_data_or_code_is_reported_before_training(rows, tmp_path):
    _, path = rows
    row = read(path)[0]
    with pytest.raises(reproduce.Failure, match="DIFFERS: digits has other images"):
        reproduce.run_again({**row, "data_checksum": "0" * 64}, tmp_path)
    with pytest.raises(reproduce.Failure, match="DIFFERS: the experiment's code or the protocol"):
        reproduce.run_again({**row, "fingerprint": "0" * 32}, tmp_path)
    with pytest.raises(reproduce.Failure, match="no longer has an arm 'gone'"):
        reproduce.run_again({**row, "arm": "gone"}, tmp_path)
    with pytest.raises(reproduce.Failure, match='setting must be one of this version.*Received: {"epoch": 3}$'):
        reproduce.run_again({**row, "setting": '{"epoch": 3}'}, tmp_path)
    with pytest.raises(reproduce.Failure, match="must be in experiments/. Received: exp_99_gone"):
        reproduce.run_again({**row, "experiment": "exp_99_gone"}, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_prefix_must_name_one_row(rows, call):
    folder, path = rows
    fingerprints = [row["fingerprint"] for row in read(path)]
    assert reproduce.find(fingerprints[0], [folder])[1]["seed"] == "0"
    for prefix, message in (("zz", "no row in"), ("", "2 rows in")):
        with pytest.raises(reproduce.Misuse, match=message):
            reproduce.find(prefix, [folder])
    broken = schema.Files(folder / "a-broken-one", "exp_03_l2")
    broken.folder.mkdir()
    broken.declaration.touch()
    broken.rows.write_text("not,ours\n")
    assert reproduce.find(fingerprints[0], [folder])[1]["seed"] == "0"
    with pytest.raises(reproduce.Failure, match="a-broken-one/exp_03_l2.csv line 1"):
        reproduce.find("zz", [folder])
    shutil.rmtree(broken.folder)
    status, _, err = call(reproduce.main, "--results", folder)
    assert (status, len(err.splitlines())) == (2, 1)
    assert schema.Files(path.parent, "exp_03_l2").rows == path


@pytest.mark.parametrize("path", experiment_scripts(), ids=lambda path: path.stem)
def test_the_trials_of_published_rows_can_be_planned_again(path, tmp_path, digits):
    """For one row per arm, of the present protocol and of digits, which need no download."""
    for files in [files for folder in store.setting_folders(schema.REFERENCE) for files in store.experiments(folder)]:
        rows = store.read_rows(files) if files.experiment == path.stem else []
        rows = [row for row in rows if (row["status"], row["protocol"], row["dataset"]) == ("done", str(PROTOCOL), "digits")]
        for row in {entry_of(row): row for row in rows}.values():
            plan = reproduce.plan_again(row, tmp_path)
            (trial,) = plan.trials
            assert trial.setting.replace(dataset=trial.dataset.name) == Setting(**json.loads(row["setting"])), entry_of(row)
            assert (trial.arguments, trial.unavailable) == (json.loads(row["arguments"]), "")
            reproduce.check_same(row, plan)


def test_rows_of_an_image_folder_are_reproduced_with_its_path(call, tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    options = ["ARMS=l2=1e-4", "SEEDS=1", "EPOCHS=1", "RATE=0.05", f"DATASET={tmp_path / 'pets'}", f"RESULTS={tmp_path}"]
    status, _, err = call(lambda: run_command.run(["03", *options]))
    assert status == 0, err
    (path,) = tmp_path.glob("small-*/exp_03_l2.csv")
    _, out, err = call(reproduce.main, "--row", read(path)[0]["fingerprint"], "--results", tmp_path)
    assert out.splitlines()[-1] == "IDENTICAL", err
