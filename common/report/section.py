"""One experiment in one setting, as the report shows it."""

import base64
import functools
import math
import re

import numpy as np

from common.figures import cache, style
from common.rows import schema
from common.rows.table import Table
from common.verdicts import summary
from common.verdicts.judge import Verdict
from common.verdicts.kinds import NO_DATA

MOST_CLASSES = 20
"""That a confusion matrix in the page shows."""
FIELDS = (
    *("status", "reason", "fingerprint", "test_nll", "test_ece", "best_epoch", "parameters", "steps", "final_epoch"),
    *("total_seconds", "images_per_second", "peak_memory_mb", "beside", "resumes", "arguments", "setting", "search", "tuning"),
    *("data_checksum", "commit", "dirty", "versions", "device", "finished"),
)
"""What a dot tells of its trial, besides its scores."""


class Section:
    """One experiment in one setting."""

    def __init__(self, table: Table, verdicts: list[Verdict]):
        self.table, self.verdicts, self.primary = table, verdicts, table.primary
        self.files = table.files
        self.identity = f"{self.files.folder.name}/{self.files.experiment}"
        self.question = table.declaration["question"]
        self.differences = summary.contrasts(table)
        self.summary = summary.summarize(table, self.differences)
        self.answer = summary.answer(table, self.summary, self.differences)
        self.entries = [entry for entry in table.entries if entry in table.arm_of]

    @functools.cached_property
    def notes(self) -> dict[str, str]:
        """What the docstring's second paragraph says it varies, fixes, expects and measures."""
        body = self.table.declaration.get("doc", "").partition("\n\n")[2].partition("\n\n")[0]
        parts = re.split(r"^(Varies|Fixed|Expect|Measure)\s+", body, flags=re.MULTILINE)[1:]
        return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}

    def missing(self) -> list[str]:
        """What is not there: arms, seeds below the declared number, trials that failed, claims that rows cannot speak about."""
        lines, declared = [], self.table.declaration.get("seeds", 1)
        undone = {schema.entry_of(row) for row in self.table.undone}
        few = [f"{row.arm} {row.seeds}" for row in self.summary.itertuples() if row.seeds < declared]
        absent = [arm for arm in self.table.arms if arm not in {*self.entries, *undone}]
        if few:
            lines.append(f"{self.identity}: fewer than the {declared} declared seeds: {', '.join(few)}")
        if absent:
            lines.append(f"{self.identity}: arms without rows: {', '.join(absent)}")
        for status in ("failed", "unavailable"):
            own = [row for row in self.table.undone if row["status"] == status]
            reasons = dict.fromkeys(f"{schema.entry_of(row)} ({row['reason'] or 'no reason'})" for row in own)
            if own:
                trials = f"{len(own)} trial{'s' if len(own) > 1 else ''}"
                lines.append(f"{self.identity}: {trials} {status}: {_some(list(reasons))}")
        silent = [f"{verdict.text} ({verdict.reason})" for verdict in self.verdicts if verdict.status == NO_DATA]
        if silent:
            claims = f"{len(silent)} of {len(self.verdicts)} claims"
            lines.append(f"{self.identity}: {claims} without a verdict: {_some(silent)}")
        return lines

    def count(self, status: str) -> int:
        """How many of its claims have a verdict."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def figures(self) -> list[tuple[str, str]]:
        """Kind and data URI of each figure beside the rows."""
        found = [(kind, cache.small(kind, path)) for kind, path in cache.paths(self.files)]
        return [(kind, f"data:image/webp;base64,{base64.b64encode(image).decode()}") for kind, image in found]

    def data(self) -> dict:
        """What the page's script needs: arms with their look and trials (curves, confusion matrix), differences between arms."""
        arms = {}
        for entry in self.entries:
            own = [row for (name, _), row in sorted(self.table.by_trial.items(), key=lambda item: item[0][1]) if name == entry]
            colour = style.look(self.table.arms, self.table.arm_of[entry])["color"]
            arms[entry] = {"colour": colour, "trials": [self._trial(row) for row in own]}
        told = [trial["told"] for own in arms.values() for trial in own["trials"]]
        shared = {name: value for name, value in told[0].items() if all(one[name] == value for one in told)} if told else {}
        for one in told:
            for name in shared:
                del one[name]
        places = {entry: i for i, entry in enumerate(self.entries)}
        differences = [
            [places[entry], places[other], *(_short(value, 6) for value in found)]
            for (entry, other), found in self.differences.items()
            if places[entry] > places[other]
        ]
        score = {"column": self.primary.column, "label": self.primary.label(), "name": self.primary.name()}
        found = {"arms": arms, "shared": shared, "differences": differences, "score": score, "val": self._val()}
        return {**found, "classes": self.table.shared_class_names()[:MOST_CLASSES]}

    def _val(self) -> dict[str, str]:
        """The column of the epochs that a trial's curve shows beside its training loss, and what it is called."""
        column = self.primary.on("val")
        return {"column": column if column in self.table.epochs else "val_loss", "name": self.primary.name("val")}

    def _trial(self, row: dict) -> dict:
        scores = [self.primary.on(split) for split in ("test", "val", "train")]
        told = {name: _plain(row.get(name)) for name in dict.fromkeys((FIELDS[0], FIELDS[1], *scores, *FIELDS))}
        entry, seed = row["entry"], row["seed"]
        own = self.table.epochs_of(entry, seed)
        curves = {name: [_short(v) for v in own[name]] for name in ("train_loss", self._val()["column"]) if name in own}
        counts = self.table.confusion(entry, seed)
        confusion = counts.tolist() if counts is not None and len(counts) <= MOST_CLASSES else None
        return {"seed": int(seed), "told": told, "curves": curves, "confusion": confusion, "command": self._command(row)}

    def _command(self, row: dict) -> str:
        """The command that makes a trial's row again."""
        return f"make reproduce ROW={str(row['fingerprint'])[:12]} RESULTS={self.files.folder.parent}"


def _some(texts: list[str], most: int = 4) -> str:
    """Some of a list, and how many more there are."""
    return "; ".join(texts[:most]) + (f"; and {len(texts) - most} more" if len(texts) > most else "")


def _plain(value):
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _short(value: float, digits: int = 4):
    return None if not math.isfinite(value) else float(f"{value:.{digits}g}")
