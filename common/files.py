"""Files that are whole or absent: written under a temporary name, synced, then renamed."""

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
"""The checkout's folder."""


def user_path(text: str, name: str) -> pathlib.Path:
    """A path that the user gave under a name, its `~` being a home folder. Raises `Misuse` for that of nobody."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise Misuse(f"{name} begins with the home folder of somebody unknown here: write the whole path. Received: {text}")
    return pathlib.Path(path)


def experiment_scripts() -> list[pathlib.Path]:
    """The experiments' scripts, by number."""
    return sorted((PROJECT / "experiments").glob("exp_*.py"))


def file_hash(path: pathlib.Path) -> str:
    """The first 16 digits of a file's SHA-256; blank where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def write_atomic(path: pathlib.Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Replace a file so that it holds either the old content or all of the new one, also after a power cut.

    `content` is the bytes, or a function that writes them to the open file. Raises `Failure`.
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
        raise Failure(f"cannot write {path} ({error.strerror}): mend that and run again; what was written is kept") from error


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold a setting folder for one read-modify-write. The lock dies with its process, so none is ever stale."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write in {folder} ({error.strerror})") from error
    with file:
        lock(file)
        yield


def lock(file: IO, how: int = fcntl.LOCK_EX, *, wait: bool = True) -> bool:
    """Lock a file. Returns whether it could, without waiting if so asked. Raises `Failure` where there are no locks."""
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
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """A compressed `.npz`, equal for equal arrays whatever the order they came in."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(sorted(arrays.items())))
    return buffer.getvalue()


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`; none where there is no file. Raises `Failure` for a damaged one."""
    if not path.exists():
        return {}
    try:
        with np.load(path) as archive:
            return dict(archive)
    except Exception as error:  # a flipped byte makes zipfile, zlib and NumPy raise a dozen kinds
        raise Failure(f"cannot read {path} ({type(error).__name__}: {error}). Move the file away and run again") from error
