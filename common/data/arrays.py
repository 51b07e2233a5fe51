"""The arrays of a dataset, made from the images that a source has decoded, and the line that describes them.

train_images, test_images  uint8 [n, height, width, channels]
train_labels, test_labels  int64 [n], indices into class_names
class_names                list of str
val                        number of examples at the end of train that are the official validation split
made                       str: how size and colours were converted
notes                      list of str: warnings and other remarks for the user
"""

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from common.data.pixels import BACKGROUND
from common.data.streams import Streams, stratified_order
from common.errors import Misuse
from common.text import printable

CHUNK = 1000
"""Images checked at a time."""
PROGRESS_AFTER, PROGRESS_EVERY = 5, 10
"""Seconds until the first line about progress, and between two of them."""
DARK = 64
"""A dataset without a pixel value above this was probably not scaled to 0 … 255, and gets a note."""
MOST_LISTED = 12
"""Classes whose counts are listed; of more, only the smallest and largest count are shown."""
MOST_EXAMPLES = 3
"""Names shown of a longer list."""


def arrays(train: tuple, test: tuple | None, class_names: Sequence[str], *, name: str = "", val: tuple | None = None) -> dict:
    """The arrays of a dataset as a dict, see the module. Val is appended to train.

    Args:
        train, test, val: images and labels. If test is None, a stratified fifth of train becomes the test split.
        name: seeds that draw.

    Raises:
        Misuse: all images are equal, each is of a single colour, or all are of one class.
    """
    if test is None:
        images, labels = train
        order = stratified_order(labels, Streams(0).generator("split", "test", name))
        rest, held_out = np.split(order, [len(labels) - round(len(labels) * 0.2)])
        test, train = [(images[np.sort(part)], labels[np.sort(part)]) for part in (held_out, rest)]
    if val is not None:
        train = tuple(np.concatenate(pair) for pair in zip(train, val, strict=True))
    images = [np.asarray(split[0], np.uint8) for split in (train, test)]
    classes = np.unique(train[1])
    if len(classes) < 2:
        shown = ", ".join(str(class_names[c]) for c in classes)
        raise Misuse(f"the training images must be of at least two classes. Received: {len(train[1])} of class {shown}")
    return {
        "train_images": images[0],
        "train_labels": np.asarray(train[1], np.int64),
        "test_images": images[1],
        "test_labels": np.asarray(test[1], np.int64),
        "class_names": list(class_names),
        "val": 0 if val is None else len(val[1]),
        "made": "",
        "notes": _content_notes(images),
    }


def _content_notes(splits: list[np.ndarray]) -> list[str]:
    """Notes on images of a single colour and on dark datasets. Raises `Misuse` if all images are equal or of a single colour."""
    first, equal, flat, brightest, total = splits[0][0], True, 0, 0, sum(map(len, splits))
    for images in splits:
        for at in range(0, len(images), CHUNK):
            part = images[at : at + CHUNK]
            equal = equal and bool((part == first).all())
            flat += int((part == part[:, :1, :1]).all(axis=(1, 2, 3)).sum())
            brightest = max(brightest, int(part.max()))
    if equal or flat == total:
        raise nothing_to_learn("are all equal" if equal else "are each of a single colour", total, first)
    notes = [f"{flat} images are of a single colour"] if flat else []
    return [*notes, f"no pixel value is above {brightest} of 255"] if brightest < DARK else notes


def nothing_to_learn(problem: str, total: int, first: np.ndarray) -> Misuse:
    """The error for a dataset whose images do not differ.

    Args:
        problem: a predicate of "the images".
        total: number of images.
        first: the first of them.
    """
    return Misuse(
        f"after decoding, the images {problem}, so nothing can be learned: view some of them, and save them again with 8 bits "
        f"per channel (transparent pixels become {BACKGROUND}). Received: {total} images, the first pixel "
        f"{', '.join(map(str, first[0, 0]))}"
    )


def image_hash(image: np.ndarray) -> bytes:
    """A hash of an image's shape and pixels, in which a grey image and its rgb copy are equal."""
    if image.shape[-1] == 3 and (image[..., :1] == image).all():
        image = image[..., :1]
    shape = "×".join(map(str, image.shape)).encode()
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16, person=shape[:16]).digest()


def first_names(names: Iterable[str]) -> str:
    """The first names as text, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - MOST_EXAMPLES} more" if len(names) > MOST_EXAMPLES else ""
    return ", ".join(names[:MOST_EXAMPLES]) + more


def with_progress(items: Sequence, what: str, count: int | None = None) -> Iterator:
    """Iterate over items, with a line about progress on stderr every few seconds.

    Args:
        what: the line's first words.
        count: number of items; by default their length.
    """
    printed = time.monotonic() + PROGRESS_AFTER - PROGRESS_EVERY
    for number, item in enumerate(items):
        if time.monotonic() - printed >= PROGRESS_EVERY:
            printed = time.monotonic()
            print(f"{what}: {number:,} of {count or len(items):,} images read", file=sys.stderr, flush=True)
        yield item


def description(class_names: Sequence[str], counts: dict[str, np.ndarray], shape: tuple, made: str, notes: Sequence[str]) -> str:
    """One line that describes a dataset: classes, splits with their sizes, image size and colour, notes.

    Args:
        counts: split -> number of examples of each class, int [classes].
        shape: of an image.
        made, notes: see the module.
    """
    totals = sum(counts.values())
    if len(class_names) <= MOST_LISTED:
        classes = f"{len(class_names)} classes ({', '.join(f'{n}: {c}' for n, c in zip(class_names, totals, strict=True))})"
    else:
        classes = f"{len(class_names)} classes of {totals.min()} … {totals.max()} images each"
    sizes = ", ".join(f"{count.sum():,} {part}" for part, count in counts.items())
    form = f"{shape[1]}×{shape[0]} {'grey' if shape[2] == 1 else 'rgb'}" + (f", {made}" if made else "")
    lacking = [
        f"{part} has no images of {first_names(class_names[c] for c in np.flatnonzero(count == 0))}"
        for part, count in counts.items()
        if not count.all()
    ]
    return printable("; ".join((f"{classes}, {sizes}", form, *lacking, *notes)))
