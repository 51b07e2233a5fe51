"""Commands with closed pipes, full disks, terminals without Unicode and folders that cannot be written to."""

import ast
import errno
import os
import subprocess
import sys
import tempfile

import pytest
from conftest import PROJECT

from common.commands import run as command
from common.running.progress import Display

LIST = [sys.executable, "-m", "common.commands.list"]


def listed(shell='exec "$@"', **variables):
    """Run `make list`, which prints a hundred lines, some with non-ASCII characters, with redirections of a shell."""
    environment = {**os.environ, **variables}
    return subprocess.run(["sh", "-c", shell, "sh", *LIST], cwd=PROJECT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", ">&- 2>&-"])
def test_closed_standard_streams_are_no_error(closed):
    done = listed(f'exec "$@" {closed}')
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_one_line():
    done = listed('exec "$@" >/dev/full')
    assert done.returncode == 1
    remedy = "correct that and run the same command again, which keeps the written rows"
    assert done.stderr == f"No space left on device: {remedy}\n"
    assert listed('exec "$@" >/dev/full 2>/dev/full').returncode == 1


@pytest.mark.parametrize("arguments", [LIST, [sys.executable, "-m", "common.commands.options"]])
def test_a_closed_pipe_ends_a_command_without_a_message(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(arguments, cwd=PROJECT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_characters_that_a_terminal_does_not_have_are_escaped():
    done = listed(PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"do two 3\xd73 convolutions beat one of 5\xd75?" in done.stdout


def test_a_file_is_no_terminal_whatever_the_environment_says(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    with Display() as display:
        display.print_line("[1/2] a line")
        display.update([])
    assert display.live is None
    assert capsys.readouterr().out == "[1/2] a line\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path, monkeypatch, capsys, number):
    """No inodes, no quota, or the folder of another user, when the folder of a worker's temporary files is created."""

    def mkdtemp(**_):
        raise OSError(number, os.strerror(number), str(tmp_path / "scratch"))

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    script = str(PROJECT / "experiments" / "exp_00_noise_floor.py")
    options = ["--rate", "0.1", "--seeds", "1", "--epochs", "1", "--results", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        command.main([script, *options])
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (1, 1)
    assert err.startswith(
        f"exp_00_noise_floor: {os.strerror(number)}: {tmp_path / 'scratch'}: correct that and run the same command"
    )


def test_drawing_needs_no_home_folder(tmp_path):
    code = "import common.commands.parsing, matplotlib.font_manager; print(matplotlib.get_configdir())"
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    environment |= {"HOME": "/no/such/home", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / f'matplotlib-{os.getuid()}'}\n"


@pytest.mark.parametrize("variable", ["MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_the_users_matplotlibrc_is_not_read(tmp_path, variable):
    """Matplotlib prints warnings about unknown settings, and fails if the file is not in UTF-8."""
    code = "import common.commands.parsing, matplotlib; print(matplotlib.rcParams['font.size'])"
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: 30\nfoo.bar: 3\n# \xff\n")
    environment = {**os.environ, variable: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10.0\n", "")


def test_all_files_are_read_and_written_with_a_stated_encoding():
    """The default encoding depends on the locale."""
    without = []
    for path in sorted([*PROJECT.glob("common/**/*.py"), *PROJECT.glob("experiments/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _as_text(node) and not any(k.arg in ("encoding", None) for k in node.keywords):
                without.append(f"{path.name}:{node.lineno}")
    assert not without


def _as_text(call):
    """Whether a call opens a file or a process as text."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        place = int(isinstance(call.func, ast.Name))
        mode = call.args[place] if len(call.args) > place else None
        return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value
    return name in ("read_text", "write_text") or any(k.arg in ("text", "universal_newlines") for k in call.keywords)
