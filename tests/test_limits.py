"""A test that is not marked slow cannot train for long. The limits hold in these tests, which exceed them."""

import subprocess
import sys

import pytest
from conftest import PROJECT
from fits import network
from keras import optimizers
from limits import TRAININGS, UPDATES, trains

import common.training.update  # noqa: F401  (so that the limits hold also if this file is run alone)

FAILS = pytest.raises(pytest.fail.Exception, match="a test that is not marked slow")
WORKER = [sys.executable, "-m", "common.running.worker", "1", "1", "1", "1"]


@pytest.fixture
def long_trial(make_trial):
    """A trial with 16 updates in each epoch, in total more than `UPDATES`."""
    return make_trial(train_size=16, batch_size=1, epochs=UPDATES // 16 + 1)


def fit(trial, stage="fit"):
    trial.fit(network(trial), optimizer=optimizers.SGD(0.1), stage=stage)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (WORKER, True),
        ([sys.executable, "-m", "common.commands.run", "03", "--seeds", "1"], True),
        ([sys.executable, "-m", "common.commands.run", "03", "--dry"], False),
        ([sys.executable, "-m", "experiments.exp_03_l2"], True),
        ([sys.executable, "elsewhere/exp_90_survive.py"], True),
        ([sys.executable, PROJECT / "tests" / "gradients.py", "2"], True),
        ([sys.executable, "-I", PROJECT / "common" / "commands" / "venv.py"], False),
        ([sys.executable, "-m", "common.commands.verdicts", "all"], False),
        ([sys.executable, "-c", "print()", "elsewhere/exp_90_survive.py"], False),
        (["git", "hash-object", "elsewhere/exp_90_survive.py"], False),
        (["make", "exp-03", "JOBS=2"], True),
        (["make", "exp-03", "DRY=1"], False),
        (["make", "-n", "all"], False),
        ("make test", True),
        ("make list", False),
    ],
)
def test_a_command_that_trains_is_recognised(command, expected):
    assert trains(command) is expected


def test_no_process_that_trains_can_be_started():
    with FAILS:
        subprocess.Popen(WORKER)


def test_few_updates_can_be_made(long_trial):
    with FAILS:
        fit(long_trial)
    assert 0 < long_trial.fits["fit"].batches <= UPDATES


def test_few_trainings_can_be_made(make_trial):
    trial = make_trial(train_size=16, epochs=1)
    for number in range(TRAININGS):
        fit(trial, f"stage {number}")
    with FAILS:
        fit(trial, "one more")


@pytest.mark.slow
def test_a_slow_test_has_no_limits(long_trial):
    fit(long_trial)
    assert subprocess.run(WORKER, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0  # without jobs it ends
