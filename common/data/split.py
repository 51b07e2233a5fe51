"""`Split`: images and labels for training, validation or scoring."""

import numpy as np

from common.data.streams import Streams, stratified_order
from common.errors import Misuse


class Split:
    """A subset of the examples of a dataset's official split, or images from elsewhere (`Split.of`).

    Attributes:
        ids: int64 [n], which identify the examples in random streams; usually their positions in the official split.
        labels: int64 [n] for classes, else float32 [n] or [n, labels].
        clean_labels: the labels before label noise.
        classes: number of classes; None if the labels are not classes.
    """

    def __init__(
        self,
        source: np.ndarray,
        labels: np.ndarray,
        ids: np.ndarray,
        *,
        classes: int | None,
        rows: np.ndarray | None = None,
        clean_labels: np.ndarray | None = None,
    ):
        self._source = source
        self._rows = ids if rows is None else rows
        self.labels = _read_only(labels)
        self.clean_labels = self.labels if clean_labels is None else _read_only(clean_labels)
        self.ids = _read_only(ids)
        self.classes = classes

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, classes: int | None) -> "Split":
        """A split of given images.

        Args:
            images: uint8 0 … 255 [n, height, width, channels].
            labels: integers 0 … classes − 1 [n]; if classes is None, numbers [n] or [n, labels].

        Raises:
            Misuse: images or labels of another type, shape or range, or of different lengths.
        """
        images, labels = _checked_images(images), _checked_labels(labels, classes)
        if len(images) != len(labels):
            raise Misuse(f"a split needs one label for each image. Received: {len(images)} images and {len(labels)} labels")
        return cls(images, labels, np.arange(len(labels)), classes=classes)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: np.ndarray) -> np.ndarray:
        """Images at positions of this split: uint8 [n, height, width, channels]."""
        return self._source[self._rows[positions]]

    @property
    def images(self) -> np.ndarray:
        """A copy of all images: uint8 [n, height, width, channels]."""
        return self._source[self._rows]

    def take(self, positions: np.ndarray) -> "Split":
        """The subset at the given positions, with the same ids."""
        rows, clean_labels = self._rows[positions], self.clean_labels[positions]
        labels, ids = self.labels[positions], self.ids[positions]
        return Split(self._source, labels, ids, rows=rows, clean_labels=clean_labels, classes=self.classes)

    def drawn(self, count: int, streams: Streams, *purpose: int | str) -> np.ndarray:
        """Positions of a random sample without replacement, stratified if the labels are classes: int64 [min(count, n)].

        Args:
            purpose: names the draw within the stream `corrupt`.
        """
        generator = streams.generator("corrupt", "drawn", *purpose)
        order = stratified_order(self.labels, generator) if self.classes else generator.permutation(len(self))
        return order[:count]

    def join(self, images: np.ndarray, labels: np.ndarray) -> "Split":
        """The split with further images appended, whose ids continue after the highest. Raises `Misuse` like `of`."""
        other = Split.of(images, labels, self.classes)
        images, labels = other.images, other.labels
        ids = np.concatenate([self.ids, self.ids.max() + 1 + np.arange(len(labels))])
        return Split(
            np.concatenate([self.images, images]),
            np.concatenate([self.labels, labels]),
            ids,
            rows=np.arange(len(ids)),
            clean_labels=np.concatenate([self.clean_labels, labels]),
            classes=self.classes,
        )

    def relabelled(self, labels: np.ndarray, *, clean: bool = False, classes: int | None = None) -> "Split":
        """The same images with other labels. Raises `Misuse` for labels of another type, range or number.

        Args:
            clean: whether the labels also replace `clean_labels`.
            classes: number of classes, by default unchanged.
        """
        labels = _checked_labels(labels, classes or self.classes)
        if len(labels) != len(self):
            raise Misuse(f"a split needs one label for each image. Received: {len(self)} images and {len(labels)} labels")
        clean_labels = labels if clean else self.clean_labels
        return Split(self._source, labels, self.ids, rows=self._rows, clean_labels=clean_labels, classes=classes or self.classes)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view of an array that cannot be written to: a change in place would be lost where a killed trial goes on."""
    view = array.view()
    view.flags.writeable = False
    return view


def _checked_images(images: np.ndarray) -> np.ndarray:
    """The images unchanged. Raises `Misuse` for another type or shape, rather than convert floats to zeros."""
    images = np.asanyarray(images)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise Misuse(
            "images must be uint8 0 … 255 [n, height, width, channels]: convert floats between 0 and 1 by "
            f"np.round(255 * images).astype(np.uint8). Received: {images.dtype} {images.shape}"
        )
    return images


def _checked_labels(labels: np.ndarray, classes: int | None) -> np.ndarray:
    """Labels converted to int64 for classes, else to float32. Raises `Misuse`."""
    labels = np.asarray(labels)
    if classes is None:
        if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2) or not np.isfinite(labels).all():
            raise Misuse(f"labels must be finite numbers [n] or [n, labels]. Received: {labels.dtype} {labels.shape}")
        return labels.astype(np.float32)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise Misuse(f"labels of {classes} classes must be integers [n]. Received: {labels.dtype} {labels.shape}")
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise Misuse(f"labels of {classes} classes must be in 0 … {classes - 1}. Received: {outside[0]}")
    return labels.astype(np.int64)


def folds(n: int, k: int, streams: Streams, repeat: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random k-fold cross-validation of n examples: positions for training and for validation of each fold.

    Args:
        repeat: number of the partition, in repeated cross-validation.

    Raises:
        Misuse: fewer than 2 folds, or more folds than examples.
    """
    if not 2 <= k <= n:
        raise Misuse(f"the number of folds must be between 2 and the {n} examples. Received: {k}")
    parts = np.array_split(streams.generator("split", "folds", k, repeat).permutation(n), k)
    return [(np.sort(np.concatenate(parts[:i] + parts[i + 1 :])), np.sort(parts[i])) for i in range(k)]
