"""Every command that README and docs show is run, or at least checked as far as this machine allows."""

import os
import re
import shlex
import subprocess

import pytest
from conftest import PROJECT
from pages import PAGES, blocks, prose

from common.commands import options, parsing
from common.commands import run as command
from common.running.scripts import read_script

COMMANDS = [line.split("#")[0].strip() for block in blocks("") for line in block.text.splitlines()]
CONSOLE = blocks("console")
INLINE = sorted({words for path in PAGES for words in re.findall(r"`(make [^`]+)`", prose(path)) if "…" not in words})
"""Commands within sentences; NN stands for any number."""
REASONS = {
    "make test": "it would run itself",
    "make setup GPU=1": "it would install CUDA",
    "make bench": "it trains for minutes, on CIFAR-10",
    "make gpu-check": "it needs a GPU",
    "make overhead": "it trains for minutes",
    "make bench-report": "it draws forty experiments",
    "make bench-rows": "it writes a gigabyte",
    "make compare EXP=03,05,07,16 SETTING=small": "it needs rows",
    "make tensorboard EXP=03": "it serves until Ctrl-C",
    "make reproduce ROW=5fdad8ed": "it needs such a row, and trains it",
    "make all": "it plans every experiment, which takes a minute",
    "make all EXP=00,03,09 SETTING=small": "it needs CIFAR-10",
    "make exp-03 SETTING=small": "it needs CIFAR-10",
    "make exp-03 SETTING=small UNTIL=decided": "it needs CIFAR-10",
    "make exp-03 SETTING=small JOBS=2": "it needs CIFAR-10",
    "make exp-03 SETTING=small THREADS=2": "it needs CIFAR-10",
    "make exp-03 SETTING=full": "it needs CIFAR-10",
    "make exp-03 SETTING=full TRIALS_PER_GPU=3": "it needs CIFAR-10",
    "make exp-03 SETTING=full REPLICAS=2": "it needs CIFAR-10",
    "make exp-03 SETTING=full CHECKPOINT_STEPS=500 STALL_SECONDS=3600": "it needs CIFAR-10",
    "make exp-03 ARMS=baseline,l2=1e-4 SEEDS=3 EPOCHS=5 DATASET=mnist TRAIN=10000 JOBS=2 RESULTS=out": "it needs MNIST",
    "make exp-01 DATASET=path/to/images": "it needs images",
    "make exp-03 DATASET=path/to/images DRY=1": "it needs images",
    "make setup RAY=1": "it would install Ray",
    "RAY_ADDRESS=10.0.0.1:6379 make exp-03 ENGINE=ray": "it needs a cluster",
    "make exp-03 ENGINE=ray WORKERS=2 SETTING=full": "it needs a cluster",
    'kubectl exec -it "$HEAD_POD" -- make all ENGINE=ray SETTING=full RESULTS=/shared/out': "it needs a cluster",
    "make bench-ray": "it trains for minutes",
}
"""Commands that are only checked: make hands them on, and the command line takes them."""
RUN = sorted(set(COMMANDS) - set(REASONS))
WITHOUT_TRAINING = ("list", "status", "verdicts", "report", "check", "plots", "help")
"""Targets that train nothing, besides verdict-NN."""


def run(words, *more):
    """The outcome of a command, from the project's folder; `.venv` is taken as it is."""
    words = words[words.index("--") + 1 :] if words[0] == "kubectl" else words
    own = dict([words[0].split("=")]) if words[0].startswith("RAY_ADDRESS=") else {}
    words = words[len(own) :]
    words = [words[0], "-o", "setup", *words[1:]] if words[0] == "make" else words
    return subprocess.run([*words, *more], cwd=PROJECT, capture_output=True, text=True, env={**os.environ, **own})


def test_the_list_of_what_is_only_checked_names_commands_that_are_shown():
    assert set(REASONS) <= set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_command_runs(line, tmp_path):
    """Where it would train, it plans what it would train (DRY=1)."""
    words = shlex.split(line)
    if words[0] != "make":
        done = run(words, "--dry", "--results", str(tmp_path))
    else:
        trains = words[1].startswith(("exp-", "sweep-"))
        assert trains or words[1] in WITHOUT_TRAINING or words[1].startswith("verdict-")
        done = run(words, *(["DRY=1", f"RESULTS={tmp_path}"] if trains else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("line", REASONS)
def test_a_command_that_is_not_run_is_one_that_make_and_the_command_line_take(line):
    done = run(shlex.split(line), "-n")
    assert (done.returncode, done.stderr) == (0, "")
    words = shlex.split(done.stdout.splitlines()[-1])
    if "common.commands.run" in words:
        number, *handed_on = words[words.index("common.commands.run") + 1 :]
        experiment, given = read_script(command.find_script(number)), parsing.parse(options.STUDY, handed_on)
        assert command._chosen_arms(experiment.arms, given.arms)
        assert command._select(experiment, given).setting


@pytest.mark.parametrize("line", INLINE)
def test_a_command_within_a_sentence_is_one_that_make_takes(line):
    assert run(shlex.split(line.replace("-NN", "-03")), "-n").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.page)
def test_a_command_prints_what_is_shown(block, tmp_path):
    """`…` stands for whatever a machine says there."""
    line, *expected = block.text.splitlines()
    done = run(shlex.split(line.removeprefix("$ ")), f"RESULTS={tmp_path}")
    assert done.returncode == 0
    lines = [said for said in done.stdout.splitlines() if not said.startswith("from the environment: ")]
    assert len(lines) == len(expected)
    for shown, said in zip(expected, lines, strict=True):
        assert re.fullmatch(".*".join(map(re.escape, shown.split("…"))), said)


def test_there_are_commands():
    assert len(COMMANDS) > 20
    assert CONSOLE
