"""Hash of the part of a script that determines its results, equal under all Python versions that TensorFlow supports.

Needs only the standard library.
"""

import ast
import hashlib
import json

IGNORED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
"""Fields of syntax nodes that do not change what the code does."""
EXPERIMENT = "experiment"
"""Name by which a script declares its experiment, whose declaration is not part of the hash."""
EVERY_NAME = "*"
"""Stands for all names of a script."""
REACHING_ALL = ("globals", "eval", "exec")
"""Functions by which code may use any name of the script, beside `vars()` and `locals()`."""


def code_hash(source: str, train: str = "train") -> str:
    """SHA-256 of the statements of a script that its function `train` can reach, without comments, docstrings and layout.

    Claims, settings and arms are not among them (a trial's fingerprint holds the arm's arguments). Included are statements that
    may change what `train` does without defining a name that it uses: those that only call something, that assign to a part of a
    module or of an object that it knows by another name, or whose result nothing uses.

    Args:
        train: name of the function.
    """
    reached = [syntax(_plain(statement)) for statement in _reached(ast.parse(source), train)]
    return hashlib.sha256(json.dumps(reached).encode()).hexdigest()


def syntax(node: ast.AST) -> list:
    """A node as nested lists: its type, then name and value of each field that is set.

    Unlike the output of `ast.dump`, it does not depend on the version of Python, since fields without a value are left out.
    """
    fields = [(name, getattr(node, name, None)) for name in node._fields if name not in IGNORED_FIELDS]
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
    """The parts of an f-string without the empty strings that Python 3.12 inserts between them."""
    return [part for part in parts if not (isinstance(part, ast.Constant) and part.value == "")]


def _reached(tree: ast.Module, train: str) -> list[ast.stmt]:
    """The top-level statements that `train` can reach, in their order."""
    definitions: dict[str, list[ast.stmt]] = {}
    kept: list[ast.stmt] = []
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    imported = {name for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom) for name in _defined(one)}
    aliases = _aliases(tree)
    for statement in tree.body:
        names = _defined(statement)
        for name in names:
            definitions.setdefault(name, []).append(statement)
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        changes_module = _changes_object(statement) and imported.intersection(names)
        acts = changes_module or (_calls(statement) and not {*read, EXPERIMENT}.intersection(names))
        if (not names or acts) and not is_docstring and not _is_main_guard(statement):
            kept.append(statement)
    wanted = [train, *(name for statement in kept for name in _used(statement))]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        wanted += aliases.get(name, ())
        if name == EVERY_NAME:
            wanted += [one for one in definitions if one != EXPERIMENT]
        for statement in definitions.get(name, ()):
            if statement not in kept:
                kept.append(statement)
                wanted += _used(statement)
    return sorted(kept, key=lambda statement: statement.lineno)


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = [(alias.asname or alias.name).split(".", maxsplit=1)[0] for alias in statement.names]
        return [] if "*" in names else names
    return [node.id for target in _targets(statement) for node in ast.walk(target) if isinstance(node, ast.Name)]


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """What a statement assigns to."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign | ast.AugAssign) else []


def _changes_object(statement: ast.stmt) -> bool:
    """Whether a statement assigns to a part of an object, which may have another name as well."""
    return any(isinstance(node, ast.Subscript | ast.Attribute) for target in _targets(statement) for node in ast.walk(target))


def _calls(statement: ast.stmt) -> bool:
    """Whether a statement assigns the result of a call."""
    return bool(_targets(statement)) and any(isinstance(node, ast.Call) for node in ast.walk(statement))


def _aliases(tree: ast.Module) -> dict[str, set[str]]:
    """Name -> other names of the same object, which `a = b` gave it at the top of the script."""
    aliases: dict[str, set[str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Name):
            for target in _targets(statement):
                if isinstance(target, ast.Name):
                    aliases.setdefault(target.id, set()).add(statement.value.id)
                    aliases.setdefault(statement.value.id, set()).add(target.id)
    return aliases


def _used(node: ast.AST) -> list[str]:
    """Names that occur in a statement or an expression; `EVERY_NAME` where it may use any."""
    names = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and not one.args]
    reaches_all = not set(names).isdisjoint(REACHING_ALL) or any(call.func.id in ("vars", "locals") for call in calls)
    return [*names, EVERY_NAME] if reaches_all else names


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in _used(statement.test)


def _plain(statement: ast.stmt) -> ast.stmt:
    """The statement without docstrings."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return statement
