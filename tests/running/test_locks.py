"""Calls on one results folder that share the work, or may not."""

import contextlib
import subprocess
import sys

import pytest
from conftest import PROJECT

from common.errors import Failure
from common.rows.schema import Files
from common.running.locks import one_kind

HOLD = """
import pathlib, sys
from common.rows.schema import Files
from common.running.locks import one_kind
with one_kind(Files(pathlib.Path(sys.argv[1]), "exp_90_x"), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(folder, kind):
    """Another process holds the rows for a kind; yields it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder), kind], cwd=PROJECT, text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_calls_on_one_kind_share_and_one_on_another_is_refused(tmp_path):
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    with held_elsewhere(files.folder, "AVX2, oneDNN off"):
        with one_kind(files, "AVX2, oneDNN off"):
            pass
        with pytest.raises(Failure, match=r"on another kind of processor \(AVX2, oneDNN off; here AVX-512, oneDNN on\): wait"):
            one_kind(files, "AVX-512, oneDNN on").__enter__()
        with one_kind(files._replace(experiment="exp_91_y"), "AVX-512, oneDNN on"):
            pass  # another experiment's rows are not held
    with one_kind(files, "AVX-512, oneDNN on"):
        pass
    assert not (files.folder / ".state").exists()


def test_a_killed_call_holds_nothing(tmp_path):
    files = Files(tmp_path / "quick-digits", "exp_90_x")
    with held_elsewhere(files.folder, "AVX2, oneDNN off") as process:
        process.kill()
        process.wait()
        with one_kind(files, "AVX-512, oneDNN on"):
            pass
