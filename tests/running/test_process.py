"""When a worker counts as stalled."""

import pathlib
from types import SimpleNamespace

import pytest

from common.running import process
from common.running.process import START_SECONDS, Worker


@pytest.fixture
def worker(monkeypatch):
    """A worker with a trial that sends no events; `worker.clock.now` sets the time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(process.time, "monotonic", lambda: clock.now)
    nowhere = pathlib.Path("nowhere")
    made = Worker(SimpleNamespace(), (1, 1, 1, True), [], nowhere, trial=SimpleNamespace(), ready=True)
    made.clock = clock
    return made


def watch(worker, seconds, limit=60.0):
    """Check a worker five times a second. Returns whether it is stalled at the end."""
    for _ in range(round(5 * seconds)):
        worker.clock.now += 0.2
        worker.is_stalled(limit)
    return worker.is_stalled(limit)


def test_a_worker_is_stalled_after_the_limit(worker):
    assert not watch(worker, 59)
    assert watch(worker, 2)
    assert worker.stalled == 60


def test_a_suspended_machine_is_no_stall(worker):
    assert not watch(worker, 30)
    worker.clock.now += 8 * 3600  # Ctrl-Z and fg, or a closed lid
    assert not watch(worker, 20)
    assert watch(worker, 10)


def test_a_slow_start_of_tensorflow_is_no_stall(worker):
    worker.ready = False
    assert not watch(worker, 900)
    assert watch(worker, START_SECONDS - 890)
    assert worker.stalled == START_SECONDS


def test_a_suspended_machine_is_no_failed_connection(worker):
    worker.ready = False
    worker.check_connection()
    worker.clock.now += 8 * 3600
    worker.check_connection()
