"""Command lines: options as `--seeds 3` or, as make hands them on, `SEEDS=3`; and how a command ends."""

import argparse
import contextlib
import io
import math
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NoReturn

from common.commands.options import OPTIONS, Option, refused_switch, switched
from common.errors import Failure, Misuse
from common.files import user_path
from common.setting import FIELDS, NAMES, SHORT
from common.text import did_you_mean, printable

FIELD_OF = {SHORT.get(field, field): field for field in FIELDS}
"""The field of `Setting` that an option of that name overrides."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

os.environ["MPLBACKEND"] = "Agg"  # before any import of Matplotlib, which ends at one that is not installed, Jupyter's say
os.environ["MATPLOTLIBRC"] = os.devnull  # it would complain of what it does not know there, or end at what is not UTF-8
if not os.access(os.path.expanduser("~"), os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:  # it would complain in two lines
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"matplotlib-{os.getuid()}"))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a `Misuse`, not several lines of usage."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        flags = [flag for action in self._actions for flag in action.option_strings]
        raise Misuse(f"{message}{did_you_mean(unknown[1], flags) if unknown else ''} (see --help)")


def parse(
    names: Sequence[str], arguments: Sequence[str] | None = None, *, positional: str | None = None, **texts: str
) -> argparse.Namespace:
    """The values of some options of `OPTIONS`; None, or false, for one that is not given, but for `results`. Raises `Misuse`.

    Args:
        arguments: by default the process'.
        positional: name of an argument that comes first, without a name.
        texts: of `argparse.ArgumentParser`: description, prog, epilog.
    """
    parser = _Parser(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **texts)
    if positional:
        parser.add_argument(positional)
    for option in OPTIONS:
        if option.name in names:
            flag, about = f"--{option.name.replace('_', '-')}", {"help": option.meaning, "dest": option.name}
            kind = {"metavar": option.metavar, "type": _reader(option)} if option.metavar else {"action": "store_true"}
            parser.add_argument(flag, **about, **kind)
    parser.set_defaults(**({"results": "results"} if "results" in names else {}))
    given = parser.parse_args(words(sys.argv[1:] if arguments is None else arguments))
    if "results" in names:
        given.results = str(user_path(given.results, "RESULTS"))  # no shell has seen what stands behind make's RESULTS=
    return given


def setting_name(given: argparse.Namespace) -> str | None:
    """The setting that SETTING or FULL names; None where neither does. Raises `Misuse`."""
    name = given.setting
    if name is not None and name not in NAMES:
        raise Misuse(f"setting must be one of {', '.join(NAMES)}. Received: {name!r}{did_you_mean(name, NAMES)}")
    if given.full and name not in (None, "full"):
        raise Misuse(f"FULL=1 is the same as SETTING=full. Received: SETTING={name} as well")
    return "full" if given.full else name


def positive(given: argparse.Namespace, name: str) -> float | None:
    """An option's value as a finite number above 0; None where it is not given. Raises `Misuse`."""
    text = getattr(given, name)
    try:
        value = None if text is None else float(text)
    except ValueError:
        value = math.nan
    if value is not None and not 0 < value < math.inf:
        raise Misuse(f"{name} must be a finite number above 0. Received: {text}")
    return value


def words(arguments: Sequence[str]) -> list[str]:
    """The arguments with make's `NAME=value` as `--name value`; what is off or blank is none. Raises `Misuse`."""
    switches = {option.name for option in OPTIONS if not option.metavar}
    valued = {f"--{option.name.replace('_', '-')}" for option in OPTIONS if option.metavar}
    words: list[str] = []
    for argument in arguments:
        assigned = re.fullmatch(r"([A-Z_]+)=(.*)", argument, re.DOTALL)
        if not assigned or (words and words[-1] in valued):  # the value of a `--name` before it
            words.append(argument)
            continue
        name, value = assigned[1].lower(), assigned[2]
        flag = f"--{name.replace('_', '-')}"
        if name in switches:
            if switched(value) is None:
                raise Misuse(refused_switch(assigned[1], value))
            words += [flag] if switched(value) else []
        elif value:
            words += [f"{flag}={value}"]
    return words


def _reader(option: Option) -> Callable[[str], int | str]:
    """Reads the option's value: a whole number, if it is one, else the text."""

    def read(text: str) -> int | str:
        if option.least is None:
            return text
        if not re.fullmatch(r"\s*[+-]?\d+\s*", text) or int(text) < option.least:
            name = FIELD_OF.get(option.name, option.name)
            raise Misuse(f"{name} must be a whole number of at least {option.least}. Received: {text}")
        return int(text)

    return read


def end(command: Callable[[], int], name: str = "") -> NoReturn:
    """Run a command and end the process with its status: 1 for a failure, 2 for a misuse, 130 after Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    mend_output()
    prefix = f"{name}: " if name else ""
    said = ""
    try:
        status = command()
        sys.stdout.flush()
    except (Misuse, Failure) as error:
        status, said = error.status, printable(str(error).removeprefix(prefix))
    except KeyboardInterrupt:
        status, said = INTERRUPTED, "stopped; the same command goes on from the last finished epochs"
    except BrokenPipeError:  # nobody reads the output any more
        status = Failure.status
    except OSError as error:
        status, where = Failure.status, f": {error.filename}" if error.filename else ""
        said = f"{error.strerror or error}{where}; mend that and run the same command again: rows that were written are kept"
    with contextlib.suppress(OSError):
        print(f"{prefix}{said}\n" if said else "", end="", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # else Python would try again at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def mend_output() -> None:
    """Give what is closed of input, output and errors to nobody, and write characters that a terminal lacks as `\\u2026`."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt
