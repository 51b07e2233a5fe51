"""A section of the report: one experiment in one setting, or the part of it whose arms are scored on the same test images."""

import functools
import math
import re

import numpy as np
import pandas as pd

from common.figures import copies, style
from common.rows import schema
from common.rows.table import Table
from common.verdicts import summary
from common.verdicts.verdict import NO_VERDICT, Verdict

MOST_CLASSES = 20
"""Classes that a confusion matrix in the page shows."""
FIELDS = (
    *("status", "reason", "fingerprint", "test_nll", "test_ece", "best_epoch", "parameters", "steps", "final_epoch"),
    *("total_seconds", "images_per_second", "peak_memory_mb", "beside", "resumes", "arguments", "setting", "search", "tuning"),
    *("data_checksum", "commit", "dirty", "versions", "device", "finished"),
)
"""Columns of a trial that the page shows beside its scores when its dot is clicked."""


class Section:
    """The tables, verdicts, figures and trials of one experiment in one setting.

    Args:
        table: see `Table.parts`; verdicts: on its claims.
    """

    def __init__(self, table: Table, verdicts: list[Verdict]):
        self.table, self.verdicts, self.primary = table, verdicts, table.primary
        self.files, self.identity, self.place = table.files, table.identity, table.place
        self.question = table.declaration["question"]
        self.differences = summary.contrasts(table)
        self.summary = _by_arm(table, summary.summarize(table, self.differences))
        self.answer = summary.answer(table, self.summary, verdicts)
        self.answering = summary.answering(table, verdicts) if verdicts else []
        self.demonstration = verdicts[0].demonstration if verdicts else table.declaration["demonstration"]
        self.entries = [entry for entry in table.entries if entry in table.arm_of]

    @functools.cached_property
    def notes(self) -> dict[str, str]:
        """The parts `Varies`, `Fixed`, `Expect` and `Measure` of the docstring's second paragraph, as far as they are there."""
        body = self.table.declaration.get("doc", "").partition("\n\n")[2].partition("\n\n")[0]
        parts = re.split(r"^(Varies|Fixed|Expect|Measure)\s+", body, flags=re.MULTILINE)[1:]
        return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}

    def missing(self) -> list[str]:
        """A line each about missing seeds, missing arms, failed and unavailable trials, and claims without a verdict."""
        lines, declared = [], self.table.declaration.get("seeds", 1)
        undone = {schema.entry_of(row) for row in self.table.unfinished}
        few = [f"{row.arm} {row.seeds}" for row in self.summary.itertuples() if row.seeds < declared]
        absent = [arm for arm in self.table.arms if arm not in {*self.entries, *undone}]
        if few:
            lines.append(f"{self.identity}: fewer than the {declared} declared seeds: {', '.join(few)}")
        if absent:
            lines.append(f"{self.identity}: arms without rows: {', '.join(absent)}")
        lines += [f"{self.identity}: {line}" for line in self.unfinished()]
        open_claims = [f"{verdict.text} ({verdict.reason})" for verdict in self.verdicts if verdict.status == NO_VERDICT]
        if open_claims:
            claims = f"{len(open_claims)} of {len(self.verdicts)} claims"
            lines.append(f"{self.identity}: {claims} without a verdict: {_some(open_claims)}")
        return lines

    def unfinished(self) -> list[str]:
        """A line each about failed and unavailable trials."""
        lines = []
        for status in ("failed", "unavailable"):
            rows = [row for row in self.table.unfinished if row["status"] == status]
            reasons = dict.fromkeys(f"{schema.entry_of(row)} ({row['reason'] or 'no reason'})" for row in rows)
            if rows:
                lines.append(f"{len(rows)} trial{'s' if len(rows) > 1 else ''} {status}: {_some(list(reasons))}")
        return lines

    def count(self, status: str) -> int:
        """Number of claims whose verdict has this status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def figures(self) -> list[tuple[str, str]]:
        """Kind and data URI of each existing figure."""
        return [(kind, copies.data_uri(kind, path)) for kind, path in copies.paths(self.files, self.table.part)]

    def data(self) -> dict:
        """Input of the page's script: arms with their colour and trials, differences between arms, names of score and classes."""
        arms = {}
        for entry in self.entries:
            rows = [row for (name, _), row in sorted(self.table.by_trial.items(), key=lambda item: item[0][1]) if name == entry]
            colour = style.look(self.table.arms, self.table.arm_of[entry])["color"]
            arms[entry] = {"colour": colour, "trials": [self._trial(row) for row in rows]}
        fields = [trial["fields"] for arm in arms.values() for trial in arm["trials"]]
        shared = {name: value for name, value in fields[0].items() if all(one[name] == value for one in fields)} if fields else {}
        for one in fields:
            for name in shared:
                del one[name]
        places = {entry: i for i, entry in enumerate(self.entries)}
        differences = [
            [places[entry], places[other], *(_short(value, 6) for value in numbers)]
            for (entry, other), numbers in self.differences.items()
            if places[entry] > places[other]
        ]
        score = {"column": self.primary.column, "label": self.primary.label(), "name": self.primary.name()}
        classes = self.table.shared_class_names()[:MOST_CLASSES]
        return {
            "arms": arms,
            "shared": shared,
            "differences": differences,
            "score": score,
            "val": self._val(),
            "classes": classes,
        }

    def _val(self) -> dict[str, str]:
        """Column and name of the validation score that a trial's curve shows beside its training loss."""
        column = self.primary.on("val")
        return {"column": column if column in self.table.epochs else "val_loss", "name": self.primary.name("val")}

    def _trial(self, row: dict) -> dict:
        """Seed, fields, curves, confusion matrix (None without predictions) and command of one trial."""
        scores = [self.primary.on(split) for split in ("test", "val", "train")]
        fields = {name: _plain(row.get(name)) for name in dict.fromkeys((FIELDS[0], FIELDS[1], *scores, *FIELDS))}
        entry, seed = row["entry"], row["seed"]
        epochs = self.table.epochs_of(entry, seed)
        curves = {name: [_short(v) for v in epochs[name]] for name in ("train_loss", self._val()["column"]) if name in epochs}
        counts = self.table.confusion(entry, seed)
        confusion = counts.tolist() if counts is not None and len(counts) <= MOST_CLASSES else None
        return {"seed": int(seed), "fields": fields, "curves": curves, "confusion": confusion, "command": self._command(row)}

    def _command(self, row: dict) -> str:
        """The command that runs a trial again and compares its row."""
        return f"make reproduce ROW={str(row['fingerprint'])[:12]} RESULTS={self.files.folder.parent}"


def _by_arm(table: Table, lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of a summary in the order of the arms, each followed by that at the common rate."""
    place = {arm: number for number, arm in enumerate(table.arms)}
    order = sorted(range(len(lines)), key=lambda i: place[table.arm_of[lines["arm"].iloc[i]]])
    return lines.iloc[order]


def _some(texts: list[str], most: int = 4) -> str:
    """The first texts of a list in a sentence, and how many more there are."""
    return "; ".join(texts[:most]) + (f"; and {len(texts) - most} more" if len(texts) > most else "")


def _plain(value):
    """A value that JSON takes; None for NaN and infinity."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _short(value: float, digits: int = 4):
    """A number rounded to so many significant digits; None for NaN and infinity."""
    return None if not math.isfinite(value) else float(f"{value:.{digits}g}")
