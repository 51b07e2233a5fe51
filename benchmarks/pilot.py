"""How long an experiment's setting must train, before any arm is compared: its first arm alone, on `val`, with pilot seeds.

python -m benchmarks.pilot 03 --setting small --seeds 4

It trains at each rate of the arm's grid (or one, --rate) for the setting's epochs and for a fifth more. A setting is long enough
where the best rate gains less than 0.005 with the fifth more, and quiet enough where accuracy deviates by at most 0.012 between
seeds.
"""

import argparse
import itertools
import pathlib
import statistics

from common.commands.options import STUDY
from common.commands.parsing import FIELD_OF, parse, positive
from common.commands.run import find_script
from common.errors import Misuse
from common.experiment import Experiment
from common.running.devices import Devices
from common.running.plan import Plan, Planner, Variant
from common.running.runner import STALL_SECONDS, RunOptions
from common.running.scripts import declared
from common.running.session import Session

FIRST_SEED = 2000
LONGER = 1.2
"""Times the setting's epochs."""
RATE = "learning_rate"


def main() -> None:
    number, given = _arguments()
    experiment = declared(find_script(number))
    overrides = {field: getattr(given, name) for name, field in FIELD_OF.items() if getattr(given, name, None) is not None}
    planner = Planner(experiment, experiment.select(given.setting or "small", overrides), pathlib.Path(given.results))
    epochs = planner.resolved[experiment.first].setting.epochs
    budgets = (epochs, round(LONGER * epochs))
    rates = [positive(given, "rate")] if given.rate else _grid(experiment)
    seeds = range(FIRST_SEED, FIRST_SEED + (given.seeds or 4))
    points = [Variant.tried(experiment.first, {RATE: rate}, budget) for budget, rate in itertools.product(budgets, rates)]
    plan = planner.plan([(variant, seed) for seed in seeds for variant in points], searching=True)
    devices = Devices.here(1, 1)
    jobs = given.jobs or devices.jobs(planner.setting.threads, planner.setting.replicas)
    options = RunOptions(devices=devices, jobs=jobs, stall_seconds=STALL_SECONDS, checkpoint_steps=None, keep=False, dry=False)
    with Session(planner, options) as session:
        session.train(plan, session.prepare(plan))
    _show(experiment, plan, points, budgets)


def _arguments() -> tuple[str, argparse.Namespace]:
    given = parse(STUDY, positional="number", description=__doc__.splitlines()[0])
    return given.number, given


def _grid(experiment: Experiment) -> list[float]:
    """The rates that the first arm's search begins with. Raises `Misuse` where it has none."""
    searched = experiment.searched_by(experiment.first)
    if RATE not in searched:
        raise Misuse(f"{experiment.name} searches no learning rate for {experiment.first}: --rate says which. Received: none")
    return searched[RATE].grid()


def _show(experiment: Experiment, plan: Plan, points: list[Variant], budgets: tuple[int, int]) -> None:
    rows, best = plan.rows(), dict.fromkeys(budgets, (0.0, 0.0, ""))
    for variant in points:
        scores = [float(row[f"val_{experiment.task.metric}"]) for row in rows if row["point"] == variant.point]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0
        trained = statistics.fmean(
            float(row[f"train_{experiment.task.metric}"] or 0) for row in rows if row["point"] == variant.point
        )
        line = f"{variant.epochs} epochs, rate {variant.values[RATE]:g}: val {mean:.4f} ± {deviation:.4f}, train {trained:.4f}"
        print(line)
        better = experiment.task.better
        if not best[variant.epochs][2] or better(mean) > better(best[variant.epochs][0]):
            best[variant.epochs] = mean, deviation, f"{variant.values[RATE]:g}"
    (first, deviation, rate), (second, _, other) = (best[budget] for budget in budgets)
    print(
        f"{experiment.first}: val {first:.4f} in {budgets[0]} epochs at {rate}, {second - first:+.4f} in {budgets[1]} at "
        f"{other}; deviation over {len(rows) // len(points)} seeds {deviation:.4f}"
    )


if __name__ == "__main__":
    main()
