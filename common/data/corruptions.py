"""Changes that a setting makes to a dataset: subsets, long tails, label noise, shifted test images. Test labels never change."""

import numpy as np

from common.data.split import Split
from common.data.streams import Streams, stratified_order
from common.errors import Misuse


def select_classes(split: Split, classes: tuple[int, ...] | None) -> Split:
    """The examples of the given classes, relabelled 0, 1, … in that order; for None the whole split."""
    if classes is None:
        return split
    number = np.full(split.classes, -1)
    number[list(classes)] = np.arange(len(classes))
    labels = number[split.labels]
    there = np.flatnonzero(labels >= 0)
    return split.take(there).relabelled(labels[there], clean=True, classes=len(classes))


def subset(train: Split, train_size: int | None, imbalance: float, streams: Streams) -> Split:
    """A random subset of the train split, stratified or long-tailed. Each subset contains all smaller ones.

    The long tail is exponential: class c of C has a share proportional to imbalance^(−c / (C − 1)) (Cao et al. 2019, section
    4.1), so that the first class is `imbalance` times as frequent as the last.

    Args:
        train_size: number of examples; by default all.
        imbalance: ratio of the largest to the smallest class; 1 for a stratified subset.

    Raises:
        Misuse: more examples than the split, or than one of its classes, has.
    """
    if train_size is None and imbalance == 1:
        return train
    order = stratified_order(train.labels, streams.generator("corrupt", "subset"))
    if imbalance == 1:
        if train_size > len(train):
            raise Misuse(
                f"train_size must be between 1 and {len(train)}, the images not used for validation. Received: {train_size}"
            )
        return train.take(order[:train_size])
    counts = long_tail(np.bincount(train.labels, minlength=train.classes), train_size, imbalance)
    chosen = [order[train.labels[order] == c][:count] for c, count in enumerate(counts)]
    return train.take(np.concatenate(chosen))


def long_tail(counts: np.ndarray, train_size: int | None, imbalance: float) -> np.ndarray:
    """The number of examples of each class in a long-tailed subset: int [classes].

    Args:
        counts: of the examples that there are, int [classes]; train_size, imbalance: see `subset`.

    Raises:
        Misuse: more examples than a class has.
    """
    chosen = _rounded(_shares(len(counts), imbalance) * (train_size or counts.sum()))
    if (chosen > counts).any():
        most = largest_long_tail(counts, imbalance)
        raise Misuse(
            f"train_size must be at most {most} with an imbalance of {imbalance:g}, as a class has no more images: "
            f"TRAIN={most}. Received: {train_size}"
        )
    return chosen


def largest_long_tail(counts: np.ndarray, imbalance: float) -> int:
    """The largest size of a long-tailed subset with the given imbalance, of int [classes] examples of each class."""
    return int((counts / _shares(len(counts), imbalance)).min())


def _shares(classes: int, imbalance: float) -> np.ndarray:
    """Share of each class in a long-tailed subset: float [classes]."""
    shares = imbalance ** -(np.arange(classes) / max(classes - 1, 1))
    return shares / shares.sum()


def _rounded(shares: np.ndarray) -> np.ndarray:
    """Numbers rounded to integers of at least 1 with the same sum, by the largest-remainder method."""
    total = round(shares.sum())
    counts = np.maximum(np.floor(shares).astype(int), 1)
    for i in np.argsort(-(shares - np.floor(shares)), kind="stable")[: max(total - counts.sum(), 0)]:
        counts[i] += 1
    return counts


def with_label_noise(split: Split, share: float, streams: Streams, name: str) -> Split:
    """The split with label noise: each label is wrong with probability `share`. Labels wrong at one share are so at larger ones.

    A class is replaced by one of the other classes, uniformly (symmetric noise); a number by one drawn uniformly from −1 … 1.

    Args:
        name: of the split, for an independent draw.

    Raises:
        Misuse: several labels per image.
    """
    if split.labels.ndim != 1:
        raise Misuse(f"label_noise needs one label per image. Received: labels of shape {split.labels.shape}")
    # Two uniforms per id, so that the noise of an example depends neither on the share nor on the other examples.
    drawn = streams.generator("corrupt", "labels", name).random((split.ids.max() + 1, 2))[split.ids]
    wrong = drawn[:, 0] < share
    if split.classes is None:
        other = (2 * drawn[:, 1] - 1).astype(split.labels.dtype)
    else:
        other = (split.labels + 1 + np.floor(drawn[:, 1] * (split.classes - 1)).astype(np.int64)) % split.classes
    return split.relabelled(np.where(wrong, other, split.labels))


def rotate(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotate images counterclockwise about their centre, with bilinear interpolation; the corners become black.

    Args:
        images: uint8 [n, height, width, channels]; degrees: [n].
    """
    from PIL import Image

    def rotate_one(image, angle):
        flat = image[..., 0] if image.shape[-1] == 1 else image
        return np.asarray(Image.fromarray(flat).rotate(float(angle), Image.Resampling.BILINEAR)).reshape(image.shape)

    return np.stack([rotate_one(image, angle) for image, angle in zip(images, degrees, strict=True)])


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
    "rotation": lambda images, level, _: rotate(images, np.full(len(images), (0, 15, 30, 45)[level])),
    "scale": _scaled,
    "noise": _noisy,
    "blur": _blurred,
}
"""Distribution shifts of the test images: name -> f(images, level, generator), levels 1, 2, 3. The kinds are after Hendrycks &
Dietterich (2019), the strengths are ours: brightness + 30, 60, 90 of 255; contrast × 0.6, 0.35, 0.15; rotation by 15°, 30°, 45°;
scale × 0.85, 0.7, 0.55; Gaussian noise of standard deviation 20, 40, 60; Gaussian blur of 0.7, 1.2, 1.8 pixels at 32 × 32."""


LEVELS = (1, 2, 3)


def shifted(split: Split, shift: str, level: int) -> Split:
    """The split with a distribution shift applied to all images; random noise is the same in every trial.

    Args:
        shift: a key of `SHIFTS`; level: one of `LEVELS`.
    """
    generator = Streams(0).generator("corrupt", "shift", shift)
    images = SHIFTS[shift](split.images.astype(np.float64) if shift != "rotation" else split.images, level, generator)
    return Split(
        np.clip(np.round(images), 0, 255).astype(np.uint8),
        split.labels,
        split.ids,
        rows=np.arange(len(split)),
        classes=split.classes,
    )
