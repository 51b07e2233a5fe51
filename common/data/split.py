"""`Split`: some examples, as training, validation and scoring take them."""

import numpy as np

from common.data.streams import Streams, stratified_order
from common.errors import Misuse


class Split:
    """Some examples of one official split, or of none.

    Attributes:
        ids: int64 [n], the names of the examples in every random stream: as a rule their positions in the official split.
        labels: what they are trained or validated on: int64 [n] for classes, else float32 [n] or [n, labels].
        clean_labels: the same before any of them were corrupted.
        classes: how many classes the labels are numbers of; None where they are no classes.
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
        self.labels = labels
        self.clean_labels = labels if clean_labels is None else clean_labels
        self.ids = ids
        self.classes = classes

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, classes: int | None) -> "Split":
        """A split of one's own: images uint8 [n, height, width, channels].

        Args:
            labels: whole numbers 0 … classes-1; where classes is None, numbers.

        Raises:
            Misuse: other images or labels, or not one label for each image.
        """
        images, labels = _checked_images(images), _checked_labels(labels, classes)
        if len(images) != len(labels):
            raise Misuse(f"a split needs one label for each image. Received: {len(images)} images and {len(labels)} labels")
        return cls(images, labels, np.arange(len(labels)), classes=classes)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: np.ndarray) -> np.ndarray:
        """Images at the given positions of this split: uint8 [n, height, width, channels]."""
        return self._source[self._rows[positions]]

    @property
    def images(self) -> np.ndarray:
        """All images, copied: uint8 [n, height, width, channels]."""
        return self._source[self._rows]

    def take(self, positions: np.ndarray) -> "Split":
        """The examples at the given positions, under the names that they have here."""
        own = {"rows": self._rows[positions], "clean_labels": self.clean_labels[positions], "classes": self.classes}
        return Split(self._source, self.labels[positions], self.ids[positions], **own)

    def drawn(self, count: int, streams: Streams, *purpose: int | str) -> np.ndarray:
        """Positions of at most so many examples drawn at random, of all classes in their proportions: int64 [count].

        A folder of images is sorted by class, so that the first ones are of one class.
        """
        generator = streams.generator("corrupt", "drawn", *purpose)
        order = stratified_order(self.labels, generator) if self.classes else generator.permutation(len(self))
        return order[:count]

    def join(self, images: np.ndarray, labels: np.ndarray) -> "Split":
        """These examples and others of one's own, whose names follow on the highest here. Raises `Misuse`, as `of` does."""
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
        """The same images with other labels; unless `clean`, the former ones stay known as the clean ones. Raises `Misuse`."""
        labels = _checked_labels(labels, classes or self.classes)
        if len(labels) != len(self):
            raise Misuse(f"a split needs one label for each image. Received: {len(self)} images and {len(labels)} labels")
        kept = labels if clean else self.clean_labels
        return Split(self._source, labels, self.ids, rows=self._rows, clean_labels=kept, classes=classes or self.classes)


def _checked_images(images: np.ndarray) -> np.ndarray:
    """Images as they are. Raises `Misuse` for what a conversion to uint8 would spoil."""
    images = np.asanyarray(images)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise Misuse(
            "images are uint8 0 … 255 [n, height, width, channels]; of floats between 0 and 1 write "
            f"np.round(255 * images).astype(np.uint8). Received: {images.dtype} {images.shape}"
        )
    return images


def _checked_labels(labels: np.ndarray, classes: int | None) -> np.ndarray:
    """Labels as a split holds them: int64 for classes, else float32. Raises `Misuse`."""
    labels = np.asarray(labels)
    if classes is None:
        if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2) or not np.isfinite(labels).all():
            raise Misuse(f"labels must be finite numbers [n] or [n, labels]. Received: {labels.dtype} {labels.shape}")
        return labels.astype(np.float32)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise Misuse(f"labels of {classes} classes are whole numbers [n]. Received: {labels.dtype} {labels.shape}")
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise Misuse(f"labels of {classes} classes are 0 … {classes - 1}. Received: {outside[0]}")
    return labels.astype(np.int64)


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
