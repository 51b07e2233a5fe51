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


@contextlib.contextmanager
def placeholders() -> Iterator[None]:
    """Within: the slow modules are placeholders. Afterwards imports find the real ones again."""
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


def declared(path: pathlib.Path):
    """The `Experiment` that a script declares, its models and optimizers being placeholders."""
    with placeholders():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.experiment
