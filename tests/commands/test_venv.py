"""When .venv is set up again. Nothing is installed: Python is replaced by a script that records its arguments."""

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import PROJECT

from common.commands import venv

LOCK = """six==1.17.0 \\
    --hash=sha256:0
flat-buffers==25.1 ; python_version < '3.12' \\
flat-buffers==26.2 ; python_version >= '3.12'
"""
FAKE = """#!/bin/sh
case "$*" in
  *venv.py*) cat {state}/why; exit $(cat {state}/status);;
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo 0 >{state}/status; : >{state}/why;;
esac
echo "$*" >>{state}/asked
"""


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (["six-1.17.0", "Flat_Buffers-26.2", "wandb-1.0"], ""),
        (["six-1.17.0"], ""),  # flat-buffers depends on the version of Python
        (["six-1.16.0"], "six 1.16.0 is installed, 1.17.0 is locked"),
        (["six-1.17.0", "flat_buffers-24.0"], "flat-buffers 24.0 is installed, 25.1 or 26.2 is locked"),
        ([], "six is missing"),
    ],
)
def test_packages_must_be_those_of_the_lock_file(tmp_path, folders, reason):
    for name in folders:
        (tmp_path / f"{name}.dist-info").mkdir()
    assert venv.problem(LOCK, tmp_path) == reason


def test_the_venv_of_these_tests_has_the_locked_packages():
    (packages,) = (PROJECT / ".venv").glob("lib/python3*/site-packages")
    assert venv.problem((PROJECT / "requirements.lock").read_text(encoding="utf-8"), packages) == ""


def test_a_moved_venv_is_accepted_and_a_stale_one_is_not(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "a" / ".venv"], check=True)
    (tmp_path / "requirements.lock").write_text(LOCK)
    shutil.copyfile(tmp_path / "requirements.lock", tmp_path / "a" / ".venv" / "installed.lock")
    (packages,) = (tmp_path / "a" / ".venv").glob("lib/python3*/site-packages")
    (packages / "six-1.17.0.dist-info").mkdir()

    extra = tmp_path / "requirements-ray.lock"
    extra.write_text("ray==2.60.0 \\\n")

    def check(place, lock=tmp_path / "requirements.lock", how="--or-with"):
        command = [tmp_path / place / ".venv" / "bin" / "python", "-I", venv.__file__, lock, how, extra]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert check("a") == (0, "")
    assert (packages / "project.pth").read_text() == venv.START
    (tmp_path / "a").rename(tmp_path / "b")
    assert check("b") == (0, "")
    assert check("b", how="--with") == (1, "the lock file has changed\n")  # make setup RAY=1
    installed = tmp_path / "b" / ".venv" / "installed.lock"
    installed.write_text(LOCK + extra.read_text())
    assert check("b") == (1, "ray is missing\n")
    (tmp_path / "b" / packages.relative_to(tmp_path / "a") / "ray-2.60.0.dist-info").mkdir()
    assert check("b") == check("b", how="--with") == (0, "")
    (tmp_path / "newer.lock").write_text(LOCK.replace("1.17", "1.18"))
    assert check("b", tmp_path / "newer.lock") == (1, "the lock file has changed\n")
    installed.unlink()
    assert check("b") == (1, "it is incomplete\n")


@pytest.fixture
def project(tmp_path):
    """A project with the Makefile and lock files, and a Python in a folder with a space and an apostrophe in its name.

    `setup(reason, status)` runs make setup, with the output and exit status of venv.py. It returns the finished process and the
    arguments with which Python was called.
    """
    shutil.copyfile(PROJECT / "Makefile", tmp_path / "Makefile")
    shutil.copytree(PROJECT / "common" / "commands", tmp_path / "common" / "commands")
    for name in ("requirements.lock", "requirements-gpu.lock", "requirements-ray.lock"):
        (tmp_path / name).write_text(name)
    state, python = tmp_path / "state", tmp_path / "my o'python" / "python3"
    state.mkdir()
    python.parent.mkdir()
    python.write_text(FAKE.format(state=state))
    python.chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(python, tmp_path / ".venv" / "bin" / "python")

    def setup(why="", status=0, *options):
        (state / "why").write_text(why)
        (state / "status").write_text(str(status))
        (state / "asked").write_text("")
        done = subprocess.run(["make", "setup", f"PYTHON={python}", *options], cwd=tmp_path, capture_output=True, text=True)
        return done, (state / "asked").read_text().splitlines()

    return SimpleNamespace(setup=setup, folder=tmp_path)


OPTIONS = "-m common.commands.options "
# Without --use-pep517 the pip of Python 3.11 installs promise, which PyPI has as source only, without a dist-info.
INSTALL = "-m pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes --no-deps -r requirements.lock"


def test_a_valid_venv_is_left_unchanged(project):
    done, asked = project.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [line for line in asked if not line.startswith(OPTIONS)]


@pytest.mark.parametrize("how", ["stale", "no python", "no venv"])
def test_an_invalid_venv_is_set_up_again(project, how):
    if how == "no python":  # it has been removed
        (project.folder / ".venv" / "bin" / "python").unlink()
        (project.folder / ".venv" / "bin" / "python").symlink_to("/no/such/python3.9")
    if how == "no venv":
        shutil.rmtree(project.folder / ".venv")
    done, asked = project.setup("the lock file has changed\n", 1)
    assert done.returncode == 0, done.stderr
    why = ": the lock file has changed" if how == "stale" else ""
    assert done.stdout == f"Installing requirements.lock into .venv (once{why}) …\n"
    modules = [line for line in asked if line.startswith("-m ") and not line.startswith(OPTIONS)]
    assert modules == ["-m venv --clear .venv", INSTALL]
    assert (project.folder / ".venv" / "installed.lock").read_text() == "requirements.lock"


def test_ray_is_installed_besides_the_other_packages(project):
    done, asked = project.setup("the lock file has changed\n", 1, "RAY=1", "GPU=1")
    assert done.returncode == 0, done.stderr
    assert INSTALL.replace("requirements.lock", "requirements-gpu.lock -r requirements-ray.lock") in asked
    assert (project.folder / ".venv" / "installed.lock").read_text() == "requirements-gpu.lockrequirements-ray.lock"


@pytest.mark.parametrize(
    ("options", "locks"),
    [
        ([], "requirements.lock requirements-gpu.lock --or-with requirements-ray.lock"),
        (["RAY=1"], "requirements.lock requirements-gpu.lock --with requirements-ray.lock"),
        (["GPU=1", "RAY=1"], "requirements-gpu.lock --with requirements-ray.lock"),
    ],
)
def test_which_lock_files_a_command_accepts(options, locks):
    printed = subprocess.run(["make", "-n", "list", *options], cwd=PROJECT, capture_output=True, text=True).stdout
    assert f"-I common/commands/venv.py {locks} " in " ".join(printed.split())


def test_the_versions_besides_ray_are_those_of_the_other_lock_files():
    def versions(name):
        text = (PROJECT / name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

    with_ray = versions("requirements-ray.lock")
    assert "ray" in with_ray
    for name in ("requirements.lock", "requirements-gpu.lock"):
        others = versions(name)
        assert {package: others[package] for package in with_ray if package in others}.items() <= with_ray.items()


def test_a_venv_that_is_a_link_is_never_cleared(project):
    (project.folder / ".venv").rename(project.folder / "shared")
    (project.folder / ".venv").symlink_to(project.folder / "shared")
    done, asked = project.setup("the lock file has changed\n", 1)
    assert done.returncode == 2
    assert ".venv is a link to an environment that cannot be used: remove the link, then make setup. Received: the" in done.stderr
    assert not [line for line in asked if line.startswith("-m ") and not line.startswith(OPTIONS)]
