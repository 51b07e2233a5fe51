"""What decides a trial's outcome, hashed, and which commit of the code it ran under."""

import ast
import dataclasses
import hashlib
import json
import subprocess

from common.data.dataset import Dataset
from common.experiment import Setting
from common.files import PROJECT
from common.rows.schema import OWN

PROTOCOL = 1
"""Raised by hand whenever a change in `common/` may change a result; part of every fingerprint."""


def fingerprint(arm: str, rate: str, arguments: dict, seed: int | None, setting: Setting, dataset: Dataset, code: str) -> str:
    """What decides a trial's outcome, hashed. A dataset counts by its content, not by its path.

    A field of the setting counts where it differs from its default, so that a field of tomorrow leaves today's rows valid.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Setting)}
    fields = {name: value for name, value in vars(setting).items() if value != defaults[name]}
    decides = {
        "arm": arm,
        **({"rate": rate} if rate != OWN else {}),
        "arguments": arguments,
        "seed": seed,
        "setting": {**fields, "dataset": dataset.name},
        "data": dataset.checksum,
        "code": code,
        "protocol": PROTOCOL,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def code_hash(source: str, train: str = "train") -> str:
    """A hash of the part of a script that its function `train` can reach, without comments, docstrings and layout.

    Claims, settings, the arms (each trial's own is part of its fingerprint) and `Expect` are not reached. A statement
    that only calls something is kept, as it may change how `train` works.
    """
    tree = ast.parse(source)
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
    order = sorted(kept, key=lambda statement: statement.lineno)
    return hashlib.sha256("\n".join(ast.dump(_plain(statement)) for statement in order).encode()).hexdigest()


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
    """The statement without docstrings; its positions do not reach `ast.dump`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return statement


def provenance() -> dict:
    """Git commit and whether tracked files differ from it; blank outside a checkout."""

    def git(*arguments):
        try:
            done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or "", "dirty": "" if changed is None else bool(changed)}
