"""The outcomes of `gpu.py`'s checks, computed from the rows of its runs."""

import csv
import itertools
import math
import statistics
from typing import NamedTuple

from common.commands.reproduce import compare
from common.rows import schema, store

OK, FAILED, MEASURED, NOT_RUN = "ok", "FAILED", "measured", "not run"
NOISE = 4.0
"""Largest difference of two means that counts as noise, in standard errors: with five seeds, 0.4 % of equal means exceed it."""
ROUNDING = 1e-3
"""Largest relative difference of the first epoch's loss that counts as rounding, to the 10 bits of TensorFloat-32."""
ACCURACY = 0.02
"""Largest difference in accuracy that counts as rounding, after it has grown over all epochs."""


class Check(NamedTuple):
    """A line of the table."""

    name: str
    figures: str
    outcome: str

    def line(self) -> str:
        """The row in Markdown."""
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in self)
        return f"| {' | '.join(cells)} |"


class Run(NamedTuple):
    """The rows of a run, and those of its epochs."""

    rows: list[dict[str, str]]
    epochs: list[dict[str, str]]

    @classmethod
    def read(cls, files: schema.Files) -> "Run":
        """The rows of an experiment in a setting folder."""
        if not files.epochs.exists():
            return cls(store.read_rows(files), [])
        with files.epochs.open(encoding="utf-8", newline="") as file:
            return cls(store.read_rows(files), list(csv.DictReader(file)))

    def trials(self) -> dict[tuple[str, str], dict[str, str]]:
        """(arm, seed) -> row."""
        return {(row["arm"], row["seed"]): row for row in self.rows}

    def history(self, arm: str, seed: str) -> list[dict[str, str]]:
        """The epochs of a trial, without their seconds."""
        kept = [row for row in self.epochs if (row["arm"], row["seed"]) == (arm, seed)]
        return [{name: value for name, value in row.items() if name != "seconds"} for row in kept]

    def by_arm(self, column: str) -> dict[str, list[float]]:
        """Arm -> the column's values in finished trials, by seed."""
        arms: dict[str, list[float]] = {}
        for row in self.rows:
            if row["status"] == "done":
                arms.setdefault(row["arm"], []).append(float(row[column]))
        return arms


def trained(run: Run) -> Check:
    """Whether all trials ended, with scores better than those of a constant prediction."""
    wrong = {row["arm"]: row["reason"] or "no better than chance" for row in run.rows if row["trained"] != "True"}
    good = sum(row["trained"] == "True" for row in run.rows)
    versions = next((f" ({row['versions']}; commit {row['commit'][:12]})" for row in run.rows if row["versions"]), "")
    figures = f"{good} of {len(run.rows)} trials trained{versions}" + "".join(f"; {arm}: {why}" for arm, why in wrong.items())
    return Check("training", figures, FAILED if wrong else OK)


def accuracy(gpu: Run, cpu: Run) -> Check:
    """Whether the mean test accuracies of each arm differ by at most `NOISE` standard errors and one image."""
    shown, good = [], True
    scores, others = gpu.by_arm("test_accuracy"), cpu.by_arm("test_accuracy")
    image = 1 / min((int(row["test_size"]) for row in gpu.rows if row["test_size"]), default=1)
    for arm in dict.fromkeys((*scores, *others)):
        if min(len(scores.get(arm, ())), len(others.get(arm, ()))) < 2:
            shown, good = [*shown, f"{arm}: fewer than two seeds"], False
            continue
        one, other = scores[arm], others[arm]
        error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
        difference = statistics.fmean(one) - statistics.fmean(other)
        good = good and abs(difference) <= NOISE * error + image + 1e-9
        shown.append(f"{arm} {statistics.fmean(one):.3f} and {statistics.fmean(other):.3f} ({difference:+.3f} ± {error:.3f})")
    return Check("accuracy of GPU and CPU", f"means and standard error: {', '.join(shown)}", OK if good and shown else FAILED)


def differences(first: Run, again: Run) -> list[str]:
    """The trials of `again` that differ from those of `first` in anything but measurements, each with what differs."""
    known, different = first.trials(), []
    for (arm, seed), row in again.trials().items():
        result = compare(known[arm, seed], row, []) if (arm, seed) in known else "not trained before"
        if result == "IDENTICAL" and first.history(arm, seed) != again.history(arm, seed):
            result = "DIFFERS (epochs)"
        if result != "IDENTICAL" or row["status"] != "done":
            different.append(f"{arm} seed {seed}: {row['reason'] or result}")
    return different


def identical(first: Run, again: Run) -> Check:
    """Whether a run that was repeated has the same rows, weights and epochs, bit for bit."""
    return _identical("the same run again", first, again)


def resumed(first: Run, again: Run, kills: int) -> Check:
    """Whether a run that was killed and resumed has the same rows, and trials were indeed resumed from checkpoints."""
    count = sum(int(row["resumes"] or 0) > 0 for row in again.rows)
    about = f", after {kills} kills (SIGKILL); {count} of {len(again.rows)} trials resumed from a checkpoint"
    check = _identical("the same run, killed and resumed", first, again)
    return check._replace(figures=check.figures + about, outcome=check.outcome if count and kills else FAILED)


def _identical(name: str, first: Run, again: Run) -> Check:
    different = differences(first, again)
    figures = f"{len(again.rows) - len(different)} of {len(again.rows)} trials identical"
    return Check(name, "; ".join([figures, *different]), FAILED if different or not again.rows else OK)


def replicas(one: Run, two: Run | None) -> Check:
    """Whether two devices that share each batch give the losses of one, up to rounding."""
    name = "1 and 2 replicas"
    if two is None:
        return Check(name, "needs two GPUs", NOT_RUN)
    known, losses, gaps, failed = one.trials(), [], [], []
    for (arm, seed), row in two.trials().items():
        if row["status"] != "done" or known[arm, seed]["status"] != "done":
            failed.append(f"; {arm}: {row['reason'] or row['status']}")
            continue
        a, b = (float(run.history(arm, seed)[0]["train_loss"]) for run in (one, two))
        losses.append(abs(a - b) / abs(a))
        gaps.append(abs(float(row["test_accuracy"]) - float(known[arm, seed]["test_accuracy"])))
    if not losses:
        return Check(name, f"no trial ended{''.join(failed)}", FAILED)
    figures = f"{len(losses)} arms: the first epoch's losses differ by at most {max(losses):.1e} of their values, "
    figures += f"test accuracy by at most {max(gaps):.3f}{''.join(failed)}"
    good = not failed and max(losses) <= ROUNDING and max(gaps) <= ACCURACY
    return Check(name, figures, OK if good else FAILED)


def trials_per_gpu(runs: dict[int, Run]) -> Check:
    """Trials per hour by the number that share a GPU, and whether their results are the same.

    Args:
        runs: number of trials at the same time -> their run, which has as many seeds.
    """
    rates, different = [], []
    for count, run in runs.items():
        done = [float(row["total_seconds"]) for row in run.rows if row["status"] == "done"]
        if len(done) < count:
            different += [f"{count} at a time: {row['reason']}" for row in run.rows if row["status"] != "done"][:1]
        rates.append(f"{count}: {3600 * count / statistics.fmean(done):.0f}" if done else f"{count}: none")
    for (small, one), (_, other) in itertools.pairwise(sorted(runs.items())):
        shared = Run([row for row in other.rows if int(row["seed"]) < small], other.epochs)
        different += differences(one, shared)
    same = [] if different else ["each seed has the same row and weights at all of them"]
    figures = "; ".join([f"trials per hour by number at a time: {', '.join(rates)}", *different, *same])
    return Check("TRIALS_PER_GPU", figures, FAILED if different else OK)


def memory(runs: dict[int, Run], peaks: dict[int, int], total: int) -> Check:
    """Largest memory in use on the GPU by the number of trials, and of a worker on the host."""
    used = ", ".join(f"{count}: {peak / 1000:.1f}" for count, peak in peaks.items() if peak)
    workers = [int(row["peak_memory_mb"]) for run in runs.values() for row in run.rows if row["peak_memory_mb"]]
    of_gpu = f"of the GPU's {total / 1000:.0f} GB in use by number of trials: {used} GB" if used else "unknown of the GPU"
    return Check("memory", f"{of_gpu}; of a worker on the host at most {max(workers, default=0) / 1000:.1f} GB", MEASURED)


def speed(run: Run, fit: float) -> Check:
    """Images per second of training of this suite and of `model.fit`."""
    name = "images per second"
    (row,) = run.rows
    if row["status"] != "done":
        return Check(name, row["reason"], FAILED)
    mine = float(row["images_per_second"])
    figures = f"model A, batch 64, 32×32 RGB: {mine:,.0f}; model.fit {fit:,.0f}, so {mine / fit:.2f} times as many"
    return Check(name, figures, MEASURED)
