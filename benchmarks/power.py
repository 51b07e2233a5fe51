"""Simulates verdicts: how often they are false, and how often they come. Run it with `make power`.

It applies the rules and intervals of `common/verdicts` to made-up experiments whose truth is known, prints tables, and writes
them to benchmarks/power.md, from which docs/protocol.md has them.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.commands import report
from common.files import write_atomic
from common.rows.metric import ACCURACY, DERIVED, Metric, of_column
from common.verdicts import chances, rules
from common.verdicts.intervals import TUNING_FREEDOM, Estimate, image_weights, of_mean_squares, paired, resampled, two_way
from common.verdicts.levels import ALPHA, LEVELS, LOOKS, holm
from common.verdicts.rules import LEAST_SEEDS, Sample
from common.verdicts.verdict import FUTILE

EXPERIMENTS, FEW = 10_000, 1000
"""Experiments per cell, and those in which chances of a verdict are computed."""
MARGIN = 0.015
MOST = LOOKS[-1]
TAU = 0.005
"""Standard deviation that the choice of a rate adds to an arm's accuracy."""
ALIVE, DEAD = 0.5, 0.1
"""Mean accuracy of trials that trained, and that of a constant prediction."""


@dataclass(frozen=True)
class World:
    """The noise of a difference between two arms.

    Attributes:
        seeds: standard deviations over seeds of either arm; images: of a test image's difference, the same for all seeds; rest:
            of an image in one seed.
        dies: probability that a trial of either arm does not train.
    """

    name: str
    seeds: tuple[float, float]
    images: float
    rest: float
    dies: tuple[float, float] = (0.0, 0.0)


WORLDS = (
    World("seeds dominate", (0.014, 0.014), 0.1, 0.25),
    World("images dominate", (0.0015, 0.0015), 0.4, 0.3),
    World("both", (0.007, 0.007), 0.3, 0.3),
    World("unequal: 0.005, 0.05", (0.005, 0.05), 0.25, 0.3),
    World("one seed in 30 dies", (0.007, 0.007), 0.3, 0.3, (1 / 30, 1 / 30)),
)


# --- experiments with a difference in accuracy -----------------------------------------------------------------------


@dataclass
class Draws:
    """Made-up differences between two arms: of each seed's mean over the images, [experiments, seeds], and which trained."""

    world: World
    images: int
    of_seed: np.ndarray
    trained: tuple[np.ndarray, np.ndarray]
    generator: np.random.Generator
    tuning: np.ndarray | None

    def samples(self, look: int, truth: float | np.ndarray) -> Iterator[tuple[np.ndarray, Sample]]:
        """Which experiments have equally many seeds in which both arms trained, and what their first seeds show."""
        first, second = (alive[:, :look] for alive in self.trained)
        both = first & second
        order = np.argsort(~both, axis=1, kind="stable")
        sorted_seeds = np.take_along_axis(self.of_seed[:, :look], order, axis=1) + truth
        only = (first & ~second).sum(axis=1), (second & ~first).sum(axis=1)
        lost = (ALIVE - DEAD) * (only[0] - only[1])
        overall = (np.where(both, self.of_seed[:, :look] + truth, 0.0).sum(axis=1) + lost) / look
        for count in np.unique(both.sum(axis=1)):
            there = np.flatnonzero(both.sum(axis=1) == count)
            d, estimate = sorted_seeds[there, :count], None
            if count >= LEAST_SEEDS:
                estimate = self._estimate(d, there)
            difference = d.mean(axis=1) if count else np.full(len(there), np.nan)
            yield there, Sample(estimate, only[0][there], only[1][there], difference, overall[there])

    def _estimate(self, d: np.ndarray, there: np.ndarray) -> Estimate:
        """`two_way` of the images behind the seeds' means, from mean squares that are drawn as those of normal variables."""
        (count, n), m, world = d.shape, self.images, self.world
        image = (n * world.images**2 + world.rest**2) * self.generator.chisquare(m - 1, count) / (m - 1)
        freedom = (n - 1) * (m - 1)
        rest = world.rest**2 * self.generator.chisquare(freedom, count) / freedom
        return of_mean_squares(d, image, rest, m).with_tuning(None if self.tuning is None else self.tuning[there])


def draw(world: World, images: int, tuned: bool, seed: int, count: int = EXPERIMENTS) -> Draws:
    """Experiments in which both arms have the same expected accuracy where they train."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal
    of_seed = np.hypot(*world.seeds) * normal((count, MOST)) + world.rest / np.sqrt(images) * normal((count, MOST))
    of_seed += world.images / np.sqrt(images) * normal((count, 1))
    if tuned:
        of_seed += TAU * np.sqrt(2) * normal((count, 1))
    trained = tuple(generator.random((count, MOST)) >= dies for dies in world.dies)
    tuning = 2 * TAU**2 * generator.chisquare(TUNING_FREEDOM, count) / TUNING_FREEDOM if tuned else None
    return Draws(world, images, of_seed, trained, generator, tuning)


def follow(draws: Draws, truth: float) -> dict[int, np.ndarray]:
    """Look -> status of a first claim at the look that decided by then, else 0, [experiments]."""
    status, by_look = np.zeros(len(draws.of_seed), int), {}
    for look in LOOKS:
        for there, sample in draws.samples(look, truth):
            status[there] = np.where(status[there] == 0, rules.superiority(sample, LEVELS[look], MARGIN), status[there])
        by_look[look] = status.copy()
    return by_look


def trained(draws: Draws, truth: float) -> np.ndarray:
    """The number of seeds that UNTIL=decided trains, [experiments]."""
    seeds, running = np.full(len(draws.of_seed), MOST), np.ones(len(draws.of_seed), bool)
    for look in LOOKS[:-1]:
        alphas = {later: LEVELS[later] for later in LOOKS if later > look}
        for there, sample in draws.samples(look, truth):
            stops = rules.superiority(sample, LEVELS[look], MARGIN) != 0
            left = running[there] & ~stops
            if sample.estimate is not None and left.any():
                stops[left] = futile(part(sample, left), look, alphas)
            seeds[there] = np.where(running[there] & stops, look, seeds[there])
            running[there] &= ~stops
    return seeds


def part(sample: Sample, there: np.ndarray) -> Sample:
    """The sample of some of the experiments."""
    sources = tuple((variance[there], freedom) for variance, freedom in sample.estimate.sources)
    estimate = Estimate(sample.estimate.difference[there], sources)
    counts = sample.only_better[there], sample.only_worse[there]
    return Sample(estimate, *counts, sample.difference[there], sample.overall[there])


def futile(sample: Sample, look: int, alphas: dict[int, float]) -> np.ndarray:
    """Whether more seeds hardly decide the claim, whatever the truth."""
    truths = (0.0, MARGIN, None)
    return np.max([chances.of_sample(sample, look, alphas, one, chances.superiority, MARGIN) for one in truths], axis=0) < FUTILE


def percent(share: float) -> str:
    """A share in percent, with a decimal below 10 %."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading), *(f"| {' | '.join(row)} |" for row in rows)]


def power() -> list[str]:
    """The table of false alarms and power."""
    rows = []
    for i, (world, images, tuned) in enumerate(itertools.product(WORLDS, (359, 10_000), (False, True))):
        cells = [world.name, f"{images:,}", "yes" if tuned else "no"]
        for truth in (0.0, MARGIN, 2 * MARGIN):
            by_look = follow(draw(world, images, tuned, seed=i), truth)
            seeds = trained(draw(world, images, tuned, seed=i, count=FEW), truth)
            supported = " / ".join(percent((by_look[look] == 1).mean()) for look in LOOKS)
            cells += [supported, percent((by_look[MOST] == -1).mean()), f"{seeds.mean():.0f}"]
        rows.append(cells)
    parts = [f"{truth}: {what}" for truth in ("0", "δ", "2δ") for what in ("supported by 5 / 10 / 20", "refuted", "seeds")]
    return table(["noise", "test images", "searched", *parts], rows)


def noises() -> list[str]:
    """The table of the worlds."""
    rows = []
    for world in WORLDS:
        lost = f"{max(world.dies):.1%}" if max(world.dies) else "none"
        rows.append([world.name, " and ".join(map(str, world.seeds)), f"{world.images}", f"{world.rest}", lost])
    heading = ["noise", "over seeds, of either arm", "of an image, in all seeds", "of an image, in one seed", "trials that die"]
    return table(heading, rows)


# --- rules -----------------------------------------------------------------------------------------------------------


def supported_at(draws: Draws, truth: float | np.ndarray, look: int) -> np.ndarray:
    """Whether a first claim is supported by a look's seeds alone, [experiments]."""
    result = np.zeros(len(draws.of_seed), bool)
    for there, sample in draws.samples(look, truth):
        result[there] = rules.superiority(sample, LEVELS[look], MARGIN) == 1
    return result


def with_deaths(draws: Draws, look: int, first: int, second: int) -> Draws:
    """The experiments in which exactly so many of a look's seeds of either arm do not train."""
    for alive, count in zip(draws.trained, (first, second), strict=True):
        alive[:, :look] = np.arange(look) >= count
    return draws


def family(members: int, count: int = EXPERIMENTS) -> np.ndarray:
    """Whether the best of some arms, none of which differs from the baseline, is supported at 20 seeds."""
    noise = World("", (0.0, 0.014), 0.1, 0.25)
    shared = 0.014 * np.random.default_rng(100).standard_normal((count, MOST))
    samples = []
    for member in range(members):
        draws = draw(noise, 10_000, False, seed=200 + member, count=count)
        draws.of_seed = draws.of_seed - shared
        ((_, sample),) = draws.samples(MOST, 0.0)
        samples.append(sample)
    return rules.best_of(rules.superiority, samples, ALPHA, 1e-9) == 1


def differing(draws: Draws, with_source: bool) -> np.ndarray:
    """Whether two equal arms are called different at any look, [experiments], with or without the variance of the search."""
    draws.tuning, wrong = draws.tuning if with_source else None, np.zeros(len(draws.of_seed), bool)
    for look, level in LEVELS.items():
        ((_, sample),) = draws.samples(look, 0.0)
        wrong |= sample.estimate.half_width(level) < np.abs(sample.estimate.difference)
    return wrong


def wrong_claims(count: int = 2000, others: int = 6) -> float:
    """The chance that any of an experiment's claims is wrongly supported or refuted, at any look: all are at a boundary.

    The first claim's difference is 0 and its margin tiny, so that each decision is wrong; likewise the others'.
    """
    noise, wrong = WORLDS[2], np.zeros(count, bool)
    draws = [draw(noise, 10_000, False, seed=300 + i, count=count) for i in range(1 + others)]
    for look, level in LEVELS.items():
        p_values = []
        for one in draws:
            ((_, sample),) = one.samples(look, 0.0)
            p_values.append(_p_values(sample.estimate, level))
        wrong |= p_values[0] < level
        for e in range(count):
            wrong[e] |= any(passed for _, passed in holm([p[e] for p in p_values[1:]], level))
    return float(wrong.mean())


def _p_values(estimate: Estimate, most: float) -> np.ndarray:
    """The levels at which intervals exclude 0, [experiments], by bisection; of those above `most` only that they are."""
    low, high = np.full(len(estimate.difference), np.log(1e-12)), np.zeros(len(estimate.difference))
    for _ in range(30):
        middle = (low + high) / 2
        excluded = estimate.half_width(np.exp(middle)) < np.abs(estimate.difference)
        low, high = np.where(excluded, low, middle), np.where(excluded, middle, high)
    return np.exp(high)


def rule_table() -> list[str]:
    """The table of what single rules do."""
    calm, both = World("", (0.007, 0.007), 0.1, 0.25), WORLDS[2]
    sure = supported_at(with_deaths(draw(calm, 10_000, False, 10), 10, 0, 1), 3 * MARGIN, 10).mean()
    sure_dead = supported_at(with_deaths(draw(calm, 10_000, False, 11), 10, 1, 0), 3 * MARGIN, 10).mean()
    worse = supported_at(with_deaths(draw(both, 10_000, False, 12), 20, 2, 0), -MARGIN, 20).mean()
    better = supported_at(with_deaths(draw(both, 10_000, False, 13), 20, 2, 0), 2 * MARGIN, 20).mean()
    often = supported_at(with_deaths(draw(both, 10_000, False, 14), 20, 0, 10), 0.0, 20).mean()
    searched = [differing(draw(calm, 10_000, True, 15), with_source).mean() for with_source in (True, False)]
    rows = [
        ["better by 3δ; one of ten seeds of the other arm dies", "supported", percent(sure)],
        ["better by 3δ; one of its ten seeds dies", "supported", percent(sure_dead)],
        ["two of its twenty seeds die, and it is worse by δ where it trains", "supported", percent(worse)],
        ["two of its twenty seeds die, and it is better by 2δ where it trains", "supported", percent(better)],
        ["ten of twenty seeds of the other arm die; equal where both train", "supported", percent(often)],
        [
            "the best of 8 arms, none of which is better, at a level of 5 % (2.5 % for this side)",
            "supported",
            percent(family(8).mean()),
        ],
        ["equal arms, a search for each, looks at 5, 10 and 20 seeds", "different", percent(searched[0])],
        ["the same, the variance of the searches left out", "different", percent(searched[1])],
        ["7 claims of one experiment, none true, looks at 5, 10 and 20 seeds", "any wrong", percent(wrong_claims())],
    ]
    return table(["experiments", "verdict", "in %"], rows)


# --- metrics of test images ------------------------------------------------------------------------------------------

CLASSES = 10


class Made:
    """Made-up outcomes of two arms on test images, with what metrics need of `common.rows.table.Table`.

    Args:
        m: number of test images.
    """

    primary = ACCURACY

    def __init__(self, generator: np.random.Generator, m: int):
        self.true = generator.integers(0, CLASSES, m)
        self.trials = {}
        of_class, of_image = 0.4 * generator.standard_normal(CLASSES)[self.true], 1.2 * generator.standard_normal(m)
        for arm in ("a", "b"):
            persistent = of_class + of_image + 0.5 * generator.standard_normal(m)
            for seed in range(MOST):
                score = 0.6 + persistent + 0.06 * generator.standard_normal() + 0.5 * generator.standard_normal(m)
                other = (self.true + generator.integers(1, CLASSES, m)) % CLASSES
                confidence = 0.1 + 0.9 / (1 + np.exp(-1.5 * np.abs(score) - 0.2 * generator.standard_normal()))
                train = 0.9 + 0.01 * generator.standard_normal()
                self.trials[arm, seed] = np.where(score > 0, self.true, other), confidence * 0.95, train

    def of(self, arm: str, seed: int) -> dict:
        return {"train_accuracy": self.trials[arm, seed][2], "test_accuracy": self.correct(arm, seed).mean()}

    def labels(self, arm: str, seed: int) -> np.ndarray:
        return self.true

    def correct(self, arm: str, seed: int) -> np.ndarray:
        return (self.trials[arm, seed][0] == self.true).astype(float)

    by_image = correct

    def stored(self, name: str, arm: str, seed: int) -> np.ndarray:
        return self.trials[arm, seed][1]

    def indicators(self, arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        classes = np.arange(CLASSES)
        return self.trials[arm, seed][0][:, None] == classes, self.true[:, None] == classes


METRICS = {
    "accuracy": of_column("test_accuracy", ACCURACY),
    "gap": DERIVED["gap"],
    "macro recall": of_column("test_recall", ACCURACY),
    "macro F1": of_column("test_f1", ACCURACY),
    "worst class": DERIVED["worst_class_accuracy"],
    "ECE": of_column("test_ece", ACCURACY),
}


def as_they_are(m: int) -> np.ndarray:
    """The weights of m images, each once: [m, 1]."""
    return np.ones((m, 1), np.float32)


def intervals(made: Made, metric: Metric) -> Callable[[int], tuple[Estimate, Estimate]]:
    """f(number of seeds) -> the estimate over seeds and test images, and that over seeds alone."""
    arms = [[(made, arm, seed) for seed in range(MOST)] for arm in ("a", "b")]
    if metric.by_image:
        d = np.subtract(*[[metric.by_image(*trial) for trial in arm] for arm in arms])
        return lambda n: (two_way(d[:n]), paired(d[:n].mean(axis=1)))
    d = np.subtract(*[[metric.weighted(*trial, as_they_are)[0] for trial in arm] for arm in arms])
    again = np.subtract(*[[metric.weighted(*trial, image_weights) for trial in arm] for arm in arms])
    return lambda n: (resampled(d[:n], again[:n]), paired(d[:n]))


def coverage(experiments: int = 1000, level: float = 0.05) -> list[str]:
    """The table of false alarms of metrics of test images, of two arms that are equal in expectation."""
    rows = []
    for m in (359, 2000):
        generator = np.random.default_rng(m)
        alarms = {name: np.zeros((2, len(LOOKS))) for name in METRICS}
        for _ in range(experiments if m < 1000 else experiments // 2):
            made = Made(generator, m)
            for name, metric in METRICS.items():
                estimates = intervals(made, metric)
                for i, look in enumerate(LOOKS):
                    for j, estimate in enumerate(estimates(look)):
                        alarms[name][j, i] += estimate.half_width(level) < abs(estimate.difference)
        count = experiments if m < 1000 else experiments // 2
        for name, (both, alone) in alarms.items():
            shares = [" / ".join(percent(share) for share in one / count) for one in (both, alone)]
            rows.append([name, f"{m:,}", *shares])
    return table(["metric", "test images", "alarms in %, seeds and test images", "seeds alone"], rows)


def main() -> None:
    """Print the tables, and write them for docs/protocol.md."""
    lines = [
        f"Of {EXPERIMENTS:,} experiments per cell, in %: a first claim with a margin δ of {MARGIN:g}. Where rates are searched",
        f"for each arm, the choice adds a standard deviation of {TAU:g} to either. `seeds` is how many UNTIL=decided trains on",
        "average. A claim supported at 0, or refuted at δ or 2δ, is a false alarm.",
        "",
        *power(),
        "",
        "The standard deviations behind it, of accuracies and of the difference in an image's outcome:",
        "",
        *noises(),
        "",
        "Single rules:",
        "",
        *rule_table(),
        "",
        "Intervals of 95 % of metrics of test images, for two arms that are equal in expectation, at 5 / 10 / 20 seeds:",
        "",
        *coverage(),
    ]
    print("\n".join(lines))
    write_atomic(report.POWER, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
