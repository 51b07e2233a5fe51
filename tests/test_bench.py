"""`make bench`: its workloads are those of the experiments, and its table can be computed by hand."""

import os

import pytest

from benchmarks import fits, throughput
from common.commands.run import find_script
from common.errors import Failure
from common.running.scripts import read_script


@pytest.mark.parametrize("workload", throughput.WORKLOADS)
def test_a_workload_is_an_arm_of_an_experiment(workload):
    experiment = read_script(find_script(workload.experiment))
    assert workload.arm in experiment.arms
    assert experiment.arms[workload.arm].get("batch_size", workload.batch) == workload.batch
    assert experiment.searches_rate == (workload.rate is not None)
    assert experiment.settings["full"].val_per_epoch is None  # all of val is scored after each epoch
    assert workload.network in fits.NETWORKS


def test_the_table_compares_medians_with_the_suite():
    """A trial of the suite takes 10 s, the median of three, one of model.fit 15 s."""
    seconds = {"suite": [12.0, 10.0, 9.0], "model.fit": [15.0], "PyTorch, one process": [20.0], "PyTorch, 2 processes": [8.0]}
    lines = throughput.table(seconds)
    assert lines[0].split(maxsplit=1) == ["suite", "360.0 trials per hour, 10.0 s each (9.0 – 12.0 s)"]
    assert "240.0 trials per hour" in lines[1]
    assert lines[1].endswith("the suite trains 1.50 times as many")
    assert lines[2].endswith("the suite trains 2.00 times as many (not PyTorch's better count)")
    assert lines[3].endswith("the suite trains 0.80 times as many")


def test_variables_that_change_defaults_do_not_reach_the_sides(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("TFDS_DATA_DIR", "/data")
    passed_on = throughput.environment()
    assert not {"TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS"} & set(passed_on)
    assert passed_on["TFDS_DATA_DIR"] == "/data"
    assert passed_on["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_process_that_ends_too_early_is_a_failure_with_its_last_line():
    with (
        fits.Fit(["keras", "no_network"], os.environ) as process,
        pytest.raises(Failure, match=r"ended before it was ready: .*no_network"),
    ):
        process.wait_until_ready()
