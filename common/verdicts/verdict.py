"""A verdict on a claim, and the sentence that says it: the only one, wherever it is printed."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from common.text import Unit, coverage, seeds
from common.verdicts.levels import ALPHA, LEVELS

SUPPORTED, REFUTED, OPEN, NO_VERDICT = "supported", "refuted", "open", "no verdict"
VERDICTS = (SUPPORTED, REFUTED, OPEN, NO_VERDICT)
FUTILE = 0.1
"""Chance of a verdict below which more seeds are not worth their time."""


class Change(NamedTuple):
    """A difference between arms in one metric as it was measured, `better` less `worse`: below 0 for a lower error."""

    unit: Unit
    margin: float
    difference: float
    low: float
    high: float
    level: float
    """α of the interval."""
    status: str = ""
    """Verdict on this half of a claim of two."""
    sign: float = 1.0
    """1 if a positive difference is in favour of the claim, else −1."""
    marks: tuple[int, ...] = (1,)
    """At which multiples of the margin the claim is decided, differences in favour of it being positive."""

    @property
    def in_margins(self) -> tuple[float, float, float]:
        """The difference in favour of the claim, in margins, and the bounds of its interval."""
        low, high = sorted((self.sign * self.low, self.sign * self.high))
        return self.sign * self.difference / self.margin, low / self.margin, high / self.margin

    def numbers(self) -> str:
        """The difference with its unit and its interval."""
        difference, low, high = self._numbers()
        level = f"{coverage(self.level)} interval"
        bounds = f"{level} {low} to {high}" if math.isfinite(self.low) or math.isfinite(self.high) else f"no {level}"
        return f"{difference} {self.unit.name}".rstrip() + f" ({bounds}{f', {self.status}' if self.status else ''})"

    def briefly(self) -> str:
        """The difference with its unit, and the bounds of its interval."""
        difference, low, high = self._numbers()
        return f"{difference} {self.unit.name}".rstrip() + f" ({low} to {high})"

    def _numbers(self) -> list[str]:
        """Difference and bounds in the unit, with as many digits as the margin needs."""
        return [self.unit.change(value, self.margin) for value in (self.difference, self.low, self.high)]

    def words(self) -> str:
        """The same as `numbers`, with what was measured: `test accuracy +0.013 (99 % interval +0.002 to +0.023)`."""
        return f"{self.unit.quantity} {self.numbers()}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim, with the numbers behind it."""

    id: str
    text: str
    """The claim with its margin."""
    metric: str
    margin: float
    status: str
    instead: str = ""
    """What the rows show instead of a refuted claim."""
    reason: str = ""
    """Why there is no verdict, or notes on it."""
    seeds: int = 0
    """Number of seeds at the look at which the verdict was read; before the first look, of all seeds."""
    difference: float | None = None
    """In favour of the claim, over the seeds in which all arms trained; None without any."""
    low: float | None = None
    high: float | None = None
    level: float | None = None
    """α of the claim: the look's, for claims after the first the part that Holm's procedure assigns."""
    p: float | None = None
    """The smallest α at which the claim would be decided at this look."""
    judged: str = ""
    """The method, and the arm that represents a family."""
    changes: tuple[Change, ...] = ()
    """The difference as it was measured; of a claim of two halves those of both."""
    about: str = ""
    """Of which arms the difference is, if the claim does not say so."""
    counts: str = ""
    """How many seeds did not train, or did not reach a target."""
    missing: str = ""
    """Of an undecided claim: the chance that more seeds decide it."""
    chances: tuple[float, ...] = ()
    """Of an undecided claim: the chance of a verdict by the last look if the truth is 0, the margin, or the difference seen."""
    dataset: str = ""
    demonstration: bool = False
    """Whether it does not count: the setting is a demonstration, or the claim is about other datasets."""
    changed: bool = False
    """Whether the claim was changed after rows were written."""

    @property
    def decided(self) -> bool:
        """Whether the claim is supported or refuted."""
        return self.status in (SUPPORTED, REFUTED)

    @property
    def futile(self) -> bool:
        """Whether more seeds hardly decide the claim, whatever the truth."""
        return bool(self.chances) and max(self.chances) < FUTILE

    @property
    def overall_p(self) -> float | None:
        """The p-value over all looks: p divided by the look's share of the level."""
        return None if self.p is None else min(self.p * ALPHA / LEVELS[self.seeds], 1.0)

    @property
    def heading(self) -> str:
        """The verdict with which its sentence begins."""
        return self.status.capitalize()

    @property
    def marks(self) -> str:
        """What a reader must know wherever the verdict stands, in brackets after a blank; empty if there is nothing."""
        marks = {"demonstration": self.demonstration, "claim changed after rows were written": self.changed}
        about = "; ".join(mark for mark, there in marks.items() if there)
        return f" ({about})" if about else ""

    def sentence(self) -> str:
        """Verdict, claim, what was measured with its interval, and over how many seeds; the same wherever it is printed.

        `Open: flips improve accuracy, by at least 0.015. Test accuracy +0.013 (99 % interval +0.002 to +0.023), 5 seeds.`
        """
        claimed = self.text + (f" ({self.instead})" if self.instead else "")
        parts = [self.measured()] if self.changes else []
        parts.append(self.reason if self.status == NO_VERDICT and self.reason else seeds(self.seeds))
        seen = ", ".join(parts) + (f"; {self.counts}" if self.counts else "")
        return f"{self.heading}{self.marks}: {claimed}. {seen[:1].upper()}{seen[1:]}."

    def measured(self) -> str:
        """The differences with their intervals, in words."""
        return (f"{self.about}: " if self.about else "") + ", ".join(change.words() for change in self.changes)

    def notes(self) -> list[str]:
        """What is known beside the sentence."""
        reason = [] if self.status == NO_VERDICT else [self.reason]
        return [note for note in (*reason, self.missing) if note]
