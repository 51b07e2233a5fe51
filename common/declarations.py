"""The rules that the declaration of an experiment keeps, each a function that raises `Misuse` where a script breaks it.

Their first argument is the experiment's name, with which the error begins.
"""

import inspect
import math
from collections.abc import Callable, Sequence

from common import tasks
from common.claims import Claim
from common.errors import Misuse
from common.setting import FIELDS, Setting
from common.space import Choice, Range, Space
from common.text import did_you_mean, file_name

TUNERS = ("grid", "halton", "random", "bayesian", "hyperband")
"""Names of the search algorithms."""
FIGURES = ("steps", "mistakes", "profiles")
"""Figures drawn only if an experiment asks for them: `steps`, the updates to a target (also drawn for claims about a target),
`mistakes`, the test images that are misclassified with the highest confidence, and `profiles`, measures over the number in their
names (`gradient norm of layer 3`)."""
LISTED = ("vary", "classes")
"""Fields of `Setting` that hold tuples, and in arms and rows lists."""
READ_AS_MISSING = (
    *("", "NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "<NA>", "#N/A", "#NA", "#N/A N/A", "-NaN", "-nan"),
    *("1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"),
)
"""Names that pandas reads as a missing value, and arms therefore must not have."""
RESERVED = "labels"
"""A name that arms must not have, since it begins the keys of test labels in the file of predictions."""


# --- types -----------------------------------------------------------------------------------------------------------


def globals_of(train: Callable) -> dict:
    """The global names of the script that defines a function. Raises `Misuse` for what is not a function defined in a file."""
    names = getattr(inspect.unwrap(train), "__globals__", {})
    if "__file__" not in names or not hasattr(train, "__name__"):
        raise Misuse(f"train must be a function, defined with def in the experiment's script. Received: {train!r}")
    return names


def require_trial_first(experiment: str, train: Callable) -> None:
    """The first argument of `train` is the trial."""
    first = next(iter(inspect.signature(train).parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        received = f"def {train.__name__}{inspect.signature(train)}"
        raise Misuse(f"{experiment}: train must take the trial first: def train(trial, *, l2). Received: {received}")


def require_dict_of_arms(experiment: str, arms: object) -> None:
    """Arms are a dict of dicts."""
    if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
        raise Misuse(f'{experiment}: arms must be a dict of dicts: {{"baseline": {{}}, "b": {{"l2": 1e-4}}}}. Received: {arms!r}')
    wrong = [name for name in arms if not isinstance(name, str)]
    if wrong or not arms:
        raise Misuse(f"{experiment}: an experiment needs arms, with texts as names. Received: {wrong[0] if wrong else arms!r}")


def require_settings(experiment: str, **given: object) -> None:
    """Each argument is a `Setting`, or None for one other than `setting`."""
    for name, value in given.items():
        if not isinstance(value, Setting) and (value is not None or name == "setting"):
            raise Misuse(f'{experiment}: {name} must be a Setting: Setting("digits", epochs=20). Received: {value!r}')


def require_list_of_datasets(experiment: str, datasets: object) -> None:
    """Datasets are a list of names."""
    if not isinstance(datasets, list | tuple) or not all(isinstance(name, str) for name in datasets):
        raise Misuse(f"{experiment}: datasets must be a list of names. Received: {datasets!r}")


def require_list_of_claims(experiment: str, claims: object) -> None:
    """Claims are a list of `Claim`."""
    if not isinstance(claims, list | tuple) or not all(isinstance(claim, Claim) for claim in claims):
        raise Misuse(f"{experiment}: claims must be a list of Claim(…). Received: {claims!r}")


def require_task(experiment: str, task: object) -> None:
    """The task is one of `common.tasks`."""
    names = [name for name, known in vars(tasks).items() if isinstance(known, tasks.Task)]
    if not any(task is getattr(tasks, name) for name in names):
        raise Misuse(f"{experiment}: task must be one of common.tasks. Received: {task!r}{did_you_mean(task, names)}")


# --- plain values ----------------------------------------------------------------------------------------------------


def require_plain_arms(experiment: str, arms: dict[str, dict]) -> None:
    """Arms hold plain values; a tuple only for a field in `LISTED`."""
    for arm, values in arms.items():
        for name, value in values.items():
            listed = list(value) if name in LISTED and isinstance(value, tuple) else value
            _require_plain(experiment, f"arm {arm!r}", name, listed)


def require_plain_settings(experiment: str, settings: dict[str, Setting]) -> None:
    """Settings hold plain values."""
    for setting in settings.values():
        for name, value in vars(setting).items():
            _require_plain(experiment, "a setting", name, list(value) if name in LISTED and value is not None else value)


def require_space(experiment: str, arm: str, searched: object) -> None:
    """What is searched for an arm is a dict of arguments of `train`."""
    if not isinstance(searched, dict):
        raise Misuse(
            f"{experiment}: an arm must not be called like a searched argument, and a search by arms holds a dict for each. "
            f"Received: {arm!r}: {searched!r}"
        )
    if fields := [name for name in searched if name in FIELDS]:
        raise Misuse(
            f"{experiment}: a search is of arguments of train; a field of Setting is searched in an arm of sweep=, or varied by "
            f"arms. Received: {fields[0]!r}"
        )


def require_plain_space(experiment: str, where: str, entries: Space) -> None:
    """A search space holds ranges and choices of plain values.

    Args:
        where: words for the space, in the error.
    """
    wrong = [value for value in entries.values() if not isinstance(value, Range | Choice)]
    if wrong:
        raise Misuse(f"{experiment}: a search takes log_range, linear_range or choice. Received: {wrong[0]!r}")
    for name, entry in entries.items():
        numbers = [entry.low, entry.high, *entry.limits] if isinstance(entry, Range) else entry.values
        for value in (*numbers, entry.default):
            _require_plain(experiment, where, name, value)


def _require_plain(experiment: str, where: str, name: str, value: object) -> None:
    """JSON, in which workers receive a value, does not change it."""
    changed = _changed(value)
    if changed:
        part, remedy = changed
        inside = "" if part is value else f" in {value!r}"
        raise Misuse(
            f"{experiment}: {where} must hold plain values, which are sent to the workers as JSON: for {name} {remedy}. "
            f"Received: {part!r}{inside}"
        )


def _changed(value: object) -> tuple[object, str] | None:
    """The first part of a value that JSON would change, and what to write instead; None if there is none."""
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return None
    if type(value) is list:
        return next(filter(None, map(_changed, value)), None)
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return key, "write strings as keys, or a list (class_weight: one weight for each class)"
        return next(filter(None, map(_changed, value.values())), None)
    if isinstance(value, float) and not math.isfinite(value):
        return value, "write None or a finite number"
    if isinstance(value, tuple | set | frozenset):
        return value, "write a list"
    if hasattr(value, "tolist"):  # NumPy
        return value, "write a plain number or list, as .tolist() gives it"
    return value, "write a number, string, list or dict, and build the object from it in train"


# --- names of arms ---------------------------------------------------------------------------------------------------


def require_baseline_first(experiment: str, arms: dict[str, dict], baseline: str | None) -> None:
    """The first arm is the baseline, if there is one."""
    if baseline is not None and next(iter(arms), None) != baseline:
        raise Misuse(
            f"{experiment}: the first arm must be the baseline: call it {baseline!r}, or set Experiment(baseline=…) to "
            f"its name, or to None if the arms are not compared. Received: {next(iter(arms), 'no arm')!r}"
        )


def require_distinct_names(experiment: str, arms: dict[str, dict]) -> None:
    """The names of arms differ as parts of file names, and are read from a table as they are."""
    if len({file_name(arm) for arm in arms}) < len(arms) or set(arms) & set(READ_AS_MISSING):
        raise Misuse(
            f"{experiment}: arm names must differ in more than punctuation, and pandas must not read them as missing. "
            f"Received: {list(arms)}"
        )
    if RESERVED in arms:
        raise Misuse(f"{experiment}: an arm must not have a name that files of rows use otherwise. Received: {RESERVED!r}")
    numbers = [arm for arm in arms if _is_number(arm)]
    if numbers:
        raise Misuse(f"{experiment}: an arm's name must not be a number. Received: {numbers[0]!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- numbers, figures and searches -----------------------------------------------------------------------------------


def require_at_least_one(experiment: str, **given: object) -> None:
    """Each argument is a whole number, at least 1."""
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise Misuse(f"{experiment}: {name} must be a whole number, at least 1. Received: {value!r}")


def require_known_figures(experiment: str, figures: Sequence[str]) -> None:
    """Figures are among `FIGURES`."""
    unknown = [kind for kind in figures if kind not in FIGURES]
    if unknown:
        raise Misuse(
            f"{experiment}: figures must be among {', '.join(FIGURES)}. "
            f"Received: {unknown[0]!r}{did_you_mean(unknown[0], FIGURES)}"
        )


def require_tuner_per_search(experiment: str, tuner: dict[str, str], search: dict[str, Space]) -> None:
    """Each arm with a separate search, and no other, has a tuner, one of `TUNERS`."""
    unknown = [one for one in tuner.values() if one not in TUNERS]
    if unknown or set(tuner) != set(search):
        hint = did_you_mean(unknown[0], TUNERS) if unknown else ""
        raise Misuse(
            f"{experiment}: tuner must be one of {', '.join(TUNERS)}, or a dict with one for each searched arm. "
            f"Received: {tuner}{hint}"
        )


def require_first_arm_shares(experiment: str, arms: dict[str, dict], shared: Space, search: dict[str, Space]) -> None:
    """The first arm takes all searched arguments from the shared search, if there is one."""
    first = next(iter(arms), None)
    if shared and (first in search or set(arms[first]) & set(shared)):
        raise Misuse(
            f"{experiment}: the first arm, on which the shared search runs, must neither set its arguments nor have "
            f"a separate search: put another arm first. Received: {first!r}"
        )


def require_grid_for_shared(experiment: str, shared: Space, search: dict[str, Space], tuner: str | dict[str, str]) -> None:
    """A shared search without separate ones uses the grid."""
    if shared and not search and tuner != "grid":
        raise Misuse(
            f"{experiment}: a shared search uses the grid: tuner is for arms with a separate search. Received: tuner={tuner!r}"
        )


def require_sweep(experiment: str, sweep: object, searches: bool) -> None:
    """A sweep is a dict of dicts or, where nothing is searched, one line that says why.

    Args:
        searches: whether the experiment declares a search.
    """
    if isinstance(sweep, str) and (searches or not sweep.strip() or "\n" in sweep):
        raise Misuse(
            f"{experiment}: a text as sweep is one line that says why nothing is searched, in an experiment without search. "
            f"Received: {sweep!r}"
        )
    if not isinstance(sweep, str | None) and not (isinstance(sweep, dict) and all(isinstance(a, dict) for a in sweep.values())):
        raise Misuse(
            f'{experiment}: sweep must be a dict of arms: {{"searched l2": {{"l2": log_range(1e-6, 1e-2)}}}}. Received: {sweep!r}'
        )


def require_swept(experiment: str, arm: str, arms: dict[str, dict], ranges: Space) -> None:
    """An arm of a sweep has a range or a choice, and a name that no trained arm has."""
    if arm in arms or not ranges:
        fault = "a name that no arm has" if arm in arms else "log_range, linear_range or choice for an argument"
        raise Misuse(f"{experiment}: an arm of sweep needs {fault}. Received: {arm!r}")


def require_tuner_per_seed(experiment: str, search_per_seed: bool, tuner: dict[str, str]) -> None:
    """A search for each seed needs an arm with a tuner other than the grid."""
    if search_per_seed and not set(tuner.values()) - {"grid"}:
        raise Misuse(
            f"{experiment}: search_per_seed is for arms with a separate search by a tuner other than the grid: set tuner, or "
            f"leave it out. Received: tuner={tuner}"
        )


# --- arguments of train ----------------------------------------------------------------------------------------------


def require_no_field_as_argument(experiment: str, train: Callable) -> None:
    """No argument of `train` has the name of a field of `Setting`."""
    both = [name for name in _arguments(train) if name in FIELDS]
    if both:
        raise Misuse(f"{experiment}: an argument of train must not be called like a field of Setting. Received: {both[0]!r}")


def require_accepted(experiment: str, train: Callable, arm: str, arguments: dict) -> None:
    """`train` accepts the arguments of an arm, set and searched."""
    try:
        inspect.signature(train).bind(None, **arguments)
    except TypeError as error:
        names = _arguments(train)
        hint = did_you_mean(next((name for name in arguments if name not in names), ""), [*names, *FIELDS])
        raise Misuse(f"{experiment}: arm {arm!r} does not fit train(): {error}{hint}") from None


def _arguments(train: Callable) -> list[str]:
    """Names of the arguments of `train` after the trial."""
    return list(inspect.signature(train).parameters)[1:]


# --- claims ----------------------------------------------------------------------------------------------------------


def require_unique_ids(experiment: str, claims: Sequence[Claim]) -> None:
    """No two claims have the same id."""
    ids = [claim.id for claim in claims]
    doubled = [one for one in ids if ids.count(one) > 1]
    if doubled:
        raise Misuse(f"{experiment}: the ids of claims must be unique. Received twice: {doubled[0]!r}")


def require_claims_about_arms(experiment: str, claims: Sequence[Claim], arms: dict[str, dict]) -> None:
    """Claims name arms of the experiment."""
    for claim in claims:
        missing = [arm for arm in claim.arms if arm not in arms]
        if missing:
            raise Misuse(
                f"{experiment}: a claim must name arms of the experiment: {claim.text!r}. "
                f"Received: {missing[0]!r}{did_you_mean(missing[0], arms)}"
            )


def require_claims_on_one_dataset(experiment: str, claims: Sequence[Claim], arms: dict[str, dict]) -> None:
    """All arms of a claim are scored on the same test images."""
    for claim in claims:
        first, *others = claim.arms
        for name in ("dataset", "classes"):
            other = next((arm for arm in others if arms[arm].get(name) != arms[first].get(name)), None)
            if other is not None:
                raise Misuse(
                    f"{experiment}: a claim must compare arms on the same {name}: {claim.text!r}. "
                    f"Received: {first!r} and {other!r}"
                )


def require_gaps_of_fractions(experiment: str, claims: Sequence[Claim], task: tasks.Task) -> None:
    """A gap between scores that are fractions has a margin below 1."""
    for claim in claims:
        if claim.metric == "gap" and not task.lower_is_better and max(claim.margin, claim.within or 0) >= 1:
            raise Misuse(
                f"{experiment}: a claim's margin must be below 1, as the gap is one of fractions (0.015 for 1.5 %): "
                f"{claim.text!r}. Received: {max(claim.margin, claim.within or 0)!r}"
            )


def require_claims_about_question(experiment: str, claims: Sequence[Claim], about: Sequence[str]) -> None:
    """Each metric that the question is about is that of a claim, and the first of them that of the first claim."""
    known = list(dict.fromkeys(claim.metric for claim in claims))
    unknown = [metric for metric in about if metric not in known]
    if unknown:
        raise Misuse(
            f"{experiment}: what a question is about must be metrics of its claims: {', '.join(known) or 'none'}. "
            f"Received: {unknown[0]!r}{did_you_mean(unknown[0], known)}"
        )
    if about and about[0] != claims[0].metric:
        raise Misuse(
            f"{experiment}: the first claim answers the question, so it must be about {about[0]}: put that claim first. "
            f"Received: {claims[0].text!r}, about {claims[0].metric}"
        )
