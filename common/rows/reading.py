"""A table of rows as text, also after a spreadsheet has saved it; what cannot be right is one line with its row and column."""

import csv
import io
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from common.errors import Failure
from common.rows.schema import FORMER, HASHES, KEY, OBJECTS, OWN, SHARES, TRUTHS, WHOLE, WORDS
from common.text import did_you_mean

SEPARATORS = ",;\t"
BLANK = {"rate": OWN, "point": ""}
"""What a row says that does not mention them."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+", re.ASCII)
NO_NUMBERS = ("nan", "inf", "-inf")
REMEDY = "Put it right, or remove the line: its trial, and no other, is then trained again"


class Read(NamedTuple):
    """What a file holds."""

    rows: list[dict[str, str]]
    edited: bool
    """Whether a cell is written in another way than we write it."""
    lines: list[int]
    """On which line of the file each row ends."""


def read(path: pathlib.Path, names: Sequence[str]) -> Read:
    """The rows of a file as text, each number as we write it; a column that the file does not have yet is blank.

    Spreadsheets save a byte-order mark, semicolons, decimal commas, `20.0` for 20, `TRUE` for True and blank lines and columns.

    Raises:
        Failure: other columns, a line of another length, a cell that cannot be; none of which is overwritten.
    """
    if not path.exists():
        return Read([], False, [])
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
        separator = _separator(text)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = next(lines, [])
        while header and not header[-1].strip():
            header.pop()
        _check_header(path, header, names)
        readers = {name: _reader(name) for name in header if name not in FORMER}
        rows, ends, edited = [], [], separator != "," or content.startswith(b"\xef\xbb\xbf")
        for values in lines:
            if not any(value.strip() for value in values[len(header) :]):
                edited |= len(values) > len(header)
                del values[len(header) :]
            if not any(value.strip() for value in values):
                edited = True
                continue
            if len(values) != len(header):
                raise Failure(f"{path} line {lines.line_num}: {len(values)} fields instead of {len(header)}. {REMEDY}")
            row = dict.fromkeys(names, "") | BLANK
            for name, value in zip(header, values, strict=True):
                reader = readers.get(name)
                try:
                    row[name] = value if reader is None or not value else reader(value)
                except ValueError as error:
                    where = f"{path} line {lines.line_num}, column {name}"
                    raise Failure(f"{where}: {error}. {REMEDY}. Received: {value!r}") from None
                edited |= row[name] != value
            for name in FORMER:
                row.pop(name, None)
            rows.append(row)
            ends.append(lines.line_num)
    except (OSError, csv.Error) as error:
        raise Failure(f"cannot read {path} ({error}): put back what was there before") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is not in UTF-8: save it as CSV in UTF-8, or put back what was there before") from error
    if not content.endswith((b"\n", b"\r")) and b"\r\n" not in content:  # some spreadsheets end so
        raise Failure(f"{path} line {len(rows) + 1}: cut short. {REMEDY}")
    return Read(rows, edited, ends)


def _separator(text: str) -> str:
    """By which the header's names are parted."""
    header = text.partition("\n")[0]
    return max(SEPARATORS, key=header.count)


def _check_header(path: pathlib.Path, header: list[str], names: Sequence[str]) -> None:
    unknown = [name for name in header if name not in (*names, *FORMER)]
    lacking = [name for name in KEY if name not in header and name not in BLANK]
    twice = [name for name in header if header.count(name) > 1]
    wrong = ""
    if unknown:
        wrong = f"knows no {unknown[0]!r}{did_you_mean(unknown[0], names)}"
    elif lacking:
        wrong = f"needs {', '.join(lacking)}"
    elif twice:
        wrong = f"has {twice[0]} once"
    if wrong:
        raise Failure(f"{path} line 1: not the columns of this version, which {wrong}. Name the columns as they were before")


def _reader(name: str) -> Callable[[str], str] | None:
    """What reads a column's cells that are not blank; None for words."""
    if name in HASHES:
        return _hash
    if name in TRUTHS:
        return _truth
    if name in OBJECTS:
        return _object
    if name in WORDS:
        return None
    return _whole if name in WHOLE else _share if name in SHARES else _number


def _number(text: str) -> str:
    """A number, its decimal comma a point. Raises `ValueError`."""
    if NUMBER.fullmatch(text) or text in NO_NUMBERS:
        return text
    plain = text.strip()
    plain = plain.replace(",", ".") if plain.count(",") == 1 and "." not in plain else plain
    if plain.lower() in NO_NUMBERS:
        return plain.lower()
    if not NUMBER.fullmatch(plain):
        raise ValueError("a number is needed")
    return plain


def _whole(text: str) -> str:
    if text.isdigit() and text.isascii():
        return text
    if THOUSANDS.fullmatch(text.strip()):
        raise ValueError("a whole number is needed, without decimals or marks between thousands")
    value = float(_number(text))
    if not value.is_integer():
        raise ValueError("a whole number is needed")
    if value < 0:
        raise ValueError("a number of at least 0 is needed")
    return str(int(value))


def _share(text: str) -> str:
    number = _number(text)
    if number not in NO_NUMBERS and not 0 <= float(number) <= 1:
        raise ValueError("a share lies between 0 and 1, and is no percentage")
    return number


def _truth(text: str) -> str:
    if text in ("True", "False"):
        return text
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("True or False is needed")
    return text.strip().capitalize()


def _object(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError('a JSON object is needed, such as {"l2": 0.1}')
    return text


def _hash(text: str) -> str:
    """Its hexadecimal digits, which a spreadsheet may take for a number in scientific notation. Raises `ValueError`."""
    if re.fullmatch(r"[+-]?\d+[.,]?\d*e[+-]?\d+", text, re.IGNORECASE) and ("+" in text or "." in text or "," in text):
        raise ValueError("a spreadsheet has made a number of these digits, which are lost")
    return text
