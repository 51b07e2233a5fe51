"""`Experiment`, `Setting` and `Claim`: the declarations of a script."""

import ast
import atexit
import dataclasses
import inspect
import math
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from common import space, tasks
from common.claims import Claim
from common.errors import Misuse
from common.files import PROJECT
from common.setting import FIELDS, NAMES, SMOKE, Selected, Setting, small_of
from common.space import shared  # noqa: F401  for scripts
from common.text import did_you_mean, file_name

COMMAND_LINE = "common.commands.run"
"""The module that runs a script with its options, in the same process but another program."""
TUNERS = ("grid", "halton", "random", "bayesian", "hyperband")
"""Names of the search algorithms."""
FIGURES = ("steps", "mistakes")
"""Figures drawn only if an experiment asks for them: `steps`, the updates to a target (also drawn for claims about a target), and
`mistakes`, the test images that are misclassified with the highest confidence."""
LISTED = ("vary", "classes")
"""Fields of `Setting` that hold tuples, and in arms and rows lists."""
READ_AS_MISSING = ("NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "")
"""Names that pandas reads as a missing value, and arms therefore must not have."""


class Experiment:
    """One numbered script: its question, its arms and the function that trains one of them.

    Args:
        train: f(trial, **arguments) -> predictor; defined in the script.
        arms: name -> arguments of `train` and fields of `Setting`, as plain values.
        setting: the full setting, for a GPU.
        quick: the setting used by default, which takes minutes; by default the full one.
        small: the setting whose verdicts are published, real images on two cores; by default the full one on CIFAR-10, reduced
            to `common.setting.SMALL`.
        claims: see `Claim`.
        seeds: number of seeds trained by default.
        baseline: name of the first arm, with which the others are compared; None if the arms are not compared.
        search: arguments of `train` to search for each arm: name -> range (see `common.space`), arm -> such a dict, or a
            function `build(hp)` as for keras-tuner; or `shared(learning_rate=…)`, searched once on the first arm for all
            arms. An argument that an arm sets is not searched.
        tuner: the search algorithm, one of `TUNERS`, or arm -> algorithm. By default a grid, extended until the best points
            are not at its edge.
        points: number of points per arm, for tuners other than the grid.
        task: the learning task; see `common.tasks`.
        alone: whether trials run one at a time, as claims about seconds require.
        figures: additional figures, of `FIGURES`.

    Raises:
        Misuse: arms that `train` does not accept, claims about unknown arms, or two claims with one id.
    """

    def __init__(
        self,
        train: Callable,
        *,
        arms: dict[str, dict],
        setting: Setting,
        quick: Setting | None = None,
        small: Setting | None = None,
        claims: Sequence[Claim] = (),
        seeds: int = 5,
        baseline: str | None = "baseline",
        search: dict | Callable | space.Shared | None = None,
        tuner: str | dict[str, str] = "grid",
        points: int = 16,
        task: tasks.Task = tasks.classification,
        alone: bool = False,
        figures: Sequence[str] = (),
    ):
        self.task, self.alone = task, alone
        self.train, self.arms = train, arms
        script = _globals(train)
        self.path = pathlib.Path(script["__file__"]).resolve()
        self.name = self.path.stem
        self.doc = inspect.cleandoc(script["__doc__"] or _docstring(self.path))
        self.module = script["__name__"]
        if self.module == "__main__":  # `main` replaces the process by the command line, which checks the declaration
            atexit.register(_refuse_to_end, self.name)
            return
        self._check_kinds(setting, quick, small, claims)
        self.settings = dict(zip(NAMES, (quick or setting, small or small_of(setting), setting), strict=True))
        """Setting by its name, one of `NAMES`."""
        self.seeds, self.baseline, self.figures = seeds, baseline, tuple(figures)
        self.claims = tuple(self._completed(claim) for claim in claims)
        self._check_names()
        searched = search if isinstance(search, space.Shared) else space.Shared({}, search)
        self.shared = self._checked_space("the shared search", searched.space)
        """The space searched on the first arm for all arms."""
        self.search = self._spaces(searched.arms)
        """Arm -> the space searched for that arm alone."""
        self.tuner = tuner if isinstance(tuner, dict) else dict.fromkeys(self.search, tuner)
        self.points = points
        self._check(tuner)

    def _completed(self, claim: Claim) -> Claim:
        """The claim with its defaults: the task's primary metric, and the datasets of the small and the full setting."""
        if claim.metric is None:
            primary = {"metric": f"test_{self.task.metric}", "lower_is_better": self.task.lower_is_better}
            claim = dataclasses.replace(claim, **primary)
        datasets = dict.fromkeys(self.settings[name].dataset for name in ("small", "full"))
        return claim if claim.datasets else dataclasses.replace(claim, datasets=tuple(datasets))

    def _spaces(self, search: dict | Callable | None) -> dict[str, space.Space]:
        """Arm -> its search space, without the arguments that the arm sets."""
        if callable(search):
            search = space.of_build(search)
        search = search or {}
        if not all(name in self.arms for name in search):
            search = dict.fromkeys(self.arms, search)
        spaces = {}
        for arm, searched in search.items():
            searched = space.of_build(searched) if callable(searched) else searched
            searched = self._checked_space(f"the search of arm {arm!r}", searched)
            free = {name: entry for name, entry in searched.items() if name not in self.arms[arm]}
            if free:
                spaces[arm] = free
        return spaces

    def _checked_space(self, where: str, entries: space.Space) -> space.Space:
        """The entries unchanged. Raises `Misuse` for one that is no range or choice, or holds values that JSON would change."""
        wrong = [value for value in entries.values() if not isinstance(value, space.Range | space.Choice)]
        if wrong:
            raise Misuse(f"{self.name}: a search takes log_range, linear_range or choice. Received: {wrong[0]!r}")
        for name, entry in entries.items():
            numbers = [entry.low, entry.high, *entry.limits] if isinstance(entry, space.Range) else entry.values
            for value in (*numbers, entry.default):
                self._refuse_changed(where, name, value)
        return entries

    @property
    def first(self) -> str:
        """Name of the first arm, on which the shared space is searched."""
        return next(iter(self.arms))

    def shared_by(self, arm: str) -> space.Space:
        """The part of the shared space that an arm neither sets nor searches separately."""
        separate = {*self.arms[arm], *self.search.get(arm, ())}
        return {name: entry for name, entry in self.shared.items() if name not in separate}

    def spaces(self, rate: float | None = None) -> dict[str, space.Space]:
        """Arm -> the space searched on it, the shared one on the first arm.

        Args:
            rate: the user's learning rate, which is then not searched.
        """
        searched = ({self.first: self.shared} if self.shared else {}) | self.search
        if rate is None:
            return searched
        without = {arm: {n: entry for n, entry in one.items() if n != "learning_rate"} for arm, one in searched.items()}
        return {arm: one for arm, one in without.items() if one}

    def searched_by(self, arm: str) -> space.Space:
        """The space of all searched arguments of an arm, shared or separate."""
        return self.shared_by(arm) | self.search.get(arm, {})

    @property
    def question(self) -> str:
        """The question: the docstring's first line without its number."""
        return self.doc.partition("\n")[0].partition(": ")[2]

    def arguments(self, arm: str) -> dict:
        """The arguments of `train` that the arm sets."""
        return {key: value for key, value in self.arms[arm].items() if key not in FIELDS}

    def select(
        self,
        name: str | None = None,
        overrides: dict | None = None,
        *,
        rate: float | None = None,
        smoke: bool = False,
        debug: bool = False,
    ) -> Selected:
        """The setting that a call uses, with the user's overrides. Raises `Misuse`.

        Args:
            name: one of `NAMES`. By default the first setting that declares the dataset of `overrides`, the small one if none
                does, and the quick one without a dataset.
            overrides: fields of `Setting` -> the user's values.
            rate, smoke, debug: see `Selected`.
        """
        overrides = overrides or {}
        if name is None:
            dataset = overrides.get("dataset", self.settings["quick"].dataset)
            name = next((name for name, setting in self.settings.items() if setting.dataset == dataset), "small")
        if rate is not None and not self.searches_rate:
            raise Misuse(
                f"{self.name}: RATE replaces a searched learning rate, and this experiment searches none. Received: {rate:g}"
            )
        return Selected(name, self.settings[name], overrides, rate, smoke, debug)

    @property
    def searches_rate(self) -> bool:
        """Whether any arm searches its learning rate, so that RATE can replace it."""
        return any("learning_rate" in self.searched_by(arm) for arm in self.arms)

    def arm_setting(self, arm: str, setting: Setting, selected: Selected) -> Setting:
        """The setting with the fields that the arm sets and the user does not override. Raises `Misuse`.

        An arm's epochs keep their ratio to the declared ones where the user overrides these; a `train_size` below 1 is a share
        of the setting's training images. A smoke run overrides both for all arms.

        Args:
            setting: the selected setting, its training size reduced to the images that there are.
        """
        declared = {name: value for name, value in self.arms[arm].items() if name in FIELDS}
        fields = {name: value for name, value in declared.items() if name not in selected.overrides}
        if selected.smoke:
            fields = {name: value for name, value in fields.items() if name not in SMOKE}
        elif "epochs" in declared and "epochs" in selected.overrides:
            fields["epochs"] = max(round(declared["epochs"] * setting.epochs / selected.declared.epochs), 1)
        share = declared.get("train_size")
        if isinstance(share, float) and not selected.smoke:
            fields["train_size"] = max(round(share * setting.train_size), 1) if setting.train_size else share
        return setting.replace(**fields)

    def declare(self, selected: Selected) -> dict:
        """The declaration as plain values, which is written beside the rows."""
        task = {} if self.task is tasks.classification else {"task": self.task.declare()}
        return task | {
            "experiment": self.name,
            "doc": self.doc,
            "question": self.question,
            "arms": self.arms,
            "search": {arm: space.to_json(one) for arm, one in self.spaces(selected.rate).items()},
            "baseline": self.baseline,
            "seeds": 1 if selected.tests_code else self.seeds,
            "setting_name": selected.name,
            "demonstration": selected.demonstration(self.arms.values()),
            "setting": dataclasses.asdict(selected.setting),
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "figures": list(self.figures),
        }

    def main(self) -> None:
        """Run the command line on this script, in place of this process.

        Raises:
            Misuse: the script is imported, not run.
        """
        if self.module != "__main__":
            raise Misuse(
                f'{self.name}: experiment.main() replaces the process: put it below if __name__ == "__main__":. '
                f"Received: a call while {self.module} is imported"
            )
        paths = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [sys.executable, "-P", "-X", "utf8", "-m", COMMAND_LINE, str(self.path), *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": paths})

    def _check_kinds(self, setting: Setting, quick: Setting | None, small: Setting | None, claims: Sequence[Claim]) -> None:
        """Raises `Misuse` for an argument of a wrong type, or a `train` that does not take a trial."""
        arms = self.arms
        if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
            raise Misuse(
                f'{self.name}: arms must be a dict of dicts: {{"baseline": {{}}, "b": {{"l2": 1e-4}}}}. Received: {arms!r}'
            )
        for name, given in (("setting", setting), ("quick", quick), ("small", small)):
            if not isinstance(given, Setting) and (given is not None or name == "setting"):
                raise Misuse(f'{self.name}: {name} must be a Setting: Setting("digits", epochs=20). Received: {given!r}')
        if not isinstance(claims, list | tuple) or not all(isinstance(claim, Claim) for claim in claims):
            raise Misuse(f"{self.name}: claims must be a list of Claim(…). Received: {claims!r}")
        if not isinstance(self.task, tasks.Task):
            names = [name for name, task in vars(tasks).items() if isinstance(task, tasks.Task)]
            raise Misuse(
                f"{self.name}: task must be one of common.tasks. Received: {self.task!r}{did_you_mean(self.task, names)}"
            )
        first = next(iter(inspect.signature(self.train).parameters.values()), None)
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            received = f"def {self.train.__name__}{inspect.signature(self.train)}"
            raise Misuse(f"{self.name}: train must take the trial first: def train(trial, *, l2). Received: {received}")

    def _check_names(self) -> None:
        """Raises `Misuse` for values that JSON would change, a missing baseline, or names that files cannot tell apart."""
        for arm, values in self.arms.items():
            for name, value in values.items():
                listed = list(value) if name in LISTED and isinstance(value, tuple) else value
                self._refuse_changed(f"arm {arm!r}", name, listed)
        for setting in self.settings.values():
            for name, value in vars(setting).items():
                self._refuse_changed("a setting", name, list(value) if name in LISTED and value is not None else value)
        if self.baseline is not None and next(iter(self.arms), None) != self.baseline:
            raise Misuse(
                f"{self.name}: the first arm must be the baseline: call it {self.baseline!r}, or set Experiment(baseline=…) to "
                "its name, or to None if the arms are not compared. Received: "
                f"{next(iter(self.arms), 'no arm')!r}"
            )
        if len({file_name(arm) for arm in self.arms}) < len(self.arms) or set(self.arms) & set(READ_AS_MISSING):
            raise Misuse(
                f"{self.name}: arm names must differ in more than punctuation, and pandas must not read them as missing. "
                f"Received: {list(self.arms)}"
            )
        numbers = [arm for arm in self.arms if _is_number(arm)]
        if numbers:
            raise Misuse(f"{self.name}: an arm's name must not be a number. Received: {numbers[0]!r}")

    def _refuse_changed(self, where: str, name: str, value) -> None:
        """Raises `Misuse` for a value that JSON, in which workers receive it, would change."""
        changed = _changed(value)
        if changed:
            part, remedy = changed
            inside = "" if part is value else f" in {value!r}"
            raise Misuse(
                f"{self.name}: {where} must hold plain values, which are sent to the workers as JSON: for {name} {remedy}. "
                f"Received: {part!r}{inside}"
            )

    def _check(self, tuner: str | dict[str, str]) -> None:
        """Raises `Misuse` where seeds, search, figures, arms or claims do not fit."""
        if self.seeds < 1:
            raise Misuse(f"{self.name}: seeds must be at least 1. Received: {self.seeds}")
        unknown = [tuner for tuner in self.tuner.values() if tuner not in TUNERS]
        if unknown or set(self.tuner) != set(self.search):
            hint = did_you_mean(unknown[0], TUNERS) if unknown else ""
            raise Misuse(
                f"{self.name}: tuner must be one of {', '.join(TUNERS)}, or a dict with one for each searched arm. "
                f"Received: {self.tuner}{hint}"
            )
        if self.shared and (self.first in self.search or self.shared_by(self.first) != self.shared):
            raise Misuse(
                f"{self.name}: the first arm, on which the shared search runs, must neither set its arguments nor have "
                f"a separate search: put another arm first. Received: {self.first!r}"
            )
        if self.shared and not self.search and tuner != "grid":
            raise Misuse(
                f"{self.name}: a shared search uses the grid: tuner is for arms with a separate search. Received: tuner={tuner!r}"
            )
        if self.points < 1:
            raise Misuse(f"{self.name}: points must be at least 1. Received: {self.points}")
        unknown = [kind for kind in self.figures if kind not in FIGURES]
        if unknown:
            raise Misuse(
                f"{self.name}: figures must be among {', '.join(FIGURES)}. "
                f"Received: {unknown[0]!r}{did_you_mean(unknown[0], FIGURES)}"
            )
        parameters = list(inspect.signature(self.train).parameters.values())[1:]
        both = [p.name for p in parameters if p.name in FIELDS]
        if both:
            raise Misuse(f"{self.name}: an argument of train must not be called like a field of Setting. Received: {both[0]!r}")
        names = [parameter.name for parameter in parameters]
        for arm in self.arms:
            arguments = self.arguments(arm) | space.defaults(self.searched_by(arm))
            try:
                inspect.signature(self.train).bind(None, **arguments)
            except TypeError as error:
                hint = did_you_mean(next((name for name in arguments if name not in names), ""), [*names, *FIELDS])
                raise Misuse(f"{self.name}: arm {arm!r} does not fit train(): {error}{hint}") from None
            for name in self.settings:
                selected = self.select(name)
                self.arm_setting(arm, selected.setting, selected)
        ids = [claim.id for claim in self.claims]
        doubled = [one for one in ids if ids.count(one) > 1]
        if doubled:
            raise Misuse(f"{self.name}: the ids of claims must be unique. Received twice: {doubled[0]!r}")
        for claim in self.claims:
            missing = [arm for arm in claim.arms if arm not in self.arms]
            if missing:
                raise Misuse(
                    f"{self.name}: a claim must name arms of the experiment: {claim.text!r}. "
                    f"Received: {missing[0]!r}{did_you_mean(missing[0], self.arms)}"
                )


def _changed(value) -> tuple | None:
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


def _globals(train: Callable) -> dict:
    """The global names of the script that defines a function. Raises `Misuse` for what is not a function defined in a file."""
    names = getattr(inspect.unwrap(train), "__globals__", {})
    if "__file__" not in names or not hasattr(train, "__name__"):
        raise Misuse(f"train must be a function, defined with def in the experiment's script. Received: {train!r}")
    return names


def _docstring(path: pathlib.Path) -> str:
    """The docstring read from a script's file, as PYTHONOPTIMIZE=2 drops it from the module; blank if there is none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if sys.flags.optimize > 1 else ""


def _refuse_to_end(name: str) -> None:
    """End a script that was run without `experiment.main()` with one line on stderr and the status of a misuse."""
    if hasattr(sys, "last_value") or hasattr(sys, "ps1") or sys.flags.interactive:
        return  # an exception has been printed, or the session is interactive
    print(f'{name}: nothing was run: end the script with if __name__ == "__main__": experiment.main()', file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Misuse.status)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
