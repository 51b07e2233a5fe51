"""The command line of every experiment: `python -m experiments.exp_03_l2 --seeds 3`, or `make exp-03 SEEDS=3`."""

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import NoReturn

from common import data, results
from common.devices import Devices, lacks_bfloat16
from common.errors import Failure, Misuse
from common.experiment import PRECISIONS, Experiment, Setting
from common.plan import SMOKE, Plan, make_plan
from common.progress import Display, duration, size
from common.runner import STALL_SECONDS, Runner, collect_pending

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message} (see --help)")


def _parser(experiment: Experiment) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog=f"python -m experiments.{experiment.name}",
        description=experiment.doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--full", action="store_true", help="the experiment's own setting instead of the quick one")
    add("--arms", metavar="A,B", help=f"some of: {','.join(experiment.arms)}")
    add("--seeds", metavar="N", help=f"seeds 0 … N-1 (default {experiment.seeds})")
    add("--dataset", metavar="NAME", help=f"{', '.join(data.NAMES)}, another TFDS name, or an image folder")
    add("--epochs", metavar="N", help="passes over the train split")
    add("--batch", metavar="N", help="examples per update")
    add("--train", metavar="N", help="examples of a stratified subset to train on")
    add("--size", metavar="N", help="pixels a side")
    add("--colour", metavar="C", help="grey or rgb")
    add("--precision", metavar="P", help=" or ".join(PRECISIONS))
    add("--threads", metavar="N", help="CPU threads per trial (default 1; changes the last bits)")
    add("--replicas", metavar="N", help="devices that share each batch of a trial (default 1)")
    add("--jobs", metavar="N", help="trials at the same time (default: the cores)")
    add("--trials-per-gpu", metavar="N", help="trials that share a GPU (default 1)")
    add("--stall-seconds", metavar="N", help=f"give a silent trial up after this long (default {STALL_SECONDS})")
    add("--results", metavar="DIR", default="results", help="folder for rows and figures (default results)")
    add("--checkpoint-steps", metavar="N", help="checkpoint every N updates, not only after epochs")
    add("--smoke", action="store_true", help="one epoch, one seed, 256 images, in a folder of its own")
    add("--keep", action="store_true", help="save the trained models as .keras")
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


def _setting(experiment: Experiment, given: argparse.Namespace) -> tuple[Setting, list[str]]:
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
    setting, overridden = _setting(experiment, given)
    arms = _chosen_arms(experiment, given.arms)
    seeds = _whole("seeds", given.seeds) or (1 if given.smoke else experiment.seeds)
    devices = Devices.here(_whole("trials_per_gpu", given.trials_per_gpu) or 1)
    jobs = _whole("jobs", given.jobs) or devices.jobs(setting.threads, setting.replicas)
    stall_seconds = _whole("stall_seconds", given.stall_seconds) or STALL_SECONDS
    checkpoint_steps = _whole("checkpoint_steps", given.checkpoint_steps)
    folder = pathlib.Path(given.results).expanduser()
    _check_writable(folder)
    plan = make_plan(experiment, setting, folder, arms=arms, seeds=range(seeds), overridden=overridden, smoke=given.smoke)
    if not given.dry:
        _set_aside_stale(plan)
        collect_pending(plan)
    trials = plan.missing()
    if given.keep:  # a done trial without a kept model is trained again: its row comes out the same
        trials = [t for t in plan.trials if t in trials or not plan.files.local("models", t.arm, t.seed, ".keras").exists()]
    _announce(plan, trials, jobs, setting)
    if any(t.setting.precision == "mixed_bfloat16" for t in trials) and not devices.names and lacks_bfloat16():
        print("this processor has no bfloat16 instructions (AVX512_BF16 or AMX): mixed_bfloat16 will be slower than float32")
    if given.dry:
        return 0
    results.write_declaration(plan.files, experiment.declare(setting))
    failed = 0
    if trials:
        with Display(len(trials)) as display:
            runner = Runner(
                plan,
                devices=devices,
                jobs=jobs,
                keep=given.keep,
                checkpoint_steps=checkpoint_steps,
                stall_seconds=stall_seconds,
                display=display,
            )
            failed = sum(row["status"] == "failed" for row in runner.run(trials))
    _close(plan)
    if failed:
        raise Failure(f"{failed} of {len(trials)} trials failed, see the lines above; the same command tries them again")
    return 0


def _set_aside_stale(plan: Plan) -> None:
    stale = plan.stale()
    if stale:
        path = results.supersede(plan.files, stale)
        print(f"{len(stale)} rows of an earlier code, setting or data moved to {path}")
    plan.clear_stale_state()


def _announce(plan: Plan, trials: Sequence, jobs: int, setting: Setting) -> None:
    experiment = plan.experiment
    declared = [
        f"{name} {value}" for name, value in vars(setting).items() if value is not None and name not in ("dataset", "vary")
    ]
    print(f"{experiment.name}: {experiment.question}")
    print(f"{setting.dataset}: {', '.join(declared)}; rows in {plan.files.rows}")
    seconds, disk, basis = plan.estimate(trials, jobs)
    count = f"{len(trials)} of {len(plan.trials)} trials to run" if trials else f"all {len(plan.trials)} trials are done"
    cost = (
        f", about {duration(seconds)} ({basis}) with {min(jobs, len(trials))} at a time, {size(disk)} of disk" if trials else ""
    )
    print(count + cost, flush=True)


def _close(plan: Plan) -> None:
    """Draw the figures, and print each arm's mean beside the published one."""
    from common import report

    rows = results.read_rows(plan.files)
    published = results.Files(results.REFERENCE / plan.files.folder.name, plan.files.experiment)
    reference = _means(results.read_rows(published)) if published.rows != plan.files.rows.resolve() else {}
    width = max(len(arm) for arm in plan.experiment.arms)
    for arm, (mean, count, diverged) in _means(rows).items():
        line = f"{arm:<{width}}  test accuracy {mean:.4f} (mean of {count})"
        line += f", {diverged} diverged" if diverged else ""
        if arm in reference:
            line += f"; published {reference[arm][0]:.4f} (mean of {reference[arm][1]})"
        print(line)
    for path in report.draw(plan.files):
        print(path)


def _means(rows: Sequence[dict]) -> dict[str, tuple[float, int, int]]:
    """Per arm: mean test accuracy, number of rows, how many of them diverged."""
    arms: dict[str, list[dict]] = {}
    for row in rows:
        if row["status"] in results.FINAL:
            arms.setdefault(row["arm"], []).append(row)
    return {
        arm: (statistics.fmean(float(r["test_accuracy"]) for r in own), len(own), sum(r["status"] == "diverged" for r in own))
        for arm, own in arms.items()
    }
