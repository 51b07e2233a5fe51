"""Why a trial failed, or a script cannot be read, in one line: what the exception says, and where in the script."""

import pathlib
import re
import sysconfig
import traceback

from common.errors import Failure, Misuse
from common.files import PROJECT

LONGEST = 400
"""Characters of what an exception says that are kept."""
FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')
"""How tracebacks and TensorFlow's messages name a place."""
STYLE = re.compile(r"\x1b\[[0-9;]*m")
INNER = re.compile(r"^ {4}(?P<type>[A-Za-z_][\w.]*): (?P<text>.*)", re.MULTILINE | re.DOTALL)
"""The exception at the end of a message that begins with `in user code:`."""
NODE = re.compile(r"\s*\[\[\{\{.*|\{\{function_node [^}]*\}\}\s*", re.DOTALL)
"""How TensorFlow names the node of a graph, which tells a user nothing."""
OPERATION = re.compile(r"'\{\{node ([^}]*)\}\} = [^']*'")
"""How TensorFlow spells out an operation, its name and all its attributes."""
WRAPPINGS = ("Error encountered:", "Exception encountered when calling")
"""After which Keras' messages give that of the error that they are about, on the lines below."""


def reason(error: BaseException, script: pathlib.Path) -> str:
    """One line about an exception: its telling part, and the innermost line of the user's code that it came from."""
    text = NODE.sub("", STYLE.sub("", _text(error)))
    kind, said = _telling(type(error).__name__, text)
    said = " ".join(said.split())
    if len(said) > LONGEST:
        said = f"{said[:LONGEST].rstrip()} …"
    if not isinstance(error, Misuse | Failure):
        said = f"{kind}: {said}" if said else kind
    place = _place(error, text, script)
    return f"{said} ({place})" if place and place not in said else said


def _text(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError):
            return f"{error.msg}: {error.text.strip()}" if error.text else str(error.msg)
        return str(error)
    except Exception:  # that of the exception itself
        return "it cannot say what is wrong"


def _telling(kind: str, text: str) -> tuple[str, str]:
    """Type and text of the exception that a message is about, which may be wrapped in those of Keras and TensorFlow."""
    if text.lstrip().startswith("in user code:"):
        frames = [match.end() for match in re.finditer(r'^ {4}File ".*\n {8}.*$', text, re.MULTILINE)]
        inner = INNER.search(text, frames[-1] if frames else 0)
        if inner:
            return _telling(inner["type"].rpartition(".")[2], inner["text"])
    for wrapping in WRAPPINGS:
        said = text.partition(wrapping)[2].partition("\n")[2].partition("Arguments received by")[0]
        if said.strip():
            return _telling(kind, said)
    if text.lstrip().startswith("Graph execution error"):
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        return kind, parts[-1]
    return kind, OPERATION.sub(r"\1", text)


def _place(error: BaseException, text: str, script: pathlib.Path) -> str:
    """The innermost line of the user's code, `exp_40_x.py:12`; where there is none, the innermost of all; blank if unknown.

    A message of TensorFlow's names lines within a compiled function, where the traceback ends at the call of it.
    """
    named = [(found["path"], int(found["line"])) for found in FRAME.finditer(text)]
    raised = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        raised.append((error.filename, error.lineno))
    for frames in (named, raised):
        own = [frame for frame in frames if _is_users(frame[0], script)]
        if own:
            return _shown(own[-1])
    return "" if isinstance(error, Misuse | Failure) or not raised else _shown(raised[-1])


def _is_users(name: str, script: pathlib.Path) -> bool:
    """Whether a file is the script, or one that it has brought along."""
    path = pathlib.Path(name)
    if path == script:
        return True
    libraries = (PROJECT / "common", *map(pathlib.Path, sysconfig.get_paths().values()))
    return path.is_relative_to(script.parent) and not any(path.is_relative_to(one) for one in libraries)


def _shown(frame: tuple[str, int | None]) -> str:
    return f"{pathlib.Path(frame[0]).name}:{frame[1]}"
