"""Atomic writing of files (to a temporary name, synced, then renamed), file locks, and arrays as bytes."""

import contextlib
import fcntl
import hashlib
import io
import itertools
import os
import pathlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO

import numpy as np

from common.errors import Failure, Misuse

PROJECT = pathlib.Path(__file__).resolve().parent.parent
"""The project's folder."""
LOG = "output.log"
"""Name of the log in a process' temporary folder."""
LEFT_SECONDS = 3600.0
"""Age of the last output in a temporary folder after which it may be deleted if its process has ended."""


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


def write_atomic(path: pathlib.Path, content: bytes | Callable[[BinaryIO], None], *, synced: bool = True) -> None:
    """Replace a file atomically: even after a power failure it holds either the old content or all of the new one.

    Args:
        content: the bytes, or a function that writes them to the open file.
        synced: False for one of many files that can be made again, which may be empty after a power failure.

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
            if synced:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Failure(f"cannot write {path} ({error.strerror}): correct this and run again; finished trials are kept") from error


def sync_folder(folder: pathlib.Path) -> None:
    """Write a folder's entries to the disk, so that files made, renamed or deleted in it stay so after a power failure."""
    with contextlib.suppress(OSError):  # some file systems cannot, and write them in order anyway
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def scratch_folder(prefix: str) -> tuple[pathlib.Path, BinaryIO]:
    """Make a temporary folder for a process, and open its log there. Deletes the folders of processes that killed runs left.

    The log is locked as long as the process has it open, so its folder is not deleted before.

    Args:
        prefix: start of the folder's name.
    """
    for log in pathlib.Path(tempfile.gettempdir()).glob(f"{prefix}*/{LOG}"):
        with contextlib.suppress(OSError, Failure), log.open("ab") as file:
            if time.time() - log.stat().st_mtime > LEFT_SECONDS and lock(file, wait=False):
                shutil.rmtree(log.parent, ignore_errors=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    file = (folder / LOG).open("wb")
    with contextlib.suppress(Failure):  # the file system has no locks, and then nobody deletes the folder
        lock(file)
    return folder, file


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


def changed_archive(path: pathlib.Path, changes: dict[str, np.ndarray | None]) -> Callable[[BinaryIO], None] | None:
    """A function that writes an archive with some arrays replaced, added or (None) removed; None if nothing changes.

    It writes the bytes of `archive_bytes`, but copies the other arrays as they are compressed.

    Raises:
        Failure: the archive is damaged.
    """
    members = {}
    if path.exists():
        with _archive(path) as old:
            places = [*sorted(member.header_offset for member in old.infolist()), old.start_dir]
            ends = dict(itertools.pairwise(places))
            members = {_key(member): member for member in old.infolist()}
    if not any(array is not None or key in members for key, array in changes.items()):
        return None

    def write(file: BinaryIO) -> None:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if members else None
            new = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))
            for key in sorted({*members, *changes}):
                if key not in changes:
                    member = members[key]
                    source.seek(member.header_offset)
                    file.seek(new.start_dir)
                    file.write(source.read(ends[member.header_offset] - member.header_offset))
                    member.header_offset, new.start_dir = new.start_dir, file.tell()
                    new.filelist.append(member)
                elif changes[key] is not None:
                    with new.open(f"{key}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, changes[key])

    return write


def array_names(path: pathlib.Path) -> set[str]:
    """The names of the arrays in a `.npz` file; empty if there is no file. Raises `Failure` for a damaged one."""
    if not path.exists():
        return set()
    with _archive(path) as archive:
        return set(map(_key, archive.infolist()))


def _key(member: zipfile.ZipInfo) -> str:
    """The name of an array in an archive."""
    return member.filename.removesuffix(".npy")


@contextlib.contextmanager
def _archive(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """Context manager that opens a `.npz` file for reading. Raises `Failure` for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Exception as error:  # zipfile raises a dozen types for damaged files
        raise damaged(path, error) from error


def damaged(path: pathlib.Path, error: Exception) -> Failure:
    """The error about a file that cannot be read."""
    return Failure(f"cannot read {path} ({type(error).__name__}: {error}). Move the file away and run again")


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file by name; empty if there is no file. Raises `Failure` for a damaged one."""
    if not path.exists():
        return {}
    try:
        with np.load(path) as archive:
            return dict(archive)
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen types for damaged files
        raise damaged(path, error) from error
