"""Claims judged by rows: supported, refuted, not distinguishable, or no data (yet). Nothing here trains or imports TensorFlow.

Verdicts are read at 5, 10 and 20 seeds only, each at a third of 5 %, and by Holm's procedure over an experiment's claims.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.rows.table import RANKED, NoData, Table
from common.text import duration, interval, signed
from common.verdicts import stats

LOOKS = (5, 10, 20)
ALPHA = 0.05
"""Of an experiment, over all looks."""
SUPPORTED, REFUTED, OPEN, NO_DATA = "supported", "refuted", "not distinguishable", "no data"


@dataclass(frozen=True)
class Verdict:
    """What the rows say of one claim."""

    text: str
    kind: str
    metric: str
    margin: float
    status: str
    reason: str = ""
    """Why there is no verdict, or what goes with it."""
    seeds: int = 0
    """The look at which it was read; without one, the seeds there are."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    """α of the interval: what Holm's procedure left to this claim."""
    p: float | None = None
    """The smallest α at which the verdict would have been this one."""
    judged: str = ""
    """By means or by ranks, and which arm stands for a family."""
    settled_by: str = ""
    """Where it is open: how many seeds would make the interval narrower than the margin, as a range, and what they take here."""
    datasets: tuple[str, ...] = ()
    """Those that the claim is about."""
    changed: bool = False
    """Whether the claim was changed after rows had been written."""

    def numbers(self) -> str:
        """The difference and its interval."""
        told = f"{self.metric} {signed(self.difference, '+.4g')}, interval {interval(self.low, self.high, '+.4g')}"
        return f"{told}, margin {self.margin:,g}, {self.seeds} seeds"

    def sentence(self) -> str:
        """One line for people."""
        said = f"{self.text}: {self.status}"
        if self.difference is not None:
            said += f" ({self.numbers()})"
        if self.reason:
            said += f"; {self.reason}"
        if self.settled_by:
            said += f"; {self.settled_by}"
        return said + ("; changed after rows were written" if self.changed else "")

    def disagreement(self) -> str:
        """Of a refuted claim: what the rows say instead."""
        if self.kind == "same":
            return f"they differ by more than {self.margin:g}"
        if self.kind == "not worse":
            return f"it is worse by more than {self.margin:g}"
        return "the other way round" if self.high < 0 else f"by less than {self.margin:g}, if at all"


@dataclass
class Contrast:
    """A claim's difference, before it is known how much of α it may use."""

    estimate: stats.Estimate | stats.Ranked
    seeds: int
    look: int
    judged: str
    notes: list[str]

    def p(self, kind: str, margin: float) -> float:
        """The smallest level at which a verdict would be reached."""
        e = self.estimate
        if kind == "same":  # inside, both bounds must be; outside, it is the nearer one that matters
            return max(e.p_beyond(margin), e.p_beyond(-margin))
        if kind == "not worse":
            return e.p_beyond(-margin)
        return e.p_beyond(0.0) if e.difference >= margin else e.p_beyond(margin)

    def status(self, kind: str, margin: float, alpha: float) -> str:
        """What the interval of a level says."""
        low, high = self.estimate.bounds(alpha)
        if kind == "same":
            inside, outside = -margin < low and high < margin, low > margin or high < -margin
            return SUPPORTED if inside else REFUTED if outside else OPEN
        if kind == "not worse":
            return SUPPORTED if low > -margin else REFUTED if high < -margin else OPEN
        if low > 0 and self.estimate.difference >= margin:
            return SUPPORTED
        return REFUTED if high < margin else OPEN


def judge(table: Table) -> list[Verdict]:
    """The verdict of every claim of one experiment in one setting."""
    claims = table.declaration.get("claims", [])
    contrasts: dict[int, Contrast] = {}
    without: dict[int, str] = {}
    for i, claim in enumerate(claims):
        try:
            contrasts[i] = contrast(table, claim)
        except NoData as error:
            without[i] = str(error)
    looked = {i: c.p(claims[i]["kind"], claims[i]["margin"]) for i, c in contrasts.items() if c.look}
    # Claims without rows yet count as well: whoever trains the arms in portions must not spend the whole level on each.
    levels = stats.holm([looked.get(i, 1.0) for i in range(len(claims))], ALPHA / len(LOOKS))
    changed = set(table.declaration.get("changed_claims", ()))
    verdicts = []
    for i, claim in enumerate(claims):
        about = {name: claim[name] for name in ("text", "kind", "margin")} | {"changed": claim["text"] in changed}
        about["metric"] = claim["metric"] or table.primary.column
        about["datasets"] = tuple(claim.get("datasets") or ())
        if claim["kind"] == "flatness":
            about["metric"] = f"decades within {claim['within']:g} of its best"
        if i in without:
            verdicts.append(Verdict(**about, status=NO_DATA, reason=without[i]))
            continue
        c = contrasts[i]
        alpha, standing = levels[i]
        status = c.status(claim["kind"], claim["margin"], alpha) if standing else OPEN
        notes = list(c.notes)
        if not c.look:
            status = NO_DATA
            notes.insert(0, f"{c.seeds} of the {LOOKS[0]} seeds at which a verdict is first read")
        low, high = c.estimate.bounds(alpha)
        settled_by = ""
        if status == OPEN and isinstance(c.estimate, stats.Estimate):
            settled_by = _settled_by(table, claim, c.estimate, alpha)
        verdicts.append(
            Verdict(
                **about,
                status=status,
                reason="; ".join(notes),
                seeds=c.look or c.seeds,
                difference=c.estimate.difference,
                low=low,
                high=high,
                level=alpha,
                p=looked.get(i),
                judged=c.judged,
                settled_by=settled_by,
            )
        )
    return verdicts


def _settled_by(table: Table, claim: dict, estimate: stats.Estimate, alpha: float) -> str:
    """How many seeds would settle an open claim, and about how long they would take one after the other."""
    if not math.isfinite(estimate.half_width(alpha)):
        return ""
    needed = stats.seeds_needed(estimate, claim["margin"], alpha)
    if needed is None:
        return f"no number of seeds would settle {claim['margin']:g}: it needs more test images"
    few, many = needed
    if few >= stats.MOST_SEEDS:
        return f"more than {stats.MOST_SEEDS:,} seeds would be needed to settle {claim['margin']:g}"
    beyond = f"; verdicts are read up to {LOOKS[-1]}" if few > LOOKS[-1] else ""
    arms = {*_listed(claim["better"]), *_listed(claim["worse"])}
    seconds = table.rows[table.rows["arm"].isin(arms)].groupby("arm")["total_seconds"].median().sum()
    span = f"{few} to {many if many < stats.MOST_SEEDS else f'over {stats.MOST_SEEDS:,}'}"
    time = f", {duration(few * seconds)} to {duration(many * seconds)} of training" if seconds > 0 else ""
    return f"{span} seeds would settle {claim['margin']:g}{time}{beyond}"


def contrast(table: Table, claim: dict) -> Contrast:
    """A claim's difference in favour of what it calls better, paired by seed. Raises `NoData`."""
    better, worse = (_listed(claim[side]) for side in ("better", "worse"))
    seeds = table.seeds_of([*better, *worse])
    if not seeds:
        missing = [arm for arm in (*better, *worse) if not table.seeds_of([arm])]
        raise NoData(f"no rows of {missing[0]}" if missing else "no seed that all its arms have")
    look = max((n for n in LOOKS if n <= len(seeds)), default=0)
    used = seeds[:look] if look else seeds
    judged, notes = "means", []
    if claim["kind"] == "best of family":
        best = max(better, key=lambda arm: _on_val(table, arm, used))
        better, judged = [best], f"means, {best} the best on val"
    arms = [*better, *worse]
    diverged = {arm: sum(table.of(arm, seed)["status"] == "diverged" for seed in used) for arm in arms}
    if any(diverged.values()):
        notes.append("diverged: " + ", ".join(f"{arm} {n} of {len(used)}" for arm, n in diverged.items() if n))
    metric, primary = claim["metric"] or table.primary.column, table.primary
    lower = claim["lower_is_better"] or metric in RANKED or (metric == primary.column and primary.lower_is_better)
    sign = -1.0 if lower else 1.0
    if claim["kind"] == "flatness":
        d = np.array([_decades(table, better, s, claim) - _decades(table, worse, s, claim) for s in used])
        step = min(np.diff(np.log10(np.sort([number for _, number in _numbers(table, better)]))))
        return Contrast(stats.paired(d, float(step)), len(seeds), look, "means of decades", notes)
    if metric == primary.column and not any(diverged.values()):
        images = _by_image(table, claim, better, worse, used)
        if images is not None:
            return Contrast(stats.two_way(sign * images), len(seeds), look, judged, notes)
    d = sign * np.array([_per_seed(table, claim, better, worse, seed) for seed in used])
    if metric == "survival":
        first, second = ([table.of(arm, s)["status"] == "done" for s in used] for arm in (better[0], worse[0]))
        notes.append(f"survival {sum(first)} against {sum(second)} of {len(used)}, p = {stats.survival_p(first, second):.3g}")
        return Contrast(stats.Ranked(tuple(d)), len(seeds), look, "exact", notes)
    if metric in RANKED or any(diverged.values()):
        if metric in RANKED:
            reached = [sum(math.isfinite(table.value(metric, a, s, claim.get("target"))) for s in used) for a in arms]
            notes.append("target reached: " + ", ".join(f"{a} {n} of {len(used)}" for a, n in zip(arms, reached, strict=True)))
        if np.isnan(d).any():
            raise NoData("a diverged trial has no such value")
        return Contrast(stats.Ranked(tuple(d)), len(seeds), look, "ranks", notes)
    if np.isnan(d).any():
        why = "only trials that ran alone count" if table.is_timed(metric) else "some of its rows lack the value"
        raise NoData(f"{metric}: {why}")
    if metric == primary.column:
        why = "no mean over test images" if metric == "test_f1" else "predictions or labels are missing"
        notes.append(f"over seeds alone: {why}")
    return Contrast(stats.paired(d, _resolution(table, metric)), len(seeds), look, judged, notes)


def _resolution(table: Table, metric: str) -> float | None:
    """The smallest step of a metric; None where it has none that is known."""
    sizes = {"gap": "test_size", "test_accuracy": "test_size", "best_test_accuracy": "test_size", "val_accuracy": "val_size"}
    if metric == "worst_class_accuracy":
        labels = next((array for key, array in table.arrays.items() if key.startswith("labels/")), None)
        return None if labels is None else 1 / float(np.bincount(labels).max())
    values = table.measures.loc[table.measures["name"] == metric, "value"]
    if len(values) and (values % 1 == 0).all():
        return 1.0  # it counts something: bytes, say
    return 1 / float(table.rows[sizes[metric]].iloc[0]) if metric in sizes else None


def _listed(side) -> list[str]:
    return [side] if isinstance(side, str) else list(side)


def _on_val(table: Table, arm: str, seeds: list[int]) -> tuple[float, float]:
    """What the best of a family is chosen by: the primary metric on val, then the NLL; higher is better."""
    own = table.rows[(table.rows["arm"] == arm) & table.rows["seed"].isin(seeds)]
    score, nll = (own[name].mean() if name in own else math.nan for name in (table.primary.on("val"), "val_nll"))
    return tuple(-math.inf if math.isnan(value) else value for value in (table.primary.sign * score, -nll))


def _signed(claim: dict, better: list[str], worse: list[str]) -> list[tuple[float, str]]:
    """The arms of a difference and their signs."""
    if claim["kind"] == "interaction":
        return [(1.0, better[0]), (-1.0, better[1]), (-1.0, worse[0]), (1.0, worse[1])]
    return [(1.0, better[0]), (-1.0, worse[0])]


def _per_seed(table: Table, claim: dict, better: list[str], worse: list[str], seed: int) -> float:
    total = 0.0
    budget = float(table.rows["epochs"].max() + 1)
    for sign, arm in _signed(claim, better, worse):
        value = table.value(claim["metric"] or table.primary.column, arm, seed, claim.get("target"))
        if math.isinf(value):  # never reached: later than the budget's last epoch
            row = table.of(arm, seed)
            value = budget * (row["steps"] / max(row["final_epoch"], 1) if claim["metric"] == "steps_to_target" else 1)
        total += sign * value
    return total


def _by_image(table: Table, claim: dict, better: list[str], worse: list[str], seeds: list[int]) -> np.ndarray | None:
    """Differences [seeds, images] of the outcomes; None where an arm's predictions are not there."""
    lines = []
    for seed in seeds:
        outcomes = [(sign, table.by_image(arm, seed)) for sign, arm in _signed(claim, better, worse)]
        if any(right is None for _, right in outcomes) or len({len(right) for _, right in outcomes}) > 1:
            return None
        lines.append(sum(sign * right for sign, right in outcomes))
    return np.array(lines)


def _numbers(table: Table, arms: list[str]) -> list[tuple[str, float]]:
    """Arms in the order of the one number in which they differ, and that number."""
    numbers = {arm: table.declaration["arms"][arm] for arm in arms}
    varying = {name for own in numbers.values() for name in own if len({str(n.get(name)) for n in numbers.values()}) == len(arms)}
    if len(varying) != 1:
        raise NoData("its arms must differ in one number")
    (name,) = varying
    return sorted(((arm, numbers[arm][name]) for arm in arms), key=lambda pair: pair[1])


def _decades(table: Table, arms: list[str], seed: int, claim: dict) -> float:
    """Decades over which a side's arms do well in one seed."""
    order = _numbers(table, arms)
    metric = claim["metric"] or table.primary.column
    lower = claim["lower_is_better"] or (metric == table.primary.column and table.primary.lower_is_better)
    scores = [(-1.0 if lower else 1.0) * table.value(metric, arm, seed, None) for arm, _ in order]
    return stats.decades_within([number for _, number in order], scores, claim["within"])
