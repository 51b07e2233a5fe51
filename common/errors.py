"""The two ways a run ends early, each one line on stderr: what was received and what to do about it."""

import argparse
import signal
from typing import NoReturn


class Misuse(Exception):
    """Something the user asked for is impossible: exit status 2."""

    status = 2


class Failure(Exception):
    """Something went wrong that the user did not ask for: exit status 1."""

    status = 1


class Unavailable(Exception):
    """An arm cannot run here, for the reason given: its row is `unavailable`, and the next call tries again."""


def end_with_the_reader() -> None:
    """From now on the process ends quietly when nobody reads its output any more, as in `make list | head`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are a `Misuse`, not several lines of usage."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message} (see --help)")
