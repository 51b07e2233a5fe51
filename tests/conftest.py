"""Fixtures of all tests: a separate data cache, and small trials."""

import os
import pathlib
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from common import tasks
from common.data.dataset import load
from common.data.streams import Streams

PROJECT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Restore the handling of Ctrl-C, which background processes and their children ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def clean_make():
    """Hide the variables of `make test` from the make processes that tests start."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A data cache that all tests of a session share, instead of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CACHE_DIR"] = str(folder)
    os.environ.pop("TFDS_DATA_DIR", None)
    return folder


@pytest.fixture(scope="session")
def digits(cache):
    return load("digits")


@pytest.fixture
def make_trial(digits, tmp_path):
    """Makes trials on a few digits, with options of `Trial`, `Host` and `Examples`, and the size of the subset."""
    from common.training.trial import Examples, Host, Trial

    def make(
        seed=0, train_size=64, folder="state", checkpoint_steps=None, full_size=None, input_shape=None, classes=None, **options
    ):
        chosen = {"streams": Streams(seed), "epochs": 2, "batch_size": 16, **options}
        train, val, _ = tasks.examples(digits, tasks.classification, chosen["streams"], train_size=train_size)
        examples = Examples(train, val, classes or digits.classes, digits.train_size, full_size=full_size)
        trial = Trial(examples, Host(tmp_path / folder, checkpoint_steps=checkpoint_steps), **chosen)
        trial.input_shape = input_shape or trial.input_shape
        return trial

    return make


def arrays_equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
