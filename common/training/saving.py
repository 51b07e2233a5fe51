"""Saving of models to files."""

import contextlib
from collections.abc import Iterator

from keras.src.saving.saving_lib import H5IOStore


@contextlib.contextmanager
def plain_names_in_files() -> Iterator[None]:
    """Context manager in which automatic names are saved as plain strings, since HDF5 does not accept subclasses of str."""
    original = H5IOStore.make

    def make(store, path, metadata=None):
        return original(store, path, metadata and {name: str(value) for name, value in metadata.items()})

    H5IOStore.make = make
    try:
        yield
    finally:
        H5IOStore.make = original
