"""One process, one device: takes trials as JSON lines on stdin, hands back events as JSON lines on stdout.

A trial's outcome is first written into its own folder, then announced; the parent alone writes rows. The worker ends when
its parent does, because then its stdin does, also while TensorFlow is still being imported. On Linux the kernel sees to it
as well: TensorFlow holds Python's lock while it waits for other machines.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import signal
import sys
import threading
import traceback

from common.errors import CodeChanged, Failure, Misuse, Unavailable
from common.rows import store
from common.training.job import Job

PR_SET_PDEATHSIG = 1


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log
    jobs: queue.Queue[Job] = queue.Queue()

    def listen():
        for line in sys.stdin:
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
        try:
            outcome = execution.run_trial(job, strategy, lambda **progress: send(event="progress", **progress))
            if job.writes:
                store.save_outcome(job.folder, outcome)
            send(event="finished")
        except Unavailable as error:
            send(event="unavailable", reason=str(error))
        except CodeChanged as error:
            send(event="changed", reason=str(error))
        except (Misuse, Failure) as error:
            send(event="failed", reason=str(error))
        except Exception as error:
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0][:200]} ({pathlib.Path(where.filename).name}:{where.lineno})"
            send(event="failed", reason=reason)


if __name__ == "__main__":
    main()
