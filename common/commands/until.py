"""UNTIL=decided: trains all arms with 5, 10 and 20 seeds, until the first claim is decided.

What ends a run follows from the rows alone: the verdict at a look uses its first so many seeds, and does not change later.
"""

import argparse

from common.commands.study import Study
from common.errors import Misuse
from common.rows.table import Table
from common.running.plan import Planner
from common.running.runner import RunOptions
from common.running.workers import Workers
from common.text import seeds
from common.verdicts.judge import judge
from common.verdicts.levels import LOOKS
from common.verdicts.verdict import FUTILE, NO_VERDICT, Verdict


def check(given: argparse.Namespace) -> None:
    """Raises `Misuse` for another value than `decided`, and for options that UNTIL does not go with."""
    if given.until != "decided":
        raise Misuse(f"until must be decided. Received: {given.until!r}")
    for name in ("seeds", "arms", "smoke", "debug", "sweep"):
        if getattr(given, name):
            raise Misuse(f"UNTIL=decided trains all arms with {LOOKS[0]} to {LOOKS[-1]} seeds. Received: {name.upper()}")


def train(planner: Planner, options: RunOptions, workers: Workers, *, svg: bool) -> int:
    """Train from look to look until the first claim is decided, or hardly will be. Returns the exit status. Raises `Failure`.

    Args:
        svg: whether to draw the figures as SVG too.
    """
    experiment, arms = planner.experiment, list(planner.experiment.arms)
    if not experiment.claims:
        print(f"{experiment.name} has no claim to decide: it trains its {seeds(experiment.seeds)}")
        return Study(planner, options, workers, arms=arms, seeds=range(experiment.seeds), svg=svg).run()
    status = 0
    for look in LOOKS:
        status = Study(planner, options, workers, arms=arms, seeds=range(look), svg=svg).run()
        if options.dry:
            break
        verdict = judge(Table.read(planner.files))[0]
        why = _end(verdict, look)
        print(*(verdict.sentence(), *verdict.notes()), sep="\n  ")
        print(
            f"UNTIL=decided stops: {why}" if why else f"UNTIL=decided goes on to {LOOKS[LOOKS.index(look) + 1]} seeds", flush=True
        )
        if why:
            break
    return status


def _end(verdict: Verdict, look: int) -> str:
    """Why no further seeds are trained, in words; empty if they are.

    Args:
        look: number of seeds of the runs so far.
    """
    if verdict.decided:
        return f"it is {verdict.status}"
    if verdict.status == NO_VERDICT:
        return "it has no verdict here"
    if verdict.seeds == LOOKS[-1]:
        return f"verdicts are read up to {LOOKS[-1]} seeds"
    if verdict.seeds < look:
        return f"not all arms of the claim have values in {look} seeds"
    return f"the chance of a verdict by {LOOKS[-1]} seeds is below {FUTILE:.0%}, whatever the truth" if verdict.futile else ""
