"""What a setting changes in a dataset: classes kept, long tails, wrong labels, shifted test images. Never the test labels."""

import numpy as np

from common.data.split import Split
from common.data.streams import Streams, stratified_order
from common.errors import Misuse


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
    counts = _rounded(_shares(train, imbalance) * (train_size or len(train)))
    if (counts > _there(train)).any():
        most = largest_long_tail(train, imbalance)
        raise Misuse(
            f"train_size must be at most {most} at an imbalance of {imbalance:g}, for the most frequent class must be there: "
            f"TRAIN={most}. Received: {train_size}"
        )
    chosen = [order[train.labels[order] == c][:count] for c, count in enumerate(counts)]
    return train.take(np.concatenate(chosen))


def largest_long_tail(train: Split, imbalance: float) -> int:
    """The most examples that a long tail of so much imbalance may have, with those of each class that there are."""
    return int((_there(train) / _shares(train, imbalance)).min())


def _shares(train: Split, imbalance: float) -> np.ndarray:
    """Each class' share of a long tail, float [classes]."""
    shares = imbalance ** -(np.arange(train.classes) / max(train.classes - 1, 1))
    return shares / shares.sum()


def _there(train: Split) -> np.ndarray:
    """Examples of each class, int [classes]."""
    return np.bincount(train.labels, minlength=train.classes)


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


def turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Images turned anticlockwise about their centre, bilinear; what comes in is black. uint8 [n, height, width, channels]."""
    from PIL import Image

    def turn(image, angle):
        flat = image[..., 0] if image.shape[-1] == 1 else image
        return np.asarray(Image.fromarray(flat).rotate(float(angle), Image.Resampling.BILINEAR)).reshape(image.shape)

    return np.stack([turn(image, angle) for image, angle in zip(images, degrees, strict=True)])


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
