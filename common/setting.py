"""`Setting`: what all arms share; and which of an experiment's settings a call uses."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.data.streams import STREAMS
from common.errors import Misuse
from common.text import did_you_mean

NAMES = ("quick", "small", "full")
"""The settings that every experiment has, the default first."""
SMALL = {"dataset": "cifar10", "epochs": 10, "batch_size": 32, "train_size": 5000}
"""What a `small` setting has at most where the script declares none: real images, in tens of minutes on two cores."""
SMOKE = {"epochs": 1, "train_size": 256}
"""What SMOKE=1 overrides."""
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SHORT = {"batch_size": "batch", "train_size": "train", "image_size": "size"}
"""How a field is called in a folder's name and on the command line, where not as it is."""


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
            raise Misuse(f"colour must be grey or rgb. Received: {self.colour!r}{did_you_mean(self.colour, ('grey', 'rgb'))}")
        if self.precision not in PRECISIONS:
            hint = did_you_mean(self.precision, PRECISIONS)
            raise Misuse(f"precision must be one of {', '.join(PRECISIONS)}. Received: {self.precision!r}{hint}")
        unknown = [stream for stream in self.vary if stream not in STREAMS]
        if unknown:
            hint = did_you_mean(unknown[0], STREAMS)
            raise Misuse(f"vary must name streams among {', '.join(STREAMS)}. Received: {unknown[0]!r}{hint}")
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


def small_of(full: Setting) -> Setting:
    """The `small` setting of an experiment that declares none: its full one on CIFAR-10, cut down to `SMALL`."""
    declared = {name: getattr(full, name) for name in SMALL}
    whole = {name: value for name, value in declared.items() if isinstance(value, int)}
    least = {name: min(whole.get(name, most), most) for name, most in SMALL.items() if name != "dataset"}
    return full.replace(dataset=SMALL["dataset"], **least)


@dataclass(frozen=True)
class Selected:
    """A declared setting as a call uses it.

    Args:
        name: one of `NAMES`.
        declared: as the script has it.
        overrides: fields that the user set, and their values.
        rate: the learning rate that the user set in the place of searched ones.
        smoke: whether the call only tries the code, on what `SMOKE` says.
        debug: whether the call looks for a mistake, in its own process.
    """

    name: str
    declared: Setting
    overrides: dict = field(default_factory=dict)
    rate: float | None = None
    smoke: bool = False
    debug: bool = False

    @property
    def tries(self) -> bool:
        """Whether the call only tries the code: one seed is enough, and its rows have a folder of their own."""
        return self.smoke or self.debug

    @property
    def setting(self) -> Setting:
        """The declared one with all overrides. Raises `Misuse` for an impossible value."""
        return self.declared.replace(**{**(SMOKE if self.smoke else {}), **self.overrides})

    def differences(self, arms: Sequence[dict]) -> list[str]:
        """The fields, but for the dataset, that the user set to another value than the setting or one of the arms declares."""
        return [
            name
            for name, value in self.overrides.items()
            if name != "dataset" and (value != getattr(self.declared, name) or any(name in arm for arm in arms))
        ]

    def folder_name(self, arms: Sequence[dict], dataset: str) -> str:
        """Of its rows: the setting, the dataset by its name as part of a file's, and what the user overrode."""
        parts = [self.name, dataset, *(["smoke"] if self.smoke else []), *(["debug"] if self.debug else [])]
        changed = self.differences(arms)
        parts += [f"{SHORT.get(name, name)}={_shown(self.overrides[name])}" for name in FIELDS if name in changed]
        return "-".join(parts + ([f"rate={self.rate!r}"] if self.rate is not None else []))

    def demonstration(self, arms: Sequence[dict]) -> bool:
        """Whether its rows only demonstrate: of the quick setting, of digits, too small to speak of images, or overridden."""
        undecided = self.name == "quick" or self.setting.dataset == "digits" or self.tries
        return undecided or self.rate is not None or bool(self.differences(arms))


def _shown(value) -> str:
    """A field's value as part of a folder's name."""
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return "all" if value is None else str(value)
