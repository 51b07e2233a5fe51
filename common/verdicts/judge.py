"""Verdicts on the claims of an experiment: supported, refuted, open, or none yet.

Verdicts are read at 5, 10 and 20 seeds only, from the first so many. An experiment's first claim answers its question and has 5 %
for itself; its other claims share another 5 %, by Holm's procedure at each look. The first look that decides a claim is final.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.claims import Claim
from common.errors import Failure, Misuse
from common.rows.table import NoData, Table
from common.text import duration
from common.verdicts import levels
from common.verdicts.intervals import Estimate, Ranked
from common.verdicts.kinds import KINDS, STATUSES, Contrast, Kind
from common.verdicts.levels import LEVELS, LOOKS
from common.verdicts.verdict import FUTILE, NO_VERDICT, OPEN, REFUTED, Verdict


@dataclass
class _Reading:
    """What a look shows of a claim."""

    kind: Kind
    contrasts: list[Contrast]
    seeds: int
    """Number of seeds that count."""
    look: int
    """The same at a look, else 0."""
    status: int = 0
    p: float | None = None
    level: float = LEVELS[LOOKS[0]]

    @property
    def is_open(self) -> bool:
        return not self.status


def judge(table: Table) -> list[Verdict]:
    """The verdicts on all claims of an experiment in one setting, in the order of the claims."""
    kinds = [KINDS[claim.kind](claim, table) for claim in claims_of(table)]
    reasons: dict[int, str] = {}
    last: dict[int, _Reading] = {}
    for look in LOOKS:
        now: dict[int, _Reading] = {}
        for i, kind in enumerate(kinds):
            if i in last and not last[i].is_open:
                continue
            try:
                if look == LOOKS[0] or len(kind.seeds()) >= look:
                    now[i] = _read(kind, look)
            except NoData as error:
                reasons.setdefault(i, f"at {look} seeds: {error}" if i in last else str(error))
        _decide(now, {i for i, reading in last.items() if not reading.is_open}, len(kinds), look)
        last |= now
    return [_verdict(kind, last.get(i), reasons.get(i, "")) for i, kind in enumerate(kinds)]


def _read(kind: Kind, look: int) -> _Reading:
    """What a claim's first seeds show: as many as the look has, or all there are before the first one. Raises `NoData`."""
    seeds = kind.seeds()
    used = seeds[:look]
    reading = _Reading(kind, kind.contrasts(used), len(used), look if len(seeds) >= look else 0)
    if reading.look:
        reading.p = levels.smallest_level(lambda alpha: kind.status(reading.contrasts, alpha) != 0)
    return reading


def _decide(now: dict[int, _Reading], decided: set[int], count: int, look: int) -> None:
    """Set level and status of the claims at a look: the first claim has the look's level, the others share another one.

    Claims without rows count too, so that training the arms in portions does not spend the whole level on each portion. Those
    decided at earlier looks no longer need theirs.
    """
    p_values = [0.0 if i in decided else now[i].p if i in now and now[i].look else 1.0 for i in range(count)]
    first, others = p_values[:1], p_values[1:]
    judged = [*levels.holm(first, LEVELS[look]), *levels.holm(others, LEVELS[look])]
    for i, reading in now.items():
        reading.level, standing = judged[i]
        if standing and reading.look:
            reading.status = reading.kind.status(reading.contrasts, reading.level)


def judge_parts(table: Table) -> list[tuple[Table, list[Verdict]]]:
    """Each part of a table (`Table.parts`) with the verdicts on its claims, all of which are judged together."""
    verdicts = {verdict.id: verdict for verdict in judge(table)}
    return [(part, [verdicts[claim["id"]] for claim in part.declaration.get("claims", [])]) for part in table.parts()]


def claims_of(table: Table) -> list[Claim]:
    """The claims of the declaration beside the rows. Raises `Failure` for one that this version cannot judge."""
    try:
        return [Claim.of(fields) for fields in table.declaration.get("claims", [])]
    except (Misuse, TypeError) as error:
        raise Failure(f"{table.files.declaration}: {error}") from error


def _verdict(kind: Kind, reading: _Reading | None, reason: str) -> Verdict:
    """The verdict on a claim.

    Args:
        reading: at the look that decides, or the last one; None without data.
        reason: why there is no reading, or none at a later look; empty if there is.
    """
    claim, table = kind.claim, kind.table
    dataset = table.dataset_of(claim.arms[0])
    about = {
        "id": claim.id,
        "text": claim.statement(kind.unit),
        "metric": kind.metric_name,
        "margin": claim.margin,
        "dataset": dataset,
        "demonstration": table.declaration["demonstration"] or dataset not in (claim.datasets or [dataset]),
        "changed": claim.id in table.declaration.get("changed_claims", ()),
    }
    if reading is None:
        return Verdict(**about, status=NO_VERDICT, reason=reason)
    contrasts, level = reading.contrasts, reading.level
    shown, of_shown = kind.shown(contrasts, level)
    low, high = shown.sample.bounds(of_shown)
    status = STATUSES[reading.status] if reading.look else NO_VERDICT
    early = [] if reading.look else [f"{reading.seeds} of the {LOOKS[0]} seeds at which a verdict is first read"]
    notes = [*early, *shown.notes, *_kinds(kind, reading), *_beside(kind, reading), *filter(None, [reason])]
    chances = _chances(kind, reading) if status == OPEN and not reason else {}
    return Verdict(
        **about,
        status=status,
        instead=kind.instead(contrasts, level) if status == REFUTED else "",
        reason="; ".join(notes),
        seeds=reading.seeds,
        difference=None if math.isnan(shown.sample.difference) else float(shown.sample.difference),
        low=float(low),
        high=float(high),
        level=float(level),
        p=reading.p,
        judged=shown.how,
        changes=tuple(kind.changes(contrasts, level)),
        about=kind.about(contrasts, level),
        counts="; ".join(shown.counts),
        missing=_missing(kind, reading, chances),
        chances=chances.get(LOOKS[-1], ()),
    )


def _kinds(kind: Kind, reading: _Reading) -> list[str]:
    """A note where arms of one seed ran on different kinds of processors, so that a difference holds theirs."""
    by_seed: dict[int, set] = {}
    for seed in kind.seeds()[: reading.seeds]:
        kinds = {kind.table.of(arm, seed).get("kind") for arm in kind.claim.arms}
        by_seed[seed] = {one for one in kinds if isinstance(one, str)}
    mixed = [str(seed) for seed, kinds in by_seed.items() if len(kinds) > 1]
    several = "" if len(mixed) == 1 else "s"
    return [f"arms of seed{several} {', '.join(mixed)} ran on different kinds of processors"] if mixed else []


def _beside(kind: Kind, reading: _Reading) -> list[str]:
    """Notes on what stands beside a verdict: the seeds after the look that decided, and the result at the common rate."""
    notes = []
    later = kind.seeds()
    if not reading.is_open and len(later) > reading.seeds:
        notes.append(f"all {len(later)} seeds: {_change(kind, later, reading.level)[1]}")
    common = kind.at_common_rate()
    seeds = _seeds(common) if common and reading.look else []
    if seeds and len(seeds) >= reading.look:
        status, change = _change(common, seeds[: reading.look], reading.level)
        if status != reading.status:
            notes.append(f"at the common rate {NO_VERDICT if status is None else STATUSES[status]}: {change}")
    return notes


def _seeds(kind: Kind) -> list[int]:
    """The seeds that all arms of a claim have."""
    try:
        return kind.seeds()
    except NoData:
        return []


def _change(kind: Kind, seeds: Sequence[int], alpha: float) -> tuple[int | None, str]:
    """Status at a level, and the difference and its interval in words; None and the reason if there are no such values."""
    try:
        contrasts = kind.contrasts(seeds)
    except NoData as error:
        return None, str(error)
    change = ", ".join(change.words() for change in kind.changes(contrasts, alpha)) or "no difference"
    return kind.status(contrasts, alpha), change


def _chances(kind: Kind, reading: _Reading) -> dict[int, tuple[float, ...]]:
    """Look to come -> the chances that the claim is decided by then, if the truth is 0, the margin, or the difference seen."""
    share = reading.level / LEVELS[reading.look]
    chances = {}
    for last in (look for look in LOOKS if look > reading.look):
        alphas = {look: LEVELS[look] * share for look in LOOKS if reading.look < look <= last}
        of_truths = [kind.chance(reading.contrasts, reading.look, alphas, truth) for truth in (0.0, kind.margin, None)]
        if None not in of_truths:
            chances[last] = tuple(float(chance) for chance in of_truths)
    return chances


def _missing(kind: Kind, reading: _Reading, chances: dict[int, tuple[float, ...]]) -> str:
    """What would decide an undecided claim, in words: the chances with more seeds and their time, or what seeds cannot do."""
    estimate = kind.shown(reading.contrasts, reading.level)[0].sample.estimate
    if reading.look and reading.is_open and isinstance(estimate, Ranked) and estimate.least_p > reading.level:
        return f"{len(estimate.differences)} seeds are too few for ranks: their p-value is at least {estimate.least_p:.2g}"
    if not chances:
        return _limit(kind, reading) if reading.look == LOOKS[-1] and reading.is_open else ""
    parts = []
    for look, of_truths in chances.items():
        seconds = _seconds(kind) * (look - reading.look)
        time = f" ({duration(seconds)} more)" if seconds > 0 else ""
        parts.append(f"{', '.join(f'{chance:.0%}' for chance in of_truths)} with {look} seeds{time}")
    text = f"chance of a verdict if the truth is 0, {kind.unit.amount(kind.margin)}, or as seen: {'; '.join(parts)}"
    limit = _limit(kind, reading) if max(chances[max(chances)]) < FUTILE else ""
    return f"{text}; {limit}" if limit else text


def _limit(kind: Kind, reading: _Reading) -> str:
    """What makes the interval too wide for any number of seeds, in words; empty if it is the seeds."""
    estimate = kind.shown(reading.contrasts, reading.level)[0].sample.estimate
    if not isinstance(estimate, Estimate) or len(estimate.sources) == 1:
        return ""
    (_, freedom), *others = estimate.sources
    level = LEVELS[LOOKS[-1]] * reading.level / LEVELS[reading.look]
    if Estimate(0.0, ((0.0, freedom), *others)).half_width(level) <= kind.margin:
        return ""
    search = others.pop()[0] if estimate.searched else 0.0
    images = sum(variance for variance, _ in others)
    return f"more seeds do not help: that takes {'more test images' if images >= search else 'a search with more seeds'}"


def _seconds(kind: Kind) -> float:
    """Time of training all arms of a claim with one seed, one after the other."""
    rows = kind.table.rows
    return float(np.nan_to_num(rows[rows["entry"].isin(kind.claim.arms)].groupby("entry")["total_seconds"].median().sum()))
