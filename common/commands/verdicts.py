"""`make verdict-NN` and `make verdicts`: verdicts on the claims of one experiment, or of all with rows."""

import pathlib
import sys

from common.commands.parsing import end, parse, setting_name
from common.errors import Failure, Misuse
from common.files import experiment_scripts
from common.rows import store
from common.running.scripts import refuse_shared_numbers
from common.text import two_digits
from common.verdicts.ledger import Entry, entries, single
from common.verdicts.verdict import SUPPORTED


def run() -> int:
    """Run the command. Returns the exit status: 1 if some rows cannot be read."""
    given = parse(["results", "setting", "full"], positional="number", description=__doc__)
    number = None if given.number == "all" else two_digits(given.number)
    only = setting_name(given)
    refuse_shared_numbers(experiment_scripts(), number)
    all_entries = _entries(pathlib.Path(given.results), number, only)
    status, heading = 0, None
    if not all_entries:
        print(f"experiment {number} has no claims" if number else "no experiment with rows has claims")
    known = [entry for entry in all_entries if isinstance(entry, Entry)]
    for entry in all_entries:
        if isinstance(entry, Failure):
            print(entry, file=sys.stderr)
            status = Failure.status
            continue
        if heading != (entry.experiment, entry.folder):
            heading = (entry.experiment, entry.folder)
            print(f"{entry.experiment}, {entry.folder}")
        verdict = entry.verdict
        print(f"  {verdict.sentence()}")
        one_dataset = verdict.status == SUPPORTED and not verdict.demonstration and single(known, entry)
        for note in (*([f"supported on {verdict.dataset} alone"] if one_dataset else []), *verdict.notes()):
            print(f"    {note}")
    return status


def _entries(folder: pathlib.Path, number: str | None, setting: str | None) -> list[Entry | Failure]:
    """The verdicts, and errors about files that cannot be read. Raises `Misuse` if there are no rows.

    Args:
        number: of an experiment, by default all; setting: name of a setting, by default all.
    """
    all_files = [files for one in store.setting_folders(folder) for files in store.experiments(one)]
    all_files = [files for files in all_files if number is None or files.experiment.startswith(f"exp_{number}_")]
    if not [files for files in all_files if setting in (None, store.setting_name(files))]:
        which = f"experiment {number}" if number else "any experiment"
        where = f" in the {setting} setting" if setting else ""
        command = f"make exp-{number or 'NN'}" + (f" SETTING={setting}" if setting else "")
        raise Misuse(f"there are no rows of {which}{where}: run it first ({command}). Received: {folder}")
    return list(entries(folder, number, setting))


if __name__ == "__main__":
    end(run)
