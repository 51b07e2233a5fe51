"""`Experiment`, `Setting` and `Claim`: what a script declares."""

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
from common.space import shared  # noqa: F401  which scripts import from here
from common.text import file_name

COMMAND_LINE = "common.commands.run"
"""The module that is run with a script and its options. Nothing here imports it."""
TUNERS = ("grid", "halton", "random", "bayesian", "hyperband")
FIGURES = ("steps", "mistakes")
"""Kinds of figures that are drawn only where an experiment names them: updates to a target (also drawn for claims about one), and
the test images that are most confidently mistaken."""
LISTED = ("vary", "classes")
"""Fields of `Setting` that are tuples there, and lists in an arm or a row."""
READ_AS_MISSING = ("NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "")
"""Arm names that pandas would take for a missing value."""


class Experiment:
    """One numbered script: a question, its arms and how one of them is trained.

    Args:
        train: f(trial, **arguments) -> predictor; defined in the script.
        arms: name -> what it changes: arguments of `train` and fields of `Setting`, plain values.
        setting: the experiment's full one, for a GPU.
        quick: one that ends within minutes, used by default; by default the full one.
        small: real images on two cores, from which verdicts are published; by default the full one on CIFAR-10, cut down to
            `common.setting.SMALL`.
        claims: see `Claim`.
        seeds: how many, by default.
        baseline: the first arm, which the others are compared with; None where nothing is compared.
        search: arguments of `train` that are searched, each arm for itself: name -> range (see `common.space`), or the same
            per arm, or a function `build(hp)` as written for keras-tuner; or `shared(learning_rate=…)`, searched once on the
            first arm and given to all. An arm that sets an argument itself keeps it.
        tuner: how, one of `TUNERS`; per arm where they differ. By default all points of a grid, which grows until the best
            ones lie inside.
        points: how many an arm, where the tuner is not the grid.
        task: what is learned; see `common.tasks`.
        alone: whether trials run one at a time, which claims about seconds need.
        figures: kinds to draw besides those that fit any experiment, among `FIGURES`.

    Raises:
        Misuse: arms that `train` cannot take, claims about arms that are not there, or two claims of one id.
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
        if self.module == "__main__":  # `main` hands over to the command line, where a mistake is one line
            atexit.register(_refuse_to_end, self.name)
            return
        self._check_kinds(setting, quick, small, claims)
        self.settings = dict(zip(NAMES, (quick or setting, small or small_of(setting), setting), strict=True))
        """By name."""
        self.seeds, self.baseline, self.figures = seeds, baseline, tuple(figures)
        self.claims = tuple(self._completed(claim) for claim in claims)
        self._check_names()
        apart = search if isinstance(search, space.Shared) else space.Shared({}, search)
        self.shared = self._checked_space("the shared search", apart.space)
        """What is searched on the first arm for all of them."""
        self.search = self._spaces(apart.arms)
        """Space of each arm that is searched for itself."""
        self.tuner = tuner if isinstance(tuner, dict) else dict.fromkeys(self.search, tuner)
        self.points = points
        self._check(tuner)

    def _completed(self, claim: Claim) -> Claim:
        """The claim with what follows from the experiment: the datasets that decide, and the task's primary metric."""
        if claim.metric is None:
            primary = {"metric": f"test_{self.task.metric}", "lower_is_better": self.task.lower_is_better}
            claim = dataclasses.replace(claim, **primary)
        datasets = dict.fromkeys(self.settings[name].dataset for name in ("small", "full"))
        return claim if claim.datasets else dataclasses.replace(claim, datasets=tuple(datasets))

    def _spaces(self, search: dict | Callable | None) -> dict[str, space.Space]:
        if callable(search):
            search = space.of_build(search)
        search = search or {}
        if not all(name in self.arms for name in search):
            search = dict.fromkeys(self.arms, search)
        spaces = {}
        for arm, searched in search.items():
            searched = space.of_build(searched) if callable(searched) else searched
            searched = self._checked_space(f"the search of arm {arm!r}", searched)
            own = {name: entry for name, entry in searched.items() if name not in self.arms[arm]}
            if own:
                spaces[arm] = own
        return spaces

    def _checked_space(self, where: str, entries: space.Space) -> space.Space:
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
        """The first arm, on which what all arms share is searched."""
        return next(iter(self.arms))

    def shared_by(self, arm: str) -> space.Space:
        """What an arm takes from the shared search: all of it but what the arm sets, or searches for itself."""
        own = {*self.arms[arm], *self.search.get(arm, ())}
        return {name: entry for name, entry in self.shared.items() if name not in own}

    def spaces(self, rate: float | None = None) -> dict[str, space.Space]:
        """What is searched on each arm, on the first what all share; without the learning rate where the user has set one."""
        searched = ({self.first: self.shared} if self.shared else {}) | self.search
        if rate is None:
            return searched
        without = {arm: {n: entry for n, entry in own.items() if n != "learning_rate"} for arm, own in searched.items()}
        return {arm: own for arm, own in without.items() if own}

    def searched_by(self, arm: str) -> space.Space:
        """All arguments of an arm that a search gives it, its own or the shared one."""
        return self.shared_by(arm) | self.search.get(arm, {})

    @property
    def question(self) -> str:
        """What the docstring's first line asks, without its number."""
        return self.doc.partition("\n")[0].partition(": ")[2]

    def arguments(self, arm: str) -> dict:
        """What the arm hands to `train`."""
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
        """One of its settings with what the user overrides, a learning rate included. Raises `Misuse`.

        Without a name it is the quick one; for a dataset that the user names the first that declares it, else the small one.
        """
        overrides = overrides or {}
        if name is None:
            dataset = overrides.get("dataset", self.settings["quick"].dataset)
            name = next((name for name, setting in self.settings.items() if setting.dataset == dataset), "small")
        if rate is not None and not any("learning_rate" in self.searched_by(arm) for arm in self.arms):
            raise Misuse(
                f"{self.name}: RATE takes the place of a learning rate that is searched: there is none. Received: {rate:g}"
            )
        return Selected(name, self.settings[name], overrides, rate, smoke, debug)

    def arm_setting(self, arm: str, setting: Setting, selected: Selected) -> Setting:
        """The setting, which is the selected one as far as the data allow, with the arm's own fields where the user set none.

        Epochs of an arm's own keep their ratio to the declared ones, as what it is about is how much longer it trains; a share
        of the images is one of those that the setting trains on. A smoke run sets both for all arms.
        """
        own = {name: value for name, value in self.arms[arm].items() if name in FIELDS}
        fields = {name: value for name, value in own.items() if name not in selected.overrides}
        if selected.smoke:
            fields = {name: value for name, value in fields.items() if name not in SMOKE}
        elif "epochs" in own and "epochs" in selected.overrides:
            fields["epochs"] = max(round(own["epochs"] * setting.epochs / selected.declared.epochs), 1)
        share = own.get("train_size")
        if isinstance(share, float) and not selected.smoke:
            fields["train_size"] = max(round(share * setting.train_size), 1) if setting.train_size else share
        return setting.replace(**fields)

    def declare(self, selected: Selected) -> dict:
        """The declaration, as plain values, for what only reads rows."""
        task = {} if self.task is tasks.classification else {"task": self.task.declare()}
        return task | {
            "experiment": self.name,
            "doc": self.doc,
            "question": self.question,
            "arms": self.arms,
            "search": {arm: space.to_json(own) for arm, own in self.spaces(selected.rate).items()},
            "baseline": self.baseline,
            "seeds": 1 if selected.tests_code else self.seeds,
            "setting_name": selected.name,
            "demonstration": selected.demonstration(self.arms.values()),
            "setting": dataclasses.asdict(selected.setting),
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "figures": list(self.figures),
        }

    def main(self) -> None:
        """Give the process to the project's command line, which reads the script anew and without Keras.

        Raises:
            Misuse: the script is not what runs, but is being read, or imported by a worker or another module.
        """
        if self.module != "__main__":
            raise Misuse(
                f'{self.name}: experiment.main() takes over the process: put it below if __name__ == "__main__":. '
                f"Received: a call while {self.module} is imported"
            )
        paths = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [sys.executable, "-P", "-X", "utf8", "-m", COMMAND_LINE, str(self.path), *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": paths})

    def _check_kinds(self, setting: Setting, quick: Setting | None, small: Setting | None, claims: Sequence[Claim]) -> None:
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
            raise Misuse(f"{self.name}: task must be one of common.tasks. Received: {self.task!r}")
        first = next(iter(inspect.signature(self.train).parameters.values()), None)
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            received = f"def {self.train.__name__}{inspect.signature(self.train)}"
            raise Misuse(f"{self.name}: train takes the trial first: def train(trial, *, l2). Received: {received}")

    def _check_names(self) -> None:
        for arm, own in self.arms.items():
            for name, value in own.items():
                listed = list(value) if name in LISTED and isinstance(value, tuple) else value
                self._refuse_changed(f"arm {arm!r}", name, listed)
        for setting in self.settings.values():
            for name, value in vars(setting).items():
                self._refuse_changed("a setting", name, list(value) if name in LISTED and value is not None else value)
        if self.baseline is not None and next(iter(self.arms), None) != self.baseline:
            raise Misuse(
                f"{self.name}: the first arm is what the others are compared with: call it {self.baseline!r}, or say "
                "Experiment(baseline=…), with its name or None where nothing is compared. Received: "
                f"{next(iter(self.arms), 'no arm')!r}"
            )
        if len({file_name(arm) for arm in self.arms}) < len(self.arms) or set(self.arms) & set(READ_AS_MISSING):
            raise Misuse(
                f"{self.name}: arm names must differ in more than punctuation, and not read as missing: {list(self.arms)}"
            )
        numbers = [arm for arm in self.arms if _is_number(arm)]
        if numbers:
            raise Misuse(f"{self.name}: an arm's name must not be a number. Received: {numbers[0]!r}")

    def _refuse_changed(self, where: str, name: str, value) -> None:
        """Raises `Misuse` for a value that would reach a worker as another one."""
        found = _changed(value)
        if found:
            part, remedy = found
            inside = "" if part is value else f" in {value!r}"
            raise Misuse(
                f"{self.name}: {where} hands over plain values, for JSON takes them to the workers: for {name} {remedy}. "
                f"Received: {part!r}{inside}"
            )

    def _check(self, tuner: str | dict[str, str]) -> None:
        if self.seeds < 1:
            raise Misuse(f"{self.name}: seeds must be at least 1. Received: {self.seeds}")
        wrong = [tuner for arm, tuner in self.tuner.items() if tuner not in TUNERS or arm not in self.search]
        if wrong or set(self.tuner) != set(self.search):
            raise Misuse(
                f"{self.name}: tuner must be one of {', '.join(TUNERS)}, or that of each searched arm. Received: {self.tuner}"
            )
        if self.shared and (self.first in self.search or self.shared_by(self.first) != self.shared):
            raise Misuse(
                f"{self.name}: what all arms share is searched on the first, which can neither set it nor search for itself: "
                f"move another arm to the front. Received: {self.first!r}"
            )
        if self.shared and not self.search and tuner != "grid":
            raise Misuse(
                f"{self.name}: what all arms share is searched on a grid: tuner is that of arms that search for themselves. "
                f"Received: tuner={tuner!r}"
            )
        if self.points < 1:
            raise Misuse(f"{self.name}: points must be at least 1. Received: {self.points}")
        unknown = [kind for kind in self.figures if kind not in FIGURES]
        if unknown:
            raise Misuse(f"{self.name}: figures must be among {', '.join(FIGURES)}. Received: {unknown[0]!r}")
        parameters = list(inspect.signature(self.train).parameters.values())[1:]
        both = [p.name for p in parameters if p.name in FIELDS]
        if both:
            raise Misuse(f"{self.name}: {both[0]!r} is a field of Setting and cannot be an argument of train as well")
        for arm in self.arms:
            try:
                inspect.signature(self.train).bind(None, **self.arguments(arm), **space.defaults(self.searched_by(arm)))
            except TypeError as error:
                raise Misuse(f"{self.name}: arm {arm!r} does not fit train(): {error}") from None
            for name in self.settings:
                selected = self.select(name)
                self.arm_setting(arm, selected.setting, selected)
        ids = [claim.id for claim in self.claims]
        doubled = [one for one in ids if ids.count(one) > 1]
        if doubled:
            raise Misuse(f"{self.name}: each claim must have an id of its own. Received twice: {doubled[0]!r}")
        for claim in self.claims:
            missing = [arm for arm in claim.arms if arm not in self.arms]
            if missing:
                raise Misuse(f"{self.name}: claim {claim.text!r} names an arm that is not there: {missing[0]!r}")


def _changed(value) -> tuple | None:
    """The first part of a value that JSON does not give back as it is, and what to write instead; None for a plain value."""
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
    if hasattr(value, "tolist"):  # of NumPy
        return value, "write a plain number or list, as .tolist() gives it"
    return value, "write a number, string, list or dict, and make of it in train what is needed"


def _globals(train: Callable) -> dict:
    """The names of the script that a function is defined in. Raises `Misuse` where it is none, or of no file."""
    names = getattr(inspect.unwrap(train), "__globals__", {})
    if "__file__" not in names or not hasattr(train, "__name__"):
        raise Misuse(f"train must be a function, defined with def in the experiment's script. Received: {train!r}")
    return names


def _docstring(path: pathlib.Path) -> str:
    """That of a script, where Python has left it out (PYTHONOPTIMIZE=2); blank where there is none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if sys.flags.optimize > 1 else ""


def _refuse_to_end(name: str) -> None:
    """End a script that has been run and has trained nothing with one line and the status of a misuse."""
    if hasattr(sys, "last_value") or hasattr(sys, "ps1") or sys.flags.interactive:
        return  # an exception has said what is wrong, or somebody looks around
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
