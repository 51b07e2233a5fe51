"""`make tensorboard`: what it writes, the server it starts, and one line about what stops it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from conftest import PROJECT
from made import Made, around, declared

from common.commands import tensorboard
from common.rows import store


@pytest.fixture
def folder(tmp_path):
    made = Made(tmp_path)
    made.add("baseline", around(0.8, 2), arguments={"l2": 0.0})
    made.add("l2=0.1", around(0.9, 2), arguments={"l2": 0.1})
    store.write_declaration(made.files, declared(arms=made.arms, baseline="baseline"))
    return tmp_path


def test_event_files_are_written_without_a_server_and_without_tensorflow(folder):
    code = (
        "import sys; from common.commands import tensorboard\n"
        f"sys.argv = ['x', 'RESULTS={folder}', 'WRITE=1', 'EXP=90']\n"
        "print(tensorboard.run(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 runs, 4 of them written: {folder}/.tensorboard/mnist-90\n0 False\n"


def asked(port, path, **body):
    """The answer of the server, as JSON."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://localhost:{port}/data/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_server_shows_arms_as_groups_of_seeds_and_ends_with_one_line(folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "common.commands.tensorboard", f"RESULTS={folder}", f"PORT={port}"]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        assert server.stdout.readline() == f"TensorBoard: http://localhost:{port}/ (Ctrl-C ends it)\n"
        names = [f"exp_90_made/{arm}/{seed}" for arm in ("baseline", "l2=0.1") for seed in range(2)]
        assert sorted(asked(port, "runs")) == [".", *names]
        experiment = asked(port, "plugin/hparams/experiment", experimentName="")
        assert [info["name"] for info in experiment["hparamInfos"]] == ["arm", "l2"]
        states = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]
        about = {"allowedStatuses": states, "colParams": [], "startIndex": 0, "sliceSize": 9}
        groups = asked(port, "plugin/hparams/session_groups", experimentName="", **about)["sessionGroups"]
        means = {group["hparams"]["l2"]: (len(group["sessions"]), group["metricValues"][0]["value"]) for group in groups}
        assert means == {0.0: (2, pytest.approx(0.8025)), 0.1: (2, pytest.approx(0.9025))}
        second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert "it was already in use: choose another port (PORT=6007)" in second.stderr
        os.kill(server.pid, signal.SIGINT)
        out, err = server.communicate(timeout=30)
    finally:
        server.kill()
    assert (server.returncode, out, err) == (0, "", "TensorBoard ended\n")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["PORT=70000"], 2, "port must be a whole number of at most 65535. Received: 70000"),
        (["PORT=x"], 2, "port must be a whole number of at least 1. Received: x"),
        (["EXP=77"], 2, "experiment must be one of 00 01"),
        (["EXP=03", "SETTING=quick"], 2, "there are no rows of experiment 03 in the quick setting: run first make exp-03."),
    ],
)
def test_what_cannot_be_shown_is_one_line(folder, call, options, status, message):
    received, out, err = call(tensorboard.run, f"--results={folder}", *options, "WRITE=1")
    assert (received, out, err.count("\n")) == (status, "", 1)
    assert message in err


def test_without_finished_trials_nothing_is_served(tmp_path, call):
    made = Made(tmp_path)
    store.write_declaration(made.files, declared(arms={"a": {}}))
    status, out, err = call(tensorboard.run, f"--results={tmp_path}")
    assert (status, out, err) == (1, "", "there are no finished trials: run an experiment first (make exp-NN)\n")


def test_a_view_is_named_after_what_it_shows(folder):
    from common.rows import schema
    from common.rows.table import Table

    table = Table.read(schema.Files(folder / "mnist", "exp_90_made"))
    assert tensorboard.view_name([table], False) == "mnist"
    other = Table.read(schema.Files(folder / "mnist", "exp_90_made"))
    other.files = other.files._replace(folder=folder / "digits")
    assert tensorboard.view_name([table, other], True) == "all-90"
