"""`make status`: the trials that are being trained now into a results folder, by all its runs, and on which nodes."""

import pathlib

from common.commands.parsing import end, parse
from common.running.locks import in_progress


def run() -> int:
    """Run the command. Returns the exit status."""
    folder = pathlib.Path(parse(["results"], description=__doc__).results)
    trials = in_progress(folder)
    for files, note in trials:
        where = f" on {note['node']}" if note["node"] else ""
        far = f"epoch {note['epoch']}/{note['epochs']}" if "epoch" in note else note.get("stage", "starting")
        print(f"{files.experiment}, {files.folder.name}: {note['trial']}{where}, {far} (run {note['pid']})")
    if not trials:
        print(f"no run is training into {folder}")
    return 0


if __name__ == "__main__":
    end(run)
