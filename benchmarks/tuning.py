"""Does tuning alone make a difference between arms? Every searched arm against itself, tuned twice and independently.

python -m benchmarks.tuning --results results/reference --setting quick-digits

Nothing is trained. The search trials in the rows give a curve for each arm: means and deviations of its points over seeds, and
how often a seed did not train. From it come new tuning seeds for two searches, and new reported seeds at the points that they
choose. A difference is called if its interval excludes 0 at any look. The intervals cover seeds and tuning, not test images:
those would hide differences.
"""

import argparse
import json
import pathlib
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from common.files import PROJECT
from common.rows import store
from common.rows.schema import Files
from common.search.race import WITHIN, Curve, Rules, next_rates, tuning_variance
from common.search.scores import SEEDS
from common.tasks import LEAST_LEARNED

REPEATS = 200
"""Pairs of searches per arm."""
FIRST, MORE = 2, 3
"""Seeds of all points, and further ones of contenders."""
LOOKS = {5: 0.010, 10: 0.015, 20: 0.025}
"""Number of reported seeds -> level of the interval."""
FREEDOM = 8
"""Degrees of freedom of the tuning variance."""
REPORTED = 5
"""Reported seeds in which a collapse is counted."""
RARE, BEFORE_COLLAPSE = 0.004, 0.036
"""Share of new seeds that do not train where both tuning seeds did: in general, and where the next higher rate has a seed that
did not. From the reported seeds of 197 grids of the digits experiments."""
CHANCE = 0.1
"""Accuracy of a constant prediction, for rows of earlier versions, which do not hold it: ten classes."""
MOST = 0.05
"""The largest acceptable share of calls."""


@dataclass(frozen=True)
class Arm:
    """What new seeds of an arm are drawn from."""

    name: str
    rules: Rules
    means: np.ndarray
    """Float [points]."""
    deviations: np.ndarray
    """Standard deviations over seeds, float [points]: pooled over the points near the best, and over the others."""
    collapse: np.ndarray
    """Share of seeds that do not train, float [points]."""

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Scores of new searches in which all points run with all seeds, and which seeds trained: [repeats, points, seeds]."""
        shape = (REPEATS, len(self.means), FIRST + MORE)
        trained = generator.random(shape) >= self.collapse[:, None]
        noise = self.deviations[:, None] * generator.standard_normal(shape)
        return np.where(trained, self.means[:, None] + noise, self.rules.constant), trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", default="results/reference", help="folder of the rows")
    parser.add_argument("--setting", default="quick-digits", help="name of a setting's folder in it")
    given = parser.parse_args()
    arms = read(PROJECT / given.results / given.setting)
    if not arms:
        raise SystemExit(f"no arm has a search of at least three rates with two seeds. Received: {given.results}/{given.setting}")
    print(f"{len(arms)} arms, {REPEATS} pairs of searches each")
    for line in table(arms):
        print(line)


def read(folder: pathlib.Path) -> list[Arm]:
    """The arms whose search trials lie in the folder of a setting, of tasks that are scored by accuracy."""
    arms = []
    for path in sorted(folder.glob("sweep_*_trials.csv")):
        of_arm: dict[str, list[dict]] = {}
        for row in store.read_rows(Files(folder, path.stem)):
            of_arm.setdefault(row["arm"], []).append(row)
        arms += [made for arm, rows in of_arm.items() if (made := arm_of(f"{path.stem}: {arm}", rows))]
    return arms


def arm_of(name: str, rows: list[dict]) -> Arm | None:
    """An arm by its search trials; None without three points, two seeds of each, or any that trained."""
    known = {(row["point"], int(row["seed"])): row for row in rows}
    names = [point for point in dict.fromkeys(row["point"] for row in rows) if all((point, s) in known for s in SEEDS[:FIRST])]
    points, constant = [json.loads(point) for point in names], float(rows[0]["val_constant"] or CHANCE)
    of_point = [[known.get((name, seed)) for seed in SEEDS] for name in names]
    trained = np.array([[bool(row) and has_trained(row) for row in line] for line in of_point])
    if len(names) < 3 or not trained.any() or not any(row["val_accuracy"] for row in rows):
        return None
    values = np.array(
        [
            [np.nan if row is None else float(row["val_accuracy"]) if t else constant for row, t in zip(line, of, strict=True)]
            for line, of in zip(of_point, trained, strict=True)
        ]
    )
    curve = Curve.of(values, trained, constant)
    near = (curve.collapse == 0) & (curve.means >= curve.means[curve.collapse < 1].max() - WITHIN)
    following = next_rates(points)
    deviations = np.where(near, pooled(values[near], trained[near]), pooled(values[~near], trained[~near]))
    before = (following >= 0) & (curve.collapse[following] > 0)
    collapse = np.where(curve.collapse > 0, curve.collapse, np.where(before, BEFORE_COLLAPSE, RARE))
    rates = np.array([float(point.get("learning_rate", 0)) for point in points])
    return Arm(name, Rules(rates, following, constant, "accuracy"), curve.means, deviations, collapse)


def has_trained(row: dict) -> bool:
    """Whether a trial has trained; rows of earlier versions do not say so."""
    if row["trained"]:
        return row["trained"] == "True"
    return row["status"] == "done" and float(row["train_accuracy"] or 0) >= CHANCE + LEAST_LEARNED * (1 - CHANCE)


def pooled(values: np.ndarray, trained: np.ndarray) -> float:
    """The pooled standard deviation over seeds of some points; 0 without two trained seeds of any."""
    return float(Curve.of(values, trained, 0.0).deviation) if len(values) else 0.0


@dataclass(frozen=True)
class Tuned:
    """Two independent searches of all arms."""

    means: np.ndarray
    """Mean of the chosen point, float [arms, 2, repeats]."""
    deviations: np.ndarray
    """Its standard deviation over seeds."""
    collapse: np.ndarray
    """Its share of seeds that do not train."""
    tau2: np.ndarray
    """The tuning variance that each search estimates; 0 for the rule without."""
    trials: float
    """Number of search trials of all arms, mean over searches."""


def tune(arms: list[Arm], *, race: bool) -> Tuned:
    """Search all arms twice: by the race, or by the highest mean of two seeds, as was done before."""
    generator, tuned, trials = np.random.default_rng(1), [], 0.0
    for arm in arms:
        for _ in range(2):
            scores, trained = arm.draw(generator)
            few, level = scores[..., :FIRST].mean(-1), np.zeros(scores.shape[:-1])
            chosen, contending = arm.rules.order(few, level)[..., 0], np.zeros(few.shape, bool)
            tau2 = np.zeros(REPEATS)
            if race:
                chosen, contending = arm.rules.race(scores, FIRST)
                seen = np.where(contending[..., None] | (np.arange(FIRST + MORE) < FIRST), scores, np.nan)
                curve = Curve.of(seen, trained, arm.rules.constant)
                tau2 = tuning_variance(arm.rules, curve, chosen, FIRST, MORE)
            trials += (few.shape[-1] * FIRST + MORE * contending.sum(-1).mean()) / 2
            tuned.append([arm.means[chosen], arm.deviations[chosen], arm.collapse[chosen], tau2])
    columns = np.moveaxis(np.array(tuned).reshape(len(arms), 2, 4, REPEATS), 2, 0)
    return Tuned(*columns, trials)


def called(tuned: Tuned, variance: np.ndarray) -> float:
    """Share of pairs whose interval excludes 0 at any look.

    Args:
        variance: of the tuning of both sides together, as the intervals have it, float [arms, repeats].
    """
    generator = np.random.default_rng(2)
    shape = (*variance.shape, max(LOOKS))
    deviation = np.sqrt((tuned.deviations**2).sum(axis=1))[..., None]
    differences = (tuned.means[:, 0] - tuned.means[:, 1])[..., None] + deviation * generator.standard_normal(shape)
    excluded = np.zeros(variance.shape, bool)
    for seeds, level in LOOKS.items():
        of_seeds = differences[..., :seeds].var(axis=-1, ddof=1) / seeds
        quantiles = of_seeds * stdtrit(seeds - 1, 1 - level / 2) + variance * stdtrit(FREEDOM, 1 - level / 2)
        half = quantiles / np.sqrt(np.maximum(of_seeds + variance, 1e-30))
        excluded |= np.abs(differences[..., :seeds].mean(axis=-1)) > half
    return float(excluded.mean())


def table(arms: list[Arm]) -> list[str]:
    """The lines of the table, and whether τ² must be doubled."""
    before, now = tune(arms, race=False), tune(arms, race=True)
    own = now.tau2.sum(axis=1)
    protocol = np.maximum(now.tau2, now.tau2.mean(axis=(0, 1))).sum(axis=1)  # the larger of an arm's and the mean over arms
    shares = {
        "best mean of two seeds, no tuning variance": (before, called(before, np.zeros_like(own))),
        "race, no tuning variance": (now, called(now, np.zeros_like(own))),
        "race, tau² of the two searches": (now, called(now, own)),
        "race, tau² at least the mean over arms": (now, called(now, protocol)),
        "race, twice that": (now, called(now, 2 * protocol)),
    }
    best = np.array([arm.means.max() for arm in arms])
    lines = [f"{'rule':<44}{'called':>8}{'trials':>9}{'collapsed':>11}{'regret':>9}"]
    for name, (tuned, share) in shares.items():
        collapsed = (1 - (1 - tuned.collapse) ** REPORTED).mean()
        regret = (best[:, None, None] - tuned.means).mean()
        lines.append(f"{name:<44}{share:>8.1%}{tuned.trials / before.trials:>8.2f}x{collapsed:>11.1%}{regret:>9.4f}")
    verdict = "is doubled" if shares["race, tau² at least the mean over arms"][1] > MOST else "is used as it is"
    return [
        *lines,
        f"called: difference between an arm and itself, at any look (at most {MOST:.0%}); collapsed: arms with a seed of "
        f"{REPORTED} that does not train",
        f"tau² {verdict}",
    ]


if __name__ == "__main__":
    main()
