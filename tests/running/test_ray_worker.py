"""What a node of a Ray cluster is asked before it gets trials, and where a trial's files are. No cluster is started."""

import dataclasses
import json
import os
import pathlib
from types import SimpleNamespace

import pytest
from linear import SCRIPT
from survival import write

ray_worker = pytest.importorskip("common.running.ray_worker", reason="Ray is not installed", exc_type=ImportError)

from common.errors import Failure, Misuse  # noqa: E402
from common.running import scripts  # noqa: E402
from common.running.plan import Planner, Variant, known_columns  # noqa: E402
from common.running.process import job  # noqa: E402
from common.running.ray_cluster import Cluster  # noqa: E402
from common.running.ray_driver import Events  # noqa: E402
from common.running.ray_gang import ending  # noqa: E402
from common.running.ray_worker import Checkout, RayWorker  # noqa: E402

HERE = Checkout("/home/a/project", "c" * 40, {"common/losses.py": "1234", "exp.py": "5678"}, "9abc")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"commit": ""}, ""),  # a copy without git, with the same files
        ({"project": "/opt/project"}, "has the project in /opt/project, and must have it in /home/a/project"),
        ({"commit": "d" * 40}, "has commit dddddddddddd of the project, and must have cccccccccccc"),
        ({"code": {"common/losses.py": "", "exp.py": "5678"}}, "has another common/losses.py: copy the project to all nodes"),
        ({"packages": ""}, "make setup RAY=1 there and here, with GPU=1 on all nodes or on none"),
    ],
)
def test_a_node_must_have_the_same_project_and_packages(changes, expected):
    difference = dataclasses.replace(HERE, **changes).difference(HERE)
    assert difference.endswith(expected)
    assert bool(difference) == bool(expected)


def test_the_checkout_of_this_machine_is_that_of_the_files_it_has(tmp_path):
    path = tmp_path / "exp.py"
    path.write_text("1")
    first = Checkout.here([str(path)])
    assert first.difference(first) == ""
    path.write_text("2")
    assert Checkout.here([str(path)]).difference(first) == f"has another {path}: copy the project to all nodes"


def test_memory_is_told_from_a_lost_machine():
    import ray

    assert ending(ray.exceptions.OutOfMemoryError("killed"))["how"] == "memory"
    low, killed = "killed due to the node running low on memory.", "Some common causes include: (1) killed by the OOM killer"
    assert ending(ray.exceptions.RayActorError(error_msg=low))["how"] == "memory"
    assert ending(ray.exceptions.RayActorError(error_msg=killed))["how"] == "lost"
    assert ending(ray.exceptions.ActorUnavailableError("the node is gone", None))["how"] == "lost"


@pytest.fixture
def planned_job(tmp_path):
    plan = Planner(experiment := scripts.read_script(write(tmp_path, SCRIPT)), experiment.select(), tmp_path / "out")
    plan = plan.plan([(Variant("baseline"), 0)])
    (trial,) = plan.trials
    row = known_columns(trial, "exp_90_survive", plan.planner.origin)
    return job(plan, trial, row, keep=tmp_path / "out" / "models" / "a.keras", checkpoint_steps=None)


def test_a_node_that_does_not_share_the_results_hands_over_the_files_of_a_trial(planned_job, tmp_path):
    actor = RayWorker((1, 1, 1, True), str(tmp_path / "no such mark"))
    actor.process = SimpleNamespace(scratch=tmp_path / "scratch")
    moved = actor._moved(planned_job)
    assert not actor.shares_results
    assert pathlib.Path(tmp_path / "scratch") in moved.folder.parents
    moved.folder.mkdir(parents=True)
    (moved.folder / "outcome.npz").write_bytes(b"outcome")
    moved.keep.write_bytes(b"model")
    files = actor._files(moved, planned_job)
    assert files == {str(planned_job.folder / "outcome.npz"): b"outcome", str(planned_job.keep): b"model"}


def test_a_node_that_shares_the_results_hands_over_the_outcome(planned_job, tmp_path):
    """As a network disk may show its file late."""
    (tmp_path / "mark").touch()
    actor = RayWorker((1, 1, 1, True), str(tmp_path / "mark"))
    assert actor.shares_results
    planned_job.folder.mkdir(parents=True)
    (planned_job.folder / "outcome.npz").write_bytes(b"outcome")
    planned_job.keep.parent.mkdir(parents=True)
    planned_job.keep.write_bytes(b"model")
    assert actor._files(planned_job, planned_job) == {str(planned_job.folder / "outcome.npz"): b"outcome"}


@pytest.mark.parametrize(
    ("visible", "of_ray", "expected"),
    [
        (None, 2, 2),
        ("", 2, 2),  # as Ray sets it for a task without GPUs
        ("0", 1, 1),  # the user's, or the scheduler's
        (None, 1, 1),
        (None, 0, 0),  # hidden from Ray
    ],
)
def test_a_node_has_the_gpus_that_ray_gives_out(monkeypatch, visible, of_ray, expected):
    def gpus():
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        return ["0", "1"] if chosen is None else [name for name in chosen.split(",") if name]

    context = SimpleNamespace(get_node_id=lambda: "a" * 40)
    monkeypatch.setattr(ray_worker.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray_worker.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    monkeypatch.setattr(ray_worker.machine, "gpus", gpus)
    monkeypatch.setattr(ray_worker.machine, "columns", lambda: {"device": "d", "kind": "GPU" if gpus() else "CPU"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    about = ray_worker.probe(Checkout.here([]), of_ray)
    assert (about["gpus"], about["kind"]) == (expected, "GPU" if expected else "CPU")


# --- the process that speaks with Ray ---


def test_events_are_sent_while_nobody_reads_them():
    """Else the driver and the main process, which sends a command meanwhile, would wait for each other."""
    reading, writing = os.pipe()
    events = Events(os.fdopen(writing, "w"))
    for number in range(3):
        events.send(event="finished", number=number, printed=b"x" * 200_000)
    with os.fdopen(reading) as file:
        heard = [json.loads(file.readline()) for _ in range(3)]
    events.close()
    assert [(event["number"], len(event["printed"])) for event in heard] == [(number, 200_000) for number in range(3)]


def cluster(*kinds, one_kind=True):
    """A cluster with nodes of these kinds of processors, the first of which is that of most."""
    made = Cluster(SimpleNamespace(one_kind=one_kind))
    made.nodes = {f"id{place}": {"node": f"id{place}", "kind": kind} for place, kind in enumerate(kinds)}
    made.kind, made.kinds = kinds[0], {kinds[0]} if one_kind else set(kinds)
    return made


def test_the_machines_of_one_trial_are_of_one_kind_even_if_arms_may_differ():
    mixed = cluster("a", "a", "b", one_kind=False)
    assert mixed.selector(1) == {}
    assert list(mixed.selector(2).values()) == ["!in(id2)"]


def test_a_node_that_changes_during_a_run_ends_it_and_another_is_refused():
    known, about = cluster("a"), {"node": "id0", "address": "10.0.0.1", "difference": "has another exp.py"}
    with pytest.raises(Failure, match="10.0.0.1 of the Ray cluster has another exp.py, since this run started: the same command"):
        known.accept(about)
    with pytest.raises(Misuse, match="node 10.0.0.1 .* has another exp.py$"):
        cluster("a").accept(about | {"node": "new"})
