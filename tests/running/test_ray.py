"""Runs on Ray's test cluster: three nodes of one CPU on this machine. Their rows are those of the local engine.

The runs share one cluster, whose nodes other than the head are lost and replaced.
"""

import csv
import os
import re
import signal
import time

import pytest
from processes import alive, run_here, run_script, wait_until_gone
from raycluster import RayCluster
from replicated import SCRIPT as REPLICATED
from survival import REPRODUCIBLE, files_in, reproducible, write

from common.commands import status
from common.data.copies import COPIED
from common.machine import ONEDNN, uses_onednn
from common.rows import schema, store

pytest.importorskip("ray")
NAME = "exp_91_replicas"
EPOCHS = 12
"""So that each node still trains its first trial when the last one has begun."""


@pytest.fixture(scope="module")
def cluster():
    with RayCluster(3) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the local engine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_here(write(folder, epochs=EPOCHS), ["--results", folder / "out", "--jobs", "2"])
    assert (done.returncode, done.stderr) == (0, "")
    return reproducible(folder / "out")


@pytest.fixture
def start(cluster, monkeypatch, tmp_path):
    """start(*options) starts a run on the cluster; it is killed at the end of the test."""
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    runs = []

    def start(*options, script=None):
        script = script or write(tmp_path, epochs=EPOCHS)
        runs.append(run_script(script, ["--engine", "ray", "--results", tmp_path / "out", *options], wait=False))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


def finished(run, seconds=300):
    """The exit status and the output of a run that ends by itself."""
    output = run.communicate(timeout=seconds)[0].decode()
    return run.returncode, output


def wait_for(condition, run, seconds=200):
    """Wait until a condition is true, while a run goes on."""
    limit = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, run.stdout.read().decode()
        assert time.monotonic() < limit
        time.sleep(0.05)


def checkpoints(folder):
    return list((folder / "out").rglob("*-*.npz"))


def test_rows_are_those_of_the_local_engine(undisturbed, start, tmp_path, call):
    run = start()
    line = re.compile(r"exp_90_survive, quick-digits: \w+ seed \d on \S+ \(\w{6}\), .+ \(run \d+\)")
    wait_for(lambda: line.search(call(status.run, "--results", tmp_path / "out")[1]), run)
    ended, output = finished(run)
    assert ended == 0, output
    assert "3 nodes" in output
    assert "with 3 at a time" in output
    assert reproducible(tmp_path / "out") == undisturbed
    assert not list((tmp_path / "out").glob(".shared-*"))


def test_a_lost_node_costs_its_trial_a_retry(cluster, undisturbed, start, tmp_path):
    run = start("--checkpoint-steps", "5")
    wait_for(lambda: len({path.parent for path in checkpoints(tmp_path)}) == 3, run)
    cluster.tell("remove")
    cluster.tell("add")
    ended, output = finished(run)
    assert ended == 0, output
    assert "its worker died (its machine or its Ray process was lost); starting it once more" in output
    assert reproducible(tmp_path / "out") == undisturbed
    assert sum(int(row["resumes"]) for row in store.read_rows(files_in(tmp_path / "out"))) >= 1


def test_a_killed_worker_and_a_killed_run_go_on(cluster, undisturbed, start, tmp_path):
    run = start("--checkpoint-steps", "5")
    wait_for(lambda: checkpoints(tmp_path) and len(cluster.workers()) == 3, run)
    first = set(cluster.workers())
    os.kill(min(first), signal.SIGKILL)
    wait_for(lambda: not first.issuperset(running := cluster.workers()) and len(running) == 3, run)
    running = cluster.workers()
    run.kill()
    assert "starting it once more" in finished(run)[1]
    wait_until_gone(running)
    ended, output = finished(start("--checkpoint-steps", "5"))
    assert ended == 0, output
    assert reproducible(tmp_path / "out") == undisturbed


def test_nodes_that_share_neither_results_nor_images_send_them(cluster, undisturbed, start, tmp_path, tmp_path_factory):
    """Images reach a new node through Ray's object store, once, into its own cache folder."""
    cache = tmp_path_factory.mktemp("cache")
    cluster.tell(f"add CACHE_DIR={cache}")
    try:
        run = start("--jobs", "4")
        wait_for(lambda: list((tmp_path / "out").glob(".shared-*")), run)
        next(iter((tmp_path / "out").glob(".shared-*"))).unlink()  # before the nodes look for it
        while run.poll() is None:
            assert not checkpoints(tmp_path)
            time.sleep(0.05)
        ended, output = finished(run)
    finally:
        cluster.tell("remove")
    assert ended == 0, output
    assert reproducible(tmp_path / "out") == undisturbed
    assert sorted(path.name for path in cache.glob("digits-*/*")) == sorted(COPIED)


def test_ctrl_c_ends_what_runs_on_the_nodes(cluster, start, tmp_path):
    run = start()
    wait_for(lambda: checkpoints(tmp_path), run)
    running = cluster.workers()
    run.send_signal(signal.SIGINT)
    ended, output = finished(run, 60)
    assert ended == 130
    assert output.splitlines()[-1] == "exp_90_survive: stopped; the same command resumes after the last finished epoch"
    wait_until_gone(running)


def test_a_node_of_another_kind_is_left_out_unless_kinds_may_differ(cluster, undisturbed, start, tmp_path):
    cluster.tell(f"add {ONEDNN}={int(not uses_onednn())}")
    try:
        ended, output = finished(start())
        assert ended == 0, output
        assert re.search(r"left out, as SAME_DEVICE=0 is not set and others are .*: \S+ \(\w{6}\): .*oneDNN o", output)
        assert reproducible(tmp_path / "out") == undisturbed
        ended, output = finished(start("--same-device", "0", "--results", str(tmp_path / "mixed")))
        assert ended == 0, output
        assert "with 4 at a time" in output
        assert len({row["kind"] for row in store.read_rows(files_in(tmp_path / "mixed"))}) == 2
    finally:
        cluster.tell("remove")


# --- one trial on several machines ---


def replicated(folder):
    path = folder / f"{NAME}.py"
    path.write_text(REPLICATED)
    return path


def losses(folder, setting):
    files = schema.Files(folder / "out" / setting, NAME)
    names = ("arm", "epoch", "train_loss", "val_loss", "val_nll", "gradient_norm")
    return [[epoch[name] for name in names] for epoch in csv.DictReader(files.epochs.open())]


def test_two_machines_that_share_a_trial_give_the_losses_of_one(cluster, start, tmp_path):
    """Also after the loss of a member, which starts both again from the chief's checkpoint."""
    script, arms = replicated(tmp_path), ("--arms", "baseline,batch norm,callbacks,augmented")
    assert run_here(script, ["--results", tmp_path / "out", "--jobs", "2", *arms]).returncode == 0
    run = start(*arms, "--workers", "2", "--jobs", "1", "--checkpoint-steps", "1", script=script)
    wait_for(lambda: len(cluster.workers()) == 2, run)
    member = cluster.workers()[1]
    wait_for(lambda: checkpoints(tmp_path), run)
    os.kill(member, signal.SIGKILL)  # within the first trial, which has a checkpoint after each of its updates
    ended, output = finished(run)
    assert ended == 0, output
    assert "starting it once more" in output
    on_two, on_one = losses(tmp_path, "quick-digits-replicas=2-workers=2"), losses(tmp_path, "quick-digits")
    for two, one in zip(on_two, on_one, strict=True):
        assert two[:2] == one[:2]
        assert [float(value) for value in two[2:]] == pytest.approx([float(value) for value in one[2:]], rel=1e-5), two[:2]
    rows = store.read_rows(schema.Files(tmp_path / "out" / "quick-digits-replicas=2-workers=2", NAME))
    assert {(row["status"], row["replicas"], row["workers"]) for row in rows} == {("done", "2", "2")}
    assert sum(int(row["resumes"]) for row in rows) == 1


# --- what is refused ---


def test_more_machines_than_the_cluster_has_are_unavailable(start, tmp_path):
    ended, output = finished(start("--workers", "4", "--arms", "baseline", "--seeds", "1"))
    assert ended == 0
    assert "unavailable: needs 4 nodes with 1 CPUs, the Ray cluster has 3" in output


def test_a_cluster_without_its_token_is_refused(start, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", "/nowhere")
    ended, output = finished(start())
    assert (ended, output.count("\n")) == (2, 1)
    assert "needs its token (ray get-auth-token prints it there): set RAY_AUTH_TOKEN, or RAY_AUTH_MODE=disabled" in output


def test_reproducible_columns_do_not_depend_on_the_engine():
    assert {"device", "kind", "beside"}.isdisjoint(REPRODUCIBLE)


# --- the end of the cluster, last ---


def test_a_lost_head_ends_the_run_with_one_line(cluster, start, tmp_path):
    run = start()
    wait_for(lambda: checkpoints(tmp_path), run)
    began = time.monotonic()
    cluster.tell("head")
    ended, output = finished(run, 90)
    assert ended == 1
    assert time.monotonic() - began < 60
    (line,) = [line for line in output.splitlines() if line.startswith("exp_90_survive: the")]
    assert line.startswith(f"exp_90_survive: the head of the Ray cluster {cluster.address} was lost: start the cluster and the")
    while any(map(alive, cluster.workers())):  # nodes wait for the head to return
        assert time.monotonic() - began < 150
        time.sleep(1)
