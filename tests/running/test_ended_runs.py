"""Runs that end before their last trial: by Ctrl-C, and because their code has changed."""

import os
import signal
import time

from linear import SCRIPT as LINEAR_SCRIPT
from processes import alive, run_here, run_script, workers_of
from survival import SCRIPT, files_in, write

from common.rows import store


def test_ctrl_c_ends_the_run_and_its_workers_within_seconds_with_one_line(tmp_path):
    endless = write(tmp_path, SCRIPT.replace("patience=4", "patience=1000"), epochs=1000)
    process = run_script(endless, ["--results", tmp_path / "out", "--jobs", "1"], wait=False, start_new_session=True)
    limit = time.perf_counter() + 60
    while not list((tmp_path / "out").rglob("warm-*.npz")):
        assert time.perf_counter() < limit, process.stdout.read()
        time.sleep(0.1)
    workers = workers_of(process.pid)
    assert workers
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out.splitlines()[-1].endswith(b"the same command resumes after the last finished epoch")
    assert b"Traceback" not in out
    assert not any(alive(worker) for worker in workers)


CHANGES = LINEAR_SCRIPT.replace("import numpy", "import pathlib\n\nimport numpy").replace(
    '    """One arm."""\n',
    '''    """One arm; the first trial changes the script."""
    if trial.seed == 0:
        with pathlib.Path(__file__).open("a") as script:
            script.write("# a comment\\n")
''',
)


def test_a_run_ends_if_the_code_changes(tmp_path):
    script, options = write(tmp_path, CHANGES), ["--results", tmp_path / "out", "--jobs", "1", "--arms", "baseline"]
    done = run_here(script, options)
    reason = f"{script} has changed since this run started: run the same command again, which keeps finished trials"
    assert (done.returncode, done.stderr) == (1, f"exp_90_survive: {reason}\n")
    assert not list((tmp_path / "out").rglob("*.journal"))  # it is folded also when a run ends by an error
    (first,) = store.read_rows(files_in(tmp_path / "out"))
    assert first["status"] == "done"
    done = run_here(script, options)
    assert done.returncode == 0, done.stderr
    rows = store.read_rows(files_in(tmp_path / "out"))
    assert [row["status"] for row in rows] == ["done"] * 2
    assert rows[0] == first
    assert "moved" not in done.stdout  # a comment does not change the fingerprint
