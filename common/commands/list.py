"""`make list`: number, question and how far the rows of each setting are. Imports no TensorFlow and no pandas."""

import pathlib
import sys

from common.commands.parsing import end, parse, setting_name
from common.data.dataset import slug
from common.errors import Failure, Misuse
from common.experiment import Experiment
from common.files import experiment_scripts
from common.rows import schema, store
from common.running.scripts import declared, number_of, refuse_shared_numbers


def progress(experiment: Experiment, folder: pathlib.Path, only: str | None = None) -> list[tuple[str, str]]:
    """(setting folder's name, how far) of one experiment: its declared settings, or one of them, then what else has such rows."""
    names = [name for name in experiment.settings if only in (None, name)]
    selected = {name: experiment.select(name) for name in names}
    declared = [one.folder_name(experiment.arms.values(), slug(one.setting.dataset)) for one in selected.values()]
    others = [
        files.folder.name
        for setting in store.setting_folders(folder)
        for files in store.experiments(setting)
        if files.experiment == experiment.name and (only is None or store.setting_name(files) == only)
    ]
    found = [schema.Files(folder / name, experiment.name) for name in dict.fromkeys([*declared, *others])]
    return [(files.folder.name, _how_far(experiment, files)) for files in found]


def _how_far(experiment: Experiment, files: schema.Files) -> str:
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
    """Print the list. Returns the exit status. Raises `Misuse` where two scripts have one number."""
    given = parse(["results", "setting", "full"], description=__doc__)
    folder, only = pathlib.Path(given.results), setting_name(given)
    status = 0
    refuse_shared_numbers(experiment_scripts())
    for path in experiment_scripts():
        try:
            experiment = declared(path)
        except Misuse as error:
            print(error, file=sys.stderr)
            status = error.status
            continue
        print(f"{number_of(path)}  {experiment.question}")
        for name, done in progress(experiment, folder, only):
            print(f"      {name}: {done}")
    return status


if __name__ == "__main__":
    end(run)
