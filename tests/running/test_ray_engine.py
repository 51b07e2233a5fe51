"""The main process' side of Ray, with a driver that only sends the events that a test gives it."""

import json
import os
import sys

import pytest
from processes import run_here
from survival import write

from common.errors import Failure, Misuse
from common.running import ray_engine
from common.running.ray_engine import RayEngine
from common.running.workers import Workers
from common.setting import Setting

NODES = [{"name": f"10.0.0.{i}", "cpus": cpus, "gpus": 0} for i, cpus in enumerate((4, 2))]
GPU_NODES = [{"name": "10.0.0.1", "cpus": 8, "gpus": 2}, {"name": "10.0.0.2", "cpus": 8, "gpus": 1}]
CLUSTER = {"event": "cluster", "nodes": NODES, "other_kinds": [], "silent": [], "machine": {"device": "d", "kind": "AVX2"}}
DRIVER = """import json, sys
first, *others = json.loads(open({path!r}).read()) or [None]
if first:
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        while others:
            print(json.dumps(others.pop(0)), flush=True)
        if json.loads(line)["do"] in {ends!r}:
            break
"""
PYTHON = sys.executable


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """engine(*events) is an engine whose driver sends these events, and ends with the commands in `ends`."""

    def make(*events, ends=(), address="10.0.0.1:6379", **options):
        (tmp_path / "events").write_text(json.dumps(events))
        script = tmp_path / "driver"
        script.write_text(f"#!{PYTHON}\n{DRIVER.format(path=str(tmp_path / 'events'), ends=ends)}")
        script.chmod(0o755)
        monkeypatch.setattr(ray_engine, "_check", lambda _: None)
        monkeypatch.setattr(ray_engine.sys, "executable", str(script))
        monkeypatch.setenv("RAY_ADDRESS", address)
        return RayEngine([], tmp_path, **options)

    return make


def wait(engine):
    """The processes with output, for which it waits."""
    return engine.with_output(10)


def test_a_process_is_placed_trains_and_ends(engine, tmp_path):
    placed = {"number": 1, "event": "placed", "node": "10.0.0.1", "machine": {"device": "e", "kind": "AVX2"}}
    ended = {"number": 1, "event": "ended", "how": "lost", "cause": "its machine was lost", "by_signal": True, "printed": "x"}
    stopped = {"number": 7, "event": "ready"}
    with engine(CLUSTER, placed, {"number": 1, "event": "ready"}, stopped, ended) as one:
        assert len(list(tmp_path.glob(".shared-*"))) == 1
        process = one.start((1, 1, 1, True))
        assert not process.placed
        while not process.ended:
            assert wait(one) in ([process], [])
        assert (process.placed, process.node, process.machine["device"]) == (True, "10.0.0.1", "e")
        assert process.read() == [{"event": "ready"}]
        assert process.read() is None
        assert process.ending() == ("lost", "its machine was lost", True)
        assert process.printed() == b"x"
    assert not list(tmp_path.glob(".shared-*"))


def test_a_process_that_ends_right_after_an_event_is_replaced(engine):
    """The driver sends both at once, and nothing afterwards."""
    failed = {"number": 1, "event": "failed", "reason": "no luck", "printed": "x"}
    ended = {"number": 1, "event": "ended", "how": "died", "cause": "another machine failed", "by_signal": True, "printed": ""}
    with engine(CLUSTER, failed, ended) as one, Workers(one, 1) as pool:
        worker = pool.start((1, 1, 2, True))
        while not worker.process.ended:
            pool.with_output(10)
        heard = [each.events() for _ in range(2) for each in pool.with_output(10)]
        assert heard == [[{"event": "failed", "reason": "no luck"}], None]


def test_a_node_that_is_refused_ends_the_run(engine):
    reason = "node 10.0.0.2 of the Ray cluster has other packages in /x/.venv: make setup RAY=1 there"
    with pytest.raises(Misuse, match=reason), engine({"event": "refused", "reason": reason, "status": 2}):
        pass


def test_a_driver_that_ends_after_it_has_joined_has_lost_the_head(engine):
    lost = pytest.raises(Failure, match=r"the head of the Ray cluster 10.0.0.1:6379 was lost: start the cluster")
    with lost, engine(CLUSTER, ends=("start",)) as one:
        for _ in range(9):
            one.start((1, 1, 1, True))  # the last ones cannot be sent
            wait(one)


def test_what_ray_printed_before_a_failure_is_kept(engine, tmp_path, capsys):
    reason = "Ray has failed: KeyError: 'x'"
    failed = {"number": 1, "event": "refused", "reason": reason, "status": 1}
    with pytest.raises(Failure, match=reason), engine(CLUSTER, failed) as one:
        (one.scratch / "output.log").write_text("Traceback")
        one.start((1, 1, 1, True))
        while True:
            wait(one)
    assert f"what Ray printed: {tmp_path / 'logs' / 'ray.log'}" in capsys.readouterr().out
    assert (tmp_path / "logs" / "ray.log").read_text() == "Traceback"
    assert not one.scratch.exists()


def test_marks_of_killed_runs_are_deleted(engine, tmp_path):
    old, new = tmp_path / ".shared-old", tmp_path / ".shared-new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with engine(CLUSTER):
        assert (old.exists(), new.exists()) == (False, True)


def test_a_driver_that_ends_before_has_met_something_else(engine):
    with pytest.raises(Misuse, match="something else answers there. Received: 10.0.0.1:6379"), engine():
        pass


def test_how_many_trials_run_follows_from_the_nodes(engine):
    def setting(**fields):
        return Setting("digits", 1, **fields)

    with engine(CLUSTER) as one:
        assert [one.jobs(setting(threads=threads)) for threads in (1, 2, 3, 5)] == [6, 3, 1, 1]
        assert one.unavailable(setting(threads=3)) is None
        assert one.unavailable(setting(threads=5)) == "needs 1 nodes with 5 CPUs, the Ray cluster has 0"
        assert one.jobs(setting(replicas=2, workers=2)) == 2  # each needs both nodes, of which one has 2 CPUs
        reason = "has one replica on each machine without GPUs: REPLICAS=2"
        assert one.unavailable(setting(replicas=4, workers=2)) == reason
        assert one.unavailable(setting(replicas=3, workers=3)) == "needs 3 nodes with 1 CPUs, the Ray cluster has 2"
    with engine({**CLUSTER, "nodes": GPU_NODES}, per_gpu=3) as one:
        assert one.on_gpus
        assert [one.jobs(setting(replicas=replicas)) for replicas in (1, 2)] == [9, 1]
        assert one.unavailable(setting(replicas=4)) == "needs 1 nodes with 4 GPUs, the Ray cluster has 0"


def test_nodes_of_another_kind_are_named(engine, capsys):
    with engine({**CLUSTER, "other_kinds": ["10.0.0.3: AVX-512"], "silent": ["10.0.0.4: no answer within 60 s"]}):
        out = capsys.readouterr().out
    silent, others, *_ = out.splitlines()
    assert silent == "left out: 10.0.0.4: no answer within 60 s"
    assert others == "left out, as SAME_DEVICE=0 is not set and others are AVX2: 10.0.0.3: AVX-512"


def test_authentication_by_token_is_on(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert ray_engine._variables("10.0.0.1:6379")["RAY_AUTH_MODE"] == "token"
    here = ray_engine._variables("")
    assert len(here["RAY_AUTH_TOKEN"]) == 64
    assert here["RAY_AUTH_TOKEN"] != ray_engine._variables("")["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "RAY_ADDRESS must be host:port of the head of a Ray cluster, as ray start prints it. Received: nonsense"),
        ("ray://10.0.0.1:10001", "RAY_ADDRESS must be host:port of the head"),
        ("127.0.0.1:1", "nothing answers there (Connection refused). Received: 127.0.0.1:1"),
    ],
)
def test_an_address_where_no_cluster_is_is_refused(tmp_path, monkeypatch, address, message):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda _: "ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    done = run_here(write(tmp_path), ["--engine", "ray", "--results", tmp_path / "out"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert os.listdir(tmp_path / "out") == []
