"""`make plots`: draws the figures of all experiments with rows."""

import pathlib
import sys

from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.figures import draw, search
from common.rows import store


def run() -> int:
    """Run the command. Returns the exit status: 1 if some rows cannot be read."""
    folder = pathlib.Path(parse(["results"], description=__doc__).results)
    if not folder.is_dir():
        raise Misuse(f"results folder does not exist: run an experiment first. Received: {folder}")
    status = 0
    for setting in store.setting_folders(folder):
        for files in store.experiments(setting):
            try:
                for path in [*draw.draw(files), *search.draw_sweep(files)]:
                    print(path)
            except Failure as error:
                print(error, file=sys.stderr)
                status = error.status
    return status


if __name__ == "__main__":
    end(run)
