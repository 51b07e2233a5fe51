"""The options of all commands, each declared once: `make exp-03 SEEDS=3` is `--seeds 3` on the command line.

Run as a module it prints their part of `make help`, or one line about names that are not options. It needs nothing that has to
be installed, so that make can ask before it installs anything.
"""

import os
import sys
from typing import NamedTuple

from common.text import did_you_mean


class Option(NamedTuple):
    """An option, in capitals on make's command line."""

    name: str
    metavar: str
    """Placeholder of the value in help texts; empty for a switch."""
    meaning: str
    least: "int | None" = None  # in quotes, for older versions of Python
    """Lower bound of the value, which is a whole number; None for a text."""


STUDY_OPTIONS = (
    Option("setting", "s", "quick, small or full (default quick; the first with DATASET, else small)"),
    Option("full", "", "the same as SETTING=full"),
    Option("arms", "a,b", "arms to train, by name (not of make all)"),
    Option("seeds", "n", "number of seeds, which are 0 … n-1", 1),
    Option("until", "decided", "train 5, 10 or 20 seeds of all arms, until the first claim is decided or hardly can be"),
    Option("dataset", "name", "digits, mnist, fashion_mnist, cifar10, cifar100, a folder"),
    Option("epochs", "n", "number of epochs", 1),
    Option("batch", "n", "batch size", 1),
    Option("train", "n", "number of training images, a stratified subset", 1),
    Option("size", "n", "height and width of the images in pixels", 1),
    Option("colour", "c", "grey or rgb"),
    Option("rate", "0.01", "learning rate, in place of a searched one"),
    Option("precision", "p", "float32, mixed_bfloat16 or mixed_float16"),
    Option("threads", "n", "CPU threads of a trial (default 1; changes the last bits)", 1),
    Option("replicas", "n", "devices that share each batch of a trial (default 1)", 1),
    Option("workers", "n", "machines that share each batch of a trial, with ENGINE=ray (default 1)", 1),
    Option("jobs", "n", "trials at the same time (default: as many as the devices allow)", 1),
    Option("engine", "ray", "where trials run: local (this machine, the default) or ray (a Ray cluster, docs/scale.md)"),
    Option("same_device", "0", "with ENGINE=ray: 0 lets arms of one seed run on different kinds of processors (default 1)", 0),
    Option("trials_per_gpu", "n", "trials that share a GPU (default 1)", 1),
    Option("stall_seconds", "n", "time limit for a trial reporting no progress (default 900)", 1),
    Option("checkpoint_steps", "n", "save checkpoints every n updates, not only after epochs", 1),
    Option("results", "dir", "folder for rows and figures (default results)"),
    Option("svg", "", "draw figures as SVG too, not only as PNG (also of plots and report)"),
    Option("keep", "", "save the trained models as .keras"),
    Option("smoke", "", "one epoch, one seed, 256 images, in a separate folder"),
    Option("debug", "", "train in this process: prints and breakpoints work"),
    Option("dry", "", "print what would be trained, and stop"),
    Option("sweep", "", "search with keras-tuner, for later runs: the same as sweep-NN"),
    Option("tuner", "t", "of sweep-NN: halton, random, bayesian or hyperband"),
    Option("trials", "n", "of sweep-NN: points per arm", 1),
    Option("sweeps", "n", "of sweep-NN: independent repetitions", 1),
)
"""Options of exp-NN, sweep-NN and all."""
OTHER_OPTIONS = (
    Option("exp", "00,03", "of all, compare, tensorboard: experiments, by number (all runs them in that order)"),
    Option("metric", "seconds", "of compare: a column, a measure, gap, seconds, … (default: each primary metric)"),
    Option("check", "", "of report: only check README, docs and docstrings, the same as make check"),
    Option("row", "digits", "of reproduce: first digits of a row's fingerprint"),
    Option("port", "n", "of tensorboard: port of the server (default: the first free one from 6006 on)", 1),
    Option("write", "", "of tensorboard: write the event files, and start no server"),
    Option("rounds", "n", "of chaos and chaos-ray: number of disturbances", 1),
    Option("repeats", "n", "of bench (also with TRAIN, EPOCHS, PRECISION) and bench-ray: runs of each side (default 3)", 1),
)
OPTIONS = (*STUDY_OPTIONS, *OTHER_OPTIONS)
OF_MAKE = ("PYTHON", "GPU", "RAY", "ARGS")
"""Variables of the Makefile."""
WITHOUT_OPTIONS = (
    *("help", "setup", "test", "test-fast", "golden", "lint", "format", "lock", "check"),
    *("bench-report", "bench-rows", "power", "gpu-check"),
)
"""Targets without options."""
STUDY = tuple(option.name for option in STUDY_OPTIONS)


ON = ("1", "y", "yes", "t", "true", "on")
OFF = ("", "0", "n", "no", "f", "false", "off")
"""Values of a switch, which may also be capitalised or in capitals. The Makefile has the same list."""


def switched(value: str) -> "bool | None":
    """Whether a value turns a switch on; None for an invalid value."""
    lower = value.lower() if value in (value.lower(), value.upper(), value.capitalize()) else value
    return True if lower in ON else False if lower in OFF else None


def refusal(given: "list[str]", goals: "list[str]") -> str:
    """The error about an invalid `NAME=value` on make's command line; empty if all are valid.

    Args:
        given: the `NAME=value`; goals: the targets.
    """
    known = (*(option.name.upper() for option in OPTIONS), *OF_MAKE)
    switches = ("GPU", "RAY", *(option.name.upper() for option in OPTIONS if not option.metavar))
    for name, _, value in (assigned.partition("=") for assigned in given):
        if name not in known:
            return f"option must be one of {' '.join(known)}. Received: {name}{did_you_mean(name, known)}"
        if name not in OF_MAKE and set(goals) <= set(WITHOUT_OPTIONS):
            return f"make {' '.join(goals)} has no options except {', '.join(OF_MAKE)}. Received: {name}"
        if name in switches and switched(value) is None:
            return refused_switch(name, value)
    return ""


def refused_switch(name: str, value: str) -> str:
    """The error about an invalid value of a switch."""
    return f"{name} must be 1 (or yes, true, on) or 0 (or no, false, off). Received: {value}"


def main() -> None:
    if len(sys.argv) > 1:
        given, goals = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
        print(refusal(given, goals or ["help"]))
    else:
        for option in OPTIONS:
            print(f"  {option.name.upper() + '=' + (option.metavar or '1'):<19}{option.meaning}")
        print("  PYTHON=python3.12  Python for .venv; GPU=1 and RAY=1 of setup, ARGS= of test")


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may not have all characters
    try:
        main()
        print(end="", flush=True)
    except OSError:  # a closed pipe or a full disk
        os._exit(1)
