"""One process, one device: takes trials as JSON lines on stdin, hands back events as JSON lines on stdout.

A trial's outcome is first written into its own folder, then announced; the parent alone writes rows. The worker ends when
its parent does, because then its stdin does, also while TensorFlow is still being imported. On Linux the kernel sees to it
as well: TensorFlow holds Python's lock while it waits for other machines. What a trial prints is in the worker's log, which
begins anew with each trial; nothing can be read from a terminal here.
"""

import bdb
import contextlib
import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import traceback

from common.errors import CodeChanged, Misuse, Unavailable
from common.rows import store
from common.running.reasons import reason
from common.training.job import Job

NO_TERMINAL = "breakpoints and input() need a terminal, which a trial has under DEBUG=1: make exp-NN DEBUG=1 ARMS=… SEEDS=1"
PR_SET_PDEATHSIG = 1


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log
    faulthandler.enable()  # so does where a crash within a library began
    given = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a script that reads its input would take the next trial
    sys.breakpointhook = _refuse_breakpoint
    jobs: queue.Queue[Job] = queue.Queue()

    def listen():
        for line in given:
            jobs.put(Job.from_json(line))
        os._exit(0)  # the parent has ended: nothing that is not yet saved can be of use

    threading.Thread(target=listen, daemon=True).start()
    threads, replicas, workers, deterministic = map(int, sys.argv[1:])

    from common.training import execution  # only now: it imports TensorFlow, which takes seconds

    strategy = execution.start(threads, replicas, workers, bool(deterministic))

    def send(**event):
        events.write(json.dumps(event) + "\n")

    send(event="ready")
    while True:
        job = jobs.get()
        os.ftruncate(2, 0)  # the log is of one trial alone
        os.lseek(2, 0, os.SEEK_SET)
        try:
            outcome = execution.run_trial(job, strategy, lambda **progress: send(event="progress", **progress))
            if job.writes:
                store.save_outcome(job.folder, outcome)
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


def _refuse_breakpoint(*_, **__) -> None:
    raise Misuse(NO_TERMINAL)


if __name__ == "__main__":
    main()
