"""Reads the declaration of an experiment's script without importing Keras, which takes seconds.

Keras and the modules of the project that import it are replaced by placeholders; only workers import the real ones. Errors in a
script are raised as `Misuse` with one line.
"""

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Iterator, Sequence

from common.errors import Misuse
from common.experiment import Experiment
from common.files import PROJECT
from common.running.reasons import reason
from common.text import number_of

SLOW = ("keras", "tensorflow", "tensorflow_datasets", "sklearn", "scipy")
NEED_KERAS = (
    *("training", "models", "augment", "losses", "optimizers", "gradients", "preprocessing", "calibration", "features"),
    *("transfer", "profiling", "inference", "gan", "operations", "oscillation", "callbacks"),
)
"""Rooms and modules of `common/` that import Keras."""


OPERATORS = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"),
    *("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "getitem"),
)
"""Operators whose result with a placeholder is a placeholder."""
CONVERSIONS = ("bool", "int", "float", "complex", "index", "iter", "len", "contains")
"""Operations that need a value, and fail with a placeholder."""


class _Placeholder(types.ModuleType):
    """Stands for a module, its attributes, and results computed with them."""

    __path__: tuple = ()
    __array_ufunc__ = None  # NumPy then leaves operators to this class

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__}.{name} is unknown: a script is read without Keras")
        return _Placeholder(f"{self.__name__}.{name}")

    def __call__(self, *_, **__):
        return self

    def __mro_entries__(self, _):
        return ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def _without_value(self, *_):
        raise Misuse(
            "a script is read without Keras, TensorFlow, scikit-learn and SciPy, so their values can only be used within train: "
            f"move the line there. Received: the value of {self.__name__}"
        )

    def _computed(self, *_):
        return _Placeholder(self.__name__)


for _name in OPERATORS:
    setattr(_Placeholder, f"__{_name}__", _Placeholder._computed)
    setattr(_Placeholder, f"__r{_name}__", _Placeholder._computed)
for _name in CONVERSIONS:
    setattr(_Placeholder, f"__{_name}__", _Placeholder._without_value)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the slow modules as placeholders."""

    def find_spec(self, fullname, path=None, target=None):
        first, _, rest = fullname.partition(".")
        if first in SLOW or (first == "common" and rest.partition(".")[0] in NEED_KERAS):
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec):
        return _Placeholder(spec.name)

    def exec_module(self, module):
        pass


@contextlib.contextmanager
def placeholders() -> Iterator[None]:
    """Context manager in which the slow modules are imported as placeholders."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Placeholder)]:
            del sys.modules[name]
            package, _, attribute = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(attribute, None)


@contextlib.contextmanager
def _paths_of_a_worker() -> Iterator[None]:
    """Context manager in which `sys.path` is that of a worker, without the current folder and PYTHONPATH."""
    before, removed = list(sys.path), {"", os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)} - {str(PROJECT)}
    sys.path[:] = [str(PROJECT), *(folder for folder in before if folder not in removed)]
    try:
        yield
    finally:
        sys.path[:] = before


def read_script(path: pathlib.Path) -> Experiment:
    """The `Experiment` that a script declares, read without Keras.

    Raises:
        Misuse: the script cannot be imported, declares no experiment, or its `train` returns nothing.
    """
    with placeholders(), _paths_of_a_worker():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            message = reason(error, path)
            raise Misuse(message if message.startswith(f"{path.stem}: ") else f"{path.stem}: {message}") from error
    experiment = vars(module).get("experiment")
    if not isinstance(experiment, Experiment):
        received = "no such name" if experiment is None else type(experiment).__name__
        raise Misuse(
            f"{path.stem}: a script must declare its Experiment by the name experiment: experiment = Experiment(train, …). "
            f"Received: {received}"
        )
    if experiment.path != path.resolve():
        raise Misuse(f"{path.stem}: train must be defined in the script itself. Received: that of {experiment.path}")
    tree, name = ast.parse(path.read_text(encoding="utf-8")), experiment.train.__name__
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not functions or vars(module).get(name) is not experiment.train:
        raise Misuse(
            f"{path.stem}: train must be a function, defined with def at the top of the script, and given by that name, since "
            f"its code is part of a row's fingerprint. Received: {experiment.train!r}"
        )
    _refuse_no_return(path, functions)
    _refuse_helpers(path, tree)
    return experiment


def refuse_shared_numbers(paths: Sequence[pathlib.Path], number: str | None = None) -> None:
    """Raises `Misuse` if two scripts have the same number.

    Args:
        number: the number to check; by default all.
    """
    by_number: dict[str, list[str]] = {}
    for path in paths:
        by_number.setdefault(number_of(path.stem), []).append(path.name)
    for shared, names in by_number.items():
        if len(names) > 1 and number in (None, shared):
            raise Misuse(f"the numbers of experiments must be unique: rename all but one. Received: {', '.join(names)}")


def _refuse_helpers(path: pathlib.Path, tree: ast.Module) -> None:
    """Raises `Misuse` for a module of the project outside of `common`, whose code is not part of fingerprints."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    for name in names:
        root = name.partition(".")[0]
        if root in ("", "common", *sys.stdlib_module_names):
            continue
        with _paths_of_a_worker():
            spec = importlib.machinery.PathFinder.find_spec(root)
        places = [pathlib.Path(place) for place in (*(spec.submodule_search_locations or ()), spec.origin or "")] if spec else []
        installed = [place for place in places if "site-packages" in place.parts or place.is_relative_to(sys.prefix)]
        if any(place.is_relative_to(PROJECT) and place not in installed for place in places):
            raise Misuse(
                f"{path.stem}: a script must not import modules beside it, since changes of them would not be noticed: move what "
                f"it needs into the script, or into common/. Received: import {name}"
            )


def _refuse_no_return(path: pathlib.Path, functions: Sequence[ast.FunctionDef]) -> None:
    """Raises `Misuse` where no path through `train` returns anything."""
    for function in functions:
        nodes = list(ast.walk(function))
        returns = any(isinstance(node, ast.Return) and node.value is not None for node in nodes)
        if not returns and not any(isinstance(node, ast.Raise) for node in nodes):
            raise Misuse(
                f"{path.stem}: train must return the trained model, or something with predict(images) -> scores: return "
                f"trial.fit(…). Received: no return ({path.name}:{function.lineno})"
            )
