"""What is learned: classification, or another `Task`, and the examples that a setting and a task make of a dataset.

The test split is changed by the task alone, and in the same way for every trial. No TensorFlow: nothing here trains.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common import metrics
from common.data.corruptions import corrupted, kept, subset, turned
from common.data.dataset import Dataset
from common.data.split import Split
from common.data.streams import Streams

LARGEST_ANGLE = 45
"""Degrees, either way, of the task `rotated`."""
TILES = 2
"""A side of the canvas of the task `tiles`."""
MOST_OBJECTS = 3
LEAST_LEARNED = 0.1
"""Of the way from a constant prediction to a perfect one, by which a trial has trained."""


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Args:
        name: part of a trial's fingerprint.
        metric: the primary one; rows hold it as `test_<metric>`, `val_<metric>`, …
        unit: of the metric, for axes; lower_is_better: its direction.
        outputs: the number of a model's outputs for so many classes.
        change: f(split, generator) -> split of the task's examples.
        scores: f(outputs [n, …], labels) -> name -> score, the primary metric first.
        predicted: f(outputs) -> what is kept of each test image.
        truth: f(labels) -> what is kept of the test labels, to be compared with it.
        constant: f(train labels, classes, n) -> outputs [n, …] of the best constant prediction, as which a diverged trial scores.
        logits: whether outputs are logits, and no probabilities.
        orientation: whether the labels say how an image is turned.
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
        """The value of the primary metric, turned so that more is better."""
        return -value if self.lower_is_better else value

    def trained(self, score: float, constant: float) -> bool:
        """Whether a score on train is a tenth of the way or more from that of a constant prediction to a perfect one."""
        perfect = 0.0 if self.lower_is_better else 1.0
        return bool(self.better(score) >= self.better(constant + LEAST_LEARNED * (perfect - constant)))

    def declare(self) -> dict:
        """As plain values, for what only reads rows."""
        return {name: getattr(self, name) for name in ("name", "metric", "unit", "lower_is_better")}


# --- what a setting changes ------------------------------------------------------------------------------------------


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
    """Train, val and the train examples of the classes that are not kept; see `Setting` for its fields. Raises `Misuse`."""
    train, val = dataset.split(streams)
    everything, numbers = train, range(dataset.classes)
    train, val = kept(train, classes), kept(val, classes)
    others = kept(everything, [c for c in numbers if c not in classes] if classes else [])
    train = subset(train, train_size, imbalance, streams)
    train, others = (split.take(np.argsort(split.ids)) for split in (train, others))
    train, val = (task.change(split, streams.generator("corrupt", task.name, name)) for name, split in _named(train, val))
    if label_noise:
        train, val = (corrupted(split, label_noise, streams, name) for name, split in _named(train, val))
    return train, val, others


def _named(train: Split, val: Split) -> tuple[tuple[str, Split], ...]:
    return ("train", train), ("val", val)


def test(dataset: Dataset, classes: tuple[int, ...] | None, task: Task) -> Split:
    """The test split of the kept classes, as the task has it: the same for every trial."""
    return task.change(kept(dataset.test(), classes), Streams(0).generator("corrupt", task.name, "test"))


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
    """Per example a canvas of 2 × 2 tiles with it and up to two others of the split; labels say which classes are there."""
    n, cells = len(split), TILES**2
    images = split.images
    height, width, channels = images.shape[1:]
    count = generator.integers(1, MOST_OBJECTS + 1, n)
    members = np.concatenate([np.arange(n)[:, None], generator.integers(0, n, (n, MOST_OBJECTS - 1))], axis=1)
    places = np.argsort(generator.random((n, cells)), axis=1)[:, :MOST_OBJECTS]
    canvas = np.zeros((n, cells, height, width, channels), np.uint8)
    labels = np.zeros((n, split.classes), np.float32)
    for k in range(MOST_OBJECTS):
        at = np.flatnonzero(count > k)
        canvas[at, places[at, k]] = images[members[at, k]]
        labels[at, split.labels[members[at, k]]] = 1
    canvas = canvas.reshape(n, TILES, TILES, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    canvas = canvas.reshape(n, TILES * height, TILES * width, channels)
    return Split(canvas, labels, split.ids, rows=np.arange(n), classes=None)


def _label_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Macro F1 over the labels, and the mean binary cross-entropy in nats."""
    found, there = logits > 0, labels > 0.5
    hits = (found & there).sum(axis=0)
    total = found.sum(axis=0) + there.sum(axis=0)
    f1 = np.divide(2 * hits, total, out=np.zeros(len(total)), where=total > 0)
    z = logits.astype(np.float64)
    entropy = np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))
    return {"f1": float(f1.mean()), "nll": float(entropy.mean())}


def _constant_labels(labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    """Log-odds of each label's frequency."""
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
"""Multi-label: which of the classes are on a canvas of 2 × 2 tiles that holds one to three objects. A label is called present
where its logit is above 0. A constant prediction scores 0 where no class is on half of the images."""


def _rotated(split: Split, generator: np.random.Generator) -> Split:
    """Each image turned by an angle of its own and cut to a disc, so that no corner tells the angle; labels in −1 … 1."""
    labels = generator.uniform(-1, 1, len(split)).astype(np.float32)
    images = turned(split.images, LARGEST_ANGLE * labels)
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
"""Regression: the angle, up to 45 degrees either way, by which an image was turned; targets and outputs in units of 45°."""


# --- shifted test images ---------------------------------------------------------------------------------------------
