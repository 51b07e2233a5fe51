"""The setting and data of each arm: the selected setting with sizes limited to the data, and the fields that the arm sets."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from common.data.corruptions import largest_long_tail, long_tail
from common.data.dataset import Dataset, load
from common.errors import Misuse
from common.experiment import Experiment
from common.setting import Selected, Setting

CHOOSING = ("dataset", "classes")
"""Fields by which an arm chooses its examples."""


@dataclass(frozen=True)
class Resolved:
    """An arm's setting, with all overrides applied and shares replaced by numbers, and its data."""

    setting: Setting
    dataset: Dataset
    available: int
    """Number of examples of the setting's classes, without val, in the split of any seed."""
    arm_fields: frozenset[str]
    """Fields of the setting that the arm sets."""

    @property
    def unavailable(self) -> str:
        """Reason why the arm cannot be trained on these data; empty if it can.

        It sets a larger size than there is, or a dataset or classes with fewer examples than the size that the user sets.
        """
        size, batch, fewer = self.setting.train_size, self.setting.batch_size, not self.arm_fields.isdisjoint(CHOOSING)
        if ("train_size" in self.arm_fields or fewer) and size is not None and size > self.available:
            return f"needs {size} training images, {self.setting.dataset} has {self.available} without validation"
        images = size or self.available
        if ("batch_size" in self.arm_fields or fewer) and batch is not None and batch > images:
            return f"needs {batch} training images for a batch, it has {images}"
        return ""


class _Data:
    """The datasets of a run, each loaded once."""

    def __init__(self):
        self.loaded: dict[tuple, Dataset] = {}

    def of(self, setting: Setting) -> tuple[Dataset, int]:
        """A setting's dataset, and how many examples of its classes any seed has without val. Raises `Misuse` and like `load`."""
        key = (setting.dataset, setting.image_size, setting.colour)
        if key not in self.loaded:
            self.loaded[key] = load(*key)
        dataset = self.loaded[key]
        unknown = [c for c in setting.classes or () if not 0 <= c < dataset.classes]
        if unknown:
            raise Misuse(
                f"classes must be between 0 and {dataset.classes - 1}, the last of {setting.dataset}: choose another DATASET. "
                f"Received: {', '.join(map(str, setting.classes))}"
            )
        if setting.classes:
            return dataset, int(_least_counts(dataset, setting).sum())
        return dataset, dataset.split_sizes()[0]


def resolve(experiment: Experiment, selected: Selected) -> tuple[Setting, dict[str, Resolved]]:
    """The setting with sizes limited to the data, and arm -> its setting and data. Loads the datasets.

    A training size or batch size above the number of examples is reduced to it, for all arms alike, unless the user or the arm
    sets it.

    Raises:
        Misuse: classes that the data do not have; or as `common.data.dataset.load`.
    """
    data = _Data()
    dataset, available = data.of(selected.setting)
    tails = {experiment.arm_setting(arm, selected.setting, selected).imbalance for arm in experiment.arms} - {1.0}
    if tails:
        available = min(largest_long_tail(_least_counts(dataset, selected.setting), imbalance) for imbalance in tails)
    setting = _limited(selected.setting, dataset, available, selected.overrides)
    if tails and setting.train_size is None:
        setting = setting.replace(train_size=available)
    resolved = {}
    for arm in experiment.all_arms:
        chosen = experiment.arm_setting(arm, setting, selected)
        dataset, available = data.of(chosen)
        fields = frozenset() if selected.smoke else frozenset(experiment.fields(arm, selected))
        limited = _limited(chosen, dataset, available, {*selected.overrides, *fields})
        resolved[arm] = Resolved(limited, dataset, available, fields)
    return setting, resolved


def _least_counts(dataset: Dataset, setting: Setting) -> np.ndarray:
    """A lower bound for the train examples of each of the setting's classes in the split of any seed: int [classes]."""
    counts = dataset.least_train_counts()
    return counts if setting.classes is None else counts[list(setting.classes)]


def _limited(setting: Setting, dataset: Dataset, available: int, fixed: Collection[str]) -> Setting:
    """The setting with `train_size` as a number, and sizes of at most the available examples; all of val as None.

    Args:
        fixed: fields that are not limited.
    """
    size, batch = setting.train_size, setting.batch_size
    if isinstance(size, float):
        size = max(round(size * available), 1)
    if size is not None and "train_size" not in fixed:
        size = min(size, available)
    if batch is not None and "batch_size" not in fixed:
        batch = min(batch, size or available)
    part = setting.val_per_epoch
    part = None if part is None or part >= dataset.split_sizes()[1] else part
    return setting.replace(train_size=size, batch_size=batch, val_per_epoch=part)


def check(arm: Resolved) -> None:
    """Raises `Misuse` for a user's training size or batch size above the number of examples, or a long tail that needs more.

    Sizes that the arm sets do not raise; they give rows with the status unavailable.
    """
    setting, available = arm.setting, arm.available
    if arm.unavailable:
        return
    if setting.train_size is not None and setting.train_size > available:
        raise Misuse(
            f"train_size must be at most {available}, the images of {setting.dataset} without validation: TRAIN={available}. "
            f"Received: {setting.train_size}"
        )
    most = setting.train_size or available
    if setting.batch_size is not None and setting.batch_size > most:
        raise Misuse(f"batch_size must be at most the {most} training images: BATCH={most}. Received: {setting.batch_size}")
    if setting.imbalance != 1:
        long_tail(_least_counts(arm.dataset, setting), setting.train_size, setting.imbalance)
