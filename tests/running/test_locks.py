"""Locks between runs on one results folder."""

import contextlib
import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import PROJECT

from common.errors import Failure
from common.files import locked
from common.rows.schema import Files
from common.running.locks import TrialLocks, runs_alike

HOLD = """
import pathlib, sys
from common.rows.schema import Files
from common.running.locks import TrialLocks, runs_alike
with runs_alike(Files(pathlib.Path(sys.argv[1]), "exp_90_x"), "3f2a", sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(folder, kind):
    """Context manager in which another process locks the rows for a kind; yields the process."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder), kind], cwd=PROJECT, text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_runs_alike_share_the_rows_and_one_of_other_code_or_on_another_kind_is_refused(tmp_path):
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    with held_elsewhere(files.folder, "AVX2, oneDNN off"):
        for kind, one_kind in (("AVX2, oneDNN off", True), ("AVX-512, oneDNN on", False)):
            with runs_alike(files, "3f2a", kind, one_kind=one_kind):
                pass
        with pytest.raises(Failure, match=r"on another kind of processor \(AVX2, oneDNN off; this one: AVX-512, oneDNN on\)"):
            runs_alike(files, "3f2a", "AVX-512, oneDNN on").__enter__()
        for one_kind in (True, False):
            with pytest.raises(Failure, match="trains exp_90_x in .* with other code, settings or data: wait until it has ended"):
                runs_alike(files, "9c01", "AVX2, oneDNN off", one_kind=one_kind).__enter__()
        with runs_alike(files._replace(experiment="exp_91_y"), "9c01", "AVX-512, oneDNN on"):
            pass  # another experiment's rows are not locked
    with runs_alike(files, "9c01", "AVX-512, oneDNN on"):
        pass
    assert not (files.folder / ".state").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    trial = SimpleNamespace(fingerprint="f", folder_name="baseline-0-f")
    locks = TrialLocks(SimpleNamespace(files=files, missing=lambda: [trial]))
    held = runs_alike(files, "3f2a", "AVX2"), locked(tmp_path)
    for take in (*(one.__enter__ for one in held), lambda: locks.take(trial)):
        with pytest.raises(Failure, match=r"cannot lock files \(.*\): give RESULTS a folder on a local disk. Received: \S+$"):
            take()


def test_a_killed_run_holds_no_locks(tmp_path):
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    with held_elsewhere(files.folder, "AVX2, oneDNN off") as process:
        process.kill()
        process.wait()
        with runs_alike(files, "3f2a", "AVX-512, oneDNN on"):
            pass
