"""The table of a sweep, with a row per point: its columns, and how it is read."""

import csv
import pathlib

from common.errors import Failure

CLOCKS = ("compile_seconds", "input_seconds", "train_seconds", "eval_seconds", "total_seconds")
FIRST = ("experiment", "arm", "tuner", "sweep", "point", "untuned")
LAST = (
    *("epochs", "seed", "status", "reason", "score", "nll", "parameters", *CLOCKS, "images_per_second", "fingerprint", "search"),
    *("data_checksum", "commit", "dirty", "versions", "device", "finished"),
)
"""Columns before and after those of the searched arguments."""


def read_table(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of the table as text; empty if there is no file. Raises `Failure` for a file that is no such table."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"cannot read {path} ({error}). Move the file away and run again") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not set((*FIRST, *LAST)) <= set(row):
            raise Failure(f"{path} line {number}: not a point of a sweep. Move the file away and run again: its trials are kept")
    return rows
