"""`make list`: number, question and how far the rows of each setting are. Imports no TensorFlow and no pandas."""

import pathlib
import sys

from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.files import experiment_scripts
from common.rows import schema, store
from common.running.scripts import declared


def progress(experiment, folder: pathlib.Path) -> list[tuple[str, str]]:
    """(setting folder's name, how far) of one experiment: its two declared settings, then whatever else has rows."""
    declared = [experiment.folder_name(experiment.quick), experiment.folder_name(experiment.setting)]
    others = [p.parent.name for p in sorted(folder.glob(f"*/{experiment.name}.csv"))]
    return [(name, _how_far(experiment, folder / name)) for name in dict.fromkeys([*declared, *others])]


def _how_far(experiment, folder: pathlib.Path) -> str:
    try:
        rows = store.read_rows(schema.Files(folder, experiment.name))
    except Failure as error:
        return f"unreadable: {error}"
    seeds = 1 if "-smoke" in folder.name else experiment.seeds
    counted = [row for row in rows if row["arm"] in experiment.arms and row["rate"] == schema.OWN and int(row["seed"]) < seeds]
    done = [row for row in counted if row["status"] in schema.FINAL]
    failed = sum(row["status"] == "failed" for row in counted)
    expected = len(experiment.arms) * seeds
    progress = "none" if not done else "complete" if len(done) >= expected else f"{len(done)} of {expected}"
    return progress + (f", {failed} failed" if failed else "")


def run() -> int:
    """Print the list. Returns the exit status."""
    folder = pathlib.Path(parse(["results"], description=__doc__).results)
    status = 0
    for path in experiment_scripts():
        try:
            experiment = declared(path)
        except Misuse as error:
            print(error, file=sys.stderr)
            status = error.status
            continue
        print(f"{experiment.name.split('_')[1]}  {experiment.question}")
        for name, done in progress(experiment, folder):
            print(f"      {name}: {done}")
    return status


if __name__ == "__main__":
    end(run)
