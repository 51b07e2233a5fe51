"""Reads an experiment's script without Keras, so that the command line answers at once.

While a script is loaded only for what it declares, Keras and the modules of ours that import it are placeholders; the
workers import the real ones.
"""

import contextlib
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
