"""The journal of an experiment: entries that are appended one by one until they are merged into its files.

The file begins with a random token, which tells it from a later journal of the same name. An entry is `MARK`, the length and the
checksum of its content, the content, and the length again. It is appended with a single write, by one process at a time, and is
on disk before the next one begins. So a kill or a power failure leaves at most the last entry incomplete, which does not count.
"""

import contextlib
import hashlib
import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

from common.errors import Failure
from common.files import sync_folder

MARK = b"\x89entry\r\n"
CHECKSUM_BYTES = TOKEN_BYTES = 16
HEAD = struct.Struct(f"<{len(MARK)}sQ{CHECKSUM_BYTES}s")
"""Mark, length and checksum, before the content of an entry."""
TAIL = struct.Struct("<Q")
"""The length again, after the content, so that the last entry can be found from the end of the file."""


class Read(NamedTuple):
    """A part of a journal."""

    token: bytes
    """Empty if there is no journal."""
    entries: list[bytes]
    end: int
    """Position after the last complete entry."""


NONE = Read(b"", [], 0)
"""What is read if there is no journal."""


def append(path: pathlib.Path, content: bytes) -> None:
    """Append an entry, in place of an incomplete one. It is on disk when the function returns.

    To be called under the folder's lock. Raises `Failure` if the file cannot be written, which then holds the earlier entries.
    """
    try:
        is_new = not path.exists()
        with path.open("w+b" if is_new else "r+b", buffering=0) as file:
            end = _end(path, file)
            try:
                file.truncate(end)
                file.seek(end)
                _write(file, b"" if end else os.urandom(TOKEN_BYTES), _entry(content))
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise Failure(f"cannot write {path} ({error.strerror}): correct this and run again; finished trials are kept") from error


def read(path: pathlib.Path, since: Read | None = None) -> Read:
    """The complete entries of a journal. An incomplete last one is left out.

    Args:
        since: an earlier reading, after which to go on if that is possible; by default all entries are read.

    Raises:
        Failure: another entry than the last one is damaged, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            token = file.read(TOKEN_BYTES)
            if len(token) < TOKEN_BYTES:  # as its first entry is being written
                return NONE
            start = since.end if since and since.token == token else len(token)
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return NONE
    except OSError as error:
        raise Failure(f"cannot read {path} ({error.strerror})") from error
    entries, place = [], 0
    while (entry := _entry_at(content, place)) is not None:
        entries.append(entry)
        place += HEAD.size + len(entry) + TAIL.size
    if since is not None and place < len(content):  # perhaps the entry before was cut off, as the disk had refused it
        return read(path)
    if content.find(MARK, place + 1) >= 0:
        raise Failure(
            f"{path} is damaged at byte {start + place}: move it away and run again, which repeats the trials whose rows it held"
        )
    return Read(token, entries, start + place)


def _entry(content: bytes) -> bytes:
    return HEAD.pack(MARK, len(content), _checksum(content)) + content + TAIL.pack(len(content))


def _entry_at(content: bytes, place: int) -> bytes | None:
    """The content of the entry at a position; None if there is no complete one."""
    if len(content) - place < HEAD.size:
        return None
    mark, length, checksum = HEAD.unpack_from(content, place)
    start = place + HEAD.size
    entry = content[start : start + length]
    whole = mark == MARK and content[start + length : start + length + TAIL.size] == TAIL.pack(length)
    return entry if whole and checksum == _checksum(entry) else None


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES).digest()


def _end(path: pathlib.Path, file: BinaryIO) -> int:
    """Position after the last complete entry; 0 if there is none, as then the token may be incomplete. Raises like `read`."""
    size = file.seek(0, os.SEEK_END)
    if size >= TOKEN_BYTES + HEAD.size + TAIL.size:
        file.seek(size - TAIL.size)
        (length,) = TAIL.unpack(file.read(TAIL.size))
        start = size - TAIL.size - length - HEAD.size
        if start >= TOKEN_BYTES:
            file.seek(start)
            if _entry_at(file.read(size - start), 0) is not None:
                return size
    found = read(path)
    return found.end if found.entries else 0


def _write(file: BinaryIO, *parts: bytes) -> None:
    """Write the parts, in a single write unless the system takes only a part of it."""
    rest = memoryview(b"".join(parts))
    while rest:
        rest = rest[file.write(rest) :]
