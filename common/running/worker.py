"""The program of a worker process: receives jobs as JSON lines on stdin, and sends events as JSON lines on stdout.

A trial's outcome is written to its folder before the event `finished` is sent; only the main process writes rows. When the main
process ends, stdin is closed and the worker exits. On Linux the kernel also kills it, since TensorFlow holds Python's global
interpreter lock while it waits for other machines. Output of a trial goes to the worker's log, which is cleared with each trial.
Trials cannot read from the terminal.
"""

import bdb
import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from common.errors import CodeChanged, Misuse, Unavailable
from common.rows.outcome import save_outcome
from common.running.reasons import reason
from common.training.job import Job

NO_TERMINAL = "breakpoints and input() need a terminal, which trials only have with DEBUG=1: make exp-NN DEBUG=1 ARMS=… SEEDS=1"
PR_SET_PDEATHSIG = 1
UNUSED = ("matplotlib", "pandas", "sklearn")
"""Packages that Keras imports where they are installed, for parts that trials do not use: a third of its time to import."""


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to all processes; the main process handles it
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of trials and libraries goes to the log
    faulthandler.enable()  # as do tracebacks of crashes within libraries
    lines = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # so that a script that reads stdin does not read the next job
    sys.breakpointhook = _refuse_breakpoint
    jobs: queue.Queue[Job] = queue.Queue()

    def listen():
        for line in lines:
            jobs.put(Job.from_json(line))
        os._exit(0)  # the main process has ended

    threading.Thread(target=listen, daemon=True).start()
    threads, replicas, workers, deterministic = map(int, sys.argv[1:])

    with hidden(UNUSED):
        from common.training import execution  # imports TensorFlow, which takes seconds

    strategy = execution.start(threads, replicas, workers, bool(deterministic))
    gc.freeze()  # each trial starts with garbage collections, which would go through all that was imported

    def send(**event):
        events.write(json.dumps(event) + "\n")

    send(event="ready")
    while True:
        job = jobs.get()
        os.ftruncate(2, 0)  # the log is that of one trial
        os.lseek(2, 0, os.SEEK_SET)
        try:
            outcome = execution.run_trial(job, strategy, lambda **progress: send(event="progress", **progress))
            if job.writes:
                save_outcome(job.folder, outcome)
            send(event="finished")
        except Unavailable as error:
            send(event="unavailable", reason=str(error))
        except CodeChanged as error:
            send(event="changed", reason=str(error))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            if isinstance(error, bdb.BdbQuit) or (isinstance(error, EOFError) and "reading a line" in str(error)):
                error = Misuse(NO_TERMINAL).with_traceback(error.__traceback__)
            send(event="failed", reason=reason(error, job.script))


@contextlib.contextmanager
def hidden(packages: Sequence[str]) -> Iterator[None]:
    """Context manager within which packages that are not imported yet cannot be: Keras then does without them."""
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _refuse_breakpoint(*_, **__) -> None:
    raise Misuse(NO_TERMINAL)


if __name__ == "__main__":
    main()
