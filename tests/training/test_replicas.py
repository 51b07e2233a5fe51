"""One trial over 1, 2 and 4 logical devices: the same steps, learning rate and result up to rounding."""

import pytest
from replicated import run

from common.running.devices import Devices


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("count", [2, 4])
def test_replicas_agree_to_five_digits(alone, tmp_path, count):
    rows, epochs = run(tmp_path, count)
    assert [(e["arm"], e["epoch"]) for e in epochs] == [(e["arm"], e["epoch"]) for e in alone[1]]
    for one, shared in zip(alone[1], epochs, strict=True):
        if one["arm"] == "masks":
            assert float(one["train_loss"]) == 0 and float(shared["train_loss"]) > 0.4  # half of the units at least differ
            continue
        for name in ("train_loss", "val_loss", "val_nll", "learning_rate", "gradient_norm"):
            assert float(shared[name]) == pytest.approx(float(one[name]), rel=1e-5), (one["arm"], one["epoch"], name)
        assert shared["train_accuracy"] == one["train_accuracy"]
    for arm, row in rows.items():
        assert row["replicas"] == str(count)
        assert row["steps"] == alone[0][arm]["steps"]
        assert float(row["test_nll"]) == pytest.approx(float(alone[0][arm]["test_nll"]), rel=1e-4)


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
    monkeypatch.setattr("common.running.devices.cores", lambda: 8)
    devices = Devices([])
    assert devices.jobs(threads=2, replicas=2) == 2
    assert devices.take(1) == []
    assert devices.lack(64) is None
