"""Limits of a test that is not marked `slow`: few trainings in this process, of few updates, and no other process that trains."""

import contextlib
import pathlib
import re
import subprocess
import sys

import pytest

HERE = str(pathlib.Path(__file__).parent)
TRAININGS = 2
"""Each compiles an update, which takes about half a second."""
UPDATES = 50
TRAINING = re.compile(
    rf"common\.running\.worker|common\.commands\.(run|all|reproduce)|(.*\W)?exp_\d\d_\w+(\.py)?|({re.escape(HERE)}|tests)/.+\.py"
)
"""Modules and scripts that train."""
TARGETS = re.compile(r"(exp|sweep)-\d+|all|reproduce|test|test-fast|golden|chaos|bench|overhead|gpu-check")
"""Targets of make that train."""
DRY = {"-n", "--dry", "DRY=1"}


def trains(command) -> bool:
    """Whether a command, a list of words or a line, trains or starts processes that train."""
    program, *words = command.split() if isinstance(command, str) else map(str, command)
    name = pathlib.Path(program).name.rstrip("0123456789.")
    if DRY & set(words):
        return False
    if name == "make":
        return any(TARGETS.fullmatch(word) for word in words)
    return name == "python" and bool(TRAINING.fullmatch(run_by_python(words)))


def run_by_python(words: list[str]) -> str:
    """The module or script that a command line of Python runs; empty for code."""
    if "-m" in words:
        return words[words.index("-m") + 1]
    return "" if "-c" in words else next((word for word in words if not word.startswith("-")), "")


@contextlib.contextmanager
def limited():
    """Context manager in which what exceeds the limits fails the test."""
    start, counts = subprocess.Popen.__init__, {"trainings": 0, "updates": 0}

    def started(process, args, *others, **options):
        if trains(args):
            exceeded(f"starts a process that trains: {args}")
        start(process, args, *others, **options)

    def counted(function, name, most, number=lambda _: 1):
        def call(*given):
            result = function(*given)
            counts[name] += number(result)
            if counts[name] > most:
                exceeded(f"makes more than {most} {name}")
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", started)
        update = sys.modules.get("common.training.update")  # without it nothing is trained, and its import takes seconds
        if update:
            patch.setattr(update, "compiled", counted(update.compiled, "trainings", TRAININGS))
            patch.setattr(update, "results", counted(update.results, "updates", UPDATES, len))
        yield


def exceeded(what):
    pytest.fail(f"a test that is not marked slow {what}. Mark it with pytest.mark.slow, or train less")
