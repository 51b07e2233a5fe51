"""The command line of every experiment: `python -m experiments.exp_03_l2 --seeds 3`, or `make exp-03 SEEDS=3`."""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from typing import NoReturn

from common.commands.study import Study
from common.data.dataset import NAMES
from common.errors import Failure, Misuse, OneLineParser
from common.experiment import PRECISIONS, TUNERS, Experiment, Setting
from common.running.cluster import Cluster
from common.running.devices import Devices
from common.running.plan import SMOKE, Planner
from common.running.runner import STALL_SECONDS
from common.running.session import How

SWEEP_TUNERS = TUNERS[1:]
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def _parser(experiment: Experiment) -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=f"python -m experiments.{experiment.name}",
        description=experiment.doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--full", action="store_true", help="the experiment's own setting instead of the quick one")
    add("--arms", metavar="A,B", help=f"some of: {','.join(experiment.arms)}")
    add("--seeds", metavar="N", help=f"seeds 0 … N-1 (default {experiment.seeds})")
    add("--dataset", metavar="NAME", help=f"{', '.join(NAMES)}, another TFDS name, or an image folder")
    add("--epochs", metavar="N", help="passes over the train split")
    add("--batch", metavar="N", help="examples per update")
    add("--train", metavar="N", help="examples of a stratified subset to train on")
    add("--size", metavar="N", help="pixels a side")
    add("--colour", metavar="C", help="grey or rgb")
    add("--precision", metavar="P", help=" or ".join(PRECISIONS))
    add("--threads", metavar="N", help="CPU threads per trial (default 1; changes the last bits)")
    add("--replicas", metavar="N", help="devices that share each batch of a trial (default 1)")
    add("--jobs", metavar="N", help="trials at the same time (default: all that fit; 1 where seconds are compared)")
    add("--trials-per-gpu", metavar="N", help="trials that share a GPU (default 1)")
    add("--stall-seconds", metavar="N", help=f"give a silent trial up after this long (default {STALL_SECONDS})")
    add("--results", metavar="DIR", default="results", help="folder for rows and figures (default results)")
    add("--checkpoint-steps", metavar="N", help="checkpoint every N updates, not only after epochs")
    add("--smoke", action="store_true", help="one epoch, one seed, 256 images, in a folder of its own")
    add("--keep", action="store_true", help="save the trained models as .keras")
    add("--sweep", action="store_true", help="search with keras-tuner, and keep what it finds for later runs")
    add("--tuner", metavar="T", help=f"how to search, with --sweep: {', '.join(SWEEP_TUNERS)} (default: the script's, or halton)")
    add("--trials", metavar="N", help="points an arm, with --sweep (default: the script's, or 16)")
    add("--sweeps", metavar="N", help="independent repetitions of the search, with --sweep (default 1)")
    add("--dry", action="store_true", help="show what would run, and stop")
    return parser


def _whole(name: str, text: str | None, least: int = 1) -> int | None:
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < least:
        raise Misuse(f"{name} must be a whole number of at least {least}. Received: {text}")
    return value


def _chosen_arms(experiment: Experiment, text: str | None) -> list[str]:
    """Arms by name. Names may hold commas, so the longest arm that fits is taken each time."""
    if text is None:
        return list(experiment.arms)
    chosen, rest = [], text
    while rest:
        fitting = [arm for arm in experiment.arms if rest == arm or rest.startswith(f"{arm},")]
        if not fitting:
            wrong = rest.split(",", maxsplit=1)[0]
            raise Misuse(f"arms must be among {', '.join(experiment.arms)}. Received: {wrong!r}")
        arm = max(fitting, key=len)
        chosen.append(arm)
        rest = rest[len(arm) + 1 :]
    if not chosen:
        raise Misuse("arms must name at least one arm. Received: ''")
    return [arm for arm in experiment.arms if arm in chosen]


def _setting(experiment: Experiment, given: argparse.Namespace, machines: int) -> tuple[Setting, list[str]]:
    """The declared setting with the user's overrides, and the names of those."""
    setting = experiment.setting if given.full else experiment.quick
    wanted = {
        "dataset": given.dataset,
        "epochs": _whole("epochs", given.epochs),
        "batch_size": _whole("batch_size", given.batch),
        "train_size": _whole("train_size", given.train),
        "image_size": _whole("image_size", given.size),
        "colour": given.colour,
        "precision": given.precision,
        "threads": _whole("threads", given.threads),
        "replicas": _whole("replicas", given.replicas),
    }
    if machines > 1:
        wanted |= {"workers": machines, "replicas": wanted["replicas"] or machines}
    overrides = {name: value for name, value in wanted.items() if value is not None}
    if given.smoke:
        overrides = {**SMOKE, **overrides}
    return setting.replace(**overrides), list(overrides)


def _check_writable(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Misuse(f"results folder cannot be written ({error.strerror}). Received: {folder}") from None


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; ends the process: 0, 1 for a failure, 2 for a misuse, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = run(experiment, arguments)
    except (Misuse, Failure) as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        status = error.status
    except KeyboardInterrupt:
        print(f"{experiment.name}: stopped; the same command goes on from the last finished epochs", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = Failure.status
    sys.exit(status)


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Plan, train what is missing, draw. Returns the exit status. Raises `Misuse`, `Failure`, `KeyboardInterrupt`."""
    given = _parser(experiment).parse_args(arguments)
    cluster = Cluster.here()
    if cluster is None:
        return _run(experiment, given, None)
    try:
        return _run(experiment, given, cluster)
    except BaseException as error:
        cluster.leave(state="ended", reason=str(error) or "stopped")
        raise


def _run(experiment: Experiment, given: argparse.Namespace, cluster: Cluster | None) -> int:
    machines = cluster.size if cluster else 1
    setting, overridden = _setting(experiment, given, machines)
    seeds = _whole("seeds", given.seeds) or (1 if given.smoke else experiment.seeds)
    devices = Devices.here(_whole("trials_per_gpu", given.trials_per_gpu) or 1, machines)
    jobs = _whole("jobs", given.jobs) or (1 if experiment.alone else devices.jobs(setting.threads, setting.replicas))
    if cluster and jobs > 1:
        raise Misuse(f"jobs must be 1 under TF_CONFIG, whose machines train one trial together. Received: {jobs}")
    folder = pathlib.Path(given.results).expanduser()
    arms = _chosen_arms(experiment, given.arms)
    how = How(
        devices=devices,
        jobs=jobs,
        stall_seconds=_whole("stall_seconds", given.stall_seconds) or STALL_SECONDS,
        checkpoint_steps=_whole("checkpoint_steps", given.checkpoint_steps),
        keep=given.keep,
        dry=given.dry,
        cluster=None if given.dry else cluster,
    )
    _check_sweep(given)
    _check_writable(folder)
    if cluster and not given.dry:
        cluster.open(folder / ".cluster" / experiment.name)
    planner = Planner(experiment, setting, folder, overridden=overridden, smoke=given.smoke)
    study = Study(planner, setting, how, arms=arms, seeds=range(seeds), smoke=given.smoke)
    if how.cluster and not cluster.chief:
        return study.follow()
    if given.sweep:
        return study.sweep(given.tuner, _whole("trials", given.trials), _whole("sweeps", given.sweeps) or 1)
    return study.run()


def _check_sweep(given: argparse.Namespace) -> None:
    alone = [name for name in ("tuner", "trials", "sweeps") if getattr(given, name) is not None and not given.sweep]
    if alone:
        raise Misuse(f"{alone[0]} is an option of a sweep: make sweep-NN, or --sweep. Received: {getattr(given, alone[0])}")
    if given.tuner is not None and given.tuner not in SWEEP_TUNERS:
        raise Misuse(f"tuner must be one of {', '.join(SWEEP_TUNERS)}. Received: {given.tuner!r}")
