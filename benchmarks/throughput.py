"""Measures whole trials per hour on CIFAR-10: this suite, plain `model.fit` and PyTorch, on the processor.

    make bench REPEATS=3 PRECISION=float32

Two workloads: published model A, and `small_cnn` on 5,000 images (TRAIN=n: at most n images of each). In each repeat all sides
run one after the other, each in new processes; a number is the median over the repeats. Imports are not timed. All sides have
the same images and do the same work, see `WORK`.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.fits import Fit
from common.commands.parsing import end, parse
from common.errors import Failure, Misuse
from common.files import PROJECT
from common.machine import ONEDNN, cores, device
from common.rows import schema, store

WORK = (
    "each side: training, a pass over all 5,000 validation images after each epoch, a pass over the 10,000 test images",
    "the suite besides: checkpoints, a pass over the training images, scores with the weights of the best epoch",
)
PRECISIONS = ("float32", "mixed_bfloat16")
"""Those that all sides have."""
NOT_PASSED_ON = ("TF_", "XLA_", "KERAS_", "OMP_", "MKL_", "ONEDNN_", "DNNL_", "KMP_", "TORCH_", "PYTORCH_")
"""Beginnings of the names of variables that would change the defaults of a framework."""


class Workload(NamedTuple):
    """A trial of an experiment's arm: the same network, optimizer and schedule as `fits.py` trains."""

    about: str
    experiment: str
    arm: str
    network: str
    train: int
    batch: int
    epochs: int
    rate: float | None
    """Peak learning rate of SGD; None for Adam at its default."""


WORKLOADS = (
    Workload("model A, Adam", "exp_01_baseline_cnn", "loss_tuning", "loss_tuning", 45_000, 64, 2, None),
    Workload("small_cnn, SGD", "exp_20_training_set_size", "all images", "small_cnn", 5000, 32, 4, 0.01),
)


def environment() -> dict[str, str]:
    """The variables of this process without those that change defaults; GPUs are hidden from all sides alike."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}
    return {**kept, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def options(workload: Workload, precision: str) -> list[str]:
    """The options that the command line of an experiment shares with `fits.py`."""
    given = {"dataset": "cifar10", "precision": precision}
    given |= {name: getattr(workload, name) for name in ("train", "batch", "epochs", "rate")}
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


def suite(workload: Workload, precision: str) -> float:
    """Seconds per trial of this suite, which trains one trial per core at a time.

    In the full setting all validation images are scored after each epoch.
    """
    command = [sys.executable, "-m", "common.commands.run", workload.experiment, "--arms", workload.arm, "--setting", "full"]
    command += ["--seeds", str(cores()), "--jobs", str(cores()), *options(workload, precision)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--results", folder], cwd=PROJECT, env=environment(), capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"the suite could not train {workload.about}: {done.stderr.strip()}")
        (path,) = pathlib.Path(folder).glob(f"*/{workload.experiment}.csv")
        rows = store.read_rows(schema.Files(path.parent, workload.experiment))
    return statistics.fmean(float(row["total_seconds"]) for row in rows) / cores()


def fits(workload: Workload, precision: str, framework: str, processes: int = 1, **changes: str) -> float:
    """Seconds per trial of so many processes of `fits.py` side by side, from their common start to the end of the last.

    Args:
        processes: their number; with more than one, each has one thread.
        changes: variables of their environment.
    """
    command = [framework, workload.network, *options(workload, precision)]
    command += ["--threads", "1"] if processes > 1 else []
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Fit(command, environment() | changes)) for _ in range(processes)]
        for process in started:
            process.wait_until_ready()
        start = time.perf_counter()
        for process in started:
            process.start()
        for process in started:
            process.images_per_second()
        return (time.perf_counter() - start) / processes


def sides() -> dict[str, Callable[[Workload, str], float]]:
    """Name of each side that this machine has -> f(workload, precision), which returns seconds per trial."""
    found = {f"suite, {cores()} jobs": suite, "model.fit": functools.partial(fits, framework="keras")}
    if not uses_onednn_by_default():
        found["model.fit, oneDNN on"] = functools.partial(fits, framework="keras", **{ONEDNN: "1"})
    if importlib.util.find_spec("torch"):
        found["PyTorch, one process"] = functools.partial(fits, framework="torch")
        if cores() > 1:
            found[f"PyTorch, {cores()} processes"] = functools.partial(fits, framework="torch", processes=cores())
    return found


def uses_onednn_by_default() -> bool:
    """Whether TensorFlow uses oneDNN on this processor without being asked; see `machine.uses_onednn`."""
    code = "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.split() == ["True"]


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Lines with trials per hour of each side and their ratio to the suite, which is the first one.

    Args:
        seconds: side -> seconds per trial of each repeat.
    """
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    first = next(iter(medians))
    best = min((side for side in medians if side.startswith("PyTorch")), key=medians.get, default=None)
    lines = []
    for side, median in medians.items():
        line = f"  {side:<22}{3600 / median:7.1f} trials per hour, {median:.1f} s each ({_spread(seconds[side])})"
        if side != first:
            line += f"; the suite trains {median / medians[first]:.2f} times as many"
        lines.append(line + (" (not PyTorch's better count)" if side.startswith("PyTorch") and side != best else ""))
    return lines


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f} – {max(values):.1f} s"


def main() -> int:
    """Run all sides in turn and print the tables. Returns the exit status. Raises `Misuse`, `Failure`."""
    given = parse(["repeats", "precision", "train", "epochs"], description=__doc__.splitlines()[0])
    repeats, precision = given.repeats or 3, given.precision or "float32"
    if precision not in PRECISIONS:
        raise Misuse(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    workloads = [w._replace(train=min(given.train or w.train, w.train), epochs=given.epochs or w.epochs) for w in WORKLOADS]
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # so that the processor is named
    found = sides()
    print(f"{device()}; {cores()} cores; {precision}; medians of {repeats} interleaved runs", *WORK, sep="\n")
    if "model.fit, oneDNN on" not in found:
        print("model.fit: TensorFlow uses oneDNN on this processor by default, so that model.fit with it is no side of its own")
    if "PyTorch, one process" not in found:
        print("PyTorch: not installed, and not compared; .venv/bin/pip install torch installs it")
    seconds = {workload: {side: [] for side in found} for workload in workloads}
    for repeat in range(repeats):
        for workload in workloads:
            for side, measure in found.items():
                one = measure(workload, precision)
                seconds[workload][side].append(one)
                print(f"run {repeat + 1} of {repeats}: {workload.about}, {side}: {one:.1f} s per trial", flush=True)
    for workload, measured in seconds.items():
        print(
            f"{workload.about}, batch {workload.batch}, {workload.train:,} images, {workload.epochs} epochs",
            *table(measured),
            sep="\n",
        )
    return 0


if __name__ == "__main__":
    end(main)
