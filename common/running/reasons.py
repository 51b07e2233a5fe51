"""One-line reasons for exceptions in a user's script: the message, and the line of the script."""

import pathlib
import re
import sysconfig
import traceback

from common.errors import Failure, Misuse
from common.files import PROJECT

LONGEST = 400
"""Characters of an exception's message that are shown."""
FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')
"""A file and line in tracebacks and in messages of TensorFlow."""
STYLE = re.compile(r"\x1b\[[0-9;]*m")
INNER = re.compile(r"^ {4}(?P<type>[A-Za-z_][\w.]*): (?P<text>.*)", re.MULTILINE | re.DOTALL)
"""The exception at the end of a message that begins with `in user code:`."""
NODE = re.compile(r"\s*\[\[\{\{.*|\{\{function_node [^}]*\}\}\s*", re.DOTALL)
"""The graph node in a message of TensorFlow, which does not help a user."""
OPERATION = re.compile(r"'\{\{node ([^}]*)\}\} = [^']*'")
"""An operation with all its attributes in a message of TensorFlow."""
WRAPPINGS = ("Error encountered:", "Exception encountered when calling")
"""Headings in Keras' messages, below which that of the original error follows."""


def reason(error: BaseException, script: pathlib.Path) -> str:
    """One line about an exception: type, message without those of Keras and TensorFlow around it, and a line of code.

    Args:
        script: path of the experiment's script.
    """
    text = NODE.sub("", STYLE.sub("", _text(error)))
    kind, message = _original_error(type(error).__name__, text)
    message = " ".join(message.split())
    if len(message) > LONGEST:
        message = f"{message[:LONGEST].rstrip()} …"
    if not isinstance(error, Misuse | Failure):
        message = f"{kind}: {message}" if message else kind
    place = _place(error, text, script)
    return f"{message} ({place})" if place and place not in message else message


def _text(error: BaseException) -> str:
    """An exception's message."""
    try:
        if isinstance(error, SyntaxError):
            return f"{error.msg}: {error.text.strip()}" if error.text else str(error.msg)
        return str(error)
    except Exception:  # raised by its __str__
        return "its message cannot be shown"


def _original_error(kind: str, text: str) -> tuple[str, str]:
    """Type and message of the error that messages of Keras and TensorFlow quote; unchanged if they quote none."""
    if text.lstrip().startswith("in user code:"):
        frames = [match.end() for match in re.finditer(r'^ {4}File ".*\n {8}.*$', text, re.MULTILINE)]
        inner = INNER.search(text, frames[-1] if frames else 0)
        if inner:
            return _original_error(inner["type"].rpartition(".")[2], inner["text"])
    for wrapping in WRAPPINGS:
        quoted = text.partition(wrapping)[2].partition("\n")[2].partition("Arguments received by")[0]
        if quoted.strip():
            return _original_error(kind, quoted)
    if text.lstrip().startswith("Graph execution error"):
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        return kind, parts[-1]
    return kind, OPERATION.sub(r"\1", text)


def _place(error: BaseException, text: str, script: pathlib.Path) -> str:
    """The innermost line of the user's code, as in `exp_40_x.py:12`; without any, the innermost of all; empty if unknown.

    Lines within a compiled function are only in the message of TensorFlow: the traceback ends at the function's call.
    """
    named = [(match["path"], int(match["line"])) for match in FRAME.finditer(text)]
    raised = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        raised.append((error.filename, error.lineno))
    for frames in (named, raised):
        of_user = [frame for frame in frames if _is_users(frame[0], script)]
        if of_user:
            return _file_and_line(of_user[-1])
    return "" if isinstance(error, Misuse | Failure) or not raised else _file_and_line(raised[-1])


def _is_users(name: str, script: pathlib.Path) -> bool:
    """Whether a file is the script, or in the script's folder and no part of this project or a package."""
    path = pathlib.Path(name)
    if path == script:
        return True
    libraries = (PROJECT / "common", *map(pathlib.Path, sysconfig.get_paths().values()))
    return path.is_relative_to(script.parent) and not any(path.is_relative_to(one) for one in libraries)


def _file_and_line(frame: tuple[str, int | None]) -> str:
    return f"{pathlib.Path(frame[0]).name}:{frame[1]}"
