"""Ctrl-C and kills of `make plots` while several processes draw."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT
from made import two_arms
from processes import wait_until_gone

from common.machine import cores

KINDS = 5
"""Figures of each experiment."""

pytestmark = pytest.mark.skipif(cores() < 2, reason="with one core no processes are started")


@pytest.fixture
def files(tmp_path):
    return two_arms(tmp_path)


@pytest.fixture
def drawing(files):
    """`make plots` of five experiments, in a process group like a terminal's, and the ids of the two processes that draw."""
    for number in range(50, 54):
        for path in files.folder.glob("exp_90_made*"):
            shutil.copy(path, path.with_name(path.name.replace("exp_90", f"exp_{number}")))
    command = [sys.executable, "-m", "common.commands.plots", "--results", str(files.folder.parent)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True, **pipes)
    limit = time.perf_counter() + 120
    while len(children := drawers(process.pid)) < 2:
        assert process.poll() is None
        assert time.perf_counter() < limit
        time.sleep(0.05)
    yield process, children
    process.kill()
    process.communicate()


def drawers(parent):
    """Ids of the processes that draw for a parent."""
    listed = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


@pytest.mark.parametrize("ready", [False, True])
def test_ctrl_c_ends_all_processes_at_once_with_one_line(drawing, ready):
    process, children = drawing
    if ready:
        assert process.stdout.readline().endswith("_accuracy.png\n")
    os.killpg(process.pid, signal.SIGINT)
    pressed = time.perf_counter()
    _, err = process.communicate()
    assert time.perf_counter() - pressed < 5  # a fraction of a second, on a machine that has nothing else to do
    assert (process.returncode, err.count("\n")) == (130, 1)
    wait_until_gone(children)


def test_processes_that_draw_end_with_a_killed_parent(drawing):
    process, children = drawing
    process.kill()
    wait_until_gone(children)


def test_a_killed_process_is_a_line_for_each_experiment_that_it_leaves_undrawn(drawing, files):
    process, (first, _) = drawing
    os.kill(first, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    lines = err.splitlines()
    assert lines
    assert all(line.startswith("the figures of exp_") and "was killed" in line for line in lines)
    again = subprocess.run(process.args, cwd=PROJECT, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert len(list(files.folder.glob("*.png"))) == again.stdout.count("\n") == 5 * KINDS
