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
from common.experiment import Setting

PROJECT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Where the tests run in the background, Ctrl-C is ignored, and would be by all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """Trials on a few digits; `options` are those of `Trial` and the subset's size."""
    from common.training.trial import Trial

    def make(seed=0, train_size=64, folder=None, **options):
        streams = options.pop("streams", Streams(seed))
        setting = vars(Setting("digits", epochs=1, train_size=train_size))
        train, val, _ = tasks.examples(digits, setting, tasks.classification, streams)
        chosen = {"epochs": 2, "batch_size": 16, "input_shape": digits.shape, "classes": digits.classes, **options}
        return Trial(
            streams=streams, train=train, val=val, official_size=digits.train_size, folder=folder or tmp_path / "state", **chosen
        )

    return make


def arrays_equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
