"""When a worker counts as stalled."""

from types import SimpleNamespace

import pytest

from common.running import process
from common.running.process import CONNECT_SECONDS, START_SECONDS, Worker


@pytest.fixture
def worker(monkeypatch):
    """A worker with a trial that sends no events; `worker.clock.now` sets the time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(process.time, "monotonic", lambda: clock.now)
    made = Worker(SimpleNamespace(), (1, 1, 1, True), trial=SimpleNamespace(), ready=True)
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


def test_workers_that_do_not_connect_are_stalled_earlier(worker):
    worker.ready, worker.start_options = False, (1, 2, 2, True)
    assert not watch(worker, CONNECT_SECONDS - 10)
    worker.clock.now += 8 * 3600
    assert not watch(worker, 2)
    assert watch(worker, 10)
    assert worker.stalled == CONNECT_SECONDS
