"""The origin of rows: git commit, whether the code differs from it, and the files that a trial may import."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import PROJECT

from common.running import fingerprint


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A clean git checkout with code and rows, as `PROJECT`."""
    for name in ("common/losses.py", "experiments/exp_00_x.py", "results/reference/rows.csv", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    for command in ("init -q", "add .", "-c user.name=n -c user.email=e commit -qm m"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(fingerprint, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("results/reference/rows.csv", False),
        ("results/reference/new.csv", False),
        ("pictures/cat.png", False),
        ("common/losses.py", True),
        ("notes.txt", False),
        ("requirements.lock", True),
        ("experiments/exp_01_new.py", True),  # not committed
        ("common/training/größe.py", True),
    ],
)
def test_only_changed_code_makes_rows_dirty(checkout, name, dirty):
    script = checkout / "experiments" / "exp_00_x.py"
    assert fingerprint.provenance(script)["dirty"] is False
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("x = 2\n")
    assert fingerprint.provenance(script)["dirty"] is dirty


def test_an_uncommitted_script_makes_rows_dirty(checkout, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "exp_90_x.py"
    beside = checkout / "exp_90_x.py"
    for script in (elsewhere, beside):
        script.write_text("x = 1\n")
        assert fingerprint.provenance(script)["dirty"] is True


def test_outside_a_checkout_commit_and_dirty_are_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "PROJECT", tmp_path)
    origin = fingerprint.provenance(tmp_path / "exp_90_x.py")
    assert (origin["commit"], origin["dirty"]) == ("", "")


def test_a_script_that_git_ignores_makes_rows_dirty(checkout):
    (checkout / ".git" / "info" / "exclude").write_text("exp_9*\n__pycache__/\n")
    script = checkout / "experiments" / "exp_00_x.py"
    (checkout / "common" / "__pycache__").mkdir()
    (checkout / "common" / "__pycache__" / "losses.pyc").write_bytes(b"")
    assert fingerprint.provenance(script)["dirty"] is False
    for ignored in (checkout / "experiments" / "exp_91_y.py", checkout / "exp_90_x.py"):
        ignored.write_text("x = 1\n")
        assert fingerprint.provenance(ignored)["dirty"] is True
        ignored.unlink()


def test_a_copy_of_the_project_within_another_repository_has_no_commit(checkout, monkeypatch):
    archive = checkout / "downloads" / "project"
    (archive / "experiments").mkdir(parents=True)
    monkeypatch.setattr(fingerprint, "PROJECT", archive)
    for _ in range(2):
        origin = fingerprint.provenance(archive / "experiments" / "exp_00_x.py")
        assert (origin["commit"], origin["dirty"]) == ("", "")
        subprocess.run(["git", "add", "-A"], cwd=checkout, check=True)  # tracked by that repository in the second round


def test_git_variables_of_another_repository_are_ignored(checkout, tmp_path_factory, monkeypatch):
    script = checkout / "experiments" / "exp_00_x.py"
    expected = fingerprint.provenance(script)
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "init", "-q", "."], cwd=other, check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert len(expected["commit"]) == 40
    assert fingerprint.provenance(script) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of files")
def test_a_checkout_of_another_user_has_its_commit(checkout, monkeypatch, tmp_path_factory):
    script = checkout / "experiments" / "exp_00_x.py"
    expected = fingerprint.provenance(script)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # without the user's git settings
    for path in (checkout, checkout / ".git"):
        os.chown(path, 4321, 4321)
    assert fingerprint.provenance(script) == expected


def test_the_code_in_use_covers_all_that_a_worker_imports():
    script = PROJECT / "experiments" / "exp_03_l2.py"
    known = set(fingerprint.code_in_use(script))
    code = (
        "import importlib, pathlib, sys\n"
        "from common.running import worker\n"
        "from common.training import execution\n"
        "for path in pathlib.Path('experiments').glob('exp_*.py'): execution.load_script(path)\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] == 'common' and m.__file__], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    imported = {str(pathlib.Path(line).resolve()) for line in done.stdout.split()}
    assert len(imported) > 40
    assert imported <= known
    assert str(script) in known
    assert not {path for path in known if "/figures/" in path or "/report/" in path}
