"""All verdicts below a results folder: `make verdict-03`, or `python -m common.verdicts.ledger --results DIR --number 03`."""

import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import Failure, Misuse, OneLineParser, end_with_the_reader
from common.rows import store
from common.verdicts import stats
from common.verdicts.judge import SUPPORTED, Table, Verdict, judge


@dataclass(frozen=True)
class Entry:
    """A claim's verdict in one setting."""

    experiment: str
    folder: str
    dataset: str
    verdict: Verdict
    demonstration: bool
    """Of an overridden setting, of other data than the claim is about, or of digits, which are too small to speak about natural
    images. It stays out of the ledger."""

    @classmethod
    def of(cls, table: Table, verdict: Verdict) -> "Entry":
        files = table.files
        dataset = table.declaration.get("setting", {}).get("dataset", files.folder.name)
        other = bool(verdict.datasets) and dataset not in verdict.datasets
        demonstration = files.folder.name != dataset or dataset == "digits" or other
        return cls(files.experiment, files.folder.name, dataset, verdict, demonstration)


def entries(folder: pathlib.Path, number: str | None = None) -> Iterator[Entry | Failure]:
    """The verdict of each claim of each experiment and setting that has rows; a `Failure` for files that cannot be read."""
    for setting in store.setting_folders(folder):
        for files in store.experiments(setting):
            if number is not None and not files.experiment.startswith(f"exp_{number}_"):
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
    same = [e for e in found if e.experiment == entry.experiment and e.verdict.text == entry.verdict.text]
    return len({e.dataset for e in same if e.verdict.status == SUPPORTED and not e.demonstration}) == 1


def main() -> None:
    end_with_the_reader()
    parser = OneLineParser(description="What the rows say of each claim.")
    parser.add_argument("--results", default="results", help="folder that holds the setting folders")
    parser.add_argument("--number", help="of one experiment, as 03; by default all")
    try:
        given = parser.parse_args()
        number = given.number.zfill(2) if given.number else None
        folder = pathlib.Path(given.results)
        found = _found(folder, number)
    except Misuse as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    status, heading = 0, None
    if not found:
        print(f"experiment {number} makes no claims" if number else "no experiment that has rows makes claims")
    known = [entry for entry in found if isinstance(entry, Entry)]
    for entry in found:
        if isinstance(entry, Failure):
            print(entry, file=sys.stderr)
            status = Failure.status
            continue
        if heading != (entry.experiment, entry.folder):
            heading = (entry.experiment, entry.folder)
            print(f"{entry.experiment}, {entry.folder}{' (a demonstration)' if entry.demonstration else ''}")
        alone = entry.verdict.status == SUPPORTED and not entry.demonstration and single(known, entry)
        print(f"  {entry.verdict.sentence()}{f'; on {entry.dataset} alone' if alone else ''}")
    sys.exit(status)


def _found(folder: pathlib.Path, number: str | None) -> list[Entry | Failure]:
    """The entries of one experiment, or of all. Raises `Misuse` where there are no rows to speak of."""
    there = [files.experiment for setting in store.setting_folders(folder) for files in store.experiments(setting)]
    if not [name for name in there if number is None or name.startswith(f"exp_{number}_")]:
        about = f"experiment {number}" if number else "any experiment"
        raise Misuse(f"there are no rows of {about}: run it first (make exp-NN). Received: {folder}")
    return list(entries(folder, number))


if __name__ == "__main__":
    main()
