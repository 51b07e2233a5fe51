"""Runs scripts, as processes or in the process of the tests, and finds their workers."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import time

from conftest import PROJECT

from common.commands import run

WORKER = "common.running.worker"


def run_script(script, arguments, wait=True, **options):
    """Run a script like `make exp-NN`, from any folder. Returns the finished process, or the running one without `wait`."""
    command = [sys.executable, "-m", "common.commands.run", str(script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    if wait:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **options)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, **options)


def run_here(script, arguments):
    """Run a script like `run_script`, but in this process, which saves its imports; its workers are processes all the same.

    Returns the exit status, stdout and stderr as those of a finished process.
    """
    out, errors = io.StringIO(), io.StringIO()
    status = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            run.main([str(script), *map(str, arguments)])
        except SystemExit as ended:
            status = ended.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())


def workers_of(parent):
    """Process ids of a run's workers."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if WORKER in line.split()]


def wait_until_gone(pids):
    """Wait up to 10 s for processes to end."""
    limit = time.perf_counter() + 10
    while any(alive(pid) for pid in pids):
        assert time.perf_counter() < limit, "a worker still runs 10 s after the main process"
        time.sleep(0.05)


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
