"""How many trials of compared arms did not train, were not run, or did not reach a target, in words."""

import math
from collections.abc import Sequence

from common.rows.metric import Metric
from common.rows.table import Table
from common.verdicts.rules import LEAST_SEEDS


def without_rows(table: Table, arm: str) -> str:
    """That an arm has no rows, or not that of seed 0, and what became of its trials if they were tried."""
    tried = [f": {row['status']}" for row in table.unfinished if row["arm"] == arm]
    some = any(name == arm for name, _ in table.by_trial)
    return f"no row{' of seed 0' if some else 's'} of {arm!r}{''.join(tried[:1])}"


def untrained(table: Table, arms: Sequence[str], seeds: Sequence[int], all_seeds: str) -> str:
    """How many trials of each arm did not train.

    Args:
        all_seeds: the difference over all seeds; empty if it is unknown.
    """
    counts = []
    for arm in dict.fromkeys(arms):
        rows = [table.of(arm, seed) for seed in seeds if not table.trained(arm, seed)]
        diverged = sum(row["status"] == "diverged" for row in rows)
        how = "" if not diverged else " (diverged)" if diverged == len(rows) else f" ({diverged} diverged)"
        counts += [f"{arm!r} {len(rows)} of {len(seeds)}{how}"] if rows else []
    text = f"did not train: {', '.join(counts)}" + (f"; difference over all seeds {all_seeds}" if all_seeds else "")
    few = sum(all(table.trained(arm, seed) for arm in arms) for seed in seeds) < LEAST_SEEDS
    return text + (f"; fewer than {LEAST_SEEDS} seeds in which all trained" if few else "")


def reached(table: Table, metric: Metric, arms: Sequence[str], seeds: Sequence[int], target: float) -> str:
    """The target, and how many trials of each arm reached it."""
    values = {arm: [metric.value(table, arm, seed, target) for seed in seeds] for arm in arms}
    counts = (f"{arm!r} {sum(map(math.isfinite, steps))} of {len(seeds)}" for arm, steps in values.items())
    return f"target {target:.3g} reached: " + ", ".join(counts)
