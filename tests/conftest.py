"""Fixtures of all tests: a separate data cache, and small trials."""

import contextlib
import gc
import os
import pathlib
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from limits import limited

from common import tasks
from common.commands import parsing
from common.data.dataset import load
from common.data.streams import Streams

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def pytest_itemcollected(item):
    """Mark the tests of a module that imports from `processes`, which starts runs, as slow."""
    if any(getattr(value, "__module__", None) == "processes" for value in vars(item.module).values()):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Run files with slow tests first: with pytest-xdist, short ones at the end keep all processes busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Fail a test that is not marked slow where it trains for long."""
    with contextlib.nullcontext() if item.get_closest_marker("slow") else limited():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Restore the handling of Ctrl-C, which background processes and their children ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports():
    """Exempt what was imported so far from garbage collection: a trial starts with two, each slower than its training here."""
    gc.freeze()


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


@pytest.fixture
def call(capsys, monkeypatch):
    """call(command, *arguments) runs a command in this process. Returns exit status, stdout and stderr."""

    def call(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            parsing.end(command)
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def digits(cache):
    return load("digits")


@pytest.fixture
def make_trial(digits, tmp_path):
    """Makes trials on a few digits, with options of `Trial`, `Host` and `Examples`, and the size of the subset."""
    return maker(digits, tmp_path)


@pytest.fixture(scope="module")
def make_shared_trial(digits, tmp_path_factory):
    """Like `make_trial`, for trials that several tests of a module read."""
    return maker(digits, tmp_path_factory.mktemp("trials"))


def maker(digits, directory):
    """A function that makes trials with their folders in a directory."""
    from common.training.trial import Examples, Host, Trial

    def make(
        seed=0, train_size=64, folder="state", checkpoint_steps=None, full_size=None, input_shape=None, classes=None, **options
    ):
        chosen = {"streams": Streams(seed), "epochs": 2, "batch_size": 16, **options}
        train, val, _ = tasks.examples(digits, tasks.classification, chosen["streams"], train_size=train_size)
        examples = Examples(train, val, classes or digits.classes, digits.train_size, full_size=full_size)
        trial = Trial(examples, Host(directory / folder, checkpoint_steps=checkpoint_steps), **chosen)
        trial.input_shape = input_shape or trial.input_shape
        return trial

    return make


def arrays_equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
