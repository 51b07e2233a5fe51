"""Claims: hypotheses about arms, each with a margin and written before running, which the rows support or refute."""

import dataclasses
import math
import re
from collections.abc import Iterable, KeysView, Sequence
from dataclasses import dataclass, field
from numbers import Real

from common.errors import Misuse
from common.text import Unit, did_you_mean, to_id

OF_TWO_ARMS = ("superiority", "not worse", "same", "best of family")
"""Kinds about the difference between two arms."""
KINDS = {
    "superiority": lambda better, worse: better == worse == 1,
    "not worse": lambda better, worse: better == worse == 1,
    "same": lambda better, worse: better == worse == 1,
    "interaction": lambda better, worse: better == worse == 2,
    "best of family": lambda better, worse: better >= 2 and worse == 1,
    "overfits less": lambda better, worse: better == worse == 1,
    "flatness": lambda better, worse: better == worse >= 3,
}
"""Kinds of claims -> whether a kind takes so many better and worse arms. How each is judged: `common.verdicts.kinds`."""
OF_ACCURACY = ("test_accuracy", "gap")
"""Metrics whose margins depend on the dataset."""
WITHIN = ("flatness", "overfits less")
"""Kinds with a `within`."""
UNDIRECTED = ("same", "overfits less")
"""Kinds that do not depend on `lower_is_better`."""
OF_TARGETS = ("epochs_to_target", "steps_to_target")
"""Metrics that count epochs or updates until a target is reached."""
MARGINS = {"not worse": "up to {}", "same": "within {}"}
"""Kind -> how a claim's words go on with its margin; of the others it is "by at least {}"."""
HIGHER = ("accuracy", "f1", "precision", "recall", "survival", "images_per_second")
LOWER = ("nll", "ece", "error", "loss", "gap", "seconds")
"""Last words of names of metrics of which higher or lower values are better, where neither task nor claim says so."""
FRACTIONS = re.compile("(best_)?(train|val|test)_(accuracy|f1|precision|recall|ece)|survival|worst_class_accuracy")
"""Names of metrics that lie between 0 and 1."""
DEFINING = ("better", "worse", "margin", "kind", "metric", "lower_is_better", "within", "target")
"""Fields that define a claim, beside whether it is about the dataset at hand: with other values it is another claim, also under
the same id. The text may change."""
SAMENESS = 0.02
"""Margin of accuracy within which arms count as the same: the smallest that 5,000 training images of CIFAR-10 resolve."""
LONGEST_ID = 24
"""Characters of a claim's id, at most."""


@dataclass(frozen=True)
class Claim:
    """A hypothesis that one arm differs from another, each at its learning rate, by a margin.

    Args:
        text: the claim in words, understood without the claims beside it. May be reworded at any time.
        id: a short permanent name, unique within the experiment: lower case letters, digits and hyphens.
        better, worse: arms. For "interaction" a pair each: the claim is (better₀ − better₁) − (worse₀ − worse₁) > 0. For
            "best of family" `better` holds several arms, of which at least one is claimed to do so.
        margin: δ > 0, the smallest difference that matters, in the metric's unit.
        kind: "superiority" (better − worse is at least the margin), "not worse" (lower bound above −margin), "same"
            (inside ±margin), "interaction", "best of family", "overfits less" (a gap smaller by the margin, and a primary metric
            that is worse by less than `within`), or "flatness" (the metric stays within `within` of the best of its side over
            more decades of a number, in which the arms of each side differ). By default superiority, or best of family for
            several arms.
        metric: by default the task's primary one. A column of the rows, the name of a measure, or "gap" (train minus test
            accuracy), "worst_class_accuracy", "survival", "seconds" (of training, of trials that ran alone),
            "epochs_to_target" or "steps_to_target", both measured at the end of epochs.
        lower_is_better: whether `better` is claimed to have the smaller values. It must be said of a metric in `LOWER`.
        datasets: the datasets that the claim is about; by default those of the experiment.
        within: of "flatness", in the metric's unit; of "overfits less", in the primary metric's.
        target: of "epochs_to_target" and "steps_to_target", where fewer are better: the score to reach on val, as a share of
            the baseline's final score (without a baseline, of the first arm), mean over seeds; of an error, 1 / target times it.

    Raises:
        Misuse: a malformed id, or fields that do not fit each other.
    """

    text: str
    id: str = field(kw_only=True)
    better: str | Sequence[str]
    worse: str | Sequence[str]
    margin: float
    kind: str | None = None
    metric: str | None = None
    lower_is_better: bool | None = None
    datasets: tuple[str, ...] | None = None
    within: float | None = None
    target: float | None = None

    def __post_init__(self):
        if not isinstance(self.id, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id) or len(self.id) > LONGEST_ID:
            raise Misuse(
                f"a claim's id must be at most {LONGEST_ID} lower case letters, digits and hyphens between them. "
                f"Received: {self.id!r}"
            )
        if self.kind is None:
            object.__setattr__(self, "kind", "superiority" if isinstance(self.better, str) else "best of family")
        if self.kind not in KINDS:
            raise Misuse(
                f"a claim's kind must be one of {', '.join(KINDS)}. Received: {self.kind!r}{did_you_mean(self.kind, KINDS)}"
            )
        self._check_sides()
        self._check_numbers()
        for name in ("better", "worse"):
            object.__setattr__(self, name, side if isinstance(side := getattr(self, name), str) else list(side))
        for name in ("margin", "within"):
            if not isinstance(value := getattr(self, name), int | float | None):  # of NumPy
                object.__setattr__(self, name, float(value))
        if self.lower_is_better is None:
            if ends_with(self.metric or "", LOWER) and self.kind not in UNDIRECTED:
                raise Misuse(
                    f"a claim about {self.metric} must say lower_is_better=True if `better` is claimed to have the lower values, "
                    f"or False: {self.text!r}. Received: neither"
                )
            object.__setattr__(self, "lower_is_better", False)
        if self.metric in ("survival", *OF_TARGETS) and self.kind not in OF_TWO_ARMS:
            raise Misuse(f"a claim about {self.metric} compares two arms: {self.text!r}. Received: kind {self.kind!r}")
        if self.datasets is not None and not (
            isinstance(self.datasets, list | tuple) and all(isinstance(name, str) for name in self.datasets)
        ):
            raise Misuse(f"a claim's datasets must be a list of names: {self.text!r}. Received: {self.datasets!r}")
        if (self.kind in WITHIN) != (self.within is not None):
            kinds = " or ".join(map(repr, WITHIN))
            raise Misuse(f"a claim of {kinds} needs `within`, and no other takes it: {self.text!r}. Received: {self.within!r}")
        if (self.metric in OF_TARGETS) != (self.target is not None):
            raise Misuse(
                f"a claim about {' or '.join(OF_TARGETS)} needs a target, and no other takes one: {self.text!r}. "
                f"Received: {self.target!r}"
            )

    def _check_sides(self) -> None:
        """Raise `Misuse` unless both sides are names of different arms, as many as the kind takes."""
        for side in (self.better, self.worse):
            if not isinstance(side, str | list | tuple | KeysView) or not all(isinstance(arm, str) for arm in side):
                raise Misuse(f"a claim compares an arm or a list of arms: {self.text!r}. Received: {side!r}")
        counts = len(self.better_arms), len(self.worse_arms)
        if not KINDS[self.kind](*counts):
            raise Misuse(
                f"a claim of kind {self.kind!r} does not take {counts[0]} better and {counts[1]} worse arms: {self.text!r}"
            )
        sides = [self.better_arms, self.worse_arms]
        compared = [*sides, sides] if self.kind == "interaction" else [self.arms]
        if any(one in group[:i] for group in compared for i, one in enumerate(group)):
            raise Misuse(f"a claim must compare different arms: {self.text!r}. Received: {self.arms}")

    def _check_numbers(self) -> None:
        """Raise `Misuse` for a margin, a `within` or a target that no difference could have."""
        fraction = FRACTIONS.fullmatch(self.metric or "")
        for name, value in (("margin", self.margin), ("within", self.within)):
            if value is None and name == "within":
                continue
            largest = 1 if fraction and (name == "within" or self.kind != "flatness") else math.inf  # a flatness is in decades
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < largest:
                below = f" and below 1, as {self.metric} is a fraction (0.015 for 1.5 %)" if largest == 1 else ""
                raise Misuse(f"a claim's {name} must be above 0{below or ', and finite'}: {self.text!r}. Received: {value!r}")
        if self.target is not None and not 0 < self.target <= 1:
            raise Misuse(
                f"a claim's target must be a share of the baseline's final score, above 0, at most 1. Received: {self.target!r}"
            )

    @classmethod
    def of(cls, fields: dict) -> "Claim":
        """The claim with the fields of a declaration; unknown fields are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def with_margins_up_to(self, largest: float | None) -> "Claim":
        """The claim with margins of accuracy, and of gaps in accuracy, of at most a number; unchanged for None."""
        if largest is None or self.metric not in OF_ACCURACY or self.kind == "flatness":
            return self
        within = None if self.within is None else min(self.within, largest)
        return dataclasses.replace(self, margin=min(self.margin, largest), within=within)

    def statement(self, unit: Unit) -> str:
        """The claim in words, with its margin.

        Args:
            unit: of the metric.
        """
        margin = unit.amount(self.margin)
        if self.kind == "overfits less":
            return f"{self.text}: a gap smaller by at least {margin}, a score worse by less than {unit.amount(self.within)}"
        return f"{self.text}, {MARGINS.get(self.kind, 'by at least {}').format(margin)}"

    @property
    def better_arms(self) -> list[str]:
        """The arms of `better`, also where it is one."""
        return _listed(self.better)

    @property
    def worse_arms(self) -> list[str]:
        """The arms of `worse`, also where it is one."""
        return _listed(self.worse)

    @property
    def arms(self) -> list[str]:
        """The arms of both sides."""
        return [*self.better_arms, *self.worse_arms]


def ends_with(name: str, words: Iterable[str]) -> bool:
    """Whether the last words of a metric's name, such as `test_nll` or `time in seconds`, are among some."""
    return any(name == word or name.endswith((f"_{word}", f" {word}")) for word in words)


def _listed(side: str | Sequence[str]) -> list[str]:
    return [side] if isinstance(side, str) else list(side)


def less(text: str, better: str, worse: str, metric: str, margin: float, *, id: str) -> Claim:
    """The claim that `better` has a lower value of a metric than `worse`, by at least the margin."""
    return Claim(text, better, worse, margin, id=id, metric=metric, lower_is_better=True)


def not_worse(text: str, better: str, worse: str, margin: float = SAMENESS, *, id: str) -> Claim:
    """The claim that `better` is worse than `worse` by less than the margin, if at all."""
    return Claim(text, better, worse, margin, id=id, kind="not worse")


def same(text: str, better: str, worse: str, margin: float = SAMENESS, *, id: str, metric: str | None = None) -> Claim:
    """The claim that two arms differ by less than the margin."""
    return Claim(text, better, worse, margin, id=id, kind="same", metric=metric)


def sooner(text: str, better: str, worse: str, target: float = 0.9, margin: float = 1, *, id: str) -> Claim:
    """The claim that `better` reaches a target on val in fewer epochs than `worse`, by at least the margin."""
    return Claim(text, better, worse, margin, id=id, metric="epochs_to_target", target=target)


def interaction(text: str, better: Sequence[str], worse: Sequence[str], margin: float = 0.015, *, id: str) -> Claim:
    """The claim that better₀ − better₁ is larger than worse₀ − worse₁ by at least the margin."""
    return Claim(text, better, worse, margin, id=id, kind="interaction")


def each(
    names: Iterable[str],
    text: str,
    better: str | Sequence[str],
    worse: str | Sequence[str],
    margin: float,
    *,
    id: str,
    **fields,
) -> list[Claim]:
    """One claim per name, where the same is claimed of several arms.

    Args:
        text, better, worse, id: those of the claim, with `{}` for the name. In the id, hyphens replace all characters but
            letters and digits.
        fields: further arguments of `Claim`.
    """

    def filled(side, name):
        return side.format(name) if isinstance(side, str) else [arm.format(name) for arm in side]

    return [
        Claim(text.format(name), filled(better, name), filled(worse, name), margin, id=to_id(id.format(name)), **fields)
        for name in names
    ]


def overfits_less(better: str, worse: str, margin: float = 0.015, within: float = SAMENESS, *, id: str) -> Claim:
    """The claim that an arm overfits less: its gap between train and test accuracy is smaller by at least the margin, and its
    accuracy worse by less than `within`, if at all."""
    kind = {"kind": "overfits less", "metric": "gap", "lower_is_better": True, "within": within}
    return Claim(f"{better!r} overfits less than {worse!r}", better, worse, margin, id=id, **kind)
