"""Calls of scripts as processes, and their workers."""

import os
import pathlib
import subprocess
import sys
import time

from conftest import PROJECT


def run_script(script, arguments, wait=True, **options):
    """Run a script as `make exp-NN` does, but from anywhere."""
    command = [sys.executable, "-m", "common.commands.run", str(script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    if wait:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **options)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, **options)


def workers_of(parent):
    """Process ids of the workers of a run."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "common.running.worker" in line]


def wait_until_gone(pids):
    limit = time.perf_counter() + 10
    while any(alive(pid) for pid in pids):
        assert time.perf_counter() < limit, "a worker outlived its parent by 10 s"
        time.sleep(0.05)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
