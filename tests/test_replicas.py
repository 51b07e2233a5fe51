"""One trial over 1, 2 and 4 logical devices: the same steps, learning rate and result up to rounding."""

import csv
import subprocess
import sys

import pytest
from conftest import PROJECT, RUN

from common import replicas, results
from common.devices import Devices

SCRIPT = '''"""Exp 91: do replicas agree?

Varies   what has to be summed over them.
Fixed    all else; the last batch of each epoch has 2 examples, fewer than 4 replicas.
Expect   equal losses.
"""
from keras import callbacks, optimizers, regularizers

from common.augment import flip
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {},
    "penalty": {"l2": 0.01},
    "adamw": {"optimizer": "adamw"},
    "clipped by global norm": {"clip": {"global_clipnorm": 0.3}},
    "clipped by norm": {"clip": {"clipnorm": 0.1}},
    "clipped by value": {"clip": {"clipvalue": 0.01}},
    "batch norm": {"normalization": "batch"},
    "class weights": {"class_weight": [3, 1, 1, 1, 0.2, 1, 1, 1, 1, 1]},
    "callbacks": {"patience": 1},
    "augmented": {"augment": True},
    "moving average": {"clip": {"use_ema": True}},
}


def train(trial, *, l2=0.0, optimizer="sgd", clip=None, normalization=None, class_weight=None, patience=None, augment=False):
    """One arm."""
    model = small_cnn(trial, widths=(4, 8), normalization=normalization, kernel_regularizer=regularizers.L2(l2))
    made = optimizers.SGD(0.01, momentum=0.9, **(clip or {}))
    if optimizer == "adamw":
        made = optimizers.AdamW(0.001, weight_decay=0.1)
    watch = []
    if patience:
        watch.append(callbacks.ReduceLROnPlateau("val_loss", patience=patience, min_delta=1.0, factor=0.5))
        watch.append(callbacks.EarlyStopping("val_loss", patience=2, min_delta=1.0, restore_best_weights=True))
    return trial.fit(model, optimizer=made, callbacks=watch, class_weight=class_weight, augment=[flip()] if augment else [])


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=3, batch_size=16, train_size=50), seeds=1)
'''


def run(folder, replicas):
    """Epoch rows and rows of all arms, by arm."""
    script = folder / "exp_91_replicas.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-c",
        RUN,
        str(script),
        "--results",
        str(folder / "out"),
        "--replicas",
        str(replicas),
        "--jobs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    name = "digits" if replicas == 1 else f"digits-replicas={replicas}"
    files = results.Files(folder / "out" / name, "exp_91_replicas")
    rows = {row["arm"]: row for row in results.read_rows(files)}
    return rows, list(csv.DictReader(files.epochs.open()))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("count", [2, 4])
def test_replicas_agree_to_five_digits(alone, tmp_path, count):
    rows, epochs = run(tmp_path, count)
    assert [(e["arm"], e["epoch"]) for e in epochs] == [(e["arm"], e["epoch"]) for e in alone[1]]
    for one, shared in zip(alone[1], epochs, strict=True):
        for name in ("train_loss", "val_loss", "val_nll", "learning_rate", "gradient_norm"):
            assert float(shared[name]) == pytest.approx(float(one[name]), rel=1e-5), (one["arm"], one["epoch"], name)
        assert shared["train_accuracy"] == one["train_accuracy"]
    for arm, row in rows.items():
        assert row["replicas"] == str(count)
        assert row["steps"] == alone[0][arm]["steps"]
        assert float(row["test_nll"]) == pytest.approx(float(alone[0][arm]["test_nll"]), rel=1e-4)


def test_a_batch_is_shared_evenly_and_one_too_small_is_taken_by_all():
    bounds, count = replicas.shares(7, 3)
    assert (bounds.tolist(), count) == ([[0, 3, 5], [3, 5, 7]], 7)
    bounds, count = replicas.shares(2, 4)
    assert (bounds.tolist(), count) == ([[0] * 4, [2] * 4], 8)


def test_gpus_are_handed_out_evenly():
    devices = Devices(["0", "1", "2"], per_gpu=2)
    assert devices.jobs(threads=1, replicas=1) == 6
    assert devices.jobs(threads=1, replicas=2) == 3
    taken = [devices.take(1) for _ in range(6)]
    assert sorted(gpu for one in taken for gpu in one) == ["0", "0", "1", "1", "2", "2"]
    devices.free(taken[1])
    assert devices.take(1) == taken[1]
    assert devices.lack(3) is None
    assert devices.lack(4) == "needs 4 GPUs, 3 are here"


def test_without_gpus_cores_are_shared(monkeypatch):
    monkeypatch.setattr("common.devices.cores", lambda: 8)
    devices = Devices([])
    assert devices.jobs(threads=2, replicas=2) == 2
    assert devices.take(1) == []
    assert devices.lack(64) is None
