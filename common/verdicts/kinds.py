"""How each kind of claim is judged: a class per kind reads contrasts from rows and applies the rules to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.claims import Claim
from common.rows.schema import COMMON, entry_name
from common.rows.table import NoData, Table
from common.text import Unit
from common.verdicts import chances, counts, rules, stats
from common.verdicts.contrasts import OVER_SEEDS, Terms, difference, estimate, fault, values_on_resamples
from common.verdicts.intervals import Shares, paired, resampled
from common.verdicts.levels import ALPHA
from common.verdicts.rules import LEAST_SEEDS, Sample
from common.verdicts.verdict import OPEN, REFUTED, SUPPORTED, Change

STATUSES = {1: SUPPORTED, -1: REFUTED, 0: OPEN}
"""Result of a rule -> verdict."""


@dataclass
class Contrast:
    """What some seeds show of one difference, before its level is known."""

    sample: Sample
    """Positive in favour of the claim."""
    how: str
    """The method, in words."""
    unit: Unit
    margin: float
    sign: float = 1.0
    """−1 for a metric of which lower values are better."""
    notes: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    """How many seeds did not train, or did not reach a target."""
    arm: str = ""
    """The arm that the contrast is about, of a family."""
    marks: tuple[int, ...] = (1,)
    """See `Change`."""

    def change(self, alpha: float, status: str = "") -> Change:
        """The difference as it was measured, with its interval at a claim's level α.

        Args:
            status: see `Change`.
        """
        low, high = sorted(self.sign * float(bound) for bound in self.sample.bounds(alpha))
        level = float(self.sample.level(alpha))
        difference = self.sign * float(self.sample.difference)
        return Change(self.unit, self.margin, difference, low, high, level, status, self.sign, self.marks)


class Kind:
    """A claim about the rows of a table. This class holds what all kinds of claims share."""

    rule = staticmethod(rules.superiority)
    decides = staticmethod(chances.superiority)
    """The differences that decide, see `common.verdicts.chances`."""
    marks: tuple[int, ...] = (1,)
    """See `Change`."""

    def __init__(self, claim: Claim, table: Table):
        self.claim, self.table, self.margin = claim, table, claim.margin
        self.better, self.worse = claim.better_arms, claim.worse_arms

    @property
    def metric_name(self) -> str:
        """The claim's metric."""
        return self.claim.metric or self.table.primary.column

    @property
    def unit(self) -> Unit:
        """How numbers of the metric are written."""
        return self.table.unit(self.metric_name)

    def at_common_rate(self) -> "Kind | None":
        """The same claim about the arms at the common rate; None if not all that were searched have rows at one such rate."""
        names = {arm: entry_name(arm, COMMON) for arm in self.claim.arms}
        there = {arm: name if name in self.table.at_common_rate else arm for arm, name in names.items()}
        if not self.table.have_one_common_rate(set(there.values())):
            return None
        kind = type(self)(self.claim, self.table)
        kind.better, kind.worse = [there[arm] for arm in self.better], [there[arm] for arm in self.worse]
        return kind

    def seeds(self) -> list[int]:
        """The seeds 0, 1, … that all arms of the claim have. Raises `NoData` if there are none."""
        arms = [*self.better, *self.worse]
        seeds = self.table.seeds_of(arms)
        if not seeds:
            missing = [arm for arm in arms if not self.table.seeds_of([arm])]
            raise NoData(counts.without_rows(self.table, missing[0]) if missing else "its arms have no seed in common")
        return seeds

    def pair(self) -> tuple[str, str] | None:
        """The two arms that the claim compares; None for a claim about more. Raises `NoData`."""
        return self.better[0], self.worse[0]

    def contrasts(self, seeds: Sequence[int]) -> list[Contrast]:
        """The contrasts of the claim, positive in favour of its `better` arms. Raises `NoData`."""
        return [self._contrast(self.metric_name, self._terms(self.better), seeds, self.claim.lower_is_better)]

    def status(self, contrasts: Sequence[Contrast], alpha: float) -> int:
        """1 if the claim is supported at a level, −1 if it is refuted, else 0."""
        return int(self.rule(contrasts[0].sample, alpha, self.margin))

    def shown(self, contrasts: Sequence[Contrast], alpha: float) -> tuple[Contrast, float]:
        """The contrast that stands for the claim, and the level α of its interval."""
        return contrasts[0], alpha

    def changes(self, contrasts: Sequence[Contrast], alpha: float) -> list[Change]:
        """The differences as they were measured, as far as there are any."""
        shown, level = self.shown(contrasts, alpha)
        return [] if np.isnan(shown.sample.difference) else [shown.change(level)]

    def about(self, contrasts: Sequence[Contrast], alpha: float) -> str:
        """Of which arms the difference is, in words; empty if the claim says so."""
        return ""

    def chance(self, contrasts: Sequence[Contrast], seeds: int, alphas: dict[int, float], truth: float | None) -> float | None:
        """The chance that the claim is decided at one of the looks to come; None if it cannot be computed.

        Args:
            seeds: number of seeds now; alphas: look to come -> level; truth: the true difference; None for the one seen.
        """
        sample = self.shown(contrasts, alphas[min(alphas)])[0].sample
        return chances.of_sample(sample, seeds, alphas, truth, self.decides, self.margin)

    def instead(self, contrasts: Sequence[Contrast], alpha: float) -> str:
        """What the rows show instead of a refuted claim, in words."""
        shown, level = self.shown(contrasts, alpha)
        low, high = shown.sample.bounds(level)
        if high < 0:
            return "the reverse is true"
        if high >= self.margin:
            return "it trains less often"
        return "it does, by less" if low > 0 else "by less, if at all"

    def _terms(self, better: Sequence[str]) -> list[tuple[float, str]]:
        """The arms of the difference, each with its sign."""
        return [(1.0, better[0]), (-1.0, self.worse[0])]

    def _contrast(self, name: str, terms: Terms, seeds: Sequence[int], lower_is_better: bool = False) -> Contrast:
        """The contrast of a metric between arms. Raises `NoData`."""
        table, metric = self.table, self.table.metric(name)
        if name == "survival":
            return self._survival(terms, seeds, lower_is_better)
        failed = {seed: [sign for sign, arm in terms if not table.trained(arm, seed)] for seed in seeds}
        counted = [seed for seed in seeds if not failed[seed]]
        # An arm with a negative sign that does not train is in favour of the better side.
        only_better = sum(bool(signs) and max(signs) < 0 for signs in failed.values())
        only_worse = sum(bool(signs) and min(signs) > 0 for signs in failed.values())
        sign = -1.0 if lower_is_better or metric.lower_is_better else 1.0
        target = None if self.claim.target is None else table.target(self.claim.target, seeds)
        differences = {seed: sign * difference(metric, table, terms, seed, target) for seed in seeds}
        if why := fault(name, metric, table, [arm for _, arm in terms], counted):
            raise NoData(f"{name}: {why}")
        estimated, how, notes, words = None, "", [], []
        if len(counted) >= min(LEAST_SEEDS, len(seeds)) and counted:
            estimated, how, notes = estimate(table, metric, terms, counted, [differences[seed] for seed in counted], sign)
        seen = estimated.difference if estimated else float(np.mean([differences[seed] for seed in counted] or [math.nan]))
        overall = math.nan if metric.ranked else float(np.mean(list(differences.values())))
        unit, arms = table.unit(name), [arm for _, arm in terms]
        if metric.ranked:
            words.append(counts.reached(table, metric, arms, seeds, target))
        if len(counted) < len(seeds):
            all_seeds = "" if math.isnan(overall) else f"{unit.change(sign * overall, self.margin)} {unit.name}".rstrip()
            words.append(counts.untrained(table, arms, seeds, all_seeds))
        sample = Sample(estimated, only_better, only_worse, seen, overall)
        return Contrast(sample, how, unit, self.margin, sign, notes, words, marks=self.marks)

    def _survival(self, terms: Terms, seeds: Sequence[int], lower_is_better: bool) -> Contrast:
        """The difference between the shares of seeds in which two arms train."""
        (_, first), (_, second) = terms
        trained = [[self.table.trained(arm, seed) for seed in seeds] for arm in (first, second)]
        pairs = list(zip(*trained, strict=True))
        alone = [pairs.count((True, False)), pairs.count((False, True))]
        shares = Shares(*(alone[::-1] if lower_is_better else alone), len(seeds))
        words = [f"{first!r} trained in {sum(trained[0])} of {len(seeds)}, {second!r} in {sum(trained[1])}"]
        sample, how = Sample(shares, 0, 0, shares.difference, shares.difference), "counts of seeds that trained"
        sign = -1.0 if lower_is_better else 1.0
        return Contrast(sample, how, self.unit, self.margin, sign, counts=words, marks=self.marks)


class Superiority(Kind):
    """`better` beats `worse` by at least the margin."""


class NotWorse(Kind):
    """`better` is worse than `worse` by less than the margin, if at all."""

    rule = staticmethod(rules.not_worse)
    decides = staticmethod(chances.not_worse)
    marks = (-1,)

    def instead(self, contrasts, alpha):
        _, high = contrasts[0].sample.bounds(alpha)
        return f"it is worse by more than {self.unit.amount(self.margin)}" if high < -self.margin else "it trains less often"


class Same(Kind):
    """The two differ by less than the margin."""

    rule = staticmethod(rules.same)
    decides = staticmethod(chances.same)
    marks = (-1, 1)

    def instead(self, contrasts, alpha):
        low, high = contrasts[0].sample.bounds(alpha)
        apart = low > self.margin or high < -self.margin
        return f"they differ by more than {self.unit.amount(self.margin)}" if apart else "one of them trains more often"


class Interaction(Superiority):
    """The difference between the arms of `better` exceeds that of `worse` by at least the margin."""

    def pair(self):
        return None

    def about(self, contrasts, alpha):
        return "difference of the two differences"

    def _terms(self, better):
        return [(1.0, better[0]), (-1.0, better[1]), (-1.0, self.worse[0]), (1.0, self.worse[1])]


class BestOfFamily(Superiority):
    """At least one arm of `better` beats `worse` by at least the margin; the level pays for the choice (`rules.best_of`)."""

    def pair(self):
        return self.shown(self.contrasts(self.seeds()), ALPHA)[0].arm, self.worse[0]

    def contrasts(self, seeds):
        contrasts = []
        for arm in self.better:
            contrast = self._contrast(self.metric_name, self._terms([arm]), seeds, self.claim.lower_is_better)
            contrast.how, contrast.arm = f"{contrast.how}, {arm}, one of {len(self.better)}", arm
            contrasts.append(contrast)
        return contrasts

    def status(self, contrasts, alpha):
        return int(rules.best_of(self.rule, [contrast.sample for contrast in contrasts], alpha, self.margin))

    def shown(self, contrasts, alpha):
        """The best arm, of those that support the claim if any does.

        With the interval at the level of each of the k arms, at all of the level where the claim is refuted.
        """
        each = alpha / len(contrasts)
        supporting = [contrast for contrast in contrasts if self.rule(contrast.sample, each, self.margin) == 1]
        best = max(supporting or contrasts, key=lambda contrast: np.nan_to_num(contrast.sample.difference, nan=-math.inf))
        refuted = self.status(contrasts, alpha) == -1
        if refuted:
            best = max(contrasts, key=lambda contrast: contrast.sample.bounds(alpha)[1])
        return best, alpha if refuted else each

    def about(self, contrasts, alpha):
        return f"with {self.shown(contrasts, alpha)[0].arm!r}, one of {len(contrasts)} arms"

    def chance(self, contrasts, seeds, alphas, truth):
        return super().chance(contrasts, seeds, {look: alpha / len(contrasts) for look, alpha in alphas.items()}, truth)


class OverfitsLess(Superiority):
    """The gap between train and test is smaller by at least the margin, and the primary metric on test is not worse.

    One claim of two halves: supported if both are, refuted if one is.
    """

    def contrasts(self, seeds):
        terms, primary = self._terms(self.better), self.table.primary
        gap = self._contrast("gap", terms, seeds, lower_is_better=True)
        score = self._contrast(primary.column, terms, seeds)
        score.margin, score.marks = self.claim.within, NotWorse.marks
        return [gap, score]

    def _statuses(self, contrasts: Sequence[Contrast], alpha: float) -> list[int]:
        gap, score = (contrast.sample for contrast in contrasts)
        return [int(rules.superiority(gap, alpha, self.margin)), int(rules.not_worse(score, alpha, self.claim.within))]

    def status(self, contrasts, alpha):
        return int(rules.every(self._statuses(contrasts, alpha)))

    def changes(self, contrasts, alpha):
        statuses = [STATUSES[status] for status in self._statuses(contrasts, alpha)]
        halves = zip(contrasts, statuses, strict=True)
        return [half.change(alpha, status) for half, status in halves if not np.isnan(half.sample.difference)]

    def chance(self, contrasts, seeds, alphas, truth):
        gap, score = (contrast.sample for contrast in contrasts)
        halves = [
            chances.of_sample(gap, seeds, alphas, truth, chances.superiority, self.margin, apart=True),
            chances.of_sample(score, seeds, alphas, truth, chances.not_worse, self.claim.within, apart=True),
        ]
        if None in halves:
            return None
        (supported, refuted), (not_worse, worse) = halves
        return supported * not_worse + 1 - (1 - refuted) * (1 - worse)

    def instead(self, contrasts, alpha):
        gap, score = self._statuses(contrasts, alpha)
        parts = [f"the gap is smaller by less than {self.unit.amount(self.margin)}, if at all"] if gap == -1 else []
        if score == -1:
            worse = f"the score is worse by more than {contrasts[1].unit.amount(self.claim.within)}"
            parts.append(f"the gap is smaller, but {worse}" if gap == 1 else worse)
        return ", and ".join(parts)


class Flatness(Superiority):
    """The metric stays within `within` of its best over more decades of a number for `better` than for `worse`."""

    def pair(self):
        return None

    @property
    def metric_name(self):
        return f"decades within {self.claim.within:g} of its best"

    @property
    def unit(self):
        score = self.table.unit(self.claim.metric or self.table.primary.column)
        return Unit(f"range within {score.amount(self.claim.within)} of the best {score.quantity}", "decades")

    def at_common_rate(self):
        return None  # the arms set their rates

    def contrasts(self, seeds):
        notes: list[str] = []
        (better, better_again), (worse, worse_again) = (self._decades(arms, seeds, notes) for arms in (self.better, self.worse))
        step = float(min(np.diff(np.log10([number for _, number in self._numbers(self.better)]))))
        if better_again is None or worse_again is None:
            estimate, how = paired(better - worse, step), "means of decades over seeds"
            notes.append(OVER_SEEDS)
        else:
            estimate = resampled(better - worse, better_again - worse_again, step)
            how = "means of decades over seeds and resampled test images"
        sample = Sample(estimate, 0, 0, estimate.difference, estimate.difference)
        return [Contrast(sample, how, self.unit, self.margin, notes=notes)]

    def _numbers(self, arms: Sequence[str]) -> list[tuple[str, float]]:
        """Each arm with the one number in which the arms differ, in ascending order. Raises `NoData`."""
        arguments = {arm: self.table.declaration["arms"][arm] for arm in arms}
        names = {name for values in arguments.values() for name in values}
        varying = [name for name in names if len({str(values.get(name)) for values in arguments.values()}) == len(arms)]
        numbers = {arm: values.get(varying[0]) for arm, values in arguments.items()} if len(varying) == 1 else {}
        if not numbers or not all(type(number) in (int, float) and number > 0 for number in numbers.values()):
            raise NoData("its arms must differ in one number, above 0")
        return sorted(numbers.items(), key=lambda pair: pair[1])

    def _decades(self, arms: Sequence[str], seeds: Sequence[int], notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """The decades within `within` of the best, of one side; see `stats.decades_within`. Raises `NoData`.

        Args:
            notes: where a note goes if the range may go on beyond the numbers of the arms.

        Returns:
            For each seed [seeds], and on each resample of the test images [seeds, resamples]; None if their outcomes are missing.
        """
        names, numbers = zip(*self._numbers(arms), strict=True)
        within, metric = self.claim.within, self.table.metric(self.claim.metric or self.table.primary.column)
        sign = -1.0 if self.claim.lower_is_better or metric.lower_is_better else 1.0
        scores = sign * np.array([[metric.value(self.table, arm, seed, None) for seed in seeds] for arm in names])
        if not np.isfinite(scores).all():
            raise NoData(f"{self.claim.metric}: some rows lack it")
        means = scores.mean(axis=1)
        notes += [
            f"the range of {name!r} may go on beyond the numbers of its side, as this is within {within:g} of the best"
            for name, mean in ((names[0], means[0]), (names[-1], means[-1]))
            if mean >= means.max() - within
        ]
        again = [[values_on_resamples(metric, self.table, arm, seed) for seed in seeds] for arm in names]
        there = all(values is not None for of_arm in again for values in of_arm)
        on_resamples = stats.decades_within(numbers, sign * np.array(again), within) if there else None
        return stats.decades_within(numbers, scores, within), on_resamples


KINDS = {
    "superiority": Superiority,
    "not worse": NotWorse,
    "same": Same,
    "interaction": Interaction,
    "best of family": BestOfFamily,
    "overfits less": OverfitsLess,
    "flatness": Flatness,
}
