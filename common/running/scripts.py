"""Reads an experiment's script without Keras, so that the command line answers at once.

While a script is loaded only for what it declares, Keras and the modules of ours that import it are placeholders; the
workers import the real ones. The same module says which part of a script decides its results.
"""

import ast
import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterator

from common.files import PROJECT

EXPERIMENTS = PROJECT / "experiments"
SLOW = ("keras", "tensorflow", "tensorflow_datasets", "sklearn", "scipy")
NEED_KERAS = (
    *("training", "models", "augment", "losses", "optimizers", "gradients", "preprocessing", "calibration", "features"),
    *("transfer", "profiling", "inference", "gan"),
)
"""Rooms and modules of `common/` that import Keras."""


class _Placeholder(types.ModuleType):
    """Stands for a module and for anything in it."""

    __path__: tuple = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder(f"{self.__name__}.{name}")

    def __call__(self, *_, **__):
        return self

    def __mro_entries__(self, _):
        return ()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        first, _, rest = fullname.partition(".")
        if first in SLOW or (first == "common" and rest.partition(".")[0] in NEED_KERAS):
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec):
        return _Placeholder(spec.name)

    def exec_module(self, module):
        pass


def use_placeholders() -> None:
    """From now on the slow modules are placeholders, until `use_modules`."""
    sys.meta_path.insert(0, _Finder())


def use_modules() -> None:
    """From now on imports find the real modules again."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Placeholder)]:
        del sys.modules[name]
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(attribute, None)


@contextlib.contextmanager
def placeholders() -> Iterator[None]:
    """`use_placeholders` for a while."""
    use_placeholders()
    try:
        yield
    finally:
        use_modules()


def scripts(folder: pathlib.Path = EXPERIMENTS) -> list[pathlib.Path]:
    """The experiments' scripts, by number."""
    return sorted(folder.glob("exp_*.py"))


def declared(path: pathlib.Path):
    """The `Experiment` that a script declares, its models and optimizers being placeholders."""
    with placeholders():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.experiment


# --- what decides the results ------------------------------------------------------------------------------------------


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
