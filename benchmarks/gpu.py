"""Runs what only a GPU can show, in some minutes, and prints a table for docs/scale.md.

    make gpu-check

Trains the arms of `exp_90_devices.py` on digits, from the command line of any experiment, in a temporary folder. The exit status
is 1 if a check fails, or if there is no GPU.
"""

import contextlib
import datetime
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.fits import Fit
from benchmarks.gpu_outcomes import (
    FAILED,
    Check,
    Run,
    accuracy,
    identical,
    memory,
    replicas,
    resumed,
    speed,
    trained,
    trials_per_gpu,
)
from common.commands.parsing import end, parse
from common.errors import Failure
from common.files import PROJECT
from common.machine import device, gpus, has_unused_gpus
from common.rows import schema

SCRIPT = PROJECT / "benchmarks" / "exp_90_devices.py"
NO_GPU = "-1"
"""Value of `CUDA_VISIBLE_DEVICES` that hides all GPUs."""
AT_A_TIME = 4
"""Trials at the same time in the checks that measure no speed."""
CHECKPOINT_STEPS = 5
POLL_SECONDS = 0.05
START_SECONDS = 600
"""Time limit for the first checkpoint of a run."""
WITHOUT_RANDOM_REPLICAS = ("baseline", "batch norm", "group norm")
"""Arms whose results do not depend on the number of replicas; dropout masks and the partners of CutMix do."""


@dataclass(frozen=True)
class Place:
    """Where the checks train, and how much.

    Args:
        gpus: their CUDA names; `NO_GPU` stands for the CPU.
        arms, seeds, epochs: of most checks.
        counts: numbers of trials that share a GPU.
        long: factor of the epochs where speed is measured.
    """

    folder: pathlib.Path
    gpus: tuple[str, ...]
    arms: tuple[str, ...] = ("baseline", "batch norm", "group norm", "augmented", "float16")
    seeds: int = 5
    epochs: int = 10
    counts: tuple[int, ...] = (1, 2, 4, 8)
    long: int = 4

    def command(self, name: str, *options: object, script: pathlib.Path = SCRIPT) -> list[str]:
        """The command line of a run with its rows in a folder of that name."""
        words = [sys.executable, "-m", "common.commands.run", str(script), "--results", str(self.folder / name)]
        return [*words, *map(str, options)]

    def environment(self, devices: int = 1, *, cpu: bool = False) -> dict[str, str]:
        """The variables of a run on the first GPUs, or on the CPU."""
        visible = NO_GPU if cpu else ",".join(self.gpus[:devices])
        return {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # the order of nvidia-smi

    def run(self, name: str, *options: object, script: pathlib.Path = SCRIPT, **where) -> Run:
        """Run a command to its end. Raises `Failure` if it has written no rows."""
        command = self.command(name, *options, script=script)
        done = subprocess.run(command, cwd=PROJECT, env=self.environment(**where), capture_output=True, text=True)
        paths = list((self.folder / name).glob(f"*/{script.stem}.csv"))
        if not paths:
            raise Failure((done.stderr.strip().splitlines() or ["a run has written no rows"])[-1])
        return Run.read(schema.Files(paths[0].parent, script.stem))


def side_by_side(count: int) -> list[object]:
    """The options for so many trials at the same time, on a GPU or on the CPU."""
    return ["--jobs", count, "--trials-per-gpu", count]


def checks(place: Place) -> Iterator[Check]:
    """The outcome of each check, as soon as it is known."""
    arms = ["--arms", ",".join(place.arms), "--epochs", place.epochs]
    all_seeds = [*arms, "--seeds", place.seeds, *side_by_side(AT_A_TIME)]
    try:
        whole = place.run("whole", *all_seeds)
    except Failure as error:
        yield Check("training", str(error), FAILED)
        return
    one_seed = [*arms, "--seeds", 1, *side_by_side(len(place.arms))]
    yield trained(whole)
    yield found("accuracy of GPU and CPU", lambda: accuracy(whole, place.run("cpu", *all_seeds, cpu=True)))
    yield found("the same run again", lambda: identical(whole, place.run("again", *one_seed)))
    yield found("the same run, killed and resumed", lambda: resumed(whole, *killed(place, *one_seed)))
    yield found("1 and 2 replicas", lambda: replicas(whole, two_replicas(place)))
    yield from sharing(place)
    yield found("images per second", lambda: speed(*compared_with_fit(place)))


def found(name: str, outcome: Callable[[], Check]) -> Check:
    """The outcome of a check; `FAILED` with the reason if a run could not be made."""
    try:
        return outcome()
    except Failure as error:
        return Check(name, str(error), FAILED)


def killed(place: Place, *options: object) -> tuple[Run, int]:
    """A run that is killed as soon as a trial that was not yet killed has a checkpoint, again and again, until none is left.

    Returns the run and the number of kills. Raises `Failure` if there is no checkpoint in time.
    """
    options = (*options, "--checkpoint-steps", CHECKPOINT_STEPS)
    seen: set[str] = set()
    kills = 0
    while kills < len(place.arms):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(
            place.command("killed", *options), cwd=PROJECT, env=place.environment(), start_new_session=True, **quiet
        )
        try:
            limit = time.monotonic() + START_SECONDS
            while process.poll() is None and (new := _with_checkpoint(place.folder / "killed")) <= seen:
                if time.monotonic() > limit:
                    raise Failure(f"no trial saved a checkpoint within {START_SECONDS} s")
                time.sleep(POLL_SECONDS)
            if process.poll() is not None:
                break
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, signal.SIGKILL)  # the run and its workers
            process.wait()
        seen, kills = seen | new, kills + 1
    return place.run("killed", *options), kills


def _with_checkpoint(folder: pathlib.Path) -> set[str]:
    """Names of the unfinished trials below a folder that have a checkpoint."""
    return {path.parent.name for path in folder.glob("*/.state/*/*/fit-*.npz")}


def two_replicas(place: Place) -> Run | None:
    """A run in which two GPUs share each batch; None if there is only one."""
    if len(place.gpus) < 2:
        return None
    arms = [arm for arm in place.arms if arm in WITHOUT_RANDOM_REPLICAS]
    options = ["--arms", ",".join(arms), "--epochs", place.epochs, "--seeds", 1, "--replicas", 2, "--jobs", 1]
    return place.run("replicas", *options, devices=2)


def sharing(place: Place) -> Iterator[Check]:
    """The checks of trials that share a GPU: their results, trials per hour, and memory."""
    runs, peaks = {}, {}
    for count in place.counts:
        options = ["--arms", "baseline", "--epochs", place.long * place.epochs, "--seeds", count, *side_by_side(count)]
        with GpuMemory(place.gpus[0]) as used:
            try:
                runs[count] = place.run(f"shared by {count}", *options)
            except Failure as error:
                yield Check(f"TRIALS_PER_GPU={count}", str(error), FAILED)
                continue
        peaks[count] = used.peak
    if runs:
        yield trials_per_gpu(runs)
        yield memory(runs, peaks, used.total)


class GpuMemory:
    """Memory in use on a GPU, in MB; a context manager that watches it in a thread.

    Attributes:
        peak: largest value so far; total: size of the memory; both 0 if nvidia-smi does not tell.
    """

    def __init__(self, gpu: str):
        self.gpu, self.peak, self.total = gpu, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "GpuMemory":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.5):
            values = query(self.gpu, "memory.used", "memory.total")
            if all(value.isdigit() for value in values):
                used, self.total = map(int, values)
                self.peak = max(self.peak, used)


def query(gpu: str, *fields: str) -> list[str]:
    """Values of nvidia-smi's fields for a GPU, without units; "" for each if it does not tell."""
    command = ["nvidia-smi", "-i", gpu, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return [""] * len(fields)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return values if done.returncode == 0 and len(values) == len(fields) else [""] * len(fields)


def compared_with_fit(place: Place) -> tuple[Run, float]:
    """A run of published model A on digits of CIFAR-10's size, and the images per second of plain `model.fit` with the same."""
    script, epochs = PROJECT / "experiments" / "exp_01_baseline_cnn.py", place.long * place.epochs
    images = ["--dataset", "digits", "--size", 32, "--colour", "rgb", "--batch", 64, "--epochs", epochs]
    options = [*images, "--setting", "full", "--arms", "loss_tuning", "--seeds", 1, "--jobs", 1]
    run = place.run("model A", *options, script=script)
    with Fit(["keras", "loss_tuning", *map(str, images)], place.environment()) as fit:
        fit.wait_until_ready()
        fit.start()
        return run, fit.images_per_second()


def refusal() -> str:
    """Why there is nothing to check on this machine; empty if there is a GPU."""
    if gpus():
        return ""
    if has_unused_gpus():
        return "TensorFlow is installed without CUDA: make setup GPU=1, then make gpu-check. Received: no GPU that it can use"
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    what = "no GPU" if given is None else f"no GPU (CUDA_VISIBLE_DEVICES={given})"
    return f"gpu-check needs a GPU that nvidia-smi -L lists: run it on a machine that has one. Received: {what}"


def main() -> int:
    """Check and print the table. Returns the exit status. Raises `Failure` without a GPU."""
    parse([], description=__doc__.splitlines()[0])
    reason = refusal()
    if reason:
        raise Failure(reason)
    names = tuple(gpus())
    (driver,) = query(names[0], "driver_version")
    print(f"{len(names)} × {device()}, driver {driver or 'unknown'}, {datetime.date.today()}", flush=True)
    print("\n| check | figures | |\n|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for check in checks(Place(pathlib.Path(folder), names)):
            print(check.line(), flush=True)
            failed = failed or check.outcome == FAILED
    return Failure.status if failed else 0


if __name__ == "__main__":
    end(main)
