"""Where rows come from: the commit, whether the code differs from it, and which files a trial may import."""

import pathlib
import subprocess
import sys

import pytest
from conftest import PROJECT

from common.running import fingerprint


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A clean checkout with code and rows; returns what `provenance` says of it."""
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
        ("experiments/exp_01_new.py", True),  # no commit holds it
        ("common/training/größe.py", True),
    ],
)
def test_only_what_decides_a_row_is_code(checkout, name, dirty):
    script = checkout / "experiments" / "exp_00_x.py"
    assert fingerprint.provenance(script)["dirty"] is False
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("x = 2\n")
    assert fingerprint.provenance(script)["dirty"] is dirty


def test_a_script_that_no_commit_holds_is_a_difference(checkout, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "exp_90_x.py"
    beside = checkout / "exp_90_x.py"
    for script in (elsewhere, beside):
        script.write_text("x = 1\n")
        assert fingerprint.provenance(script)["dirty"] is True


def test_outside_a_checkout_nothing_is_said_of_a_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "PROJECT", tmp_path)
    origin = fingerprint.provenance(tmp_path / "exp_90_x.py")
    assert (origin["commit"], origin["dirty"]) == ("", "")


def test_the_code_in_use_is_all_that_a_worker_imports():
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
