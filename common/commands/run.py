"""`make exp-NN` and `make sweep-NN`: runs one experiment. `make exp-03 SEEDS=3` is `… -m common.commands.run 03 --seeds 3`."""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NoReturn

from common.commands.options import STUDY
from common.commands.parsing import FIELD_OF, end, parse, positive, setting_name
from common.commands.study import Study
from common.declarations import TUNERS
from common.errors import Misuse
from common.experiment import Experiment
from common.files import experiment_scripts
from common.rows import schema
from common.running.cluster import Cluster
from common.running.devices import Devices
from common.running.plan import Planner, files_of
from common.running.runner import STALL_SECONDS, RunOptions
from common.running.scripts import read_script, refuse_shared_numbers
from common.running.workers import Workers
from common.setting import Selected, Setting
from common.text import did_you_mean, number_of, two_digits

SWEEP_TUNERS = tuple(tuner for tuner in TUNERS if tuner != "grid")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit, see `parsing.end`.

    Args:
        arguments: path, name or number of a script, then options; by default the process' command line.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    end(lambda: run(arguments), _name(*arguments[:1]))


def run(arguments: Sequence[str]) -> int:
    """Run an experiment with the given command line. Returns the exit status. Raises `Misuse`, `Failure`."""
    if not arguments or arguments[0].startswith("-"):
        raise Misuse(f"the first argument must be an experiment's number, name or script. Received: {' '.join(arguments)!r}")
    experiment = read_script(find_script(arguments[0]))
    epilog = f"arms: {', '.join(experiment.arms)}; by default {experiment.seeds} seeds"
    epilog += f"; arms of a sweep alone: {', '.join(experiment.swept)}" if experiment.swept else ""
    given = parse(
        STUDY, arguments[1:], prog=f"python -m experiments.{experiment.name}", description=experiment.doc, epilog=epilog
    )
    cluster = Cluster.here()
    if cluster is None:
        return _run(experiment, given, None)
    try:
        return _run(experiment, given, cluster)
    except BaseException as error:
        cluster.leave(state="ended", reason=str(error) or "stopped")
        raise


def _name(text: str = "") -> str:
    """Start of error messages: the script's name; empty if there is no such script."""
    try:
        return find_script(text).stem
    except Misuse:
        return ""


def find_script(text: str) -> pathlib.Path:
    """Path of a script, from its path, name or number. Raises `Misuse`, also if two scripts have the number."""
    known = experiment_scripts()
    if text.endswith(".py"):
        path = pathlib.Path(text).resolve()
        if not path.is_file():
            raise Misuse(f"script does not exist. Received: {text}")
        return path
    for path in known:
        if text == path.stem:
            return path
        if two_digits(text) == number_of(path.stem):
            refuse_shared_numbers(known, number_of(path.stem))
            return path
    numbers = dict.fromkeys(number_of(path.stem) for path in known)
    hint = did_you_mean(text, [*numbers, *(path.stem for path in known)])
    raise Misuse(f"experiment must be one of {' '.join(numbers)}. Received: {text}{hint}")


def _run(experiment: Experiment, given: argparse.Namespace, cluster: Cluster | None) -> int:
    """Check the options, and run the experiment with them. Returns the exit status."""
    machines = cluster.size if cluster else 1
    selected = _select(experiment, given, machines)
    seeds = given.seeds or (1 if selected.tests_code else experiment.seeds)
    devices = Devices.here(given.trials_per_gpu or 1, machines)
    alone = experiment.alone or given.debug
    jobs = given.jobs or (1 if alone else devices.jobs(selected.setting.threads, selected.setting.replicas))
    if cluster and jobs > 1:
        raise Misuse(f"jobs must be 1 with TF_CONFIG, as its machines train one trial together. Received: {jobs}")
    if given.debug and (cluster or given.sweep or jobs > 1):
        other = "TF_CONFIG" if cluster else "a sweep" if given.sweep else f"JOBS={jobs}"
        raise Misuse(f"DEBUG=1 trains one trial at a time in the main process, without a search. Received: {other}")
    arms = _chosen_arms(experiment.all_arms if given.sweep else experiment.arms, given.arms)
    options = RunOptions(
        devices=devices,
        jobs=jobs,
        stall_seconds=given.stall_seconds or STALL_SECONDS,
        checkpoint_steps=given.checkpoint_steps,
        keep=given.keep,
        dry=given.dry,
        debug=given.debug,
        cluster=None if given.dry else cluster,
    )
    _check_sweep(given)
    if given.until is not None:
        from common.commands import until  # judges, for which it imports pandas and SciPy

        until.check(given, cluster)
    folder = pathlib.Path(given.results)
    _check_writable(folder)
    if options.cluster:
        options.cluster.open(folder / ".cluster" / experiment.name)
    with Workers(devices, jobs) as workers:
        if not (given.dry or given.debug or cluster or devices.unavailable(selected.setting.replicas)):
            _start_early(workers, files_of(experiment, selected, folder), selected.setting, most=len(arms) * seeds)
        planner = Planner(experiment, selected, folder)
        if given.until is not None:
            return until.train(planner, options, workers, svg=given.svg)
        study = Study(planner, options, workers, arms=arms, seeds=range(seeds), svg=given.svg)
        if options.cluster and not options.cluster.chief:
            return study.follow()
        if given.sweep:
            return study.sweep(given.tuner, given.trials, given.sweeps or 1)
        return study.debug() if given.debug else study.run()


def _start_early(workers: Workers, files: schema.Files, setting: Setting, most: int) -> None:
    """Start at most so many workers, which import TensorFlow while the plan is made, if no run of these files has begun."""
    if not any(path.exists() for one in (files, files.trials) for path in (one.rows, one.journal, one.state)):
        for _ in range(min(workers.jobs, most)):
            workers.start(setting.start_options)


def _select(experiment: Experiment, given: argparse.Namespace, machines: int) -> Selected:
    """The setting with the user's overrides.

    Args:
        machines: number of machines in TF_CONFIG.
    """
    overrides = {field: getattr(given, name) for name, field in FIELD_OF.items() if getattr(given, name, None) is not None}
    if machines > 1:
        overrides |= {"workers": machines, "replicas": overrides.get("replicas", machines)}
    chosen = {"rate": positive(given, "rate"), "smoke": given.smoke, "debug": given.debug}
    return experiment.select(setting_name(given), overrides, **chosen)


def _chosen_arms(known: Iterable[str], text: str | None) -> list[str]:
    """The arms in ARMS, by default all. Names may contain commas, so each time the longest matching name is used.

    Args:
        known: the arms of the experiment.
    """
    known = list(known)
    if text is None:
        return known
    chosen, rest = [], text
    while rest:
        matching = [arm for arm in known if rest == arm or rest.startswith(f"{arm},")]
        if not matching:
            wrong = rest.split(",", maxsplit=1)[0]
            hint = did_you_mean(wrong, known)
            raise Misuse(f"arms must be among {', '.join(known)}. Received: {wrong!r}{hint}")
        arm = max(matching, key=len)
        chosen.append(arm)
        rest = rest[len(arm) + 1 :]
    if not chosen:
        raise Misuse("arms must name at least one arm. Received: ''")
    return [arm for arm in known if arm in chosen]


def _check_writable(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Misuse(f"results folder must be writable ({error.strerror}). Received: {folder}") from None


def _check_sweep(given: argparse.Namespace) -> None:
    """Raises `Misuse` for options of a sweep without a sweep, or an unknown tuner."""
    names = [name for name in ("tuner", "trials", "sweeps") if getattr(given, name) is not None and not given.sweep]
    if names:
        raise Misuse(f"{names[0]} is an option of a sweep: make sweep-NN, or --sweep. Received: {getattr(given, names[0])}")
    if given.tuner is not None and given.tuner not in SWEEP_TUNERS:
        hint = did_you_mean(given.tuner, SWEEP_TUNERS)
        raise Misuse(f"tuner must be one of {', '.join(SWEEP_TUNERS)}. Received: {given.tuner!r}{hint}")


if __name__ == "__main__":
    main()
