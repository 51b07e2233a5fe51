"""The ledger: the verdicts on all claims below a results folder."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import Failure
from common.rows import store
from common.rows.table import Table
from common.verdicts import levels
from common.verdicts.judge import judge_parts
from common.verdicts.verdict import SUPPORTED, VERDICTS, Verdict


@dataclass(frozen=True)
class Entry:
    """The verdict on a claim in one setting."""

    experiment: str
    folder: str
    verdict: Verdict
    section: str
    """Identity of the table, see `Table.identity`."""

    @classmethod
    def of(cls, table: Table, verdict: Verdict) -> "Entry":
        """The entry of a verdict read from a table."""
        return cls(table.files.experiment, table.files.folder.name, verdict, table.identity)


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


def counts(entries: list[Entry]) -> list[tuple[str, str]]:
    """What is counted, and how many verdicts of each kind: of first claims, of demonstrations' first claims, of all claims."""
    first = [entry for i, entry in enumerate(entries) if not i or entries[i - 1].section != entry.section]
    groups = {
        "answers": [one for one in first if not one.verdict.demonstration],
        "all claims": [one for one in entries if not one.verdict.demonstration],
        "demonstrations": [one for one in first if one.verdict.demonstration],
        "all claims of demonstrations": [one for one in entries if one.verdict.demonstration],
    }
    return [(name, _counted([one.verdict.status for one in group])) for name, group in groups.items() if group]


def _counted(statuses: list[str]) -> str:
    """Numbers of verdicts, in words: `2 supported, 1 open`."""
    return ", ".join(f"{statuses.count(status)} {status}" for status in VERDICTS if status in statuses)


def discovery_rates(entries: list[Entry]) -> dict[int, float]:
    """Position in `entries` -> Benjamini-Hochberg's q-value over all claims that have a p-value and are no demonstrations."""
    p_values = [(i, entry.verdict.overall_p) for i, entry in enumerate(entries) if not entry.verdict.demonstration]
    judged = [(i, p) for i, p in p_values if p is not None]
    return dict(zip([i for i, _ in judged], levels.benjamini_hochberg([p for _, p in judged]), strict=True))


def single(entries: list[Entry], entry: Entry) -> bool:
    """Whether exactly one dataset supports the claim of an entry."""
    same = [e.verdict for e in entries if e.experiment == entry.experiment and e.verdict.id == entry.verdict.id]
    return len({v.dataset for v in same if v.status == SUPPORTED and not v.demonstration}) == 1
