"""Atomic writing of files (to a temporary name, synced, then renamed), file locks, and arrays as bytes."""

import contextlib
import fcntl
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO

import numpy as np

from common.errors import Failure, Misuse

PROJECT = pathlib.Path(__file__).resolve().parent.parent
"""The project's folder."""


def user_path(text: str, name: str) -> pathlib.Path:
    """A path that the user gave under a name, its `~` being a home folder. Raises `Misuse` for that of nobody."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise Misuse(f"{name} begins with the home folder of somebody unknown here: write the whole path. Received: {text}")
    return pathlib.Path(path)


def experiment_scripts() -> list[pathlib.Path]:
    """Paths of all experiments' scripts, sorted by number."""
    return sorted((PROJECT / "experiments").glob("exp_*.py"))


def file_hash(path: pathlib.Path) -> str:
    """First 16 hexadecimal digits of a file's SHA-256; empty if the file cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def write_atomic(path: pathlib.Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Replace a file atomically: even after a power failure it holds either the old content or all of the new one.

    Args:
        content: the bytes, or a function that writes them to the open file.

    Raises:
        Failure: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Failure(f"cannot write {path} ({error.strerror}): correct this and run again; finished trials are kept") from error


def write_changed(path: pathlib.Path, content: bytes) -> None:
    """Replace a file atomically, unless it holds the content already. Raises `Failure`."""
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Context manager that locks a folder for other processes, for a read-modify-write of its files.

    The lock ends with its process, so it is never stale. Raises `Failure` if the folder cannot be written to or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write in {folder} ({error.strerror})") from error
    with file:
        lock(file)
        yield


def lock(file: IO, how: int = fcntl.LOCK_EX, *, wait: bool = True) -> bool:
    """Lock a file. Returns False if another process holds the lock and `wait` is False.

    Args:
        how: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.

    Raises:
        Failure: the file system does not support locks.
    """
    try:
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Failure(
            f"the file system cannot lock files ({error.strerror}): give RESULTS a folder on a local disk. Received: {file.name}"
        ) from error
    return True


def array_bytes(array: np.ndarray) -> bytes:
    """The content of a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """The content of a compressed `.npz` file, which does not depend on the order of the arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(sorted(arrays.items())))
    return buffer.getvalue()


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file by name; empty if there is no file. Raises `Failure` for a damaged one."""
    if not path.exists():
        return {}
    try:
        with np.load(path) as archive:
            return dict(archive)
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen types for damaged files
        raise Failure(f"cannot read {path} ({type(error).__name__}: {error}). Move the file away and run again") from error
