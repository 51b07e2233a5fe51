"""How each kind of claim is judged: one small class per kind, which compares its arms and reads the interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.claims import Claim
from common.rows.metric import Metric
from common.rows.table import NoData, Table
from common.verdicts import stats

LOOKS = (5, 10, 20)
"""Numbers of seeds at which a verdict may be read."""
SUPPORTED, REFUTED, OPEN, NO_DATA = "supported", "refuted", "not distinguishable", "no data"


@dataclass
class Contrast:
    """A claim's difference, before it is known how much of α it may use."""

    estimate: stats.Estimate | stats.Ranked
    seeds: int
    """Those that all its arms have."""
    look: int
    """The number of them at which it is read; 0 before the first look."""
    judged: str
    """By means or by ranks, and which arm stands for a family."""
    notes: list[str]


class Kind:
    """A claim of some kind about the rows of a table. What is here is common to all kinds; the others say what differs."""

    def __init__(self, claim: Claim, table: Table):
        self.claim, self.table, self.margin = claim, table, claim.margin
        self.better, self.worse = claim.better_arms, claim.worse_arms

    @property
    def metric_name(self) -> str:
        """What sentences about the claim call its metric."""
        return self.claim.metric or self.table.primary.column

    def contrast(self) -> Contrast:
        """The difference in favour of what the claim calls better, paired by seed. Raises `NoData`."""
        table = self.table
        seeds = table.seeds_of([*self.better, *self.worse])
        if not seeds:
            missing = [arm for arm in (*self.better, *self.worse) if not table.seeds_of([arm])]
            raise NoData(f"no rows of {missing[0]}" if missing else "no seed that all its arms have")
        look = max((n for n in LOOKS if n <= len(seeds)), default=0)
        used = seeds[:look] if look else seeds
        better, judged = self._choose(used)
        arms = [*better, *self.worse]
        counts = {arm: sum(table.of(arm, seed)["status"] == "diverged" for seed in used) for arm in arms}
        notes = []
        if any(counts.values()):
            notes.append("diverged: " + ", ".join(f"{arm} {n} of {len(used)}" for arm, n in counts.items() if n))
        estimate, how, more = self._compare(better, used, any(counts.values()))
        return Contrast(estimate, len(seeds), look, how or judged, [*notes, *more])

    def _target(self, seeds: Sequence[int]) -> float | None:
        """What val must reach, for a claim about that: it rests on the seeds that are compared alone. Raises `NoData`."""
        return None if self.claim.target is None else self.table.target(self.claim.target, seeds)

    def _choose(self, seeds: Sequence[int]) -> tuple[list[str], str]:
        """Which of the better arms are compared, and how they are judged, in words."""
        return self.better, "means"

    def _terms(self, better: Sequence[str]) -> list[tuple[float, str]]:
        """The arms of the difference and their signs."""
        return [(1.0, better[0]), (-1.0, self.worse[0])]

    def _compare(
        self, better: Sequence[str], seeds: Sequence[int], diverged: bool
    ) -> tuple[stats.Estimate | stats.Ranked, str, list[str]]:
        """The estimate, how it was judged if not by means, and notes. Raises `NoData`."""
        terms = self._terms(better)
        table, name = self.table, self.metric_name
        primary = name == table.primary.column
        metric = table.metric(name)
        sign = -1.0 if self.claim.lower_is_better or metric.lower_is_better else 1.0
        if primary and not diverged:
            images = self._by_image(terms, seeds)
            if images is not None:
                return stats.two_way(sign * images), "", []
        target = self._target(seeds)
        differences = sign * np.array([self._difference(metric, terms, seed, target) for seed in seeds])
        if name == "survival":
            first, second = ([table.of(arm, s)["status"] == "done" for s in seeds] for arm in (better[0], self.worse[0]))
            note = f"survival {sum(first)} against {sum(second)} of {len(seeds)}, p = {stats.survival_p(first, second):.3g}"
            return stats.Ranked(tuple(differences)), "exact", [note]
        if metric.ranked or diverged:
            notes = [self._reached(metric, [*better, *self.worse], seeds, target)] if metric.ranked else []
            if np.isnan(differences).any():
                raise NoData("a diverged trial has no such value")
            return stats.Ranked(tuple(differences)), "ranks", notes
        if np.isnan(differences).any():
            raise NoData(f"{name}: {'only trials that ran alone count' if metric.timed else 'some of its rows lack the value'}")
        notes = []
        if primary:
            why = "no mean over test images" if name == "test_f1" else "predictions or labels are missing"
            notes.append(f"over seeds alone: {why}")
        return stats.paired(differences, metric.step(table)), "", notes

    def _difference(self, metric: Metric, terms: Sequence[tuple[float, str]], seed: int, target: float | None) -> float:
        budget = float(self.table.rows["epochs"].max() + 1)
        total = 0.0
        for sign, arm in terms:
            value = metric.value(self.table, arm, seed, target)
            if math.isinf(value):  # never reached: later than the budget's last epoch
                value = metric.at_epoch(self.table.of(arm, seed), budget)
            total += sign * value
        return total

    def _by_image(self, terms: Sequence[tuple[float, str]], seeds: Sequence[int]) -> np.ndarray | None:
        """Differences [seeds, images] of the outcomes; None where an arm's predictions are not there."""
        lines = []
        for seed in seeds:
            outcomes = [(sign, self.table.by_image(arm, seed)) for sign, arm in terms]
            if any(right is None for _, right in outcomes) or len({len(right) for _, right in outcomes}) > 1:
                return None
            lines.append(sum(sign * right for sign, right in outcomes))
        return np.array(lines)

    def _reached(self, metric: Metric, arms: Sequence[str], seeds: Sequence[int], target: float) -> str:
        """How many trials of each arm reached the target."""
        values = {a: [metric.value(self.table, a, s, target) for s in seeds] for a in arms}
        counts = (f"{arm} {sum(map(math.isfinite, found))} of {len(seeds)}" for arm, found in values.items())
        return f"target {target:.3g} reached: " + ", ".join(counts)


class Superiority(Kind):
    """`better` beats `worse` by at least the margin."""

    def p(self, estimate: stats.Estimate | stats.Ranked) -> float:
        """The smallest level at which a verdict would be reached."""
        return estimate.p_beyond(0.0) if estimate.difference >= self.margin else estimate.p_beyond(self.margin)

    def status(self, estimate: stats.Estimate | stats.Ranked, alpha: float) -> str:
        """What the interval of a level says."""
        low, high = estimate.bounds(alpha)
        if low > 0 and estimate.difference >= self.margin:
            return SUPPORTED
        return REFUTED if high < self.margin else OPEN

    @staticmethod
    def disagreement(margin: float, high: float) -> str:
        """What the rows say instead of a refuted claim; `high` is the interval's upper bound."""
        return "the other way round" if high < 0 else f"by less than {margin:g}, if at all"


class NotWorse(Kind):
    """`better` is worse than `worse` by less than the margin, if at all."""

    @staticmethod
    def disagreement(margin, high):
        return f"it is worse by more than {margin:g}"

    def p(self, estimate):
        return estimate.p_beyond(-self.margin)

    def status(self, estimate, alpha):
        low, high = estimate.bounds(alpha)
        return SUPPORTED if low > -self.margin else REFUTED if high < -self.margin else OPEN


class Same(Kind):
    """The two differ by less than the margin."""

    @staticmethod
    def disagreement(margin, high):
        return f"they differ by more than {margin:g}"

    def p(self, estimate):
        # Inside, both bounds must be; outside, it is the nearer one that matters.
        return max(estimate.p_beyond(self.margin), estimate.p_beyond(-self.margin))

    def status(self, estimate, alpha):
        low, high = estimate.bounds(alpha)
        if -self.margin < low and high < self.margin:
            return SUPPORTED
        return REFUTED if low > self.margin or high < -self.margin else OPEN


class Interaction(Superiority):
    """The first pair of arms differs by more than the second."""

    def _terms(self, better):
        return [(1.0, better[0]), (-1.0, better[1]), (-1.0, self.worse[0]), (1.0, self.worse[1])]


class BestOfFamily(Superiority):
    """The arm of a family that is best on val beats `worse` on test."""

    def _choose(self, seeds):
        best = max(self.better, key=lambda arm: self._on_val(arm, seeds))
        return [best], f"means, {best} the best on val"

    def _on_val(self, arm: str, seeds: Sequence[int]) -> tuple[float, float]:
        """The primary metric on val, then the NLL; higher is better."""
        rows, primary = self.table.rows, self.table.primary
        rows = rows[(rows["entry"] == arm) & rows["seed"].isin(seeds)]
        score, nll = (rows[name].mean() if name in rows else math.nan for name in (primary.on("val"), "val_nll"))
        return tuple(-math.inf if math.isnan(value) else value for value in (primary.sign * score, -nll))


class Flatness(Superiority):
    """A metric stays near its best over more decades of a number for one side's arms than for the other's."""

    @property
    def metric_name(self):
        return f"decades within {self.claim.within:g} of its best"

    def _compare(self, better, seeds, diverged):
        differences = [self._decades(self.better, seed) - self._decades(self.worse, seed) for seed in seeds]
        step = min(np.diff(np.log10(np.sort([number for _, number in self._numbers(self.better)]))))
        return stats.paired(differences, float(step)), "means of decades", []

    def _numbers(self, arms: Sequence[str]) -> list[tuple[str, float]]:
        """Arms in the order of the one number in which they differ, and that number."""
        arguments = {arm: self.table.declaration["arms"][arm] for arm in arms}
        names = {name for values in arguments.values() for name in values}
        varying = [name for name in names if len({str(values.get(name)) for values in arguments.values()}) == len(arms)]
        if len(varying) != 1:
            raise NoData("its arms must differ in one number")
        return sorted(((arm, arguments[arm][varying[0]]) for arm in arms), key=lambda pair: pair[1])

    def _decades(self, arms: Sequence[str], seed: int) -> float:
        """Decades over which a side's arms do well in one seed."""
        order = self._numbers(arms)
        metric = self.table.metric(self.claim.metric or self.table.primary.column)
        sign = -1.0 if self.claim.lower_is_better or metric.lower_is_better else 1.0
        scores = [sign * metric.value(self.table, arm, seed, None) for arm, _ in order]
        return stats.decades_within([number for _, number in order], scores, self.claim.within)


KINDS = {
    "superiority": Superiority,
    "not worse": NotWorse,
    "same": Same,
    "interaction": Interaction,
    "best of family": BestOfFamily,
    "flatness": Flatness,
}
