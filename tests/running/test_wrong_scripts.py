"""Scripts with errors: one line and exit status 2, before anything is trained."""

import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT
from processes import run_script

from common.commands import run as run_command
from common.commands import verdicts as verdicts_command
from common.errors import Misuse
from common.rows import schema, store

SCRIPT = '''"""Exp 40: is it read?"""
import keras
import numpy as np
from keras import optimizers

from common.experiment import Experiment, Setting
from common.models import small_cnn

# here


def train(trial, *, rate=0.1):
    """One fit."""
    return trial.fit(small_cnn(trial), optimizer=optimizers.SGD(rate))


experiment = Experiment(train, arms={"baseline": {}}, setting=Setting("digits", epochs=1, train_size=32), seeds=1)

if __name__ == "__main__":
    experiment.main()
'''
HERE, TRAIN, DECLARED = 9, 12, 17
"""Numbers of its lines."""


def write(folder, *changes):
    text = SCRIPT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "exp_40_read.py"
    path.write_text(text)
    return path


def made(call):
    """A change of the script's declaration."""
    return (next(line for line in SCRIPT.splitlines() if line.startswith("experiment =")), call)


ARMS = 'arms={"baseline": {}}'
TRAINED = "return trial.fit(small_cnn(trial), optimizer=optimizers.SGD(rate))"
WRONG = {
    "syntax": (("# here", "values = [1, 2"), f"SyntaxError: '[' was never closed: values = [1, 2 (exp_40_read.py:{HERE})"),
    "a name": (("# here", "values = unknown"), f"NameError: name 'unknown' is not defined (exp_40_read.py:{HERE})"),
    "a package": (("# here", "import no_such_package"), "ModuleNotFoundError: No module named 'no_such_package'"),
    "an exit": (("# here", "import sys; sys.exit(0)"), f"SystemExit: 0 (exp_40_read.py:{HERE})"),
    "a setting": (('"digits", epochs=1', '"digits", epochs=0'), f"epochs must be .* Received: 0 (exp_40_read.py:{DECLARED})"),
    "an option": (("seeds=1", "seed=1"), f"unexpected keyword argument 'seed' (exp_40_read.py:{DECLARED})"),
    "no experiment": (made("study = Experiment"), "experiment = Experiment(train, …). Received: no such name"),
    "another experiment": (made("experiment = 3"), "Received: int"),
    "first arm": ((ARMS, 'arms={"none": {}}'), "call it 'baseline', or set Experiment(baseline=…) .* Received: 'none'"),
    "no arms": ((ARMS, "arms={}"), "an experiment needs arms, .* Received: {}"),
    "a list of arms": ((ARMS, 'arms=["baseline"]'), "arms must be a dict of dicts: .* Received: ['baseline']"),
    "a name for a setting": (
        ('Setting("digits", epochs=1, train_size=32)', '"digits"'),
        "setting must be a Setting: .* 'digits'",
    ),
    "no trial": (
        ("(trial, *, rate=0.1)", "(*, rate=0.1)"),
        "train must take the trial first: .* Received: def train(*, rate=0.1)",
    ),
    "no argument": (("(trial, *, rate=0.1)", "()"), "train must take the trial first: .* Received: def train()"),
    "an argument unset": (("rate=0.1)", "rate)"), "arm 'baseline' does not fit train(): missing a required .*argument: 'rate'"),
    "train is no function": (("Experiment(train", "Experiment(keras"), "train must be a function, defined with def"),
    "train of another file": (("# here", "from mended import train as other"), None),
    "train as a lambda": (("Experiment(train", "Experiment(lambda trial: None"), "defined with def at the top of the script"),
    "train decorated without wraps": (
        ("def train", "@lambda of: lambda trial: of(trial)\ndef train"),
        "defined with def at the top",
    ),
    "train made by a function": (
        (
            "experiment = Experiment(train",
            "def make():\n    def train(trial): return 1\n    return train\nexperiment = Experiment(make()",
        ),
        "defined with def at the top of the script",
    ),
    "another module beside it": (("# here", "from experiments.exp_03_l2 import ARMS"), "Received: import experiments.exp_03_l2"),
    "a test module": (("# here", "import tests.made"), "must not import modules beside it, .* Received: import tests.made"),
    "no return": ((TRAINED, "model = trial.fit(small_cnn(trial), optimizer=optimizers.SGD(rate))"), f"(exp_40_read.py:{TRAIN})"),
    "an unguarded main": (('if __name__ == "__main__":\n    ', ""), 'put it below if __name__ == "__main__":. Received: a call'),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_an_error_in_a_script_is_one_line_and_status_2(tmp_path, capsys, change, message):
    path = write(tmp_path, change)
    if message is None:
        (tmp_path / "mended.py").write_text("def train(trial):\n    return None\n")
        path.write_text(path.read_text().replace("Experiment(train", "Experiment(other"))
        message = "train must be defined in the script itself. Received: that of .*mended.py"
    before = set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(SystemExit) as ended:
            run_command.main([str(path), "--results", str(tmp_path / "out")])
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mended", None)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("exp_40_read: ") and "exp_40_read: " not in err[5:]
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), err), err
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("keras", "tensorflow")}


COMPUTED = """
RATES = np.pi * (1 - keras.ops.log(10.0)) / np.float32(2) ** -keras.config.epsilon() + [keras.x][0]
Layer = keras.Layer | None


@keras.saving.register_keras_serializable()
def schedule(layer: keras.Layer | None, kind: dict[str, keras.Layer] | None = None):
    return abs(RATES) @ keras.y[2:, 0]


with keras.name_scope("x"):
    ALIKE = RATES
"""


def test_a_script_may_compute_with_keras_outside_of_train(tmp_path):
    done = run_apart(write(tmp_path, ("# here", COMPUTED)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 trials to run" in done.stdout


@pytest.mark.parametrize(
    ("change", "name", "line"),
    [
        ((ARMS, 'arms={"baseline": {"rate": float(keras.ops.exp(-2.0))}}'), "keras.ops.exp", DECLARED),
        (("# here", "if keras.ops.log(9.0) > 2: pass"), "keras.ops.log", HERE),
        (("# here", "for image in 2 * keras.datasets.mnist.load_data(): pass"), "keras.datasets.mnist.load_data", HERE),
    ],
)
def test_a_script_that_needs_values_from_keras_outside_of_train_is_refused(tmp_path, change, name, line):
    done = run_apart(write(tmp_path, change))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"only be used within train: move the line there. Received: the value of {name} (exp_40_read.py:{line})" in done.stderr


def run_apart(path):
    """A dry run in a new process, in which Keras is not imported."""
    return run_script(path, ["--dry", "--results", path.parent / "out"])


# --- main ------------------------------------------------------------------------------------------------------------


def run_alone(path, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL)


GUARD = 'if __name__ == "__main__":\n    experiment.main()\n'
LIGHT = ("import keras\nimport numpy as np\nfrom keras import optimizers\n", ""), ("from common.models import small_cnn\n", "")


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ((GUARD, ""), 2, 'nothing was run: end the script with if __name__ == "__main__": experiment.main()\n'),
        ((GUARD, GUARD.replace("__main__", "main")), 2, "nothing was run: "),
        ((GUARD, "experiment.main()\n"), 2, 'put it below if __name__ == "__main__":. Received: a call while exp_40_read is'),
        ((GUARD, GUARD.replace("main()", "run()")), 1, "AttributeError: 'Experiment' object has no attribute 'run'\n"),
        ((ARMS, 'arms={"none": {}}'), 2, "the first arm must be the baseline"),
    ],
    ids=["no main", "another guard", "no guard", "an exception", "first arm"],
)
def test_a_script_that_runs_nothing_is_reported(tmp_path, change, status, message):
    done = run_alone(write(tmp_path, *LIGHT, change), "--dry", "--results", tmp_path / "out")
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert ("nothing was run" in done.stderr) is ("nothing was run" in message)
    assert done.stderr.count("\n") == 1 or status == 1


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_two_scripts_with_the_same_number_are_refused(tmp_path, monkeypatch, capsys):
    from common.commands import all as all_command
    from common.commands import list as list_command

    for name in ("exp_40_read.py", "exp_40_copy.py", "exp_41_other.py"):
        shutil.copyfile(write(tmp_path), tmp_path / name) if name != "exp_40_read.py" else None
    paths = sorted(tmp_path.glob("exp_*.py"))
    for command in (run_command, all_command, list_command, verdicts_command):
        monkeypatch.setattr(command, "experiment_scripts", lambda: paths)
    message = "rename all but one. Received: exp_40_copy.py, exp_40_read.py"
    monkeypatch.setattr(sys, "argv", ["command", "--results", str(tmp_path)])
    calls = [lambda: run_command.find_script("40"), list_command.run, lambda: all_command.chosen(None)]
    for call in [*calls, lambda: all_command.chosen("41,40")]:
        with pytest.raises(Misuse, match=message):
            call()
    for number in ("40", "all"):
        monkeypatch.setattr(sys, "argv", ["command", number, "--results", str(tmp_path)])
        with pytest.raises(Misuse, match=message):
            verdicts_command.run()
    assert run_command.find_script("exp_40_copy").name == "exp_40_copy.py"  # a name is unambiguous
    assert run_command.find_script("41").name == "exp_41_other.py"
    assert all_command.chosen("41") == ["exp_41_other"]
    assert capsys.readouterr().out == ""


# --- DEBUG=1 ---------------------------------------------------------------------------------------------------------

DEBUGGED = """
    if rate == 0.2:
        return np.zeros(3)[7]
    breakpoint()
    print("the rate is", rate)
    assert os.getppid() == PARENT
"""


def test_debug_trains_in_the_main_process_with_its_terminal(tmp_path):
    """First with all arms, then with one that is finished, which is trained again."""
    arms = (ARMS, 'arms={"baseline": {}, "other": {"rate": 0.2}}')
    body = DEBUGGED.strip().replace("PARENT", str(os.getpid()))
    path = write(tmp_path, ("import keras\n", "import os\n"), arms, (TRAINED, f"{body}\n    {TRAINED}"))
    files = schema.Files(tmp_path / "out" / "quick-digits-debug", "exp_40_read")
    output = debugged(path, "DEBUG=1", "RESULTS=out", cwd=tmp_path)
    assert "rows in out/quick-digits-debug/exp_40_read.csv" in output
    assert "2 of 2 trials to run" in output
    assert "(Pdb) " in output and "('***', 0.5)\r\n" in output  # the typed command was evaluated
    assert "the rate is 0.1\r\n[1/2] baseline seed 0: test accuracy" in output
    assert "Traceback (most recent call last)" in output and "return np.zeros(3)[7]" in output
    reason = r"IndexError: index 7 is out of bounds for axis 0 with size 3 \(exp_40_read.py:15\)"
    assert re.search(rf"\[2/2\] other seed 0: failed: {reason}\r\n", output), output
    assert output.splitlines()[-1].endswith("1 of 2 trials failed, see the lines above: the same command starts them again")
    assert "\x1b[?25l" not in output  # there are no live lines
    (done, failed) = store.read_rows(files)
    assert (done["status"], failed["status"]) == ("done", "failed")
    assert store.read_declaration(files)["demonstration"]
    assert not list(tmp_path.rglob("*.log"))

    again = debugged(path, "DEBUG=1", "RESULTS=out", "ARMS=baseline", cwd=tmp_path)
    assert "1 of 1 trials to run" in again
    assert store.read_rows(files)[0]["weights"] == done["weights"]


def debugged(path, *options, cwd):
    """The output of a run on a terminal in which `p rate * 5` and `c` are typed."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TERM": "xterm"}
    command = [sys.executable, "-m", "common.commands.run", str(path), *options]
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.write(terminal, b"p '***', rate * 5\nc\n")
    output = b""
    while True:
        try:
            output += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
    process.wait(timeout=60)
    return output.decode()


@pytest.mark.parametrize("option", ["JOBS=2", "SWEEP=1"])
def test_options_that_debug_does_not_support_are_refused(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as ended:
        run_command.main([str(write(tmp_path)), "DEBUG=1", option, f"RESULTS={tmp_path / 'out'}"])
    assert ended.value.code == 2
    assert "DEBUG=1 trains one trial at a time in the main process" in capsys.readouterr().err
