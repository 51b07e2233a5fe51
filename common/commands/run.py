"""`make exp-NN` and `make sweep-NN`: runs one experiment. `make exp-03 SEEDS=3` is `… -m common.commands.run 03 --seeds 3`."""

import argparse
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NoReturn

from common.commands.options import STUDY
from common.commands.parsing import FIELD_OF, end, parse, positive, setting_name
from common.commands.study import Study
from common.data.dataset import NAMES as DATASETS
from common.data.dataset import image_folder
from common.declarations import TUNERS
from common.errors import Misuse
from common.experiment import Experiment
from common.files import experiment_scripts
from common.rows import schema
from common.running.engine import Engine
from common.running.fingerprint import code_in_use
from common.running.local import Devices, LocalEngine
from common.running.plan import Planner, files_of
from common.running.ray_engine import ADDRESS, RayEngine
from common.running.runner import STALL_SECONDS, RunOptions
from common.running.scripts import read_script, refuse_shared_numbers
from common.running.workers import Workers
from common.setting import Selected, Setting
from common.text import did_you_mean, number_of, two_digits

ENGINES = ("local", "ray")
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
    if given.engine != "ray" and _several_machines(os.environ.get("TF_CONFIG", "")):
        raise Misuse(
            "TF_CONFIG is not read: ENGINE=ray WORKERS=2 trains each trial on two machines of a Ray cluster, see docs/scale.md. "
            f"Received: {os.environ['TF_CONFIG']}"
        )
    return _run(experiment, given)


def _several_machines(tf_config: str) -> bool:
    """Whether a `TF_CONFIG` is set that lists other machines, or cannot be read."""
    if not tf_config.strip():
        return False
    try:
        return sum(map(len, json.loads(tf_config)["cluster"].values())) > 1
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


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


def _run(experiment: Experiment, given: argparse.Namespace) -> int:
    """Check the options, and run the experiment with them. Returns the exit status."""
    selected = _select(experiment, given)
    seeds = given.seeds or (1 if selected.tests_code else experiment.seeds)
    alone = experiment.alone or given.debug
    if given.debug and (given.sweep or (given.jobs or 1) > 1 or given.engine == "ray"):
        other = "a sweep" if given.sweep else "ENGINE=ray" if given.engine == "ray" else f"JOBS={given.jobs}"
        raise Misuse(f"DEBUG=1 trains one trial at a time in the main process, without a search. Received: {other}")
    arms = _chosen_arms(experiment.all_arms if given.sweep else experiment.arms, given.arms)
    options = RunOptions(
        stall_seconds=given.stall_seconds or STALL_SECONDS,
        checkpoint_steps=given.checkpoint_steps,
        keep=given.keep,
        dry=given.dry,
        debug=given.debug,
    )
    _check_sweep(given)
    if given.until is not None:
        from common.commands import until  # judges, for which it imports pandas and SciPy

        until.check(given)
    folder = pathlib.Path(given.results)
    _check_writable(folder)
    with _engine(experiment, given, folder) as engine:
        jobs = given.jobs or (1 if alone else engine.jobs(selected.setting))
        with Workers(engine, jobs) as workers:
            if not (given.dry or given.debug or engine.unavailable(selected.setting)):
                _start_early(workers, files_of(experiment, selected, folder), selected.setting, most=len(arms) * seeds)
            planner = Planner(experiment, selected, folder, machine=engine.machine, one_kind=given.same_device != 0)
            if given.until is not None:
                return until.train(planner, options, workers, svg=given.svg)
            study = Study(planner, options, workers, arms=arms, seeds=range(seeds), svg=given.svg)
            if given.sweep:
                return study.sweep(given.tuner, given.trials, given.sweeps or 1)
            return study.debug() if given.debug else study.run()


def _engine(experiment: Experiment, given: argparse.Namespace, folder: pathlib.Path) -> Engine:
    """The engine of the run. Raises `Misuse`."""
    if given.engine not in (None, *ENGINES):
        raise Misuse(f"engine must be {' or '.join(ENGINES)}. Received: {given.engine!r}{did_you_mean(given.engine, ENGINES)}")
    if given.same_device not in (None, 0, 1):
        raise Misuse(f"same_device must be 0 or 1. Received: {given.same_device}")
    if given.engine != "ray":
        for name in ("workers", "same_device"):
            if getattr(given, name) is not None:
                raise Misuse(f"{name.upper()} is an option of ENGINE=ray. Received: ENGINE={given.engine or 'local'}")
    if given.engine != "ray" or (given.dry and not os.environ.get(ADDRESS)):  # Ray would start on the same devices
        return LocalEngine(Devices.here(given.trials_per_gpu or 1))
    options = {"per_gpu": given.trials_per_gpu or 1, "one_kind": given.same_device != 0}
    return RayEngine(code_in_use(experiment.path), folder, **options)


def _start_early(workers: Workers, files: schema.Files, setting: Setting, most: int) -> None:
    """Start at most so many workers, which import TensorFlow while the plan is made, if no run of these files has begun."""
    if not any(path.exists() for one in (files, files.trials) for path in (one.rows, one.journal, one.state)):
        for _ in range(min(workers.jobs, most)):
            workers.start(setting.start_options)


def _select(experiment: Experiment, given: argparse.Namespace) -> Selected:
    """The setting with the user's overrides."""
    overrides = {field: getattr(given, name) for name, field in FIELD_OF.items() if getattr(given, name, None) is not None}
    given_name = overrides.get("dataset", "")
    if given_name in DATASETS and os.path.isdir(given_name):
        print(
            f"DATASET={given_name} is the dataset of that name, not the folder here: that is DATASET=./{given_name}",
            file=sys.stderr,
        )
    declared = {setting.dataset for setting in experiment.settings.values()}
    folder = None if given_name in declared else image_folder(given_name)
    if folder is not None:
        overrides["dataset"] = str(folder)  # absolute, so that its rows can be trained again from elsewhere
    if "workers" in overrides:
        overrides = {"replicas": overrides["workers"], **overrides}
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
