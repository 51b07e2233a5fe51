"""Trials on 1, 2 and 4 logical devices have the same steps, learning rate and results up to rounding."""

import pytest
from replicated import run, write
from trials import trained

from common.running.local import Devices, LocalEngine
from common.running.plan import Planner, Variant
from common.running.scripts import read_script
from common.setting import Setting


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The outcome of each arm on one replica."""
    folder = tmp_path_factory.mktemp("alone")
    experiment = read_script(write(folder))
    plan = Planner(experiment, experiment.select(), folder).plan([(Variant(arm), 0) for arm in experiment.arms])
    return {trial.variant.arm: trained(plan, trial) for trial in plan.trials}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_results_of_1_2_and_4_replicas_agree_to_five_digits(alone, tmp_path, count):
    rows, epochs = run(tmp_path, count)
    assert rows.keys() == alone.keys()
    of_one = [epoch for arm in rows for epoch in alone[arm].epochs]
    assert [(e["arm"], int(e["epoch"])) for e in epochs] == [(e["arm"], e["epoch"]) for e in of_one]
    for one, shared in zip(of_one, epochs, strict=True):
        if one["arm"] == "masks":
            assert float(one["train_loss"]) == 0 and float(shared["train_loss"]) > 0.4  # half of the units at least differ
            continue
        for name in ("train_loss", "val_loss", "val_nll", "learning_rate", "gradient_norm"):
            assert float(shared[name]) == pytest.approx(float(one[name]), rel=1e-5), (one["arm"], one["epoch"], name)
        assert float(shared["train_accuracy"]) == one["train_accuracy"]
    for arm, row in rows.items():
        assert row["replicas"] == str(count)
        assert int(row["steps"]) == alone[arm].row["steps"]
        assert float(row["test_nll"]) == pytest.approx(alone[arm].row["test_nll"], rel=1e-4)


def test_gpus_are_handed_out_evenly():
    devices = Devices(["0", "1", "2"], per_gpu=2)
    assert devices.jobs(threads=1, replicas=1) == 6
    assert devices.jobs(threads=1, replicas=2) == 3
    taken = [devices.take(1) for _ in range(6)]
    assert sorted(gpu for one in taken for gpu in one) == ["0", "0", "1", "1", "2", "2"]
    devices.free(taken[1])
    assert devices.take(1) == taken[1]
    engine = LocalEngine(devices)
    assert engine.unavailable(Setting("digits", 1, replicas=3)) is None
    assert engine.unavailable(Setting("digits", 1, replicas=4)) == "needs 4 GPUs, this machine has 3"
    assert engine.unavailable(Setting("digits", 1, replicas=2, workers=2)) == "needs 2 machines, this is one"


def test_without_gpus_cores_are_shared(monkeypatch):
    monkeypatch.setattr("common.running.local.cores", lambda: 8)
    devices = Devices([])
    assert devices.jobs(threads=2, replicas=2) == 2
    assert devices.take(1) == []
    assert LocalEngine(devices).unavailable(Setting("digits", 1, replicas=64)) is None
