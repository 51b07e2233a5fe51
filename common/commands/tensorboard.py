"""`make tensorboard`: writes TensorBoard's event files from the rows, and starts TensorBoard on them.

With EXP, or where one experiment has rows, HParams shows the arguments of its arms; else what all experiments have.
"""

import contextlib
import io
import logging
import pathlib
import sys
import threading
import types
from collections.abc import Sequence

from common.commands.parsing import end, parse, setting_name
from common.commands.selection import read, selected, spans
from common.errors import Failure, Misuse
from common.report import tensorboard
from common.rows.table import Table
from common.text import number_of

HIGHEST_PORT = 65535


def run() -> int:
    """Run the command until Ctrl-C. Returns the exit status: 1 if some rows cannot be read. Raises `Misuse`, `Failure`."""
    given = parse(["results", "setting", "full", "exp", "port", "write"], description=__doc__)
    if given.port is not None and given.port > HIGHEST_PORT:
        raise Misuse(f"port must be a whole number of at most {HIGHEST_PORT}. Received: {given.port}")
    results = pathlib.Path(given.results)
    chosen = selected(results, given.exp, setting_name(given))
    folders, status = read(chosen)
    tables = [table for tables in folders.values() for table in tables if table.by_trial]
    if not tables:
        raise Failure("there are no finished trials: run an experiment first (make exp-NN)")
    counts = [tensorboard.write_runs(table) for table in tables]
    view = tensorboard.write_view(results, view_name(tables, given.exp is not None), tables)
    runs, written = map(sum, zip(*counts, strict=True))
    print(f"{runs} runs, {written} of them written: {view}", flush=True)
    if not given.write:
        serve(view, given.port)
    return status


def view_name(tables: Sequence[Table], by_number: bool) -> str:
    """Name of the view of some experiments: their setting's folder, or `all`, and with EXP their numbers."""
    folders = {table.files.folder.name for table in tables}
    numbers = spans(sorted({number_of(table.files.experiment) for table in tables})) if by_number else []
    return "-".join([folders.pop() if len(folders) == 1 else "all", *numbers])


def serve(view: pathlib.Path, port: int | None) -> None:
    """Serve a view on localhost until Ctrl-C.

    Args:
        port: by default the first free one from 6006 on.

    Raises:
        Failure: the port is in use or may not be used.
    """
    # TensorBoard imports TensorFlow, which takes seconds and prints messages, unless a module of this name exists.
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
    from tensorboard import default, program

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    server = program.TensorBoard(plugins=default.get_static_plugins())
    server.configure(argv=["tensorboard", "--logdir", str(view), *(["--port", f"{port}"] if port else [])])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # advice about options that make does not have
            url = server.launch()
    except program.TensorBoardServerException as error:
        raise Failure(f"{error.msg}: choose another port (PORT=6007)") from None
    print(f"TensorBoard: {url} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("TensorBoard ended", file=sys.stderr)


if __name__ == "__main__":
    end(run)
