"""Parsing of command lines, with options as `--seeds 3` or like make's `SEEDS=3`, and the exit status of commands."""

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
"""Option -> field of `Setting` that it overrides."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""

# To be set before Matplotlib is imported: the user's backend may not be installed, the user's matplotlibrc may give warnings or
# errors, and without a writable home folder there is a warning.
os.environ["MPLBACKEND"] = "Agg"
os.environ["MATPLOTLIBRC"] = os.devnull
if not os.access(os.path.expanduser("~"), os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"matplotlib-{os.getuid()}"))


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises `Misuse` for errors."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        flags = [flag for action in self._actions for flag in action.option_strings]
        raise Misuse(f"{message}{did_you_mean(unknown[1], flags) if unknown else ''} (see --help)")


def parse(
    names: Sequence[str], arguments: Sequence[str] | None = None, *, positional: str | None = None, **texts: str
) -> argparse.Namespace:
    """Parse a command line. Returns the options' values; None or False for those that are not given. Raises `Misuse`.

    Args:
        names: of the options in `OPTIONS` that the command has. `results` has a default.
        arguments: the command line, by default that of the process.
        positional: name of a positional argument, if there is one.
        texts: description, prog and epilog of `argparse.ArgumentParser`.
    """
    parser = _Parser(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **texts)
    if positional:
        parser.add_argument(positional)
    for option in OPTIONS:
        if option.name in names:
            flag, fields = f"--{option.name.replace('_', '-')}", {"help": option.meaning, "dest": option.name}
            kind = {"metavar": option.metavar, "type": _reader(option)} if option.metavar else {"action": "store_true"}
            parser.add_argument(flag, **fields, **kind)
    parser.set_defaults(**({"results": "results"} if "results" in names else {}))
    given = parser.parse_args(words(sys.argv[1:] if arguments is None else arguments))
    if "results" in names:
        given.results = str(user_path(given.results, "RESULTS"))  # in make's RESULTS=~/x the shell does not expand ~
    return given


def setting_name(given: argparse.Namespace) -> str | None:
    """Name of the setting, from SETTING or FULL; None without these options. Raises `Misuse`."""
    name = given.setting
    if name is not None and name not in NAMES:
        raise Misuse(f"setting must be one of {', '.join(NAMES)}. Received: {name!r}{did_you_mean(name, NAMES)}")
    if given.full and name not in (None, "full"):
        raise Misuse(f"FULL=1 is the same as SETTING=full: set one of the two. Received: FULL=1 SETTING={name}")
    return "full" if given.full else name


def positive(given: argparse.Namespace, name: str) -> float | None:
    """An option's value as a finite number above 0; None if it is not given. Raises `Misuse`."""
    text = getattr(given, name)
    try:
        value = None if text is None else float(text)
    except ValueError:
        value = math.nan
    if value is not None and not 0 < value < math.inf:
        raise Misuse(f"{name} must be a finite number above 0. Received: {text}")
    return value


def words(arguments: Sequence[str]) -> list[str]:
    """The arguments with `NAME=value` replaced by `--name=value`; switches that are off and empty values are left out.

    Raises:
        Misuse: invalid value of a switch.
    """
    switches = {option.name for option in OPTIONS if not option.metavar}
    valued = {f"--{option.name.replace('_', '-')}" for option in OPTIONS if option.metavar}
    words: list[str] = []
    for argument in arguments:
        assigned = re.fullmatch(r"([A-Z_]+)=(.*)", argument, re.DOTALL)
        if not assigned or (words and words[-1] in valued):  # the latter is the value of the `--name` before it
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
    """The function that converts an option's value: to int if it has a lower bound, else none. It raises `Misuse`."""

    def read(text: str) -> int | str:
        if option.least is None:
            return text
        if not re.fullmatch(r"\s*[+-]?\d+\s*", text) or int(text) < option.least:
            name = FIELD_OF.get(option.name, option.name)
            raise Misuse(f"{name} must be a whole number of at least {option.least}. Received: {text}")
        return int(text)

    return read


def end(command: Callable[[], int], name: str = "") -> NoReturn:
    """Run a command and exit with its status: 1 for `Failure`, 2 for `Misuse`, 130 after Ctrl-C or SIGTERM.

    Args:
        name: start of the line on stderr.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    prepare_streams()
    prefix = f"{name}: " if name else ""
    message = ""
    try:
        status = command()
        sys.stdout.flush()
    except (Misuse, Failure) as error:
        status, message = error.status, printable(str(error).removeprefix(prefix))
    except KeyboardInterrupt:
        status, message = INTERRUPTED, "stopped; the same command resumes after the last finished epoch"
    except BrokenPipeError:  # the output was piped to a command that has ended
        status = Failure.status
    except OSError as error:
        status, where = Failure.status, f": {error.filename}" if error.filename else ""
        message = f"{error.strerror or error}{where}: correct that and run the same command again, which keeps the written rows"
    with contextlib.suppress(OSError):
        print(f"{prefix}{message}\n" if message else "", end="", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # Python would flush again when it exits, and print an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def prepare_streams() -> None:
    """Open /dev/null for closed standard streams, and print characters that a terminal does not have as `\\u2026`."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free file descriptor, which is `number`
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt
