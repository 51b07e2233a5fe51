"""`make plots`: draws the figures of all experiments with rows."""

import pathlib
import sys

from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.figures import cache
from common.rows import store


def run() -> int:
    """Run the command. Returns the exit status: 1 if some figures cannot be drawn."""
    given = parse(["results", "svg"], description=__doc__)
    folder = pathlib.Path(given.results)
    if not folder.is_dir():
        raise Misuse(f"results folder does not exist: run an experiment first. Received: {folder}")
    status = 0
    experiments = [files for setting in store.setting_folders(folder) for files in store.experiments(setting)]
    for drawn in cache.redraw(experiments, svg=given.svg):
        for path in drawn.paths:
            print(path, flush=True)
        if drawn.error:
            print(drawn.error, file=sys.stderr)
            status = Failure.status
    return status


if __name__ == "__main__":
    end(run)
