"""What a node of a Ray cluster is asked before it gets trials, and where a trial's files are. No cluster is started."""

import dataclasses
import pathlib
from types import SimpleNamespace

import pytest
from linear import SCRIPT
from survival import write

ray_host = pytest.importorskip("common.running.ray_host", reason="Ray is not installed", exc_type=ImportError)

from common.running import scripts  # noqa: E402
from common.running.plan import Planner, Variant, known_columns  # noqa: E402
from common.running.process import job  # noqa: E402
from common.running.ray_gang import ending  # noqa: E402
from common.running.ray_host import Checkout, Host  # noqa: E402

HERE = Checkout("/home/a/project", "c" * 40, {"common/losses.py": "1234", "exp.py": "5678"}, "9abc")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"commit": ""}, ""),  # a copy without git, with the same files
        ({"project": "/opt/project"}, "has the project in /opt/project, and must have it in /home/a/project"),
        ({"commit": "d" * 40}, "has commit dddddddddddd of the project, and must have cccccccccccc"),
        ({"code": {"common/losses.py": "", "exp.py": "5678"}}, "has another common/losses.py: copy the project to all nodes"),
        ({"packages": ""}, "make setup RAY=1 there"),
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
    host = Host((1, 1, 1, True), str(tmp_path / "no such mark"))
    host.process = SimpleNamespace(scratch=tmp_path / "scratch")
    moved = host._moved(planned_job)
    assert not host.shares_results
    assert pathlib.Path(tmp_path / "scratch") in moved.folder.parents
    moved.folder.mkdir(parents=True)
    (moved.folder / "outcome.npz").write_bytes(b"outcome")
    moved.keep.write_bytes(b"model")
    files = host._files(moved, planned_job)
    assert files == {str(planned_job.folder / "outcome.npz"): b"outcome", str(planned_job.keep): b"model"}


def test_a_node_that_shares_the_results_hands_over_none(planned_job, tmp_path):
    (tmp_path / "mark").touch()
    host = Host((1, 1, 1, True), str(tmp_path / "mark"))
    assert host.shares_results
    assert host._files(planned_job, planned_job) == {}
