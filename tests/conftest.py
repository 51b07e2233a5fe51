"""What the tests share: a data cache of their own, and a small trial."""

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
    """Where the tests run in the background, Ctrl-C is ignored, and would be by all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_make():
    """A make that a test calls knows nothing of the `make test` that it runs below."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """All tests of a session decode their data once, away from the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CACHE_DIR"] = str(folder)
    os.environ.pop("TFDS_DATA_DIR", None)
    return folder


@pytest.fixture(scope="session")
def digits(cache):
    return load("digits")


@pytest.fixture
def make_trial(digits, tmp_path):
    """Trials on a few digits: options are those of `Trial`, `Host` and `Examples`, and the subset's size."""
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
