"""The ledger: the verdicts on all claims below a results folder."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import Failure
from common.rows import store
from common.rows.table import Table
from common.verdicts import levels
from common.verdicts.judge import Verdict, judge_parts
from common.verdicts.kinds import SUPPORTED


@dataclass(frozen=True)
class Entry:
    """The verdict on a claim in one setting."""

    experiment: str
    folder: str
    dataset: str
    verdict: Verdict
    demonstration: bool
    """Whether the verdict does not count: the setting is a demonstration, or the claim is about other datasets."""
    section: str
    """Identity of the table, see `Table.identity`."""

    @classmethod
    def of(cls, table: Table, verdict: Verdict) -> "Entry":
        """The entry of a verdict read from a table."""
        declaration, files = table.declaration, table.files
        dataset = table.dataset
        other = bool(verdict.datasets) and dataset not in verdict.datasets
        demonstration = declaration["demonstration"] or other
        return cls(files.experiment, files.folder.name, dataset, verdict, demonstration, table.identity)


def entries(folder: pathlib.Path, number: str | None = None, setting: str | None = None) -> Iterator[Entry | Failure]:
    """The entries of all claims whose experiment has rows; a `Failure` in place of files that cannot be read.

    Args:
        number: of an experiment, two digits; setting: name of a setting. By default all.
    """
    copies = store.copies(folder)
    for one in store.setting_folders(folder):
        for files in store.experiments(one):
            if files in copies:
                yield Failure(f"{files.rows} holds the rows of {copies[files].rows}: it is left out as a copy")
                continue
            if number is not None and not files.experiment.startswith(f"exp_{number}_"):
                continue
            if setting not in (None, store.setting_name(files)):
                continue
            try:
                for part, verdicts in judge_parts(Table.read(files)):
                    yield from (Entry.of(part, verdict) for verdict in verdicts)
            except Failure as error:
                yield error


def discovery_rates(entries: list[Entry]) -> dict[int, float]:
    """Position in `entries` -> Benjamini-Hochberg's q-value over all claims that have a p-value and are no demonstrations."""
    p_values = [(i, entry.verdict.overall_p) for i, entry in enumerate(entries) if not entry.demonstration]
    judged = [(i, p) for i, p in p_values if p is not None]
    return dict(zip([i for i, _ in judged], levels.benjamini_hochberg([p for _, p in judged]), strict=True))


def single(entries: list[Entry], entry: Entry) -> bool:
    """Whether exactly one dataset supports the claim of an entry."""
    same = [e for e in entries if e.experiment == entry.experiment and e.verdict.id == entry.verdict.id]
    return len({e.dataset for e in same if e.verdict.status == SUPPORTED and not e.demonstration}) == 1
