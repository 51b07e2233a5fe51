"""A worker as its parent sees it: when it is taken for dead."""

import pathlib
from types import SimpleNamespace

import pytest

from common.running import process
from common.running.process import START_SECONDS, Worker


@pytest.fixture
def worker(monkeypatch):
    """A worker that has a trial and says nothing; its `clock.now` is the time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(process.time, "monotonic", lambda: clock.now)
    nowhere = pathlib.Path("nowhere")
    made = Worker(SimpleNamespace(), (1, 1, 1, True), [], nowhere, nowhere, trial=SimpleNamespace(), ready=True)
    made.clock = clock
    return made


def watch(worker, seconds, limit=60.0):
    """Look at a worker five times a second; whether it stalls in the end."""
    for _ in range(round(5 * seconds)):
        worker.clock.now += 0.2
        worker.stalls(limit)
    return worker.stalls(limit)


def test_a_worker_stalls_after_the_limit(worker):
    assert not watch(worker, 59)
    assert watch(worker, 2)
    assert worker.stalled == 60


def test_a_night_of_sleep_is_no_stall_whether_or_not_the_clock_went_on(worker):
    assert not watch(worker, 30)
    worker.clock.now += 8 * 3600  # Ctrl-Z and fg, or a lid that was closed: parent and worker stood still alike
    assert not watch(worker, 20)
    assert watch(worker, 10)


def test_a_slow_start_of_tensorflow_is_no_stall(worker):
    worker.ready = False
    assert not watch(worker, 900)
    assert watch(worker, START_SECONDS - 890)
    assert worker.stalled == START_SECONDS


def test_machines_that_slept_are_still_waited_for(worker):
    worker.ready = False
    worker.refuse_slow_start()
    worker.clock.now += 8 * 3600
    worker.refuse_slow_start()
