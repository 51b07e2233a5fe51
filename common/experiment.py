"""`Experiment`, `Setting` and `Claim`: the declarations of a script."""

import ast
import atexit
import dataclasses
import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from common import declarations, searches, space, tasks
from common.claims import Claim
from common.errors import Misuse
from common.files import PROJECT
from common.setting import FIELDS, LARGEST_MARGINS, NAMES, SHORT, SMOKE, Selected, Setting, small_of
from common.space import shared  # noqa: F401  for scripts
from common.text import without_found

COMMAND_LINE = "common.commands.run"
"""The module that runs a script with its options, in the same process but another program."""
SWEEP_TUNER = "halton"
"""The search algorithm of arms that only a sweep searches."""


class Experiment:
    """One numbered script: its question, its arms and the function that trains one of them.

    Args:
        train: f(trial, **arguments) -> predictor; defined in the script.
        arms: name -> arguments of `train` and fields of `Setting`, as plain values. `epochs` as a float are a multiple of the
            setting's, a `train_size` below 1 is a share of the setting's.
        setting: the full setting, for a GPU.
        quick: the setting used by default, which takes minutes; by default the full one.
        small: the setting whose verdicts are published, real images on two cores; by default the full one, reduced
            to `common.setting.SMALL`.
        claims: see `Claim`.
        datasets: the datasets that the claims are about, by default those of the small and the full setting.
        seeds: number of seeds trained by default.
        baseline: name of the first arm, with which the others are compared; None if the arms are not compared.
        search: arguments of `train` to search for each arm: name -> range (see `common.space`), arm -> such a dict, or a
            function `build(hp)` as for keras-tuner; or `shared(learning_rate=…)`, searched once on the first arm for all
            arms. An argument that an arm sets is not searched.
        tuner: the search algorithm, one of `declarations.TUNERS`, or arm -> algorithm. By default a grid, extended until the
            best points are not at its edge.
        points: number of points per arm, for tuners other than the grid.
        search_per_seed: whether each seed of an arm with such a tuner is trained with the values of a search of its own, because
            the arm stands for the search.
        sweep: further arms, which `make sweep-NN` alone searches: name -> arguments of `train` and fields of `Setting`, some of
            them as ranges; what `search` declares for all arms is searched with these. Or the reason, in one line, why there is
            nothing to search.
        task: the learning task; see `common.tasks`.
        alone: whether trials run one at a time, as claims about seconds require.
        figures: additional figures, of `declarations.FIGURES`.
        about: the metrics that the question is about, where they are others than that of the first claim. The experiment's answer
            is the verdict on the first claim about each of them.

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
        datasets: Sequence[str] = (),
        seeds: int = 5,
        baseline: str | None = "baseline",
        search: dict | Callable | space.Shared | None = None,
        tuner: str | dict[str, str] = "grid",
        points: int = 16,
        search_per_seed: bool = False,
        sweep: dict[str, dict] | str | None = None,
        task: tasks.Task = tasks.classification,
        alone: bool = False,
        figures: Sequence[str] = (),
        about: Sequence[str] = (),
    ):
        self.task, self.alone = task, alone
        self.train, self.arms = train, arms
        script = declarations.globals_of(train)
        self.path = pathlib.Path(script["__file__"]).resolve()
        self.name = self.path.stem
        self.doc = without_found(inspect.cleandoc(script["__doc__"] or _docstring(self.path))).rstrip()
        self.module = script["__name__"]
        if self.module == "__main__":  # `main` replaces the process by the command line, which checks the declaration
            atexit.register(_refuse_to_end, self.name)
            return
        self._check_types(setting, quick, small, claims)
        declarations.require_list_of_datasets(self.name, datasets)
        self.settings = dict(zip(NAMES, (quick or setting, small_of(setting, small), setting), strict=True))
        """Setting by its name, one of `NAMES`."""
        self.seeds, self.baseline, self.figures = seeds, baseline, tuple(figures)
        claimed = tuple(datasets) or tuple(dict.fromkeys(self.settings[name].dataset for name in ("small", "full")))
        self.claims = tuple(self._completed(claim, claimed) for claim in claims)
        self.about = tuple(about) or tuple(claim.metric for claim in self.claims[:1])
        self._check_names()
        self.shared = search.space if isinstance(search, space.Shared) else {}
        """The space searched on the first arm for all arms."""
        declarations.require_plain_space(self.name, "the shared search", self.shared)
        separate = searches.of_arms(self.name, arms, search)
        self.tuner = tuner if isinstance(tuner, dict) else dict.fromkeys(separate, tuner)
        declarations.require_tuner_per_search(self.name, self.tuner, separate)
        declarations.require_grid_for_shared(self.name, self.shared, separate, tuner)
        declarations.require_tuner_per_seed(self.name, search_per_seed, self.tuner)
        declarations.require_sweep(self.name, sweep, bool(self.shared or separate))
        self.unsearched = sweep if isinstance(sweep, str) else ""
        """Why there is nothing to search; empty if there is, or if the script does not say."""
        self.swept, ranges = searches.of_sweep(self.name, arms, search, sweep)
        """Arm that only a sweep searches -> what it sets."""
        self.search = separate | ranges
        """Arm -> the space searched for that arm alone, also of the arms that only a sweep searches."""
        self.tuner = self.tuner | dict.fromkeys(self.swept, SWEEP_TUNER)
        self.points, self.search_per_seed = points, search_per_seed
        self._check_fit()

    def _completed(self, claim: Claim, datasets: tuple[str, ...]) -> Claim:
        """The claim with its defaults: the task's primary metric, and the datasets of its arms or else the given ones."""
        if claim.metric is None:
            primary = {"metric": f"test_{self.task.metric}", "lower_is_better": self.task.lower_is_better}
            claim = dataclasses.replace(claim, **primary)
        of_arms = [self.arms[arm]["dataset"] for arm in claim.arms if "dataset" in self.arms.get(arm, {})]
        return claim if claim.datasets else dataclasses.replace(claim, datasets=tuple(dict.fromkeys(of_arms)) or datasets)

    @property
    def all_arms(self) -> dict[str, dict]:
        """The arms that are trained, and those that only a sweep searches."""
        return self.arms | self.swept

    @property
    def first(self) -> str:
        """Name of the first arm, on which the shared space is searched."""
        return next(iter(self.arms))

    def shared_by(self, arm: str) -> space.Space:
        """The part of the shared space that an arm neither sets nor searches separately."""
        separate = {*self.all_arms[arm], *self.search.get(arm, ())}
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

    def search_hash(self, arm: str, names: Iterable[str]) -> str:
        """Hash of the spaces of some searched arguments of an arm, the column `search` of its rows."""
        searched = self.searched_by(arm)
        return space.space_hash({name: searched[name] for name in names})

    def searched_by(self, arm: str) -> space.Space:
        """The space of all searched arguments of an arm, shared or separate."""
        return self.shared_by(arm) | self.search.get(arm, {})

    @property
    def question(self) -> str:
        """The question: the docstring's first line without its number."""
        return self.doc.partition("\n")[0].partition(": ")[2]

    def arguments(self, arm: str) -> dict:
        """The arguments of `train` that the arm sets."""
        return {key: value for key, value in self.all_arms[arm].items() if key not in FIELDS}

    def fields(self, arm: str, selected: Selected) -> dict:
        """The fields of `Setting` that the arm sets, which hold whatever the user sets for the others.

        Only its dataset an arm does not choose if the user does, and in the quick setting, where all share that of the setting.
        """
        shares_dataset = selected.name == "quick" or "dataset" in selected.overrides
        left_out = ("dataset",) if shares_dataset else ()
        return {name: value for name, value in self.all_arms[arm].items() if name in FIELDS and name not in left_out}

    def datasets(self, selected: Selected) -> list[str]:
        """The datasets of all arms, in the order of the arms."""
        return list(dict.fromkeys(self._dataset(arm, selected) for arm in self.arms))

    def _dataset(self, arm: str, selected: Selected) -> str:
        """The dataset of an arm."""
        return self.fields(arm, selected).get("dataset", selected.setting.dataset)

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
        selected = Selected(name, self.settings[name], overrides, rate, smoke, debug)
        self._check_effect(selected)
        return selected

    def _check_effect(self, selected: Selected) -> None:
        """Raise `Misuse` for an override that has no effect, as each arm sets the field; epochs and shares follow the user's."""
        of_arms = [self.fields(arm, selected) for arm in self.arms]
        for name, value in selected.overrides.items():
            shares = name == "train_size" and any(isinstance(fields.get(name), float) for fields in of_arms)
            relative = name == "epochs" or shares or (selected.smoke and name in SMOKE)
            if not relative and all(name in fields for fields in of_arms):
                if name == "replicas" and "workers" in selected.overrides:
                    raise Misuse(f"{self.name}: each arm sets its replicas: leave WORKERS out. Received: WORKERS={value}")
                lost = f"each arm sets its {name}, so {SHORT.get(name, name).upper()} has no effect"
                raise Misuse(f"{self.name}: {lost}: leave it out. Received: {value!r}")

    @property
    def searches_rate(self) -> bool:
        """Whether any arm searches its learning rate, so that RATE can replace it."""
        return any("learning_rate" in self.searched_by(arm) for arm in self.arms)

    def arm_setting(self, arm: str, setting: Setting, selected: Selected) -> Setting:
        """The setting with the fields that the arm sets, see `fields`. Raises `Misuse`.

        An arm's epochs as an int keep their ratio to the declared ones where the user overrides these. A smoke run sets epochs
        and `train_size` for all arms.

        Args:
            setting: the selected setting, its training size reduced to the images that there are.
        """
        declared, fields = self.all_arms[arm], self.fields(arm, selected)
        if selected.smoke:
            fields = {name: value for name, value in fields.items() if name not in SMOKE}
        elif "epochs" in declared:
            fields["epochs"] = self._epochs(declared["epochs"], setting.epochs, selected)
        share = declared.get("train_size")
        if isinstance(share, float) and not 0 < share <= 1:
            raise Misuse(
                f"{self.name}: an arm's train_size must be a whole number, or as a float a share of the setting's, above 0 and "
                f"at most 1. Received: {share!r}"
            )
        if isinstance(share, float) and not selected.smoke:
            fields["train_size"] = max(round(share * setting.train_size), 1) if setting.train_size else share
        return setting.replace(**fields)

    def _epochs(self, of_arm: int | float, epochs: int, selected: Selected) -> int:
        """The epochs of an arm that sets them, in a setting with a number of epochs. Raises `Misuse`."""
        if isinstance(of_arm, float):
            if of_arm <= 0:
                raise Misuse(
                    f"{self.name}: an arm's epochs must be a whole number, or as a float a multiple of the setting's, above 0. "
                    f"Received: {of_arm!r}"
                )
            return max(round(of_arm * epochs), 1)
        if isinstance(of_arm, int) and "epochs" in selected.overrides:
            return max(round(of_arm * epochs / selected.declared.epochs), 1)
        return of_arm

    def declare(self, selected: Selected) -> dict:
        """The declaration as plain values, which is written beside the rows."""
        task = {} if self.task is tasks.classification else {"task": self.task.declare()}
        datasets = {arm: self._dataset(arm, selected) for arm in self.arms}
        claims = [claim.with_margins_up_to(LARGEST_MARGINS.get(datasets[claim.arms[0]])) for claim in self.claims]
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
            "claims": [dataclasses.asdict(claim) for claim in claims],
            "about": list(self.about),
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

    def _check_types(self, setting: Setting, quick: Setting | None, small: Setting | None, claims: Sequence[Claim]) -> None:
        """Raises `Misuse` for an argument of a wrong type, or a `train` that does not take a trial."""
        declarations.require_dict_of_arms(self.name, self.arms)
        declarations.require_settings(self.name, setting=setting, quick=quick, small=small)
        declarations.require_list_of_claims(self.name, claims)
        declarations.require_task(self.name, self.task)
        declarations.require_trial_first(self.name, self.train)

    def _check_names(self) -> None:
        """Raises `Misuse` for values that JSON would change, a missing baseline, or names that files cannot tell apart."""
        declarations.require_plain_arms(self.name, self.arms)
        declarations.require_plain_settings(self.name, self.settings)
        declarations.require_baseline_first(self.name, self.arms, self.baseline)

    def _check_fit(self) -> None:
        """Raises `Misuse` where seeds, search, figures, arms or claims do not fit."""
        declarations.require_at_least_one(self.name, seeds=self.seeds)
        declarations.require_first_arm_shares(self.name, self.arms, self.shared, self.search)
        declarations.require_at_least_one(self.name, points=self.points)
        declarations.require_known_figures(self.name, self.figures)
        declarations.require_no_field_as_argument(self.name, self.train)
        declarations.require_distinct_names(self.name, self.all_arms)
        for arm in self.all_arms:
            values, fields = space.defaults(self.searched_by(arm)), FIELDS if arm in self.swept else ()
            arguments = self.arguments(arm) | {name: value for name, value in values.items() if name not in fields}
            declarations.require_accepted(self.name, self.train, arm, arguments)
            for selected in map(self.select, self.settings):
                self.arm_setting(arm, selected.setting, selected)
        declarations.require_unique_ids(self.name, self.claims)
        declarations.require_claims_about_arms(self.name, self.claims, self.arms)
        declarations.require_claims_on_one_dataset(self.name, self.claims, self.arms)
        declarations.require_claims_about_question(self.name, self.claims, self.about)
        declarations.require_gaps_of_fractions(self.name, self.claims, self.task)


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
