"""Worker processes on this machine: their temporary folders, and what killed them."""

import os
import signal

import pytest

from common import files
from common.files import LOG, scratch_folder
from common.running import local
from common.running.local import LocalProcess

OPTIONS = (1, 1, 1, True)


@pytest.mark.slow
def test_a_process_that_the_system_kills_while_memory_is_short_is_told_from_others(monkeypatch):
    kills = [0]
    monkeypatch.setattr(local, "memory_kills", lambda: kills[0])
    short, other, ours = (LocalProcess(OPTIONS, []) for _ in range(3))
    os.kill(other.process.pid, signal.SIGKILL)
    assert other.ending() == ("died", "signal SIGKILL", True)
    kills[0] = 1
    ours.kill()
    assert ours.ending().how == "died"
    os.kill(short.process.pid, signal.SIGKILL)
    assert short.ending() == ("memory", "its machine had too little memory", True)
    for process in (short, other, ours):
        process.close()
        assert not process.scratch.exists()


def test_folders_that_killed_runs_left_are_deleted(tmp_path, monkeypatch):
    """But none whose process lives, whose run may still read it, or that is not ours."""
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    left, log = scratch_folder("exp-worker-")
    log.close()
    fresh, log = scratch_folder("exp-worker-")
    log.close()
    alive, log = scratch_folder("exp-worker-")
    foreign = tmp_path / "exp-worker-foreign"
    foreign.mkdir()
    for path in (left, alive):
        os.utime(path / LOG, (0, 0))
    scratch_folder("exp-worker-")[1].close()
    log.close()
    assert [path.exists() for path in (left, fresh, alive, foreign)] == [False, True, True, True]
