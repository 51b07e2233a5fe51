"""Options on the command lines of make and Python."""

import os
import re
import shlex
import subprocess

import pytest
from conftest import PROJECT

from common.commands import options, parsing
from common.commands import run as command
from common.data.dataset import NAMES
from common.errors import Misuse
from common.running.runner import STALL_SECONDS
from common.setting import PRECISIONS
from common.text import number_of, two_digits


def test_options_of_make_and_python_are_equivalent():
    words = "ARMS=a SEEDS=1 DATASET=d EPOCHS=2 BATCH=3 TRAIN=4 SIZE=5 COLOUR=grey PRECISION=p THREADS=6 JOBS=7 RESULTS=r "
    words += "CHECKPOINT_STEPS=8 REPLICAS=2 TRIALS_PER_GPU=3 STALL_SECONDS=9 FULL=1 SMOKE=1 KEEP=1 DEBUG=1 DRY=1 "
    words += "SETTING=full TUNER=t TRIALS=10 SWEEPS=11 RATE=0.1 UNTIL=decided SVG=1 WORKERS=2 ENGINE=ray SAME_DEVICE=0"
    done = subprocess.run(["make", "-n", "-o", "setup", "sweep-03", *words.split()], cwd=PROJECT, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if "common.commands.run" in line)
    number, *passed_on = shlex.split(line)[4:]
    assert number == "03"
    values = {
        **{
            "setting": "full",
            "arms": "a",
            "seeds": 1,
            "dataset": "d",
            "epochs": 2,
            "batch": 3,
            "train": 4,
            "size": 5,
            "colour": "grey",
        },
        **{"precision": "p", "threads": 6, "jobs": 7, "results": "r", "checkpoint_steps": 8, "replicas": 2},
        **{"trials_per_gpu": 3, "stall_seconds": 9, "setting": "full", "tuner": "t", "trials": 10, "sweeps": 11, "rate": "0.1"},
        **{"until": "decided", "workers": 2, "engine": "ray", "same_device": 0},
        **dict.fromkeys(("full", "smoke", "keep", "debug", "dry", "sweep", "svg"), True),
    }
    assert vars(parsing.parse(options.STUDY, passed_on)) == values
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in values.items()]
    assert vars(parsing.parse(options.STUDY, flags)) == values
    assert set(values) == set(options.STUDY)


def test_make_passes_options_on_and_ignores_the_environment():
    arms = "it's a b=1,l2=1e-4"
    command = ["make", "-n", "-o", "setup", "exp-03", f"ARMS={arms}", "FULL=0", "DRY="]
    environment = {**os.environ, "SEEDS": "3"}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=environment)
    given = parsing.parse(options.STUDY, shlex.split(done.stdout.splitlines()[-1])[5:])
    assert (given.arms, given.full, given.dry) == (arms, False, False)
    assert given.seeds is None  # the environment sets no option


@pytest.mark.parametrize(
    "value", ["$HOME", "a$b$$c", "$(shell exit)", "`id`", 'it\'s "so" \\n', "x = y", "#1; :", "100 % ", "größe *"]
)
def test_special_characters_in_values_are_passed_on_unchanged(value):
    done = made("exp-3", f"DATASET={value}")
    assert parsing.parse(options.STUDY, shlex.split(done.stdout.splitlines()[-1])[5:]).dataset == value


def made(*words, **variables):
    """A dry run of make, without setup."""
    environment = {**os.environ, **variables}
    return subprocess.run(["make", "-n", "-o", "setup", *words], cwd=PROJECT, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("value", "on"),
    [(v, True) for v in ("1", "yes", "True", "ON", "y")] + [(v, False) for v in ("", "0", "no", "false", "Off", "N")],
)
def test_a_switch_is_on_or_off(value, on):
    assert parsing.parse(options.STUDY, [f"FULL={value}"]).full is on
    done = subprocess.run(["make", "-n", "setup", f"GPU={value}"], cwd=PROJECT, capture_output=True, text=True)
    assert f"-r {'requirements-gpu' if on else 'requirements'}.lock" in done.stdout


@pytest.mark.parametrize("value", ["maybe", "2", "nO", "-1", "1 1"])
def test_invalid_values_of_a_switch_are_refused(value):
    message = f"FULL must be 1 (or yes, true, on) or 0 (or no, false, off). Received: {value}"
    with pytest.raises(Misuse, match=re.escape(message)):
        parsing.parse(options.STUDY, [f"FULL={value}"])
    for name in ("DRY", "GPU"):
        done = made("exp-03", f"{name}={value}")
        assert (done.returncode, done.stderr.count("\n"), message.replace("FULL", name) in done.stderr) == (2, 1, True)


def test_the_makefile_has_the_same_values_of_a_switch():
    line = next(line for line in (PROJECT / "Makefile").read_text(encoding="utf-8").splitlines() if line.startswith("on = "))
    known = {"", *line.partition("filter-out ")[2].partition(",")[0].split()}
    assert known == {v for word in options.OFF for v in (word, word.upper(), word.capitalize())}


def test_variables_of_the_environment_do_not_set_options_of_make():
    generic = {"PYTHON": "/no/python", "GPU": "1", "ARGS": "--collect-only", "SEEDS": "3", "UV": "/no/uv", "PYTHONPATH": "/no"}
    pytest_command = ".venv/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder"
    assert made("test", **generic).stdout == made("test").stdout == f"{pytest_command} \n"
    assert made("exp-03", **generic).stdout == made("exp-03").stdout
    assert made("test", "ARGS=-k 'a or b'", **generic).stdout == f"{pytest_command} -k 'a or b'\n"
    assert made("test-fast", "ARGS=-x", **generic).stdout == f'{pytest_command} -m "not slow" -x\n'
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, env={**os.environ, **generic})
    assert (done.returncode, "EPOCHS=n" in done.stdout) == (0, True)


@pytest.mark.parametrize("number", ["3", "03", "003"])
def test_numbers_of_experiments_may_have_any_leading_zeros(number):
    assert command.find_script(number).name == "exp_03_l2.py"
    assert number_of(f"exp_{number}_x") == "03"
    assert two_digits("0") == "00"


def test_a_misspelt_option_of_make_is_named():
    done = made("exp-03", "EPOCH=3")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Received: EPOCH" in done.stderr


def test_help_texts_list_all_datasets_precisions_and_tuners():
    texts = {option.name: option.meaning for option in options.OPTIONS}
    for name, words in (("dataset", NAMES), ("precision", PRECISIONS), ("tuner", command.SWEEP_TUNERS)):
        assert all(word in texts[name] for word in words)
    assert f"default {STALL_SECONDS}" in texts["stall_seconds"]


def test_a_value_may_look_like_an_option_of_make():
    assert parsing.parse(options.STUDY, ["--arms", "LR=1", "SEEDS=2"]).arms == "LR=1"


def test_a_target_without_options_refuses_them():
    done = made("test", "SEEDS=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "make test has no options except PYTHON, GPU, RAY, ARGS. Received: SEEDS" in done.stderr
    assert options.refusal(["SEDS=3"], ["exp-03"]).endswith("Received: SEDS (did you mean 'SEEDS'?)")
    assert options.refusal(["ARGS"], ["test"]) == options.refusal(["SEEDS"], ["exp-03", "lint"]) == ""
