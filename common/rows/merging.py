"""Merges outcomes into the tables and archives of an experiment, in place of earlier ones of the same trials.

Tables are sorted by seed and by arm, and archives by name, so that files do not depend on the order of writing.
"""

import csv
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from common.rows.outcome import Outcome
from common.rows.reading import DEFAULTS
from common.rows.schema import OF_IMAGES, OWN, TABLES, entry_of, identity, image_key


class Logged(NamedTuple):
    """An outcome to merge. Cells of its tables are texts."""

    outcome: Outcome
    order: list[str]
    """The arms in the order in which tables list them."""


def as_text(outcome: Outcome) -> Outcome:
    """An outcome with cells as texts, and without logits. Raises `ValueError` for unknown columns."""
    tables = {part: [_cells(row, names) for row in outcome.table(part)] for part, names in TABLES.items()}
    (row,) = tables.pop("rows")
    return Outcome(row, **tables, predicted=outcome.predicted, of_images=outcome.of_images, samples=outcome.samples)


def _cells(row: dict, names: Sequence[str]) -> dict[str, str]:
    if unknown := row.keys() - set(names):
        raise ValueError(f"unknown columns {sorted(unknown)}")
    return {name: "" if value is None else str(value) for name, value in (DEFAULTS | row).items()}


def table_bytes(part: str, lines: Iterable[str]) -> bytes:
    """The content of a table with the given lines."""
    return "".join([to_line(TABLES[part]), *lines]).encode()


def merged_table(rows: Iterable[dict[str, str]], part: str, logged: Sequence[Logged]) -> bytes | None:
    """The content of a table after merging; None if it does not change.

    Args:
        rows: those that it has; part: a key of `TABLES`.
        logged: outcomes, of which the last one of a trial counts.
    """
    lines: dict[tuple, list[str]] = {}
    for row in rows:
        lines.setdefault(identity(row), []).append(to_line(row.values()))
    changed = False
    for outcome, _ in logged:
        new = outcome.table(part)
        changed |= lines.pop(identity(outcome.row), None) is not None or bool(new)
        for row in new:
            lines.setdefault(identity(row), []).append(to_line(row.get(name, "") for name in TABLES[part]))
    if not changed:
        return None
    order = logged[-1].order
    trials = sorted(lines, key=lambda trial: position(trial, order))
    return table_bytes(part, (line for trial in trials for line in lines[trial]))


def position(trial: tuple[str, str, str, int], order: Sequence[str]) -> tuple:
    """Sorting key of a trial, given by `identity`: by seed, rate and arm.

    Args:
        order: the arms.
    """
    arm, rate, point, seed = trial
    return seed, rate != OWN, order.index(arm) if arm in order else len(order), arm, point


class _Returned:
    """A file for `csv.writer`, whose `writerow` then returns the line."""

    @staticmethod
    def write(line: str) -> str:
        return line


to_line = csv.writer(_Returned, lineterminator="\n").writerow
"""f(cells) -> line of a table"""


def predictions(logged: Iterable[Logged]) -> dict[str, np.ndarray | None]:
    """Key -> array of the outcomes in the file of predictions; None for one to remove."""
    arrays = {}
    for outcome, _ in logged:
        entry, seed = entry_of(outcome.row), outcome.row["seed"]
        arrays[f"{entry}/{seed}"] = outcome.predicted
        arrays |= {image_key(entry, seed, name): outcome.of_images.get(name) for name in OF_IMAGES}
    return arrays


def samples(logged: Iterable[Logged]) -> dict[str, np.ndarray | None]:
    """Key -> array of the outcomes in the file of samples, which are those of seed 0; None for one to remove."""
    return {entry_of(outcome.row): outcome.samples for outcome, _ in logged if int(outcome.row["seed"]) == 0}
