"""`Setting`, the options that all arms share, and `Selected`, the setting of one command with the user's overrides."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral

from common.data.streams import STREAMS
from common.errors import Misuse
from common.text import did_you_mean

NAMES = ("quick", "small", "full")
"""Names of the settings that every experiment has, the default first."""
SMALL = {"epochs": 18, "batch_size": 32, "train_size": 5000}
"""Upper limits of the `small` setting of a script that declares none: the full one with these, tens of minutes on two cores."""
SMALL_VAL_PER_EPOCH = 1000
"""`val_per_epoch` of each `small` setting that declares none."""
LARGEST_MARGINS = {"mnist": 0.005}
"""Dataset -> largest margin of accuracy that claims have in its settings, where accuracies lie closer together than on CIFAR-10,
for which margins are declared (0.015; of sameness 0.02)."""
SMOKE = {"epochs": 1, "train_size": 256}
"""Fields that SMOKE=1 sets."""
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SHORT = {"batch_size": "batch", "train_size": "train", "image_size": "size"}
"""Short names of fields, in the names of folders and on the command line."""


@dataclass(frozen=True)
class Setting:
    """Options of the training that all arms share. An arm may set a field for itself.

    Args:
        dataset: a name or folder that `data.dataset.load` knows.
        epochs: passes over the train split.
        batch_size: examples per update, over all replicas; None for the whole train split.
        train_size: size of the stratified subset to train on: a number of examples, or a fraction below 1; by default all.
        image_size: height and width in pixels; colour: "grey" or "rgb"; by default those of the dataset.
        val_per_epoch: number of validation images that are scored after an epoch, a stratified sample; by default all. After the
            last epoch, and in a stage with callbacks, which may act on the scores, all are scored.
        precision: Keras dtype policy; mixed_float16 comes with dynamic loss scaling.
        threads: CPU threads within an operation (intra-op). The bits of a result depend on it.
        replicas: devices that share each batch: GPUs, or logical CPU devices on a machine without GPUs.
        workers: machines that train each trial together, with one process each and the same number of replicas in each.
        vary: the random streams that follow the seed; the others stay at seed 0.
        seed_offset: added to the seed of every stream.
        classes: the class numbers to keep; by default all.
        imbalance: frequency of the first class divided by that of the last in the train split, which gets a long tail.
        label_noise: fraction of the labels of train and val that are replaced by wrong ones.
        shifted: whether to score corrupted test images too: brighter, rotated, noisy, … (see `common.data.corruptions`);
            not rotated ones where labels depend on the orientation.
        deterministic: whether TensorFlow uses deterministic operations.
        xla: whether to compile updates with XLA; needs deterministic=False.
    """

    dataset: str
    epochs: int
    batch_size: int | None = 32
    train_size: int | float | None = None
    image_size: int | None = None
    colour: str | None = None
    val_per_epoch: int | None = None
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
            if isinstance(getattr(self, name), list):  # arms and rows hold lists
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("epochs", "batch_size", "train_size", "image_size", "val_per_epoch", "threads", "replicas", "workers"):
            value = getattr(self, name)
            optional = value is None and name in ("batch_size", "train_size", "image_size", "val_per_epoch")
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
        if self.classes is not None and not _are_classes(self.classes):
            raise Misuse(f"classes must be at least two different ones, as whole numbers. Received: {self.classes!r}")
        if self.xla and self.deterministic:
            raise Misuse("xla needs deterministic=False: TensorFlow's determinism switches XLA off. Received: xla=True")

    @property
    def start_options(self) -> tuple[int, int, int, bool]:
        """What a worker must be started with: threads, replicas, workers, deterministic."""
        return self.threads, self.replicas, self.workers, self.deterministic

    def replace(self, **changes) -> "Setting":
        """Copy of the setting with some fields changed. Raises `Misuse` for an invalid value."""
        return dataclasses.replace(self, **changes)


FIELDS = tuple(field.name for field in dataclasses.fields(Setting))


def _are_classes(given: object) -> bool:
    """Whether these are numbers of at least two different classes."""
    numbers = isinstance(given, tuple) and all(isinstance(one, Integral) and not isinstance(one, bool) for one in given)
    return numbers and len(set(given)) == len(given) >= 2


def small_of(full: Setting, declared: Setting | None) -> Setting:
    """The `small` setting of an experiment: as declared, by default the full one with the upper limits of `SMALL`."""
    if declared is None:
        sizes = {name: getattr(full, name) for name in SMALL}
        declared = full.replace(**{n: min(size, SMALL[n]) if isinstance(size, int) else SMALL[n] for n, size in sizes.items()})
    return declared.replace(val_per_epoch=declared.val_per_epoch or SMALL_VAL_PER_EPOCH)


@dataclass(frozen=True)
class Selected:
    """The setting that a command runs: one that the script declares, with the user's overrides.

    Args:
        name: one of `NAMES`.
        declared: the setting as the script declares it.
        overrides: the fields that the user set, and their values.
        rate: the learning rate that the user set instead of a searched one.
        smoke: whether to run a smoke test, with the fields of `SMOKE`.
        debug: whether to train in the process of the command, so that a debugger works.
    """

    name: str
    declared: Setting
    overrides: dict = field(default_factory=dict)
    rate: float | None = None
    smoke: bool = False
    debug: bool = False

    @property
    def tests_code(self) -> bool:
        """Whether the command only tests the code (SMOKE=1, DEBUG=1): it trains one seed, into a separate folder."""
        return self.smoke or self.debug

    @property
    def setting(self) -> Setting:
        """The declared setting with all overrides. Raises `Misuse` for an invalid value."""
        return self.declared.replace(**{**(SMOKE if self.smoke else {}), **self.overrides})

    @property
    def differences(self) -> list[str]:
        """Names of the overridden fields, other than `dataset`, whose value differs from that of the setting or smoke run."""
        base = self.declared.replace(**SMOKE) if self.smoke else self.declared
        return [name for name, value in self.overrides.items() if name != "dataset" and value != getattr(base, name)]

    def folder_name(self, dataset: str) -> str:
        """Name of the folder of the rows: setting, dataset, smoke or debug, and the overridden fields.

        Args:
            dataset: its name, in characters that a file name may have.
        """
        parts = [self.name, dataset, *(["smoke"] if self.smoke else []), *(["debug"] if self.debug else [])]
        parts += [f"{SHORT.get(name, name)}={_shown(self.overrides[name])}" for name in FIELDS if name in self.differences]
        return "-".join(parts + ([f"rate={self.rate!r}"] if self.rate is not None else []))

    def demonstration(self, arms: Sequence[dict]) -> bool:
        """Whether the rows are a demonstration, from which no verdict is drawn.

        Those of the quick setting, of digits (too small to speak for natural images), and with overridden fields are; also those
        on another dataset than the one that an arm chooses.
        """
        too_small = self.name == "quick" or self.setting.dataset == "digits" or self.tests_code
        elsewhere = "dataset" in self.overrides and any("dataset" in arm for arm in arms)
        return too_small or elsewhere or self.rate is not None or bool(self.differences)


def _shown(value) -> str:
    """A field's value as text in the name of a folder."""
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return "all" if value is None else str(value)
