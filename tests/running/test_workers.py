"""Which worker processes a run starts and uses again, without starting any."""

import contextlib
import os
import pathlib
import time

import pytest
from linear import SCRIPT

from common.commands import run
from common.errors import Misuse
from common.rows import schema
from common.running import local, plan, workers
from common.running.local import Devices, LocalEngine
from common.setting import Setting

ONE_THREAD, TWO_THREADS = (1, 1, 1, True), (2, 1, 1, True)


def script(folder):
    path = folder / "exp_90_x.py"
    path.write_text(SCRIPT)
    return path


class Process:
    """In place of `LocalProcess`: a process that does nothing, whose output is a pipe."""

    started: list["Process"]
    is_placed = True

    def __init__(self, options, gpus, *, machine=None):
        self.options, self.gpus, self.stopped, self.placed, self.node = options, gpus, False, self.is_placed, ""
        self.was_killed = self.was_read = False
        self.process = self
        self.stdout, self.end = os.pipe()
        self.started.append(self)

    def kill(self):
        self.was_killed = True
        os.write(self.end, b"x")

    def read(self):
        self.was_read = True

    def close(self):
        self.stopped = True
        os.close(self.stdout)
        os.close(self.end)


@pytest.fixture
def started(monkeypatch):
    """The processes started so far."""
    monkeypatch.setattr(Process, "started", [], raising=False)
    monkeypatch.setattr(local, "LocalProcess", Process)
    return Process.started


@contextlib.contextmanager
def pool_of(jobs, gpus=()):
    """Workers on devices of this machine."""
    with LocalEngine(Devices(list(gpus))) as engine, workers.Workers(engine, jobs) as pool:
        yield pool


def test_an_idle_worker_is_used_again_by_trials_with_the_same_start_options(started):
    with pool_of(2) as pool:
        first = pool.start(ONE_THREAD)
        assert pool.take(ONE_THREAD) == first
        first.trial = "a trial"
        assert (pool.busy, pool.idle) == ([first], [])
        assert pool.can_take()
        second = pool.take(TWO_THREADS)
        assert second.process.options == TWO_THREADS
        second.trial = "another"
        assert not pool.can_take()
    assert [process.stopped for process in started] == [True, True]


def test_with_as_many_workers_as_jobs_a_new_one_takes_the_place_of_an_idle_one(started):
    with pool_of(2, ["0", "1"]) as pool:
        busy, idle = pool.start(ONE_THREAD), pool.start(ONE_THREAD)
        busy.trial = "a trial"
        new = pool.start(TWO_THREADS)
        assert (idle.process.stopped, busy.process.stopped) == (True, False)
        assert new.process.gpus == idle.process.gpus
        assert list(pool) == [busy, new]
    assert pool.engine.devices.load == {"0": 0, "1": 0}


def test_a_worker_is_replaced_after_its_last_trial(started):
    with pool_of(2) as pool:
        old = pool.start(ONE_THREAD)
        old.sent = workers.TRIALS_PER_WORKER
        assert pool.take(ONE_THREAD) != old
        assert old.process.stopped


def test_a_trial_waits_for_a_worker_that_has_no_machine_yet(started):
    """And an idle one, which may hold the devices that it waits for, is stopped after some time."""
    with pool_of(2) as pool:
        other = pool.start(ONE_THREAD)
        waiting = pool.start(TWO_THREADS)
        waiting.process.placed = False
        assert pool.take(TWO_THREADS) is None
        assert not other.process.stopped
        waiting.started -= workers.PLACE_SECONDS
        assert pool.take(TWO_THREADS) is None
        assert other.process.stopped
        assert pool.take(TWO_THREADS) is None
        assert list(pool) == [waiting]
        waiting.process.placed = True
        assert pool.take(TWO_THREADS) is waiting


def test_workers_are_started_for_all_trials_that_wait(started, monkeypatch):
    """A cluster that grows on demand must see the whole demand."""
    with pool_of(4) as pool:
        pool.start(ONE_THREAD).trial = "a trial"
        monkeypatch.setattr(Process, "is_placed", False)
        assert pool.take(ONE_THREAD, waiting=9) is None
        assert pool.take(ONE_THREAD, waiting=9) is None
        assert len(started) == 4


def test_killed_workers_have_ended_when_their_trials_are_unlocked(started):
    with pool_of(2) as pool:
        busy, idle = pool.start(ONE_THREAD), pool.start(ONE_THREAD)
        busy.trial = "a trial"
        began = time.monotonic()
        pool.kill()
        assert time.monotonic() - began < workers.KILL_SECONDS
        assert (busy.process.was_read, idle.process.was_killed) == (True, True)


def test_a_trial_that_needs_more_memory_gets_a_worker_with_more(started):
    with pool_of(2) as pool:
        pool.start(ONE_THREAD)
        roomy = pool.take(ONE_THREAD, roomy=True)
        assert roomy.roomy
        assert pool.take(ONE_THREAD, roomy=True) is roomy


def test_only_workers_with_output_are_read(started):
    with pool_of(2) as pool:
        first, second = pool.start(ONE_THREAD), pool.start(ONE_THREAD)
        assert pool.with_output(0) == []
        os.write(second.process.end, b"{}\n")
        assert pool.with_output(0) == [second]
        assert first in pool


# --- before the plan is made ---


@pytest.fixture
def files(tmp_path):
    return schema.Files(tmp_path, "exp_90_x")


def early(files, jobs=2, most=9):
    """Start options of the workers that a run starts before it makes its plan."""
    with pool_of(jobs) as pool:
        run._start_early(pool, files, Setting(dataset="digits", epochs=1, threads=2), most)
        return [worker.start_options for worker in pool]


def test_the_workers_of_a_new_run_start_before_its_plan_is_made(files, started):
    assert early(files) == [TWO_THREADS] * 2
    assert early(files, jobs=3, most=1) == [TWO_THREADS]


@pytest.mark.parametrize("path", ["rows", "journal", "state"])
@pytest.mark.parametrize("of", ["the run", "its search"])
def test_a_run_that_may_have_no_trial_to_train_starts_none_before(files, started, path, of):
    of_part = files if of == "the run" else files.trials
    getattr(of_part, path).parent.mkdir(exist_ok=True)
    getattr(of_part, path).touch()
    assert early(files) == []


@pytest.mark.parametrize(("option", "expected"), [("--jobs=2", 2), ("--dry", 0), ("--debug", 0)])
def test_they_are_stopped_if_no_plan_can_be_made(tmp_path, started, monkeypatch, option, expected):
    """And neither a dry run nor one in this process starts any."""

    def refuse(*_, **__):
        assert len(started) == expected
        raise Misuse("no plan")

    monkeypatch.setattr(run, "Planner", refuse)
    with pytest.raises(Misuse, match="no plan"):
        run.run([str(script(tmp_path)), "--results", str(tmp_path / "out"), option])
    assert all(process.stopped for process in started)


def test_the_paths_of_rows_are_those_of_the_plan(tmp_path):
    experiment = run.read_script(script(tmp_path))
    selected = experiment.select()
    assert plan.files_of(experiment, selected, pathlib.Path("r")) == plan.Planner(experiment, selected, pathlib.Path("r")).files
