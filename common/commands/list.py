"""`make list`: number and question of each experiment, and the number of its rows in each setting."""

import pathlib
import sys

from common.commands.parsing import end, parse, setting_name
from common.errors import Failure, Misuse
from common.experiment import Experiment
from common.files import experiment_scripts
from common.rows import schema, store
from common.running.plan import files_of
from common.running.scripts import read_script, refuse_shared_numbers
from common.text import number_of


def progress(experiment: Experiment, folder: pathlib.Path, only: str | None = None) -> list[tuple[str, str]]:
    """Name of a setting folder, and the progress of an experiment in it: of its declared settings, then of other folders.

    Args:
        folder: the results folder; only: name of a setting, by default all.
    """
    names = [name for name in experiment.settings if only in (None, name)]
    selected = {name: experiment.select(name) for name in names}
    declared = [files_of(experiment, one, folder).folder.name for one in selected.values()]
    others = [
        files.folder.name
        for setting in store.setting_folders(folder)
        for files in store.experiments(setting)
        if files.experiment == experiment.name and (only is None or store.setting_name(files) == only)
    ]
    all_files = [schema.Files(folder / name, experiment.name) for name in dict.fromkeys([*declared, *others])]
    return [(files.folder.name, _progress_in(experiment, files)) for files in all_files]


def _progress_in(experiment: Experiment, files: schema.Files) -> str:
    """The number of an experiment's finished and failed trials, as text."""
    try:
        rows = store.read_rows(files)
        seeds = store.read_declaration(files)["seeds"] if rows else experiment.seeds
    except Failure as error:
        return f"unreadable: {error}"
    counted = [row for row in rows if row["arm"] in experiment.arms and row["rate"] == schema.OWN and int(row["seed"]) < seeds]
    done = [row for row in counted if row["status"] in schema.FINAL]
    failed = sum(row["status"] == "failed" for row in counted)
    expected = len(experiment.arms) * seeds
    progress = "none" if not done else "complete" if len(done) >= expected else f"{len(done)} of {expected}"
    return progress + (f", {failed} failed" if failed else "")


def run() -> int:
    """Run the command. Returns the exit status: 2 if a script cannot be read. Raises `Misuse` if two have the same number."""
    given = parse(["results", "setting", "full"], description=__doc__)
    folder, only = pathlib.Path(given.results), setting_name(given)
    status = 0
    refuse_shared_numbers(experiment_scripts())
    for path in experiment_scripts():
        try:
            experiment = read_script(path)
        except Misuse as error:
            print(error, file=sys.stderr)
            status = error.status
            continue
        print(f"{number_of(path.stem)}  {experiment.question}")
        for name, done in progress(experiment, folder, only):
            print(f"      {name}: {done}")
    return status


if __name__ == "__main__":
    end(run)
