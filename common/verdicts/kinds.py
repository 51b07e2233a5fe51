"""How each kind of claim is judged: a class per kind estimates the difference and reads the verdict from its interval."""

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
    """The estimated difference of a claim, before its level is known."""

    estimate: stats.Estimate | stats.Ranked
    seeds: int
    """Number of seeds that all arms of the claim have."""
    look: int
    """Number of seeds at the look, the last of `LOOKS` reached; 0 before the first."""
    judged: str
    """The method (means, ranks, …), and the arm that represents a family."""
    notes: list[str]


class Kind:
    """A claim about the rows of a table. This class holds what all kinds of claims share."""

    def __init__(self, claim: Claim, table: Table):
        self.claim, self.table, self.margin = claim, table, claim.margin
        self.better, self.worse = claim.better_arms, claim.worse_arms

    @property
    def metric_name(self) -> str:
        """The metric's name in sentences about the claim."""
        return self.claim.metric or self.table.primary.column

    def contrast(self) -> Contrast:
        """The difference, paired by seed and positive in favour of the claim's `better` arms. Raises `NoData`."""
        table = self.table
        seeds = table.seeds_of([*self.better, *self.worse])
        if not seeds:
            missing = [arm for arm in (*self.better, *self.worse) if not table.seeds_of([arm])]
            raise NoData(f"no rows of {missing[0]}" if missing else "its arms have no seed in common")
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

    def pair(self) -> tuple[str, str] | None:
        """The two arms that the claim compares; None for a claim about more."""
        better, _ = self._choose(self.table.seeds_of([*self.better, *self.worse]))
        return better[0], self.worse[0]

    def _target(self, seeds: Sequence[int]) -> float | None:
        """The score to reach on val, computed from the compared seeds only; None without a target. Raises `NoData`."""
        return None if self.claim.target is None else self.table.target(self.claim.target, seeds)

    def _choose(self, seeds: Sequence[int]) -> tuple[list[str], str]:
        """The arms of `better` that are compared, and the method in words."""
        return self.better, "means"

    def _terms(self, better: Sequence[str]) -> list[tuple[float, str]]:
        """The arms of the difference, each with its sign."""
        return [(1.0, better[0]), (-1.0, self.worse[0])]

    def _compare(
        self, better: Sequence[str], seeds: Sequence[int], diverged: bool
    ) -> tuple[stats.Estimate | stats.Ranked, str, list[str]]:
        """The estimate, the method if it is not means, and notes. Raises `NoData`.

        Over seeds and test images (`stats.two_way`) for the primary metric with stored predictions; exact for survival; by ranks
        if a trial diverged or the metric is censored; else over seeds (`stats.paired`).
        """
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
                raise NoData(f"a diverged trial has no {name}")
            return stats.Ranked(tuple(differences)), "ranks", notes
        if np.isnan(differences).any():
            raise NoData(f"{name}: {'only trials that ran alone count' if metric.timed else 'some rows lack it'}")
        notes = []
        if primary:
            why = "the metric is no mean over test images" if name == "test_f1" else "predictions or labels are missing"
            notes.append(f"interval over seeds alone: {why}")
        return stats.paired(differences, metric.step(table)), "", notes

    def _difference(self, metric: Metric, terms: Sequence[tuple[float, str]], seed: int, target: float | None) -> float:
        """The signed sum of the arms' values in one seed; a target never reached counts as the epoch after the last one."""
        budget = float(self.table.rows["epochs"].max() + 1)
        total = 0.0
        for sign, arm in terms:
            value = metric.value(self.table, arm, seed, target)
            if math.isinf(value):
                value = metric.at_epoch(self.table.of(arm, seed), budget)
            total += sign * value
        return total

    def _by_image(self, terms: Sequence[tuple[float, str]], seeds: Sequence[int]) -> np.ndarray | None:
        """Differences of the arms' outcomes, float [seeds, images]; None if predictions are missing."""
        lines = []
        for seed in seeds:
            outcomes = [(sign, self.table.by_image(arm, seed)) for sign, arm in terms]
            if any(right is None for _, right in outcomes) or len({len(right) for _, right in outcomes}) > 1:
                return None
            lines.append(sum(sign * right for sign, right in outcomes))
        return np.array(lines)

    def _reached(self, metric: Metric, arms: Sequence[str], seeds: Sequence[int], target: float) -> str:
        """The target, and how many trials of each arm reached it, in words."""
        values = {a: [metric.value(self.table, a, s, target) for s in seeds] for a in arms}
        counts = (f"{arm} {sum(map(math.isfinite, steps))} of {len(seeds)}" for arm, steps in values.items())
        return f"target {target:.3g} reached: " + ", ".join(counts)


class Superiority(Kind):
    """`better` beats `worse` by at least the margin."""

    def p(self, estimate: stats.Estimate | stats.Ranked) -> float:
        """The smallest level at which the claim would be decided."""
        return estimate.p_beyond(0.0) if estimate.difference >= self.margin else estimate.p_beyond(self.margin)

    def status(self, estimate: stats.Estimate | stats.Ranked, alpha: float) -> str:
        """The verdict that the interval of level 1 − α gives."""
        low, high = estimate.bounds(alpha)
        if low > 0 and estimate.difference >= self.margin:
            return SUPPORTED
        return REFUTED if high < self.margin else OPEN

    @staticmethod
    def disagreement(margin: float, high: float) -> str:
        """What the rows show instead of a refuted claim, in words; `high` is the interval's upper bound."""
        return "the reverse is true" if high < 0 else f"by less than {margin:g}, if at all"


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
        # Supported needs both bounds within the margins, refuted one bound beyond the nearer margin.
        return max(estimate.p_beyond(self.margin), estimate.p_beyond(-self.margin))

    def status(self, estimate, alpha):
        low, high = estimate.bounds(alpha)
        if -self.margin < low and high < self.margin:
            return SUPPORTED
        return REFUTED if low > self.margin or high < -self.margin else OPEN


class Interaction(Superiority):
    """The difference between the arms of `better` exceeds that of `worse` by at least the margin."""

    def pair(self):
        return None

    def _terms(self, better):
        return [(1.0, better[0]), (-1.0, better[1]), (-1.0, self.worse[0]), (1.0, self.worse[1])]


class BestOfFamily(Superiority):
    """The arm of `better` that is best on val beats `worse` on test by at least the margin."""

    def _choose(self, seeds):
        best = max(self.better, key=lambda arm: self._on_val(arm, seeds))
        return [best], f"means, {best} the best on val"

    def _on_val(self, arm: str, seeds: Sequence[int]) -> tuple[float, float]:
        """Sort key of an arm, higher is better: mean primary metric on val, then minus the NLL."""
        rows, primary = self.table.rows, self.table.primary
        rows = rows[(rows["entry"] == arm) & rows["seed"].isin(seeds)]
        score, nll = (rows[name].mean() if name in rows else math.nan for name in (primary.on("val"), "val_nll"))
        return tuple(-math.inf if math.isnan(value) else value for value in (primary.sign * score, -nll))


class Flatness(Superiority):
    """The metric stays within `within` of its best over more decades of a number for `better` than for `worse`."""

    def pair(self):
        return None

    @property
    def metric_name(self):
        return f"decades within {self.claim.within:g} of its best"

    def _compare(self, better, seeds, diverged):
        differences = [self._decades(self.better, seed) - self._decades(self.worse, seed) for seed in seeds]
        step = min(np.diff(np.log10(np.sort([number for _, number in self._numbers(self.better)]))))
        return stats.paired(differences, float(step)), "means of decades", []

    def _numbers(self, arms: Sequence[str]) -> list[tuple[str, float]]:
        """Each arm with the one number in which the arms differ, in ascending order. Raises `NoData`."""
        arguments = {arm: self.table.declaration["arms"][arm] for arm in arms}
        names = {name for values in arguments.values() for name in values}
        varying = [name for name in names if len({str(values.get(name)) for values in arguments.values()}) == len(arms)]
        if len(varying) != 1:
            raise NoData("its arms must differ in one number")
        return sorted(((arm, arguments[arm][varying[0]]) for arm in arms), key=lambda pair: pair[1])

    def _decades(self, arms: Sequence[str], seed: int) -> float:
        """The decades within `within` of the best, of one side in one seed; see `stats.decades_within`."""
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
