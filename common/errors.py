"""The two ways a run ends early, each one line on stderr: what was received and what to do about it."""


class Misuse(Exception):
    """Something the user asked for is impossible: exit status 2."""

    status = 2


class Failure(Exception):
    """Something went wrong that the user did not ask for: exit status 1."""

    status = 1


class Unavailable(Exception):
    """An arm cannot run here, for the reason given: its row is `unavailable`, and the next call tries again."""


class CodeChanged(Exception):
    """The code is no longer that with which the call began: trials before and after the change could not be compared."""
