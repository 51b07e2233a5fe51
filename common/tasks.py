"""What changes a dataset, and tasks other than classification. No TensorFlow: nothing here trains.

A setting may keep some classes, make the train split long-tailed and corrupt labels; a `Task` may make other examples of
those of the dataset. The test split is changed by the task alone, and in the same way for every trial.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common import metrics
from common.data.dataset import Dataset
from common.data.split import Split
from common.data.streams import Streams, stratified_order
from common.errors import Misuse

LARGEST_ANGLE = 45
"""Degrees, either way, of the task `rotated`."""
TILES = 2
"""A side of the canvas of the task `tiles`."""
MOST_OBJECTS = 3


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

    def better(self, value: float) -> float:
        """The value of the primary metric, turned so that more is better."""
        return -value if self.lower_is_better else value

    def declare(self) -> dict:
        """As plain values, for what only reads rows."""
        return {name: getattr(self, name) for name in ("name", "metric", "unit", "lower_is_better")}


# --- what a setting changes ------------------------------------------------------------------------------------------


def examples(dataset: Dataset, setting: dict, task: Task, streams: Streams) -> tuple[Split, Split, Split]:
    """Train, val and the train examples of the classes that are not kept, under a setting's fields. Raises `Misuse`."""
    classes = setting["classes"]
    train, val = dataset.split(streams)
    everything, numbers = train, range(dataset.classes)
    train, val = kept(train, classes), kept(val, classes)
    others = kept(everything, [c for c in numbers if c not in classes] if classes else [])
    train = subset(train, setting["train_size"], setting["imbalance"], streams)
    train, others = (split.take(np.argsort(split.ids)) for split in (train, others))
    train, val = (task.change(split, streams.generator("corrupt", task.name, name)) for name, split in _named(train, val))
    if setting["label_noise"]:
        train, val = (corrupted(split, setting["label_noise"], streams, name) for name, split in _named(train, val))
    return train, val, others


def _named(train: Split, val: Split) -> tuple[tuple[str, Split], ...]:
    return ("train", train), ("val", val)


def test(dataset: Dataset, classes: tuple[int, ...] | None, task: Task) -> Split:
    """The test split of the kept classes, as the task has it: the same for every trial."""
    return task.change(kept(dataset.test(), classes), Streams(0).generator("corrupt", task.name, "test"))


def kept(split: Split, classes: tuple[int, ...] | None) -> Split:
    """The examples of some classes, relabelled 0 … in the given order. All of them for None."""
    if classes is None:
        return split
    number = np.full(split.classes, -1)
    number[list(classes)] = np.arange(len(classes))
    labels = number[split.labels]
    there = np.flatnonzero(labels >= 0)
    return split.take(there).relabelled(labels[there], clean=True, classes=len(classes))


def subset(train: Split, train_size: int | None, imbalance: float, streams: Streams) -> Split:
    """A stratified or long-tailed part of the train split; smaller ones lie within larger ones.

    The long tail is exponential: class c of C has a share proportional to imbalance^(−c / (C − 1)) (Cao et al. 2019, section
    4.1), so that the first class is `imbalance` times as frequent as the last.

    Raises:
        Misuse: more examples than there are, or than a class has.
    """
    if train_size is None and imbalance == 1:
        return train
    order = stratified_order(train.labels, streams.generator("corrupt", "subset"))  # of the order drawn, not of the sorted one
    if imbalance == 1:
        if train_size > len(train):
            raise Misuse(
                f"train_size must lie between 1 and {len(train)}, what there is beside validation. Received: {train_size}"
            )
        return train.take(order[:train_size])
    shares = imbalance ** -(np.arange(train.classes) / max(train.classes - 1, 1))
    counts = _rounded(shares / shares.sum() * (train_size or len(train)))
    there = np.bincount(train.labels, minlength=train.classes)
    if (counts > there).any():
        most = int((there / (shares / shares.sum())).min())
        raise Misuse(
            f"train_size must be at most {most} at an imbalance of {imbalance:g}, for the most frequent class must be there: "
            f"TRAIN={most}. Received: {train_size}"
        )
    chosen = [order[train.labels[order] == c][:count] for c, count in enumerate(counts)]
    return train.take(np.concatenate(chosen))


def _rounded(shares: np.ndarray) -> np.ndarray:
    """Whole numbers of the same sum, at least 1 each, by largest remainders."""
    total = round(shares.sum())
    counts = np.maximum(np.floor(shares).astype(int), 1)
    for i in np.argsort(-(shares - np.floor(shares)), kind="stable")[: max(total - counts.sum(), 0)]:
        counts[i] += 1
    return counts


def corrupted(split: Split, share: float, streams: Streams, name: str) -> Split:
    """A split of which a share of the labels is wrong; less noise is part of more.

    A class becomes one of the other classes, all alike (symmetric noise); a number one drawn evenly from −1 … 1.

    Raises:
        Misuse: labels that are neither.
    """
    if split.labels.ndim != 1:
        raise Misuse(f"label_noise needs one label per image. Received: labels of shape {split.labels.shape}")
    # Two numbers per name, whatever the share and whichever examples are here.
    drawn = streams.generator("corrupt", "labels", name).random((split.ids.max() + 1, 2))[split.ids]
    wrong = drawn[:, 0] < share
    if split.classes is None:
        other = (2 * drawn[:, 1] - 1).astype(split.labels.dtype)
    else:
        other = (split.labels + 1 + np.floor(drawn[:, 1] * (split.classes - 1)).astype(np.int64)) % split.classes
    return split.relabelled(np.where(wrong, other, split.labels))


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


def turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Images turned anticlockwise about their centre, bilinear; what comes in is black. uint8 [n, height, width, channels]."""
    from PIL import Image

    def turn(image, angle):
        flat = image[..., 0] if image.shape[-1] == 1 else image
        return np.asarray(Image.fromarray(flat).rotate(float(angle), Image.Resampling.BILINEAR)).reshape(image.shape)

    return np.stack([turn(image, angle) for image, angle in zip(images, degrees, strict=True)])


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
)
"""Regression: the angle, up to 45 degrees either way, by which an image was turned; targets and outputs in units of 45°."""


# --- shifted test images ---------------------------------------------------------------------------------------------


def _noisy(images: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    return images + generator.normal(0, (0, 20, 40, 60)[level], images.shape)


def _scaled(images: np.ndarray, level: int, _) -> np.ndarray:
    from scipy import ndimage

    factor = (1, 0.85, 0.7, 0.55)[level]
    middle = (np.array(images.shape[1:3]) - 1) / 2
    matrix, offset = np.diag([1, 1 / factor, 1 / factor, 1]), np.zeros(4)
    offset[1:3] = middle - middle / factor
    return ndimage.affine_transform(images.astype(np.float32), matrix, offset, order=1)


def _blurred(images: np.ndarray, level: int, _) -> np.ndarray:
    from scipy import ndimage

    sigma = images.shape[1] / 32 * (0, 0.7, 1.2, 1.8)[level]
    return ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))


def _contrast(images: np.ndarray, level: int, _) -> np.ndarray:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (1, 0.6, 0.35, 0.15)[level] * (images - mean)


SHIFTS = {
    "brightness": lambda images, level, _: images + (0.0, 30.0, 60.0, 90.0)[level],
    "contrast": _contrast,
    "rotation": lambda images, level, _: turned(images, np.full(len(images), (0, 15, 30, 45)[level])),
    "scale": _scaled,
    "noise": _noisy,
    "blur": _blurred,
}
"""Ways in which recognition must cope with other pictures than it learned from, each at levels 1, 2 and 3 (after the kinds of
Hendrycks & Dietterich 2019; the strengths are ours): brighter by 30, 60, 90 of 255; contrast times 0.6, 0.35, 0.15; turned by 15,
30, 45 degrees; made smaller by 0.85, 0.7, 0.55; Gaussian noise of 20, 40, 60; blur of 0.7, 1.2, 1.8 pixels at 32 a side."""
LEVELS = (1, 2, 3)


def shifted(split: Split, shift: str, level: int) -> Split:
    """A split with every image changed alike; the noise is the same for every trial."""
    images = SHIFTS[shift](split.images.astype(np.float64) if shift != "rotation" else split.images, level, _fixed(shift))
    return Split(
        np.clip(np.round(images), 0, 255).astype(np.uint8),
        split.labels,
        split.ids,
        rows=np.arange(len(split)),
        classes=split.classes,
    )


def _fixed(shift: str) -> np.random.Generator:
    return Streams(0).generator("corrupt", "shift", shift)


def folds(n: int, k: int, streams: Streams, repeat: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions to train on and to validate on of each of k folds of n examples: disjoint, and together all of them.

    Args:
        repeat: which of several such partitions.

    Raises:
        Misuse: fewer than 2 folds or more folds than examples.
    """
    if not 2 <= k <= n:
        raise Misuse(f"folds must lie between 2 and the {n} examples. Received: {k}")
    parts = np.array_split(streams.generator("split", "folds", k, repeat).permutation(n), k)
    return [(np.sort(np.concatenate(parts[:i] + parts[i + 1 :])), np.sort(parts[i])) for i in range(k)]
