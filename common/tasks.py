"""Learning tasks (classification, multi-label, regression), and the examples that a setting and a task make of a dataset.

The test split depends on the dataset, the kept classes and the task alone, so it is the same for every trial. Imports no
TensorFlow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common import metrics
from common.data.corruptions import rotate, select_classes, subset, with_label_noise
from common.data.dataset import Dataset
from common.data.split import Split
from common.data.streams import Streams

LARGEST_ANGLE = 45
"""Largest rotation, in degrees in either direction, in the task `rotated`."""
TILES = 2
"""Tiles per row and per column of an image in the task `tiles`."""
MOST_OBJECTS = 3
"""Largest number of objects in an image of the task `tiles`."""
LEAST_LEARNED = 0.1
"""A trial has trained if its score covers this fraction of the distance from a constant prediction to a perfect one."""


@dataclass(frozen=True)
class Task:
    """A learning task: its targets, its outputs and how they are scored.

    Args:
        name: part of a trial's fingerprint.
        metric: name of the primary metric; rows hold it as `test_<metric>`, `val_<metric>`, …
        unit: unit of the metric, for axes; lower_is_better: direction of the metric.
        outputs: f(number of classes) -> number of outputs of a model.
        change: f(split, generator) -> split with the images and labels of the task.
        scores: f(outputs [n, …], labels) -> dict of scores by name, the primary metric first.
        predicted: f(outputs) -> predictions stored for the test images.
        truth: f(labels) -> test labels in the form of `predicted`.
        constant: f(train labels, classes, n) -> outputs [n, …] of the best constant prediction, with which a diverged trial is
            scored.
        logits: whether the outputs are logits of classes.
        orientation: whether the labels depend on the orientation of an image.
    """

    name: str
    metric: str
    unit: str
    lower_is_better: bool
    outputs: Callable[[int], int]
    change: Callable[[Split, np.random.Generator], Split]
    scores: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    predicted: Callable[[np.ndarray], np.ndarray]
    constant: Callable[[np.ndarray, int, int], np.ndarray]
    truth: Callable[[np.ndarray], np.ndarray] = lambda labels: labels
    logits: bool = True
    orientation: bool = False

    def better(self, value: float) -> float:
        """The value of the primary metric with its sign changed where lower is better, so that higher is always better."""
        return -value if self.lower_is_better else value

    def trained(self, score: float, constant: float) -> bool:
        """Whether a train score covers at least a tenth of the distance from the score `constant` to a perfect one."""
        perfect = 0.0 if self.lower_is_better else 1.0
        return bool(self.better(score) >= self.better(constant + LEAST_LEARNED * (perfect - constant)))

    def declare(self) -> dict:
        """Name, metric, unit and direction as plain values, for code that only reads rows."""
        return {name: getattr(self, name) for name in ("name", "metric", "unit", "lower_is_better")}


# --- examples of a setting -------------------------------------------------------------------------------------------


def examples(
    dataset: Dataset,
    task: Task,
    streams: Streams,
    *,
    classes: tuple[int, ...] | None = None,
    train_size: int | None = None,
    imbalance: float = 1.0,
    label_noise: float = 0.0,
) -> tuple[Split, Split, Split]:
    """Train split, val split, and the train examples of the classes that are not kept; the arguments are fields of `Setting`.

    Raises:
        Misuse: the dataset has no such subset, or the task no noisy labels.
    """
    whole_train, val = dataset.split(streams)
    train, val = select_classes(whole_train, classes), select_classes(val, classes)
    others = select_classes(whole_train, [c for c in range(dataset.classes) if c not in classes] if classes else [])
    train = subset(train, train_size, imbalance, streams)
    train, others = (split.take(np.argsort(split.ids)) for split in (train, others))
    train, val = (task.change(split, streams.generator("corrupt", task.name, name)) for name, split in _named(train, val))
    if label_noise:
        train, val = (with_label_noise(split, label_noise, streams, name) for name, split in _named(train, val))
    return train, val, others


def _named(train: Split, val: Split) -> tuple[tuple[str, Split], ...]:
    return ("train", train), ("val", val)


def test(dataset: Dataset, classes: tuple[int, ...] | None, task: Task) -> Split:
    """The test split of the kept classes, with the images and labels of the task: the same for every trial."""
    return task.change(select_classes(dataset.test(), classes), Streams(0).generator("corrupt", task.name, "test"))


# --- tasks -----------------------------------------------------------------------------------------------------------


def _class_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"accuracy": metrics.accuracy(logits, labels), "nll": metrics.nll(logits, labels)}


def _constant_class(labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    return metrics.constant_logits(labels, classes, n)


classification = Task(
    name="classification",
    metric="accuracy",
    unit="share",
    lower_is_better=False,
    outputs=lambda classes: classes,
    change=lambda split, _: split,
    scores=_class_scores,
    predicted=lambda logits: logits.argmax(axis=1).astype(np.min_scalar_type(logits.shape[1] - 1)),
    constant=_constant_class,
)


def _tiled(split: Split, generator: np.random.Generator) -> Split:
    """For each example a canvas of 2 × 2 tiles that shows it and up to two others; labels float32 [n, classes], 0 or 1."""
    n, cells = len(split), TILES**2
    images = split.images
    height, width, channels = images.shape[1:]
    count = generator.integers(1, MOST_OBJECTS + 1, n)
    members = np.concatenate([np.arange(n)[:, None], generator.integers(0, n, (n, MOST_OBJECTS - 1))], axis=1)
    places = np.argsort(generator.random((n, cells)), axis=1)[:, :MOST_OBJECTS]
    canvas = np.zeros((n, cells, height, width, channels), np.uint8)
    labels = np.zeros((n, split.classes), np.float32)
    for k in range(MOST_OBJECTS):
        rows = np.flatnonzero(count > k)
        canvas[rows, places[rows, k]] = images[members[rows, k]]
        labels[rows, split.labels[members[rows, k]]] = 1
    canvas = canvas.reshape(n, TILES, TILES, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    canvas = canvas.reshape(n, TILES * height, TILES * width, channels)
    return Split(canvas, labels, split.ids, rows=np.arange(n), classes=None)


def _label_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Macro F1 over the labels, and the mean binary cross-entropy in nats."""
    predicted, present = logits > 0, labels > 0.5
    hits = (predicted & present).sum(axis=0)
    total = predicted.sum(axis=0) + present.sum(axis=0)
    f1 = np.divide(2 * hits, total, out=np.zeros(len(total)), where=total > 0)
    z = logits.astype(np.float64)
    entropy = np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))
    return {"f1": float(f1.mean()), "nll": float(entropy.mean())}


def _constant_labels(labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    """Log-odds of the frequency of each label, [n, classes]."""
    share = (labels.sum(axis=0) + 1) / (len(labels) + 2)
    return np.tile(np.log(share / (1 - share)), (n, 1))


tiles = Task(
    name="tiles",
    metric="f1",
    unit="mean over labels",
    lower_is_better=False,
    outputs=lambda classes: classes,
    change=_tiled,
    scores=_label_scores,
    predicted=lambda logits: (logits > 0).astype(np.uint8),
    constant=_constant_labels,
)
"""Multi-label classification: the classes on a canvas of 2 × 2 tiles with one to three objects. A label is predicted where its
logit is above 0. A constant prediction has F1 0 if no class is on more than half of the images."""


def _rotated(split: Split, generator: np.random.Generator) -> Split:
    """Each image rotated by a random angle and cropped to a disc, so that its corners do not show the angle.

    Labels float32 [n], angle / 45°, in −1 … 1.
    """
    labels = generator.uniform(-1, 1, len(split)).astype(np.float32)
    images = rotate(split.images, LARGEST_ANGLE * labels)
    height, width = images.shape[1:3]
    y, x = np.ogrid[:height, :width]
    disc = ((y - (height - 1) / 2) / (height / 2)) ** 2 + ((x - (width - 1) / 2) / (width / 2)) ** 2 <= 1
    return Split(images * disc[..., None].astype(np.uint8), labels, split.ids, rows=np.arange(len(split)), classes=None)


def _angle_scores(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"error": float(LARGEST_ANGLE * np.abs(outputs[:, 0] - labels).mean())}


rotated = Task(
    name="rotated",
    metric="error",
    unit="degrees, mean absolute",
    lower_is_better=True,
    outputs=lambda classes: 1,
    change=_rotated,
    scores=_angle_scores,
    predicted=lambda outputs: (LARGEST_ANGLE * outputs[:, 0]).astype(np.float32),
    truth=lambda labels: LARGEST_ANGLE * labels,
    constant=lambda labels, classes, n: np.full((n, 1), np.median(labels)),
    logits=False,
    orientation=True,
)
"""Regression of the angle by which an image was rotated, −45° … 45°; targets and outputs are in units of 45°."""
