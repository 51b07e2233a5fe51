"""The arrays of a dataset, from what a source has decoded, and what is said about them.

train_images, test_images  uint8 [n, height, width, channels]
train_labels, test_labels  int64 [n], indices into class_names
val                        how many examples at the end of train are its official validation split
made, notes                text: what size and colour were made from; what else a user should know
"""

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from common.data.pixels import GROUND
from common.data.streams import Streams, stratified_order
from common.errors import Misuse
from common.text import printable

CHUNK = 1000
SAID_AFTER, SAID_EVERY = 5, 10
"""Seconds after which reading says how far it is, and between two such lines."""
DARK = 64
"""Of 255: where no pixel of a dataset is brighter, its range was probably another one."""
MOST_LISTED = 12
"""Classes whose counts are listed one by one."""
MOST_EXAMPLES = 3
"""Named of what there are many of."""


def arrays(train: tuple, test: tuple | None, class_names: Sequence[str], *, name: str = "", val: tuple | None = None) -> dict:
    """Name the arrays; where there is no test split, a stratified fifth of train becomes it, drawn by the dataset's name.

    Args:
        train, test, val: images and labels.

    Raises:
        Misuse: images that are all equal, or each of one colour, or all of one class.
    """
    if test is None:
        images, labels = train
        order = stratified_order(labels, Streams(0).generator("split", "test", name))
        rest, held_out = np.split(order, [len(labels) - round(len(labels) * 0.2)])
        test, train = [(images[np.sort(part)], labels[np.sort(part)]) for part in (held_out, rest)]
    if val is not None:
        train = tuple(np.concatenate(pair) for pair in zip(train, val, strict=True))
    images = [np.asarray(split[0], np.uint8) for split in (train, test)]
    only = np.unique(train[1])
    if len(only) < 2:
        shown = ", ".join(str(class_names[c]) for c in only)
        raise Misuse(f"the images to train on must be of at least two classes. Received: {len(train[1])} of class {shown}")
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
    """What is odd about the images of a dataset. Raises `Misuse` where there is nothing to learn from them."""
    first, equal, flat, brightest, total = splits[0][0], True, 0, 0, sum(map(len, splits))
    for images in splits:
        for at in range(0, len(images), CHUNK):
            part = images[at : at + CHUNK]
            equal = equal and bool((part == first).all())
            flat += int((part == part[:, :1, :1]).all(axis=(1, 2, 3)).sum())
            brightest = max(brightest, int(part.max()))
    if equal or flat == total:
        raise nothing_to_learn("are all equal" if equal else "are each of one colour", total, first)
    notes = [f"{flat} images are of one colour"] if flat else []
    return [*notes, f"no pixel is brighter than {brightest} of 255"] if brightest < DARK else notes


def nothing_to_learn(said: str, total: int, first: np.ndarray) -> Misuse:
    """What to raise where all images of a dataset are alike."""
    return Misuse(
        f"the images {said} once decoded, so nothing can be learned: look at some, and save them anew (8 bits a channel; "
        f"transparent ones are laid on {GROUND}). Received: {total} images, the first of {', '.join(map(str, first[0, 0]))}"
    )


def content(image: np.ndarray) -> bytes:
    """What two images have in common if and only if they show the same pixels, in grey or in equal colours."""
    if image.shape[-1] == 3 and (image[..., :1] == image).all():
        image = image[..., :1]
    shape = "×".join(map(str, image.shape)).encode()
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16, person=shape[:16]).digest()


def examples(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - MOST_EXAMPLES} more" if len(names) > MOST_EXAMPLES else ""
    return ", ".join(names[:MOST_EXAMPLES]) + more


def told(items: Sequence, what: str, count: int | None = None) -> Iterator:
    """The items one by one, with a line on stderr every few seconds of how many of them are through."""
    said = time.monotonic() + SAID_AFTER - SAID_EVERY
    for number, item in enumerate(items):
        if time.monotonic() - said >= SAID_EVERY:
            said = time.monotonic()
            print(f"{what}: {number:,} of {count or len(items):,} images read", file=sys.stderr, flush=True)
        yield item


def described(class_names: Sequence[str], counts: dict[str, np.ndarray], shape: tuple, made: str, notes: Sequence[str]) -> str:
    """One line about a dataset: classes and splits with their counts, size and colour, and what else to know.

    Args:
        counts: examples of each class, by split.
    """
    totals = sum(counts.values())
    if len(class_names) <= MOST_LISTED:
        classes = f"{len(class_names)} classes ({', '.join(f'{n}: {c}' for n, c in zip(class_names, totals, strict=True))})"
    else:
        classes = f"{len(class_names)} classes of {totals.min()} … {totals.max()} images"
    sizes = ", ".join(f"{count.sum():,} {part}" for part, count in counts.items())
    form = f"{shape[1]}×{shape[0]} {'grey' if shape[2] == 1 else 'rgb'}" + (f", {made}" if made else "")
    lacking = [
        f"{part} lacks {examples(class_names[c] for c in np.flatnonzero(count == 0))}"
        for part, count in counts.items()
        if not count.all()
    ]
    return printable("; ".join((f"{classes}, {sizes}", form, *lacking, *notes)))
