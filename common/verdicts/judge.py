"""Verdicts on the claims of an experiment: supported, refuted, not distinguishable, or no data.

Verdicts are read at 5, 10 and 20 seeds only, each at a third of 5 %, by Holm's procedure over the experiment's claims.
"""

import math
from dataclasses import dataclass

from common.claims import Claim
from common.errors import Failure, Misuse
from common.rows.table import NoData, Table
from common.text import duration, interval, signed
from common.verdicts import stats
from common.verdicts.kinds import KINDS, LOOKS, NO_DATA, OPEN, Contrast, Kind

ALPHA = 0.05
"""Significance level of an experiment, over all its claims and looks."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim, with the numbers behind it."""

    id: str
    text: str
    kind: str
    metric: str
    margin: float
    status: str
    reason: str = ""
    """Why there is no verdict, or notes on it."""
    seeds: int = 0
    """Number of seeds at the look at which the verdict was read; before the first look, of all seeds."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    """α of the interval, which Holm's procedure assigns to the claim."""
    p: float | None = None
    """The smallest α at which the claim would be decided."""
    judged: str = ""
    """The method (means, ranks, …), and the arm that represents a family."""
    settled_by: str = ""
    """Of an undecided claim: how many seeds would make the interval narrower than the margin, and the time that they take."""
    datasets: tuple[str, ...] = ()
    """The datasets that the claim is about."""
    changed: bool = False
    """Whether the claim was changed after rows were written."""

    def numbers(self) -> str:
        """The difference with its interval, margin and number of seeds, in words."""
        change = f"{self.metric} {signed(self.difference, '+.4g')}, interval {interval(self.low, self.high, '+.4g')}"
        return f"{change}, margin {self.margin:,g}, {self.seeds} seeds"

    def sentence(self) -> str:
        """The claim, its verdict, the numbers and all notes, in one line."""
        sentence = f"{self.text}: {self.status}"
        if self.difference is not None:
            sentence += f" ({self.numbers()})"
        if self.reason:
            sentence += f"; {self.reason}"
        if self.settled_by:
            sentence += f"; {self.settled_by}"
        return sentence + ("; changed after rows were written" if self.changed else "")

    def disagreement(self) -> str:
        """What the rows show instead of a refuted claim, in words."""
        return KINDS[self.kind].disagreement(self.margin, self.high)


def judge(table: Table) -> list[Verdict]:
    """The verdicts on all claims of an experiment in one setting, in the order of the claims."""
    kinds = [KINDS[claim.kind](claim, table) for claim in claims_of(table)]
    contrasts: dict[int, Contrast] = {}
    reasons: dict[int, str] = {}
    for i, kind in enumerate(kinds):
        try:
            contrasts[i] = kind.contrast()
        except NoData as error:
            reasons[i] = str(error)
    p_values = {i: kinds[i].p(contrast.estimate) for i, contrast in contrasts.items() if contrast.look}
    # Claims without rows count too, so that training the arms in portions does not spend the whole level on each portion.
    levels = stats.holm([p_values.get(i, 1.0) for i in range(len(kinds))], ALPHA / len(LOOKS))
    return [_verdict(kind, contrasts.get(i), reasons.get(i, ""), p_values.get(i), *levels[i]) for i, kind in enumerate(kinds)]


def claims_of(table: Table) -> list[Claim]:
    """The claims of the declaration beside the rows. Raises `Failure` for one that this version cannot judge."""
    try:
        return [Claim.of(fields) for fields in table.declaration.get("claims", [])]
    except (Misuse, TypeError) as error:
        raise Failure(f"{table.files.declaration}: {error}") from error


def _verdict(kind: Kind, contrast: Contrast | None, reason: str, p: float | None, level: float, standing: bool) -> Verdict:
    """The verdict on a claim.

    Args:
        contrast: the estimated difference; None without data, for the given reason.
        level: α that Holm's procedure assigns to the claim.
        standing: whether the claim's p-value is below it.
    """
    claim, table = kind.claim, kind.table
    about = {
        "id": claim.id,
        "text": claim.text,
        "kind": claim.kind,
        "metric": kind.metric_name,
        "margin": claim.margin,
        "datasets": tuple(claim.datasets or ()),
        "changed": claim.id in table.declaration.get("changed_claims", ()),
    }
    if contrast is None:
        return Verdict(**about, status=NO_DATA, reason=reason)
    estimate, notes = contrast.estimate, contrast.notes
    status = kind.status(estimate, level) if standing else OPEN
    if not contrast.look:
        status = NO_DATA
        notes = [f"{contrast.seeds} of the {LOOKS[0]} seeds at which a verdict is first read", *notes]
    low, high = estimate.bounds(level)
    is_open = status == OPEN and isinstance(estimate, stats.Estimate)
    return Verdict(
        **about,
        status=status,
        reason="; ".join(notes),
        seeds=contrast.look or contrast.seeds,
        difference=estimate.difference,
        low=low,
        high=high,
        level=level,
        p=p,
        judged=contrast.judged,
        settled_by=_settled_by(table, claim, estimate, level) if is_open else "",
    )


def _settled_by(table: Table, claim: Claim, estimate: stats.Estimate, alpha: float) -> str:
    """How many seeds would decide an undecided claim, and how long they would take one after the other, in words."""
    if not math.isfinite(estimate.half_width(alpha)):
        return ""
    needed = stats.seeds_needed(estimate, claim.margin, alpha)
    if needed is None:
        return f"no number of seeds would resolve {claim.margin:g}: that takes more test images"
    few, many = needed
    if few >= stats.MOST_SEEDS:
        return f"more than {stats.MOST_SEEDS:,} seeds would be needed to resolve {claim.margin:g}"
    beyond = f"; verdicts are read up to {LOOKS[-1]}" if few > LOOKS[-1] else ""
    rows = table.rows[table.rows["entry"].isin(claim.arms)]
    seconds = rows.groupby("entry")["total_seconds"].median().sum()
    span = f"{few} to {many if many < stats.MOST_SEEDS else f'over {stats.MOST_SEEDS:,}'}"
    time = f", {duration(few * seconds)} to {duration(many * seconds)} of training" if seconds > 0 else ""
    return f"{span} seeds would resolve {claim.margin:g}{time}{beyond}"
