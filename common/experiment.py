"""`Experiment`, `Setting` and `Claim`: what a script declares. Its command line is in `common.command`."""

import dataclasses
import inspect
import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import space, tasks
from common.data.streams import STREAMS
from common.errors import Misuse
from common.text import file_name

TUNERS = ("grid", "halton", "random", "bayesian", "hyperband")
FIGURES = ("steps", "mistakes")
"""Kinds of figures that are drawn only where an experiment names them: updates to a target (also drawn for claims about one), and
the test images that are most confidently mistaken."""
TRIED, COMMON = " @ ", ", common rate"
"""In the names of rows: before the values that a search tries; after an arm trained with the rate that suits all arms best."""
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
KINDS = ("superiority", "not worse", "same", "interaction", "best of family", "flatness")
SHORT = {"batch_size": "batch", "train_size": "train", "image_size": "size"}
"""How a field is called in a folder's name and on the command line, where not as it is."""
READ_AS_MISSING = ("NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "")
"""Arm names that pandas would take for a missing value."""


@dataclass(frozen=True)
class Setting:
    """What all arms share, unless an arm names a field itself.

    Args:
        dataset: a name or folder that `data.load` knows.
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


@dataclass(frozen=True)
class Claim:
    """A statement about arms, written before running, that the rows support or refute.

    Args:
        text: as someone would say it.
        better, worse: arms. For "interaction" two pairs: the claim is (better₀ − better₁) − (worse₀ − worse₁) > 0. For
            "best of family" several arms in `better`, of which the best on val is judged on test.
        margin: δ > 0, the smallest difference that matters, in the metric's unit.
        kind: "superiority" (better − worse is at least the margin), "not worse" (lower bound above −margin), "same"
            (inside ±margin), "interaction", "best of family", "flatness" (over more decades of a number, one per arm of either
            side in the same order, the metric lies within `within` of its side's best). By default superiority, or best of
            family for several arms.
        metric: by default the task's primary one. A column of the rows, the name of a measure, or "gap" (train less test
            accuracy), "worst_class_accuracy", "survival", "seconds" (of training, of trials that ran alone),
            "epochs_to_target" or "steps_to_target", both of which are known at the ends of epochs alone.
        lower_is_better: whether a smaller value of the metric is the better one.
        datasets: those it speaks about; by default the one of the experiment's full setting.
        within: of "flatness".
        target: validation accuracy, of "epochs_to_target" and "steps_to_target", of which fewer are better.
    """

    text: str
    better: str | Sequence[str]
    worse: str | Sequence[str]
    margin: float
    kind: str | None = None
    metric: str | None = None
    lower_is_better: bool = False
    datasets: tuple[str, ...] | None = None
    within: float | None = None
    target: float | None = None

    def __post_init__(self):
        if self.kind is None:
            object.__setattr__(self, "kind", "superiority" if isinstance(self.better, str) else "best of family")
        if self.kind not in KINDS:
            raise Misuse(f"a claim's kind must be one of {', '.join(KINDS)}. Received: {self.kind!r}")
        if not self.margin > 0:
            raise Misuse(f"a claim's margin must be above 0. Received: {self.margin!r}")
        counts = [1 if isinstance(side, str) else len(side) for side in (self.better, self.worse)]
        allowed = {"interaction": counts == [2, 2], "best of family": counts[0] >= 2 and counts[1] == 1}
        allowed |= {"flatness": counts[0] == counts[1] >= 3}
        if not allowed.get(self.kind, counts == [1, 1]):
            raise Misuse(
                f"a claim of kind {self.kind!r} does not take {counts[0]} better and {counts[1]} worse arms: {self.text!r}"
            )

        if (self.kind == "flatness") != (self.within is not None):
            raise Misuse(f"a claim has `within` if, and only if, it is about flatness: {self.text!r}. Received: {self.within!r}")
        if (self.metric in ("epochs_to_target", "steps_to_target")) != (self.target is not None):
            raise Misuse(
                f"a claim has a target if, and only if, its metric is about one: {self.text!r}. Received: {self.target!r}"
            )

    def arms(self) -> list[str]:
        """All arms it names."""
        return [arm for side in (self.better, self.worse) for arm in ([side] if isinstance(side, str) else side)]


def less(text: str, better: str, worse: str, metric: str, margin: float) -> Claim:
    """The claim that an arm has less of a metric than another, by at least a margin."""
    return Claim(text, better, worse, margin, metric=metric, lower_is_better=True)


def overfits_less(better: str, worse: str, margin: float = 0.005) -> tuple[Claim, Claim]:
    """Both halves of the claim that an arm overfits less: a smaller gap, and a test accuracy that is not worse."""
    text = f"{better} reduces overfitting against {worse}"
    return (
        less(f"{text}: gap", better, worse, "gap", margin),
        Claim(f"{text}: accuracy", better, worse, margin, kind="not worse"),
    )


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
        Misuse: arms that `train` cannot take, or claims about arms that are not there.
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
            "arms": self.arms | {arm + COMMON: self.arms[arm] for arm in self.search},
            "search": {arm: space.to_json(own) for arm, own in self.search.items()},
            "baseline": self.baseline,
            "seeds": self.seeds,
            "setting": dataclasses.asdict(setting),
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "figures": list(self.figures),
        }

    def main(self) -> None:
        """The command line of the script."""
        from common.running import scripts

        scripts.use_modules()
        from common.commands import run

        run.main(self)

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
        reserved = [arm for arm in self.arms if TRIED in arm or arm.endswith(COMMON)]
        if reserved:
            raise Misuse(f"{self.name}: {TRIED!r} and {COMMON!r} name what a search trains. Received: {reserved[0]!r}")

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
        for claim in self.claims:
            missing = [arm for arm in claim.arms() if arm not in self.arms]
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
