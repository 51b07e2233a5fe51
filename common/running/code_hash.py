"""A hash of the part of a script that decides its results, the same under every Python that TensorFlow runs on.

It needs the standard library alone, so that any Python can be asked.
"""

import ast
import hashlib
import json

LEFT_OUT = ("ctx", "kind", "type_comment", "type_ignores")
"""Fields of syntax nodes that say nothing which the rest does not."""


def code_hash(source: str, train: str = "train") -> str:
    """A hash of the part of a script that its function `train` can reach, without comments, docstrings and layout.

    Claims, settings, the arms (each trial's own is part of its fingerprint) and `Expect` are not reached. A statement
    that only calls something is kept, as it may change how `train` works.
    """
    reached = [syntax(_plain(statement)) for statement in _reached(ast.parse(source), train)]
    return hashlib.sha256(json.dumps(reached).encode()).hexdigest()


def syntax(node: ast.AST) -> list:
    """A node as nested lists: its type, then name and value of every field that is set.

    `ast.dump` prints other text under every version of Python, for fields that the version before did not have and for
    empty ones. Here a field without a value is left out.
    """
    fields = [(name, getattr(node, name, None)) for name in node._fields if name not in LEFT_OUT]
    if isinstance(node, ast.JoinedStr):
        fields = [("values", _without_empty(node.values))]
    return [type(node).__name__, *([name, _value(value)] for name, value in fields if value is not None and value != [])]


def _value(value: object) -> list | str:
    if isinstance(value, ast.AST):
        return syntax(value)
    if isinstance(value, list):
        return ["list", *map(_value, value)]
    return f"{type(value).__name__} {value!a}"


def _without_empty(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string without the empty strings that Python 3.12 puts between two of them."""
    return [part for part in parts if not (isinstance(part, ast.Constant) and part.value == "")]


def _reached(tree: ast.Module, train: str) -> list[ast.stmt]:
    """The statements of a script that `train` can reach, in their order."""
    definitions: dict[str, list[ast.stmt]] = {}
    kept: list[ast.stmt] = []
    for statement in tree.body:
        names = _defined(statement)
        for name in names:
            definitions.setdefault(name, []).append(statement)
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not names and not is_docstring and not _is_main_guard(statement):
            kept.append(statement)
    wanted = [train, *(name for statement in kept for name in _used(statement))]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for statement in definitions.get(name, ()):
            if statement not in kept:
                kept.append(statement)
                wanted += _used(statement)
    return sorted(kept, key=lambda statement: statement.lineno)


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".", maxsplit=1)[0] for alias in statement.names]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


def _used(statement: ast.stmt) -> list[str]:
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in _used(statement)


def _plain(statement: ast.stmt) -> ast.stmt:
    """The statement without docstrings."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return statement
