"""Pilot runs, by which the number of epochs of a setting is chosen: the first arm alone, on `val`, with pilot seeds.

python -m benchmarks.pilot 03 --setting small --seeds 4

It trains at each rate of the arm's grid (or one, --rate) for the setting's epochs and for a fifth more. The epochs suffice if the
best rate gains less than 0.005 by the fifth more. The setting resolves its margins if the standard deviation of accuracy over
seeds is at most 0.012.
"""

import itertools
import pathlib
import statistics

from common.commands.options import STUDY
from common.commands.parsing import FIELD_OF, end, parse, positive, setting_name
from common.commands.run import find_script
from common.errors import Misuse
from common.experiment import Experiment
from common.running.local import Devices, LocalEngine
from common.running.plan import Plan, Planner, Variant
from common.running.runner import RunOptions
from common.running.scripts import read_script
from common.running.session import Session
from common.running.workers import Workers

FIRST_SEED = 2000
LONGER = 1.2
"""Factor of the longer training's epochs."""
RATE = "learning_rate"


OPTIONS = ("setting", "full", "rate", "seeds", "jobs", "results", *FIELD_OF)
"""Options, with their meaning in `make exp-NN`."""


def main() -> int:
    """Train and print the scores. Returns the exit status. Raises `Misuse`, `Failure`."""
    given = parse([name for name in STUDY if name in OPTIONS], positional="number", description=__doc__.splitlines()[0])
    experiment = read_script(find_script(given.number))
    overrides = {field: getattr(given, name) for name, field in FIELD_OF.items() if getattr(given, name, None) is not None}
    selected = experiment.select(setting_name(given) or "small", overrides)
    planner = Planner(experiment, selected, pathlib.Path(given.results) / "pilot")
    epochs = planner.resolved[experiment.first].setting.epochs
    budgets = (epochs, round(LONGER * epochs))
    rates = [positive(given, "rate")] if given.rate else _grid(experiment)
    seeds = range(FIRST_SEED, FIRST_SEED + (given.seeds or 4))
    points = [Variant.search_point(experiment.first, {RATE: rate}, budget) for budget, rate in itertools.product(budgets, rates)]
    plan = planner.plan([(variant, seed) for seed in seeds for variant in points], searching=True)
    engine = LocalEngine(Devices.here(1))
    workers = Workers(engine, given.jobs or engine.jobs(planner.setting))
    with engine, workers, Session(planner, RunOptions(), workers) as session:
        session.train(plan, session.prepare(plan))
        session.check()
    _show(experiment, plan, points, budgets)
    return 0


def _grid(experiment: Experiment) -> list[float]:
    """The grid of the first arm's learning rates. Raises `Misuse` if it searches none."""
    searched = experiment.searched_by(experiment.first)
    if RATE not in searched:
        raise Misuse(f"{experiment.name} searches no learning rate for {experiment.first}: set one by --rate. Received: none")
    return searched[RATE].grid()


def _show(experiment: Experiment, plan: Plan, points: list[Variant], budgets: tuple[int, int]) -> None:
    """Print mean and standard deviation of each point, and the gain of the longer training."""
    rows, best = plan.rows(), dict.fromkeys(budgets, (0.0, 0.0, ""))
    for variant in points:
        same = [row for row in rows if row["point"] == variant.point]
        scores = [float(row[f"val_{experiment.task.metric}"]) for row in same]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0
        untrained = sum(row["trained"] == "False" for row in same)
        note = f", {untrained} of {len(same)} did not train" if untrained else ""
        print(f"{variant.epochs} epochs, rate {variant.values[RATE]:g}: val {mean:.4f} ± {deviation:.4f}{note}")
        better = experiment.task.better
        if not best[variant.epochs][2] or better(mean) > better(best[variant.epochs][0]):
            best[variant.epochs] = mean, deviation, f"{variant.values[RATE]:g}"
    (first, deviation, rate), (second, _, other) = (best[budget] for budget in budgets)
    print(
        f"{experiment.first}: val {first:.4f} in {budgets[0]} epochs at {rate}, {second - first:+.4f} in {budgets[1]} at "
        f"{other}; standard deviation over {len(rows) // len(points)} seeds {deviation:.4f}"
    )


if __name__ == "__main__":
    end(main)
