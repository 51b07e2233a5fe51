"""`Experiment`, `Setting` and `Claim`: what a script declares."""

import dataclasses
import inspect
import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import space, tasks
from common.claims import Claim
from common.data.streams import STREAMS
from common.errors import Misuse
from common.files import PROJECT
from common.text import file_name

COMMAND_LINE = "common.commands.run"
"""The module that is run with a script and its options. Nothing here imports it."""
TUNERS = ("grid", "halton", "random", "bayesian", "hyperband")
FIGURES = ("steps", "mistakes")
"""Kinds of figures that are drawn only where an experiment names them: updates to a target (also drawn for claims about one), and
the test images that are most confidently mistaken."""
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SHORT = {"batch_size": "batch", "train_size": "train", "image_size": "size"}
"""How a field is called in a folder's name and on the command line, where not as it is."""
READ_AS_MISSING = ("NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "")
"""Arm names that pandas would take for a missing value."""


@dataclass(frozen=True)
class Setting:
    """What all arms share, unless an arm names a field itself.

    Args:
        dataset: a name or folder that `data.dataset.load` knows.
        epochs: passes over the train split.
        batch_size: examples per update, over all replicas; None for all there are.
        train_size: examples of the stratified subset to train on, or below 1 their share of all there are; by default all.
        image_size: pixels a side; colour: "grey" or "rgb"; by default the dataset's own.
        precision: Keras dtype policy; with mixed_float16 the loss is scaled, so that small gradients survive.
        threads: CPU threads within an operation. The bits of a result depend on it.
        replicas: devices that share each batch: GPUs, or logical CPU devices where there are none.
        workers: machines that these devices are on, equally many on each; see `TF_CONFIG` in README.
        vary: the random streams that follow the seed; the others stay at seed 0.
        seed_offset: added to the seed of every stream.
        classes: numbers of the classes that are kept; all by default.
        imbalance: how many times as frequent as the last class the first one is in the train split, in a long tail.
        label_noise: share of the labels of train and val that are wrong.
        shifted: whether test images that are brighter, turned, noisy, … are scored as well (see `common.data.corruptions`).
        deterministic: whether TensorFlow's operations are.
        xla: whether updates are compiled by XLA, which determinism would switch off.
    """

    dataset: str
    epochs: int
    batch_size: int | None = 32
    train_size: int | float | None = None
    image_size: int | None = None
    colour: str | None = None
    precision: str = "float32"
    threads: int = 1
    replicas: int = 1
    workers: int = 1
    vary: tuple[str, ...] = STREAMS
    seed_offset: int = 0
    classes: tuple[int, ...] | None = None
    imbalance: float = 1.0
    label_noise: float = 0.0
    shifted: bool = False
    deterministic: bool = True
    xla: bool = False

    def __post_init__(self):
        for name in ("vary", "classes"):
            if isinstance(getattr(self, name), list):  # as it is in an arm, or in a row
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("epochs", "batch_size", "train_size", "image_size", "threads", "replicas", "workers"):
            value = getattr(self, name)
            optional = value is None and name in ("batch_size", "train_size", "image_size")
            share = name == "train_size" and isinstance(value, float) and 0 < value < 1
            if not optional and not share and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise Misuse(f"{name} must be a whole number of at least 1. Received: {value!r}")
        if self.replicas % self.workers:
            raise Misuse(f"replicas must be a multiple of the {self.workers} workers. Received: {self.replicas}")
        if self.colour not in (None, "grey", "rgb"):
            raise Misuse(f"colour must be grey or rgb. Received: {self.colour!r}")
        if self.precision not in PRECISIONS:
            raise Misuse(f"precision must be one of {', '.join(PRECISIONS)}. Received: {self.precision!r}")
        unknown = [stream for stream in self.vary if stream not in STREAMS]
        if unknown:
            raise Misuse(f"vary must name streams among {', '.join(STREAMS)}. Received: {unknown[0]!r}")
        if not self.imbalance >= 1:
            raise Misuse(f"imbalance must be at least 1. Received: {self.imbalance!r}")
        if not 0 <= self.label_noise < 1:
            raise Misuse(f"label_noise must lie between 0 and 1. Received: {self.label_noise!r}")
        if self.classes is not None and (len(set(self.classes)) < len(self.classes) or len(self.classes) < 2):
            raise Misuse(f"classes must be at least two different ones. Received: {self.classes!r}")
        if self.xla and self.deterministic:
            raise Misuse("xla needs deterministic=False: TensorFlow's determinism switches XLA off. Received: xla=True")

    def replace(self, **changes) -> "Setting":
        """A copy with other fields. Raises `Misuse` for an impossible value."""
        return dataclasses.replace(self, **changes)


FIELDS = tuple(field.name for field in dataclasses.fields(Setting))


class Experiment:
    """One numbered script: a question, its arms and how one of them is trained.

    Args:
        train: f(trial, **arguments) -> predictor; defined in the script.
        arms: name -> what it changes: arguments of `train` and fields of `Setting`, plain values.
        setting: the experiment's own; quick: a small one that ends within minutes, used by default.
        claims: see `Claim`.
        seeds: how many, by default.
        baseline: the first arm, which the others are compared with; None where nothing is compared.
        search: arguments of `train` that are searched, each arm for itself: name -> range (see `common.space`), or the same
            per arm, or a function `build(hp)` as written for keras-tuner. An arm that sets an argument itself keeps it.
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
        claims: Sequence[Claim] = (),
        seeds: int = 5,
        baseline: str | None = "baseline",
        search: dict | Callable | None = None,
        tuner: str | dict[str, str] = "grid",
        points: int = 16,
        task: tasks.Task = tasks.classification,
        alone: bool = False,
        figures: Sequence[str] = (),
    ):
        self.task, self.alone = task, alone
        self.train, self.arms, self.setting, self.quick = train, arms, setting, quick or setting
        self.seeds, self.baseline, self.figures = seeds, baseline, tuple(figures)
        self.claims = tuple(self._completed(claim) for claim in claims)
        script = inspect.unwrap(train).__globals__
        self.path = pathlib.Path(script["__file__"]).resolve()
        self.name = self.path.stem
        self.doc = inspect.cleandoc(script["__doc__"] or "")
        self._check_names()
        self.search = self._spaces(search)
        """Space of each arm that is searched."""
        self.tuner = tuner if isinstance(tuner, dict) else dict.fromkeys(self.search, tuner)
        self.points = points
        self._check()

    def _completed(self, claim: Claim) -> Claim:
        """The claim with what follows from the experiment: its dataset, and the task's primary metric."""
        if claim.metric is None:
            primary = {"metric": f"test_{self.task.metric}", "lower_is_better": self.task.lower_is_better}
            claim = dataclasses.replace(claim, **primary)
        return claim if claim.datasets else dataclasses.replace(claim, datasets=(self.setting.dataset,))

    def _spaces(self, search: dict | Callable | None) -> dict[str, space.Space]:
        if callable(search):
            search = space.of_build(search)
        search = search or {}
        if not all(name in self.arms for name in search):
            search = dict.fromkeys(self.arms, search)
        spaces = {}
        for arm, searched in search.items():
            searched = space.of_build(searched) if callable(searched) else searched
            wrong = [value for value in searched.values() if not isinstance(value, space.Range | space.Choice)]
            if wrong:
                raise Misuse(f"{self.name}: a search takes log_range, linear_range or choice. Received: {wrong[0]!r}")
            own = {name: entry for name, entry in searched.items() if name not in self.arms[arm]}
            if own:
                spaces[arm] = own
        return spaces

    @property
    def question(self) -> str:
        """What the docstring's first line asks, without its number."""
        return self.doc.partition("\n")[0].partition(": ")[2]

    def arguments(self, arm: str) -> dict:
        """What the arm hands to `train`."""
        return {key: value for key, value in self.arms[arm].items() if key not in FIELDS}

    def arm_setting(self, arm: str, setting: Setting, overridden: Sequence[str] = ()) -> Setting:
        """The setting with the arm's own fields, except those that the user has overridden.

        Epochs of an arm's own keep their ratio to the declared ones, as what it is about is how much longer it trains.
        """
        own = {name: value for name, value in self.arms[arm].items() if name in FIELDS}
        fields = {name: value for name, value in own.items() if name not in overridden}
        if "epochs" in own and "epochs" in overridden:
            fields["epochs"] = max(round(own["epochs"] * setting.epochs / self._declared(setting).epochs), 1)
        return setting.replace(**fields)

    def _declared(self, setting: Setting) -> Setting:
        return self.quick if setting.dataset == self.quick.dataset else self.setting

    def folder_name(self, setting: Setting, overridden: Sequence[str] = (), dataset: str = "", smoke: dict | None = None) -> str:
        """The setting's folder: its dataset, and what differs from the declared setting of that dataset.

        `dataset` is its name as part of a file name, `smoke` what a smoke run overrides.
        """
        declared = self._declared(setting)
        parts = [dataset or setting.dataset] + (["smoke"] if smoke else [])
        for name in FIELDS[1:]:
            value = getattr(setting, name)
            arms_differ = name in overridden and any(name in arm for arm in self.arms.values())
            smoked = smoke and value == smoke.get(name, ...)
            if (value != getattr(declared, name) or arms_differ) and not smoked:
                parts.append(f"{SHORT.get(name, name)}={_shown(value)}")
        return "-".join(parts)

    def declare(self, setting: Setting) -> dict:
        """The declaration, as plain values, for what only reads rows."""
        task = {} if self.task is tasks.classification else {"task": self.task.declare()}
        return task | {
            "experiment": self.name,
            "doc": self.doc,
            "question": self.question,
            "arms": self.arms,
            "search": {arm: space.to_json(own) for arm, own in self.search.items()},
            "baseline": self.baseline,
            "seeds": self.seeds,
            "setting": dataclasses.asdict(setting),
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "figures": list(self.figures),
        }

    def main(self) -> None:
        """Give the process to the project's command line, which reads the script anew and without Keras."""
        paths = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [sys.executable, "-P", "-m", COMMAND_LINE, str(self.path), *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": paths})

    def _check_names(self) -> None:
        try:
            json.dumps(self.arms)
        except TypeError as error:
            raise Misuse(f"{self.name}: arms must be plain values (numbers, strings, lists, dicts): {error}") from None
        if self.baseline is not None and next(iter(self.arms), None) != self.baseline:
            raise Misuse(f"{self.name}: the first arm must be {self.baseline!r}. Received: {list(self.arms)[:1]}")
        if len({file_name(arm) for arm in self.arms}) < len(self.arms) or set(self.arms) & set(READ_AS_MISSING):
            raise Misuse(
                f"{self.name}: arm names must differ in more than punctuation, and not read as missing: {list(self.arms)}"
            )
        numbers = [arm for arm in self.arms if _is_number(arm)]
        if numbers:
            raise Misuse(f"{self.name}: an arm's name must not be a number. Received: {numbers[0]!r}")

    def _check(self) -> None:
        if self.seeds < 1:
            raise Misuse(f"{self.name}: seeds must be at least 1. Received: {self.seeds}")
        wrong = [tuner for arm, tuner in self.tuner.items() if tuner not in TUNERS or arm not in self.search]
        if wrong or set(self.tuner) != set(self.search):
            raise Misuse(
                f"{self.name}: tuner must be one of {', '.join(TUNERS)}, or that of each searched arm. Received: {self.tuner}"
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
                inspect.signature(self.train).bind(None, **self.arguments(arm), **space.defaults(self.search.get(arm, {})))
            except TypeError as error:
                raise Misuse(f"{self.name}: arm {arm!r} does not fit train(): {error}") from None
            self.arm_setting(arm, self.setting)
        ids = [claim.id for claim in self.claims]
        doubled = [one for one in ids if ids.count(one) > 1]
        if doubled:
            raise Misuse(f"{self.name}: each claim must have an id of its own. Received twice: {doubled[0]!r}")
        for claim in self.claims:
            missing = [arm for arm in claim.arms if arm not in self.arms]
            if missing:
                raise Misuse(f"{self.name}: claim {claim.text!r} names an arm that is not there: {missing[0]!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value) -> str:
    """A field's value as part of a folder's name."""
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return "all" if value is None else str(value)
