"""Effects: the difference of every arm to its experiment's baseline, in any metric, as a user compares experiments.

The intervals are those of `summary`: 95 % each, exploratory, paired over seeds, and over test images for metrics of them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.rows import schema
from common.rows.metric import direction
from common.rows.table import NoData, Table
from common.text import interval, number_of, signed
from common.verdicts import counts, summary
from common.verdicts.contrasts import fault
from common.verdicts.judge import claims_of
from common.verdicts.kinds import KINDS

BASELINE, FIRST, CLAIMED = "baseline:", "no baseline; against", "against"
"""What a reference is, in words: the experiment's baseline; its first arm where it has none; another arm that its claim names."""


@dataclass(frozen=True)
class Effect:
    """The difference of an arm, at one rate, to the reference of its experiment."""

    arm: str
    rate: str
    reference: str
    """What it is compared with; an arm at the common rate with the reference at the common rate, if that has rows."""
    seeds: int = 0
    """Number of seeds, which both have."""
    mean: float = math.nan
    reference_mean: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    """Bounds of the interval; NaN with one seed, or where no interval can be computed."""
    diverged: int = 0
    untrained: int = 0
    """Numbers of the arm's compared trials that diverged, and that ended at chance; without a difference, of all its trials."""
    reference_untrained: int = 0
    """Number of the reference's compared trials that diverged or ended at chance."""
    reason: str = ""
    """Why there is no difference."""
    notes: tuple[str, ...] = ()
    """What the interval leaves out."""

    def words(self, form: str) -> str:
        """The difference with its interval, and how many trials did not train; the reason where there is none.

        Args:
            form: of its numbers, see `Comparison.form`.
        """
        if self.reason:
            return self.reason
        bounds = interval(self.low, self.high, form) if self.seeds > 1 else "1 seed"
        marks = {"diverged": self.diverged, "did not train": self.untrained}
        counts = "".join(f", {count} {mark}" for mark, count in marks.items() if count)
        if self.reference_untrained:
            counts += f", {self.reference} did not train in {self.reference_untrained} of {self.seeds}"
        return f"{signed(self.difference, form)} ({bounds}){counts}"


@dataclass(frozen=True)
class Comparison:
    """The effects of an experiment's arms in one setting."""

    experiment: str
    question: str
    dataset: str
    reference: str
    role: str
    """What the reference is: `BASELINE`, `FIRST` or `CLAIMED`."""
    training: str
    """How the reference was trained, in words."""
    weights: dict[int, str]
    """Seed -> hash of the reference's final weights."""
    metric: str
    label: str
    """Name of the metric with its unit, in figures."""
    direction: int
    """1 if higher values are better, −1 if lower ones are, 0 if unknown."""
    margin: float | None
    """Margin of the experiment's first claim about the metric."""
    reference_mean: float
    """The reference's mean in the metric, over its seeds; NaN if it is unknown."""
    effects: tuple[Effect, ...]
    """The best first, without a known direction the highest. One at the common rate stands below that of its arm."""

    @property
    def number(self) -> str:
        """The experiment's number: `03`."""
        return number_of(self.experiment)

    @property
    def form(self) -> str:
        """Format of its differences."""
        return "+.4f" if self.metric in (*schema.FRACTIONS, "gap") else "+.4g"

    def against(self) -> str:
        """The reference with its mean and its training, in words."""
        same = self.reference == "baseline"
        text = "baseline" if same else f"{self.role} {self.reference}"
        if math.isfinite(self.reference_mean):
            text += f"{' ' if same else ', '}{self.reference_mean:.4g}"
        return text + (f" ({self.training})" if self.training else "")

    @property
    def notes(self) -> list[str]:
        """What the intervals of its effects leave out."""
        return list(dict.fromkeys(note for effect in self.effects for note in effect.notes))

    @property
    def largest(self) -> float:
        """The largest absolute difference; −1 if there is none."""
        return max((abs(effect.difference) for effect in self.effects if not effect.reason), default=-1.0)


def of_arms(table: Table, metric: str | None = None) -> Comparison:
    """The effects of all arms against the baseline, of an experiment without one against its first arm.

    Args:
        metric: by default the primary one.

    Raises:
        NoData: the reference has no rows, or nothing is known of the metric.
    """
    reference = table.declaration.get("baseline") or table.arms[0]
    return _compared(table, metric, reference, [entry for entry in table.entries if table.arm_of.get(entry, entry) != reference])


def of_first_claim(table: Table, metric: str) -> Comparison:
    """The effect of the two arms that the experiment's first claim compares, in a metric.

    Raises:
        NoData: there is no claim, it is about more than two arms, or see `of_arms`.
        Failure: the claims are those of another version.
    """
    claims = claims_of(table)
    if not claims:
        raise NoData("it claims nothing")
    claim = claims[0]
    pair = KINDS[claim.kind](claim, table).pair()
    if pair is None:
        raise NoData(f"its first claim is about more than two arms ({claim.kind})")
    return _compared(table, metric, pair[1], [pair[0]])


def ordered(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons by metric, the metric of most experiments first; of one metric the one with the largest effect first."""
    metrics = [one.label for one in comparisons]
    return sorted(comparisons, key=lambda one: (-metrics.count(one.label), one.label, -one.largest, one.experiment))


def baselines(comparisons: Sequence[Comparison]) -> str:
    """Whether experiments have the same reference, with the same weights in every common seed, in a sentence; blank for one."""
    groups: list[list[Comparison]] = []
    for one in sorted(comparisons, key=lambda one: one.experiment):
        same = next((group for group in groups if _same(group[0], one)), None)
        if same is None:
            groups.append([one])
        else:
            same.append(one)
    what = "baseline" if all(one.role != CLAIMED for one in comparisons) else "reference"
    if len(comparisons) < 2:
        return ""
    if len(groups) == 1:
        return f"All experiments have the same {what}."
    shared = [[one.number for one in group] for group in groups if len(group) > 1]
    equal = "; ".join(f"{', '.join(same[:-1])} and {same[-1]}" for same in shared)
    but = f" (equal are those of {equal})" if shared else ""
    return f"The {what}s differ{but}: each effect is against that of its own experiment."


def _same(first: Comparison, second: Comparison) -> bool:
    common = set(first.weights) & set(second.weights)
    return bool(common) and all(first.weights[seed] == second.weights[seed] for seed in common)


def _compared(table: Table, metric: str | None, reference: str, entries: Sequence[str]) -> Comparison:
    """The effects of entries against a reference."""
    if not table.seeds_of([reference]):
        raise NoData(counts.without_rows(table, reference))
    name, declaration = metric or table.primary.column, table.declaration
    compared = table.metric(name)  # raises NoData
    values = [compared.value(table, reference, seed, None) for seed in table.seeds_of([reference])]
    claims, baseline = declaration.get("claims", ()), declaration.get("baseline")
    sign = direction(name, claims, table.primary)
    margins = [one["margin"] for one in claims if (one.get("metric") or table.primary.column) == name and not one.get("within")]
    rows = [row for (entry, _), row in sorted(table.by_trial.items()) if entry == reference]
    return Comparison(
        experiment=table.files.experiment,
        question=declaration["question"],
        dataset=table.dataset,
        reference=reference,
        role=BASELINE if reference == baseline else CLAIMED if baseline else FIRST,
        training=_training(rows),
        weights={row["seed"]: row["weights"] for row in rows if isinstance(row.get("weights"), str)},
        metric=name,
        label=_label(table, name),
        direction=sign,
        margin=margins[0] if margins else None,
        reference_mean=float(np.nanmean(values)) if np.isfinite(values).any() else math.nan,
        effects=tuple(_sorted([_effect(table, name, reference, entry) for entry in entries], sign or 1)),
    )


def _sorted(effects: list[Effect], sign: int) -> list[Effect]:
    """The effects from best to worst, those without a difference last, each followed by that at the common rate."""

    def key(effect: Effect) -> tuple[bool, float]:
        return bool(effect.reason), -sign * effect.difference if not effect.reason else 0.0

    own = {effect.arm: effect for effect in effects if effect.rate == schema.OWN}
    return sorted(effects, key=lambda effect: (*key(own.get(effect.arm, effect)), effect.arm, effect.rate != schema.OWN))


def _effect(table: Table, metric: str, reference: str, entry: str) -> Effect:
    """The effect of one entry."""
    arm = table.arm_of.get(entry, entry)
    at_common = entry in table.at_common_rate
    rate = schema.COMMON if at_common else schema.OWN
    if at_common and schema.entry_name(reference, rate) in table.at_common_rate:
        reference = schema.entry_name(reference, rate)
    seeds = table.seeds_of([entry, reference])
    rows = [row for (name, seed), row in table.by_trial.items() if name == entry and (seed in seeds or not seeds)]
    diverged = sum(row["status"] == "diverged" for row in rows)
    untrained = sum(row["status"] == "done" and str(row.get("trained")) == "False" for row in rows)
    of_reference = sum(not table.trained(reference, seed) for seed in seeds)
    ended = {"diverged": diverged, "untrained": untrained, "reference_untrained": of_reference}
    found = summary.against(table, entry, reference, metric)
    if found is None:
        return Effect(arm, rate, reference, len(seeds), **ended, reason=_reason(table, metric, entry, reference, seeds))
    (estimate, notes), compared = found, table.metric(metric)
    means = (float(np.mean([compared.value(table, one, seed, None) for seed in seeds])) for one in (entry, reference))
    low, high = (float(bound) if math.isfinite(bound) else math.nan for bound in estimate.bounds(summary.ALPHA))
    return Effect(arm, rate, reference, len(seeds), *means, estimate.difference, low, high, **ended, notes=tuple(notes))


def _reason(table: Table, metric: str, entry: str, reference: str, seeds: Sequence[int]) -> str:
    """Why an entry has no difference to the reference."""
    if seeds:
        return f"{metric}: {fault(metric, table.metric(metric), table, [entry, reference], seeds)}"
    if entry in table.arm_of:
        return "it has no seed in common with the baseline"
    undone = [row for row in table.unfinished if schema.entry_of(row) == entry]
    return f"{undone[0]['status']}: {undone[0]['reason'] or 'no reason'}" if undone else "there are no rows"


def _label(table: Table, name: str) -> str:
    """Name of a metric with its unit, in figures."""
    if name == table.primary.column:
        return table.primary.label()
    units = set(table.measures.loc[table.measures["name"] == name, "unit"].dropna()) if name not in table.rows else set()
    return name.replace("_", " ") + (f" ({units.pop()})" if len(units) == 1 else "")


def _training(rows: Sequence[dict]) -> str:
    """How trials were trained, as far as they agree in it: `18 epochs, batch 32, 5,000 images, rate 0.0098`."""
    forms = {
        "epochs": lambda value: f"{value:g} epochs",
        "batch_size": lambda value: f"batch {value:,.0f}",
        "train_size": lambda value: f"{value:,.0f} images",
        "parameters": lambda value: f"{value:,.0f} parameters",
    }
    parts = []
    for name, form in forms.items():
        values = {row.get(name) for row in rows}
        if len(values) == 1 and isinstance(value := values.pop(), int | float) and math.isfinite(value):
            parts.append(form(value))
    rates = {json.loads(row["arguments"]).get("learning_rate") for row in rows if isinstance(row.get("arguments"), str)}
    if len(rates) == 1 and isinstance(rate := rates.pop(), int | float):
        parts.append(f"rate {rate:.3g}")
    return ", ".join(parts)
