"""Reads CSV files of rows, also those that a spreadsheet has saved. An error names the file, line and column."""

import csv
import functools
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from common.errors import Failure
from common.rows.schema import (
    BOOLEANS,
    FRACTIONS,
    HASHES,
    INTEGERS,
    KEY,
    NAMES,
    OBJECTS,
    OWN,
    REMOVED,
    STATUSES,
    TEXTS,
    identity,
)
from common.text import did_you_mean

SEPARATORS = ",;\t"
DEFAULTS = {"rate": OWN, "point": ""}
"""Values of columns that files of earlier versions do not have."""
PLANNED = ("fingerprint", "arguments", "setting", "epochs")
"""Columns that must not be empty, as they identify a trial."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
SCIENTIFIC = re.compile(r"[+-]?\d+[.,]?\d*e[+-]?\d+", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+", re.ASCII)
NO_NUMBERS = ("nan", "inf", "-inf")
REMEDY = "Correct it, or delete the line: then this trial alone is trained again"


class Line(NamedTuple):
    """A line of a file below its header."""

    number: int
    row: dict[str, str] | None
    """None for an empty line."""
    edited: bool
    """Whether it differs in format from those that this project writes."""


class Read(NamedTuple):
    """The content of a file."""

    rows: list[dict[str, str]]
    edited: bool
    """Whether the file differs in format from those that this project writes."""
    lines: list[int]
    """Number of the line on which each row ends."""


def read(path: pathlib.Path, names: Sequence[str], content: bytes | None = None) -> Read:
    """The rows of a file as text; see `lines`."""
    found = list(lines(path, names, content))
    rows = [line.row for line in found if line.row is not None]
    numbers = [line.number for line in found if line.row is not None]
    return Read(rows, any(line.edited for line in found), numbers)


def lines(path: pathlib.Path, names: Sequence[str], content: bytes | None = None) -> Iterator[Line]:
    """The lines of a file after the header, as text; columns that the file does not have are empty.

    The format of spreadsheets is converted: a byte-order mark, semicolons or tabs as separators, decimal commas, `20.0` for 20,
    `TRUE` for True, empty lines and columns.

    Args:
        names: the columns; content: that of the file, if it has been read.

    Raises:
        Failure: other columns, a line with another number of fields, or an invalid cell. The file is not changed.
    """
    if content is None and not path.exists():
        return
    try:
        content = path.read_bytes() if content is None else content
        separator = _separator(content.partition(b"\n")[0].decode("utf-8-sig"))
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        all_values = csv.reader(text, delimiter=separator)
        header = next(all_values, [])
        while header and not header[-1].strip():
            header.pop()
        _check_header(path, header, names)
        readers = [_reader(name) for name in header]
        foreign, blank = separator != "," or content.startswith(b"\xef\xbb\xbf"), dict.fromkeys(names, "") | DEFAULTS
        count, above = 0, ([None] * len(header),) * 2
        for values in all_values:
            number, edited = all_values.line_num, foreign
            if len(values) > len(header) and not any(value.strip() for value in values[len(header) :]):
                del values[len(header) :]
                edited = True
            if not any(map(str.strip, values)):
                yield Line(number, None, True)
                continue
            if len(values) != len(header):
                raise Failure(f"{path} line {number}: {len(values)} fields instead of {len(header)}. {REMEDY}")
            try:
                cells = [
                    cell if value == other else read_cell(value) if value else ""
                    for read_cell, value, other, cell in zip(readers, values, *above, strict=True)
                ]
            except ValueError:
                raise _invalid(f"{path} line {number}", header, values) from None
            row = blank | dict(zip(header, cells, strict=True))
            for name in REMOVED:
                row.pop(name, None)
            count, above = count + 1, (values, cells)  # most cells are as in the line above
            yield Line(number, row, edited or cells != values)
    except (OSError, csv.Error) as error:
        raise Failure(f"cannot read {path} ({error}): restore the earlier file") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is not in UTF-8: save it as CSV in UTF-8, or restore the earlier file") from error
    if not content.endswith((b"\n", b"\r")) and b"\r\n" not in content:  # spreadsheets may write CRLF and none at the end
        raise Failure(f"{path} line {count + 1}: the line is incomplete. {REMEDY}")


def read_trials(path: pathlib.Path, content: bytes | None = None) -> Read:
    """The rows of trials without duplicates; see `lines`.

    Raises:
        Failure: also for two different rows of one trial, an unknown status, or a row without the columns that identify a trial.
    """
    all_rows, edited, numbers = read(path, NAMES, content)
    rows: dict[tuple, tuple[int, dict]] = {}
    for number, row in zip(numbers, all_rows, strict=True):
        if row["status"] not in STATUSES:
            known = ", ".join(STATUSES)
            where = f"{path} line {number}, column status"
            hint = did_you_mean(row["status"], STATUSES)
            raise Failure(f"{where}: must be one of {known}. {REMEDY}. Received: {row['status']!r}{hint}")
        if not row["seed"]:
            raise Failure(f"{path} line {number}, column seed: must be a whole number. {REMEDY}. Received: ''")
        blank = next((name for name in PLANNED if row["protocol"] and not row[name]), None)
        if blank:
            raise Failure(f"{path} line {number}, column {blank}: must not be empty. {REMEDY}. Received: ''")
        first, same = rows.setdefault(identity(row), (number, row))
        if same != row:
            raise Failure(f"{path} lines {first} and {number}: a trial must have one row: remove one of the two")
    return Read([row for _, row in rows.values()], edited or len(rows) < len(all_rows), [number for number, _ in rows.values()])


def _separator(header: str) -> str:
    """The separator of the header's names."""
    return max(SEPARATORS, key=header.count)


def _invalid(where: str, header: Sequence[str], values: Sequence[str]) -> Failure:
    """The error about the first invalid cell of a line."""
    for name, value in zip(header, values, strict=True):
        try:
            value and _reader(name)(value)
        except ValueError as error:
            return Failure(f"{where}, column {name}: {error}. {REMEDY}. Received: {value!r}")
    raise ValueError(f"{where}: no cell is invalid")


def _check_header(path: pathlib.Path, header: list[str], names: Sequence[str]) -> None:
    """Raises `Failure` for unknown, missing or repeated columns."""
    unknown = [name for name in header if name not in (*names, *REMOVED)]
    missing = [name for name in KEY if name not in header and name not in DEFAULTS]
    twice = [name for name in header if header.count(name) > 1]
    problem = ""
    if unknown:
        problem = f"unknown {unknown[0]!r}{did_you_mean(unknown[0], names)}"
    elif missing:
        problem = f"no {', '.join(missing)}"
    elif twice:
        problem = f"{twice[0]} twice"
    if problem:
        raise Failure(f"{path} line 1: the columns must be those of this version: {problem}. Restore the names of the columns")


def _reader(name: str) -> Callable[[str], str]:
    """The function that converts a column's cells, if they are not empty."""
    if name in HASHES:
        return _hash
    if name in BOOLEANS:
        return _boolean
    if name in OBJECTS:
        return _object
    if name in (*TEXTS, *REMOVED):
        return str
    return _integer if name in INTEGERS else _fraction if name in FRACTIONS else _number


def _number(text: str) -> str:
    """A number, with a point for a decimal comma. Raises `ValueError`."""
    if NUMBER.fullmatch(text) or text in NO_NUMBERS:
        return text
    plain = text.strip()
    plain = plain.replace(",", ".") if plain.count(",") == 1 and "." not in plain else plain
    if plain.lower() in NO_NUMBERS:
        return plain.lower()
    if not NUMBER.fullmatch(plain):
        raise ValueError("must be a number")
    return plain


def _integer(text: str) -> str:
    if text.isdigit() and text.isascii():
        return text
    if THOUSANDS.fullmatch(text.strip()):
        raise ValueError("must be a whole number, without decimals or thousands separators")
    value = float(_number(text))
    if not value.is_integer():
        raise ValueError("must be a whole number")
    if value < 0:
        raise ValueError("must be at least 0")
    return str(int(value))


def _fraction(text: str) -> str:
    number = _number(text)
    if number not in NO_NUMBERS and not 0 <= float(number) <= 1:
        raise ValueError("must be between 0 and 1, not a percentage")
    return number


def _boolean(text: str) -> str:
    if text in ("True", "False"):
        return text
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("must be True or False")
    return text.strip().capitalize()


@functools.lru_cache(1000)  # many rows have the same ones
def _object(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('must be a JSON object, such as {"l2": 0.1}')
    return text


def _hash(text: str) -> str:
    """The hexadecimal digits. Raises `ValueError` if a spreadsheet has converted them to a number in scientific notation."""
    if ("+" in text or "." in text or "," in text) and SCIENTIFIC.fullmatch(text):
        raise ValueError("must be hexadecimal digits, which a spreadsheet has converted to a number")
    return text
