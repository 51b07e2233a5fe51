"""All verdicts below a results folder."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import Failure
from common.rows import store
from common.rows.table import Table
from common.verdicts import stats
from common.verdicts.judge import Verdict, judge
from common.verdicts.kinds import SUPPORTED


@dataclass(frozen=True)
class Entry:
    """A claim's verdict in one setting."""

    experiment: str
    folder: str
    dataset: str
    verdict: Verdict
    demonstration: bool
    """Whether it stays out of the ledger: its setting is declared to be a demonstration, or the claim is about other data."""

    @classmethod
    def of(cls, table: Table, verdict: Verdict) -> "Entry":
        declaration, files = table.declaration, table.files
        dataset = declaration["setting"]["dataset"]
        other = bool(verdict.datasets) and dataset not in verdict.datasets
        return cls(files.experiment, files.folder.name, dataset, verdict, declaration["demonstration"] or other)


def entries(folder: pathlib.Path, number: str | None = None, setting: str | None = None) -> Iterator[Entry | Failure]:
    """The verdict of each claim of each experiment and setting that has rows; a `Failure` for files that cannot be read.

    Args:
        number: of the one experiment; setting: name of the one setting.
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
                table = Table.read(files)
                for verdict in judge(table):
                    yield Entry.of(table, verdict)
            except Failure as error:
                yield error


def discovery_rates(found: list[Entry]) -> dict[int, float]:
    """By position, the false discovery rate over all decided claims of the ledger at which each would be called."""
    judged = [(i, entry.verdict.p) for i, entry in enumerate(found) if entry.verdict.p is not None and not entry.demonstration]
    return dict(zip([i for i, _ in judged], stats.benjamini_hochberg([p for _, p in judged]), strict=True))


def single(found: list[Entry], entry: Entry) -> bool:
    """Whether a supported claim has its support from one dataset alone."""
    same = [e for e in found if e.experiment == entry.experiment and e.verdict.id == entry.verdict.id]
    return len({e.dataset for e in same if e.verdict.status == SUPPORTED and not e.demonstration}) == 1
