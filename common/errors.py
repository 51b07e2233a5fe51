"""Exceptions that end a command with one line on stderr (the rule, the value received, the remedy), or a trial early."""


class Misuse(Exception):
    """Invalid input of the user: exit status 2."""

    status = 2


class Failure(Exception):
    """A failure that the user's input did not cause: exit status 1."""

    status = 1


class Unavailable(Exception):
    """An arm cannot run on this machine, for the reason given: its row is `unavailable`, and the next run tries it again."""


class CodeChanged(Exception):
    """The code changed while a command was running: trials before and after the change could not be compared."""
