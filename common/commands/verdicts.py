"""What the rows say of the claims of one experiment, or of all that have rows: `make verdict-03`, `make verdicts`."""

import pathlib
import sys

from common.commands.parsing import end, parse, setting_name
from common.errors import Failure, Misuse
from common.files import experiment_scripts
from common.rows import store
from common.running.scripts import refuse_shared_numbers, two_digits
from common.verdicts.kinds import SUPPORTED
from common.verdicts.ledger import Entry, entries, single


def run() -> int:
    """Print the verdicts. Returns the exit status: 1 if some rows cannot be read."""
    given = parse(["results", "setting", "full"], positional="number", description=__doc__)
    number = None if given.number == "all" else two_digits(given.number)
    only = setting_name(given)
    refuse_shared_numbers(experiment_scripts(), number)
    found = _entries(pathlib.Path(given.results), number, only)
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
    return status


def _entries(folder: pathlib.Path, number: str | None, setting: str | None) -> list[Entry | Failure]:
    """The entries of one experiment, or of all, in one setting or in all. Raises `Misuse` where there are no rows to speak of."""
    there = [files for one in store.setting_folders(folder) for files in store.experiments(one)]
    there = [files for files in there if number is None or files.experiment.startswith(f"exp_{number}_")]
    if not [files for files in there if setting in (None, store.setting_name(files))]:
        about = f"experiment {number}" if number else "any experiment"
        where = f" in the {setting} setting" if setting else ""
        how = f"make exp-{number or 'NN'}" + (f" SETTING={setting}" if setting else "")
        raise Misuse(f"there are no rows of {about}{where}: run it first ({how}). Received: {folder}")
    return list(entries(folder, number, setting))


if __name__ == "__main__":
    end(run)
