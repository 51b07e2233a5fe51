"""Under what each arm of an experiment is trained: the selected setting, as far as the data allow, with the arm's own fields."""

from collections.abc import Collection
from dataclasses import dataclass

from common.data.corruptions import kept, largest_long_tail, subset
from common.data.dataset import Dataset, load
from common.data.split import Split
from common.data.streams import Streams
from common.errors import Misuse
from common.experiment import Experiment
from common.setting import Selected, Setting


@dataclass(frozen=True)
class Resolved:
    """An arm's setting with all overrides and shares worked out, and its data."""

    setting: Setting
    dataset: Dataset
    available: int
    """Examples of the classes that are kept, beside validation."""
    own: frozenset[str]
    """Fields that the arm sets itself."""

    @property
    def lack(self) -> str:
        """Why the arm cannot be trained on these data, if it asks for more than there is; blank where it can."""
        size, batch = self.setting.train_size, self.setting.batch_size
        if "train_size" in self.own and size is not None and size > self.available:
            return f"needs {size} training images, {self.setting.dataset} has {self.available} beside validation"
        images = size or self.available
        if "batch_size" in self.own and batch is not None and batch > images:
            return f"needs {batch} training images for a batch, {images} are trained on"
        return ""


class _Data:
    """The datasets of one call, each loaded once."""

    def __init__(self):
        self.loaded: dict[tuple, Dataset] = {}

    def of(self, setting: Setting) -> tuple[Dataset, int]:
        """A setting's dataset, and its examples of the classes that are kept, beside validation. Raises what `load` raises."""
        key = (setting.dataset, setting.image_size, setting.colour)
        if key not in self.loaded:
            self.loaded[key] = load(*key)
        dataset = self.loaded[key]
        unknown = [c for c in setting.classes or () if not 0 <= c < dataset.classes]
        if unknown:
            raise Misuse(
                f"classes must lie between 0 and {dataset.classes - 1}, the last of {setting.dataset}: choose another DATASET. "
                f"Received: {', '.join(map(str, setting.classes))}"
            )
        if setting.classes:
            return dataset, len(_train(dataset, setting))
        return dataset, dataset.split_sizes()[0]


def resolve(experiment: Experiment, selected: Selected) -> tuple[Setting, dict[str, Resolved]]:
    """The setting as far as the data allow, and what each arm is trained under; prepares the data's cache if need be.

    A subset or a batch that is larger than the data is cut down to it, for all arms alike, unless the user asks for it.

    Raises:
        Misuse: classes that the data do not have, or what `dataset.load` raises.
    """
    data = _Data()
    dataset, available = data.of(selected.setting)
    tails = {experiment.arm_setting(arm, selected.setting, selected).imbalance for arm in experiment.arms} - {1.0}
    if tails:
        available = min(largest_long_tail(_train(dataset, selected.setting), imbalance) for imbalance in tails)
    setting = _fitted(selected.setting, available, selected.overrides)
    if tails and setting.train_size is None:
        setting = setting.replace(train_size=available)
    resolved = {}
    for arm in experiment.arms:
        chosen = experiment.arm_setting(arm, setting, selected)
        dataset, available = data.of(chosen)
        own = frozenset() if selected.smoke else frozenset(experiment.arms[arm]) - set(selected.overrides)
        resolved[arm] = Resolved(_fitted(chosen, available, {*selected.overrides, *own}), dataset, available, own)
    return setting, resolved


def _train(dataset: Dataset, setting: Setting) -> Split:
    """The train split of the classes that are kept."""
    return kept(dataset.split(Streams(0))[0], setting.classes)


def _fitted(setting: Setting, available: int, asked_for: Collection[str]) -> Setting:
    """The setting, its share of the images as a number, with no larger subset and batch than there are examples."""
    size, batch = setting.train_size, setting.batch_size
    if isinstance(size, float):
        size = max(round(size * available), 1)
    if size is not None and "train_size" not in asked_for:
        size = min(size, available)
    if batch is not None and "batch_size" not in asked_for:
        batch = min(batch, size or available)
    return setting.replace(train_size=size, batch_size=batch)


def check(arm: Resolved) -> None:
    """Raises `Misuse` for a subset or batch larger than the data, or a long tail for which a class has too few examples."""
    setting, available = arm.setting, arm.available
    if arm.lack:
        return  # its trials are unavailable, which their rows say
    if setting.train_size is not None and setting.train_size > available:
        raise Misuse(
            f"train_size must be at most {available}, what {setting.dataset} has beside validation: TRAIN={available}. "
            f"Received: {setting.train_size}"
        )
    most = setting.train_size or available
    if setting.batch_size is not None and setting.batch_size > most:
        raise Misuse(f"batch_size must be at most the {most} training images: BATCH={most}. Received: {setting.batch_size}")
    if setting.imbalance != 1:
        subset(_train(arm.dataset, setting), setting.train_size, setting.imbalance, Streams(0))
