"""Training on two machines, simulated on one: two runs with a `TF_CONFIG` each and a common results folder."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import PROJECT
from processes import run_here, wait_until_gone, workers_of
from replicated import SCRIPT
from survival import REPRODUCIBLE

from common.errors import Failure, Misuse
from common.rows import schema, store
from common.running import cluster
from common.running.cluster import Cluster
from common.running.devices import Devices

NAME = "exp_91_replicas"
PAUSES = """    watch = []
    if normalization:
        slowly = pathlib.Path(__file__).parent / "slowly"
        watch.append(trial.unsaved(callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: time.sleep(slowly.exists() / 5))))
"""
SLOWLY = SCRIPT.replace("import keras\n", "import pathlib\nimport time\n\nimport keras\n", 1).replace("    watch = []\n", PAUSES)
SLOWLY = SLOWLY.replace("epochs=3", "epochs=6")
"""Its arm `batch norm` pauses after each update while there is a file `slowly` beside the script, so that it can be killed."""
LINES = ("--arms", "baseline,clipped by global norm,batch norm,callbacks,augmented")


def free_ports():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def write(folder):
    path = folder / f"{NAME}.py"
    path.write_text(SLOWLY)
    return path


def start(folder, index, ports, *options):
    """Start the run of one machine."""
    script = write(folder)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        [sys.executable, "-m", "common.commands.run", str(script), "--results", str(folder / "out"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
    )


def finish(calls, seconds=240):
    """Wait for runs. Returns (exit status, stdout, stderr) of each."""
    ended = []
    for call in calls:
        try:
            out, errors = call.communicate(timeout=seconds)
        finally:
            call.kill()
        ended.append((call.returncode, out, errors))
    return ended


def files_in(folder, name="quick-digits-replicas=2-workers=2"):
    return schema.Files(folder / "out" / name, NAME)


def losses(files):
    names = ("arm", "epoch", "train_loss", "val_loss", "val_nll", "gradient_norm")
    return [[epoch[name] for name in names] for epoch in csv.DictReader(files.epochs.open())]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Undisturbed runs on two machines: their folder, and exit status, stdout and stderr of each."""
    folder, ports = tmp_path_factory.mktemp("together"), free_ports()
    ended = finish([start(folder, index, ports, *LINES) for index in (0, 1)])
    assert [status for status, _, _ in ended] == [0, 0], ended
    return folder, ended


def test_two_machines_give_the_result_of_one_process(together, tmp_path):
    folder, ended = together
    assert run_here(write(tmp_path), ["--results", tmp_path / "out", "--jobs", "1", *LINES]).returncode == 0
    on_two, on_one = losses(files_in(folder)), losses(files_in(tmp_path, "quick-digits"))
    assert {epoch[0] for epoch in on_two} == set(LINES[1].split(","))
    assert len(on_two) == len(on_one)
    for two, one in zip(on_two, on_one, strict=True):
        assert two[:2] == one[:2]
        assert [float(value) for value in two[2:]] == pytest.approx([float(value) for value in one[2:]], rel=1e-5), two[:2]
    for row in store.read_rows(files_in(folder)):
        assert (row["status"], row["replicas"], row["workers"]) == ("done", "2", "2")
    assert "the chief writes its row" in ended[1][1]
    assert not (folder / "out" / ".cluster").exists()


def test_a_lost_machine_ends_all_runs_and_a_restart_resumes(together, tmp_path):
    """The chief's run is killed; after a restart the other machine's worker is. The results are those of undisturbed runs."""
    slowly = tmp_path / "slowly"
    slowly.touch()

    def start_both():
        ports = free_ports()
        return [start(tmp_path, index, ports, "--arms", "batch norm") for index in (0, 1)]

    for victim in ("the chief's run", "the other's worker"):
        calls, limit, earlier = start_both(), time.monotonic() + 120, checkpoints(tmp_path)
        while not checkpoints(tmp_path) - earlier:
            assert time.monotonic() < limit, finish(calls, 1)
            time.sleep(0.05)
        index = 0 if "chief" in victim else 1
        workers = [workers_of(call.pid)[0] for call in calls]
        os.kill(workers[index] if victim.endswith("worker") else calls[index].pid, signal.SIGKILL)
        ended = finish(calls, 60)
        for number, (status, _, errors) in enumerate(ended):
            if number == index and not victim.endswith("worker"):
                assert status == -signal.SIGKILL
                continue
            assert status == 1
            (line,) = errors.splitlines()
            message = "worker died (signal SIGKILL)" if number == index else ("the chief" if index == 0 else "machine 1")
            assert message in line
        wait_until_gone(workers)
        assert not store.read_rows(files_in(tmp_path))
    slowly.unlink()
    ended = finish(start_both())
    assert [status for status, _, _ in ended] == [0, 0], ended
    (row,) = store.read_rows(files_in(tmp_path))
    assert (row["status"], row["resumes"]) == ("done", "2")
    assert losses(files_in(tmp_path)) == [epoch for epoch in losses(files_in(together[0])) if epoch[0] == "batch norm"]
    (other,) = [other for other in store.read_rows(files_in(together[0])) if other["arm"] == "batch norm"]
    assert [row[name] for name in REPRODUCIBLE] == [other[name] for name in REPRODUCIBLE]


def checkpoints(folder):
    return set((folder / "out").rglob("fit-*.npz"))


def test_a_machine_lost_during_its_start_ends_all_runs(tmp_path):
    ports = free_ports()
    calls = [start(tmp_path, index, ports) for index in (0, 1)]
    limit = time.monotonic() + 60
    while not workers_of(calls[1].pid):
        assert time.monotonic() < limit
        time.sleep(0.01)
    workers = [worker for call in calls for worker in workers_of(call.pid)]
    os.kill(workers_of(calls[1].pid)[0], signal.SIGKILL)  # while it imports TensorFlow
    ended = finish(calls, 60)
    assert [status for status, _, _ in ended] == [1, 1]
    assert all(len(errors.splitlines()) == 1 for _, _, errors in ended)
    wait_until_gone(workers)


def test_a_machine_that_does_not_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 0.5)
    alone = Cluster(["here:1", "there:2"], 0)
    alone.open(tmp_path / "out" / ".cluster" / NAME)
    alone.publish(state="ready")
    with pytest.raises(Failure, match=r"machine 1 \(there:2\) did not start within 0.5 s"):
        alone.join()


def test_a_machine_without_heartbeats_is_lost_and_files_of_an_earlier_run_are_ignored(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 0.5)
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "0.json").write_text('{"call": "old", "beat": 7, "state": "ended", "reason": "long ago"}')
    chief, worker = Cluster(["a:1", "b:2"], 0), Cluster(["a:1", "b:2"], 1)
    worker.open(folder)
    worker.check()
    chief.open(folder)
    for one in (chief, worker):
        one.publish(state="ready")
    chief.join()
    worker.join()
    chief.leaving.set()  # stops its heartbeats, as a kill does
    with pytest.raises(Failure, match="the chief .* has sent no heartbeat for 0.5 s"):
        for _ in range(40):
            worker.check()
            time.sleep(0.05)


def test_a_round_has_failed_if_all_workers_failed_or_if_no_machine_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "BEAT_SECONDS", 0.05)
    chief = Cluster(["a:1", "b:2"], 0)
    assert chief.round_failure(1) is None
    chief.report_failure(1, "no memory")
    assert chief.round_failure(1) is None
    time.sleep(0.3)
    assert chief.round_failure(1) == "no memory"
    assert chief.round_failure(2) is None
    chief.others[1].message = {"state": "failed", "round": 2, "reason": "no disk"}
    assert chief.round_failure(2) == "on machine 1 (b:2): no disk"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"ps": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_wrong_tf_config_is_a_misuse(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(Misuse, match="TF_CONFIG must list all machines"):
        Cluster.here()


def test_tf_config_may_list_a_chief_and_workers(monkeypatch):
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    here = Cluster.here()
    assert (here.addresses, here.index, here.chief, here.size) == (["a:1", "b:1", "c:1"], 2, False, 3)
    config["cluster"] = {"worker": ["a:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({**config, "task": {"type": "worker", "index": 0}}))
    assert Cluster.here() is None


def test_trials_that_need_other_machines_or_more_gpus_are_unavailable():
    assert Devices([], workers=2).unavailable(2, 2) is None
    assert Devices([]).unavailable(2, 2) == "needs 2 machines, TF_CONFIG lists none"
    assert "without GPUs has one replica" in Devices([], workers=2).unavailable(4, 2)
    assert Devices(["0", "1"], workers=2).unavailable(4, 2) is None
    assert Devices(["0"], workers=2).unavailable(4, 2) == "needs 2 GPUs, this machine has 1"
