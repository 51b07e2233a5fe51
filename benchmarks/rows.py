"""Measures the time of writing, looking up and folding a row beside many others, and of planning as many trials.

make bench-rows
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from common.files import PROJECT, changed_archive, write_atomic
from common.machine import device
from common.rows import merging, store
from common.rows.live import LiveRows
from common.rows.outcome import Outcome
from common.rows.schema import KEY, TABLES
from common.running.plan import Plan, Planned, Planner, Variant, known_columns
from common.running.runner import collect_pending
from common.running.scripts import read_script

IMAGES, CLASSES, EPOCHS, REPEATS = 10_000, 10, 10, 30
SCRIPT = PROJECT / "experiments" / "exp_03_l2.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="1000,10000,100000", help="numbers of rows that are there before")
    given = parser.parse_args()
    print(f"{device()}; {IMAGES:,} predictions, {IMAGES}×{CLASSES} logits and {EPOCHS} epochs a row")
    print("    rows  append ms  largest ms  look-up ms   fold s  fold every s   plan s")
    for count in map(int, given.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            measure(pathlib.Path(folder), count)


def measure(folder: pathlib.Path, count: int) -> None:
    """Print a line of the table."""
    plan = plan_of(folder, count + REPEATS + 1)
    make(plan, count)
    seconds = {name: [] for name in ("append", "look-up")}
    live = LiveRows(plan.files)
    live.all()
    for trial in plan.trials[count:]:
        outcome = outcome_of(plan, trial)
        seconds["append"].append(timed(lambda outcome=outcome: store.store(plan.files, outcome, list(plan.experiment.arms))))
        seconds["look-up"].append(timed(lambda trial=trial: live.get(trial.identity)))
        assert live.get(trial.identity)["fingerprint"] == trial.fingerprint
    append, look_up = (1e3 * statistics.median(values) for values in seconds.values())
    megabytes = sum(path.stat().st_size for path in plan.files.folded if path.exists()) / 1e6
    apart = store.LAG_SECONDS + store.LAG_SECONDS_PER_MB * megabytes
    fold, planning = timed(lambda: store.fold(plan.files)), timed(lambda: prepared(folder, count))
    largest = 1e3 * max(seconds["append"])
    print(f"{count:>8,}{append:>11.1f}{largest:>12.1f}{look_up:>13.2f}{fold:>9.2f}{apart:>14.0f}{planning:>9.2f}", flush=True)


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def plan_of(folder: pathlib.Path, count: int) -> Plan:
    """A plan of some trials, seed by seed."""
    experiment = read_script(SCRIPT)
    variants = [Variant(arm, values={"learning_rate": 0.01}) for arm in experiment.arms]
    trials = [(variants[i % len(variants)], i // len(variants)) for i in range(count)]
    return Planner(experiment, experiment.select(), folder).plan(trials)


def prepared(folder: pathlib.Path, count: int) -> list[Planned]:
    """What a run does before its first trial: the plan, and which of its trials have no rows."""
    plan = plan_of(folder, count)
    plan.stale()
    plan.clear_stale_state()
    collect_pending(plan)
    return plan.missing()


def outcome_of(plan: Plan, trial: Planned, *, arrays: bool = True) -> Outcome:
    """A made-up outcome of a trial."""
    generator = np.random.default_rng(trial.seed)
    row = known_columns(trial, plan.experiment.name, plan.planner.origin) | {"status": "done", "test_size": IMAGES}
    for split in ("train", "val", "test", "best_val", "best_test"):
        row |= {f"{split}_accuracy": generator.random()} | ({} if split == "best_test" else {f"{split}_nll": generator.random()})
    row |= {"test_f1": generator.random(), "test_ece": generator.random(), "weights": generator.bytes(8).hex(), "steps": 2820}
    row |= {"parameters": 25578, "final_epoch": EPOCHS, "stage": "fit", "trained": True, "val_constant": 0.1, "resumes": 0}
    row |= {f"{part}_seconds": round(generator.random(), 3) for part in ("compile", "input", "train", "eval", "total")}
    row |= {"versions": "python 3.11.7, tensorflow 2.21.0, keras 3.15.1", "finished": "2026-11-27T15:10:30+00:00"}
    identity = {name: row[name] for name in KEY}
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_nll", "gradient_norm", "seconds")
    epochs = [
        identity
        | {"stage": "fit", "epoch": e + 1, "learning_rate": 0.01, "steps": 282 * e, **dict.fromkeys(names, generator.random())}
        for e in range(EPOCHS)
    ]
    if not arrays:
        return Outcome(row, epochs)
    logits = generator.normal(size=(IMAGES, CLASSES)).astype(np.float32)
    return Outcome(row, epochs, predicted=logits.argmax(1).astype(np.uint8), logits=logits)


def make(plan: Plan, count: int) -> None:
    """Write the files of the first trials of a plan, without a call of `store` for each."""
    order = list(plan.experiment.arms)
    predicted = outcome_of(plan, plan.trials[0]).predicted
    for part, names in TABLES.items():
        outcomes = (outcome_of(plan, trial, arrays=False) for trial in plan.trials[:count])
        lines = (
            merging.to_line(row.get(name, "") for name in names)
            for outcome in outcomes
            for row in merging.as_text(outcome).table(part)
        )
        write_atomic(plan.files.table(part), merging.table_bytes(part, lines))
    logged = (
        merging.Logged(Outcome({"arm": t.variant.arm, "seed": t.seed}, predicted=predicted), order) for t in plan.trials[:count]
    )
    write_atomic(plan.files.predictions, changed_archive(plan.files.predictions, merging.predictions(logged)))


if __name__ == "__main__":
    main()
