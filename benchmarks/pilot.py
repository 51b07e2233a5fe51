"""How long an experiment's setting must train, before any arm is compared: its first arm alone, on `val`, with pilot seeds.

python -m benchmarks.pilot 03 --setting small --seeds 4

It trains at each rate of the arm's grid (or one, --rate) for the setting's epochs and for a fifth more. A setting is long enough
where the best rate gains less than 0.005 with the fifth more, and quiet enough where accuracy deviates by at most 0.012 between
seeds.
"""

import itertools
import pathlib
import statistics

from common.commands.options import STUDY
from common.commands.parsing import FIELD_OF, end, parse, positive, setting_name
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


OPTIONS = ("setting", "full", "rate", "seeds", "jobs", "results", *FIELD_OF)
"""Those of an experiment that make sense here."""


def main() -> int:
    """Train the pilot and print what it comes to. Returns the exit status. Raises `Misuse`, `Failure`."""
    given = parse([name for name in STUDY if name in OPTIONS], positional="number", description=__doc__.splitlines()[0])
    experiment = declared(find_script(given.number))
    overrides = {field: getattr(given, name) for name, field in FIELD_OF.items() if getattr(given, name, None) is not None}
    selected = experiment.select(setting_name(given) or "small", overrides)
    planner = Planner(experiment, selected, pathlib.Path(given.results) / "pilot")
    epochs = planner.resolved[experiment.first].setting.epochs
    budgets = (epochs, round(LONGER * epochs))
    rates = [positive(given, "rate")] if given.rate else _grid(experiment)
    seeds = range(FIRST_SEED, FIRST_SEED + (given.seeds or 4))
    points = [Variant.search_point(experiment.first, {RATE: rate}, budget) for budget, rate in itertools.product(budgets, rates)]
    plan = planner.plan([(variant, seed) for seed in seeds for variant in points], searching=True)
    devices = Devices.here(1, 1)
    jobs = given.jobs or devices.jobs(planner.setting.threads, planner.setting.replicas)
    options = RunOptions(devices=devices, jobs=jobs, stall_seconds=STALL_SECONDS, checkpoint_steps=None, keep=False, dry=False)
    with Session(planner, options) as session:
        session.train(plan, session.prepare(plan))
        session.check()
    _show(experiment, plan, points, budgets)
    return 0


def _grid(experiment: Experiment) -> list[float]:
    """The rates that the first arm's search begins with. Raises `Misuse` where it has none."""
    searched = experiment.searched_by(experiment.first)
    if RATE not in searched:
        raise Misuse(f"{experiment.name} searches no learning rate for {experiment.first}: --rate says which. Received: none")
    return searched[RATE].grid()


def _show(experiment: Experiment, plan: Plan, points: list[Variant], budgets: tuple[int, int]) -> None:
    rows, best = plan.rows(), dict.fromkeys(budgets, (0.0, 0.0, ""))
    for variant in points:
        own = [row for row in rows if row["point"] == variant.point]
        scores = [float(row[f"val_{experiment.task.metric}"]) for row in own]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0
        dead = sum(row["trained"] == "False" for row in own)
        said = f", {dead} of {len(own)} did not train" if dead else ""
        print(f"{variant.epochs} epochs, rate {variant.values[RATE]:g}: val {mean:.4f} ± {deviation:.4f}{said}")
        better = experiment.task.better
        if not best[variant.epochs][2] or better(mean) > better(best[variant.epochs][0]):
            best[variant.epochs] = mean, deviation, f"{variant.values[RATE]:g}"
    (first, deviation, rate), (second, _, other) = (best[budget] for budget in budgets)
    print(
        f"{experiment.first}: val {first:.4f} in {budgets[0]} epochs at {rate}, {second - first:+.4f} in {budgets[1]} at "
        f"{other}; deviation over {len(rows) // len(points)} seeds {deviation:.4f}"
    )


if __name__ == "__main__":
    end(main)
