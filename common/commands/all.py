"""`make all`: all experiments one after the other, or those in EXP. Finished trials are not repeated.

Each experiment runs in a separate process, like `make exp-NN`, with its output in a log. The others continue if one fails.
"""

import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from common.commands.options import STUDY
from common.commands.parsing import INTERRUPTED, end, parse, setting_name
from common.commands.run import find_script
from common.errors import Failure, Misuse
from common.files import PROJECT, experiment_scripts
from common.rows import schema, store
from common.running.progress import Display
from common.running.scripts import read_script, refuse_shared_numbers
from common.text import duration

COUNTED = re.compile(r"^\[(\d+)/(\d+)\]")
"""Start of a run's line about a finished trial."""
ROWS = re.compile(r"; rows in (.+)\.csv$")
"""End of a run's line with the path of the rows."""
DRY = "DRY=1"


class Progress:
    """A line about the progress over all experiments, redrawn on a terminal; without a terminal it is not printed."""

    def __init__(self, names: Sequence[str], setting: str, display: Display):
        self.names, self.weights, self.display = names, weights(names, setting), display
        self.started = time.perf_counter()

    def show(self, position: int, done: int, total: int) -> None:
        """Redraw the line.

        Args:
            position: index of the current experiment; done, total: numbers of its trials.
        """
        if self.display.live:
            self.display.live.update(Text(self.line(position, done, total), style="dim"), refresh=True)

    def line(self, position: int, done: int, total: int) -> str:
        """The text of the line, with the time left, estimated with `weights`."""
        finished = sum(self.weights[:position]) + self.weights[position] * (done / total if total else 0)
        seconds = time.perf_counter() - self.started
        left = f", about {duration(seconds * (sum(self.weights) - finished) / finished)} left" if done and finished else ""
        trials = f", trial {done} of {total}" if total else ""
        return f"experiment {position + 1} of {len(self.names)}, {self.names[position]}{trials}; {duration(seconds)}{left}"


def weights(names: Sequence[str], setting: str) -> list[float]:
    """Duration of each experiment: seconds of its published trials in a setting, or the median of the others without any."""
    seconds = {}
    for name in names:
        rows = []
        for folder in sorted(schema.REFERENCE.glob(f"{setting}-*")):
            files = schema.Files(folder, name)
            rows += store.read_rows(files) + store.read_rows(files.trials)
        seconds[name] = sum(float(row["total_seconds"] or 0) for row in rows)
    known = [value for value in seconds.values() if value]
    return [seconds[name] or (statistics.median(known) if known else 1.0) for name in names]


def command(name: str, options: Sequence[str]) -> list[str]:
    """The command that runs one experiment."""
    return [sys.executable, "-m", "common.commands.run", name, *options]


def run_one(name: str, options: Sequence[str], log: pathlib.Path, progress: Progress, position: int) -> tuple[int, str]:
    """Run one experiment. Returns its exit status, and the numbers of its trials by status or, also of a plan, its last line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    last, done, total, rows = "", 0, 0, None
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command(name, options),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                last = line.strip() or last
                if match := ROWS.search(line.rstrip()):
                    rows = pathlib.Path(match.group(1))
                if counted := COUNTED.match(line):
                    done, total = map(int, counted.groups())
                progress.show(position, done, total)
        except BaseException:
            process.send_signal(signal.SIGTERM)  # it has already received Ctrl-C, unless it ignores it
            process.wait()
            raise
    status = process.wait()
    if status or rows is None or DRY in options:  # the rows that exist say nothing about a plan
        return status, last
    counts = Counter(row["status"] for row in store.read_rows(schema.Files(rows.parent, rows.name)))
    return status, ", ".join(f"{count} {name}" for name, count in counts.items()) or last


def chosen(text: str | None) -> list[str]:
    """The names of the experiments in EXP, in that order; by default all. Raises `Misuse`."""
    if text is None:
        refuse_shared_numbers(experiment_scripts())
        return [path.stem for path in experiment_scripts()]
    numbers = [number.strip() for number in text.split(",")]
    names = [find_script(number).stem for number in numbers if number]
    if len(set(names)) < len(numbers):
        raise Misuse(f"EXP must name each experiment once, by its number: EXP=00,03,09. Received: {text}")
    return names


def searching_rates(names: Sequence[str]) -> list[str]:
    """The experiments that search a learning rate, which RATE replaces. Raises `Misuse` if there are none.

    Prints which ones are left out.
    """
    searching = [name for name in names if read_script(find_script(name)).searches_rate]
    others = [name for name in names if name not in searching]
    if not searching:
        raise Misuse(f"RATE replaces a searched learning rate. Received: experiments that search none ({', '.join(others)})")
    if others:
        print(f"left out, as they search no learning rate that RATE could replace: {', '.join(others)}", flush=True)
    return searching


def run(names: Sequence[str], options: Sequence[str], folder: pathlib.Path, setting: str) -> int:
    """Run experiments. Returns the exit status 0.

    Args:
        options: for each of them, as `NAME=value`; folder: of the results; setting: name of the setting.

    Raises:
        Misuse: the first two experiments refuse the options for the same reason.
        Failure: an experiment has failed.
    """
    failed: list[str] = []
    refused = ""
    with Display() as display:
        progress = Progress(names, setting, display)
        for position, name in enumerate(names):
            progress.show(position, 0, 0)
            began = time.perf_counter()
            log = folder / "logs" / f"{name}.log"
            status, result = run_one(name, options, log, progress, position)
            if status in (INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            reason = result.removeprefix(f"{name}: ")
            if status == Misuse.status and reason == refused and position == 1:
                raise Misuse(reason)
            refused = reason if status == Misuse.status else ""
            result = f"failed: {result} (log: {log})" if status else result
            display.print_line(f"[{position + 1}/{len(names)}] {name}: {result}, {duration(time.perf_counter() - began)}")
            if status:
                failed.append(name)
        took = duration(time.perf_counter() - progress.started)
        what = "planned" if DRY in options else "done"
        display.print_line(f"{len(names) - len(failed)} of {len(names)} experiments {what} in {took}")
    if failed:
        many = f"{len(failed)} experiments" if len(failed) > 1 else "one experiment"
        raise Failure(f"{many} failed ({', '.join(failed)}): the same command runs them again")
    return 0


def main() -> int:
    """Run the command. Returns the exit status."""
    given = parse([*STUDY, "exp"], description=__doc__)
    if given.arms is not None:
        raise Misuse(f"ARMS is an option of a single experiment: make exp-NN ARMS=… Received: {given.arms}")
    if given.debug:
        raise Misuse("DEBUG is an option of a single experiment: make exp-NN DEBUG=1. Received: DEBUG=1")
    setting = setting_name(given) or ("small" if given.dataset else "quick")
    folder = pathlib.Path(given.results).resolve()
    values = {**vars(given), "exp": None, "results": folder}
    options = [f"{name.upper()}={int(v) if v is True else v}" for name, v in values.items() if v is not None and v is not False]
    names = chosen(given.exp)
    return run(names if given.rate is None else searching_rates(names), options, folder, setting)


if __name__ == "__main__":
    end(main)
