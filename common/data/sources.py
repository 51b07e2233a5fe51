"""Sources of images: scikit-learn's digits and image folders, decoded into the arrays of a dataset; see `arrays`.

Datasets of TFDS are read in `prepared`.
"""

import os
import pathlib
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from common.data import pixels
from common.data.arrays import arrays, first_names, image_hash, nothing_to_learn, with_progress
from common.data.folders import Folder, describe
from common.errors import Misuse
from common.files import write_atomic
from common.text import printable

FOLDER_SIZE = 64
"""Side in pixels to which images of different sizes, or larger than `LARGEST_SIZE`, are resized by default."""
LARGEST_SIZE = 256
TEST_SHARE = 0.2
MOST_BROKEN = 20
"""Unreadable files named in an error; of more, all are listed in a file."""


def digits(image_size: int | None, colour: str | None) -> dict:
    """The 1,797 handwritten 8×8 digits of scikit-learn (values 0 … 16), resized to 28×28 and scaled to 0 … 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images = np.stack([pixels.resized(pixels.resized(image, 28, None), image_size, colour) for image in grey])
    return arrays((images, digits.target), None, [str(d) for d in range(10)], name="digits")


def common_size(sizes: set[tuple[int, int]]) -> int | None:
    """Side in pixels of the squares to which images are resized; None if they keep their size.

    Args:
        sizes: the (width, height) that occur.
    """
    longest = max(map(max, sizes))
    if len(sizes) > 1 or longest > LARGEST_SIZE:
        return FOLDER_SIZE
    return None if sizes == {(longest, longest)} else longest


def made_from(sizes: set[tuple[int, int]], image_size: int | None) -> str:
    """How images were resized, as text; empty if they keep their size.

    Args:
        sizes: the (width, height) that occur before resizing.
        image_size: side of the squares in pixels.
    """
    if image_size is None or sizes == {(image_size, image_size)}:
        return ""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    shown = " … ".join(f"{width}×{height}" for width, height in dict.fromkeys((ordered[0], ordered[-1])))
    stretched = any(width != height for width, height in sizes)
    return f"resized from {shown}" + (", stretched to squares (aspect ratio not kept)" if stretched else "")


# --- image folders ---------------------------------------------------------------------------------------------------


@dataclass
class _Survey:
    """Properties of a folder's images, collected while their headers, and later their pixels, are read."""

    sizes: set = field(default_factory=set)
    """All (width, height)."""
    grey: int = 0
    """Number of grey images."""
    extremes: dict = field(default_factory=dict)
    """Of images without a standard range: whether the pixels are integers -> their minimum and maximum."""
    example: pathlib.Path | None = None
    """The first of these."""
    seen: Counter = field(default_factory=Counter)
    """Kind of conversion -> number of images."""
    broken: dict = field(default_factory=dict)
    """Unreadable file -> reason."""


def image_folder(folder: Folder, image_size: int | None, colour: str | None, listing: pathlib.Path) -> dict:
    """The images of a folder as arrays, see `arrays`: upright, transparent ones on white, of animations the first frame.

    Without a folder for test, a fifth of each class becomes the test split. It is chosen by a hash of the pixels, so it does not
    depend on names and hardly changes when images are added or removed.

    Args:
        image_size, colour: see `common.data.dataset.load`.
        listing: file in which unreadable images are listed if they are many.

    Raises:
        Misuse: unreadable images, all of them named; no image left for test.
    """
    rows = [
        (part, label, path) for part, classes in folder.files.items() for label, paths in enumerate(classes) for path in paths
    ]
    survey, images, hashes = _Survey(), [], []
    with warnings.catch_warnings():  # about large images, palettes and EXIF data that Pillow can read
        warnings.simplefilter("ignore")
        for *_, path in with_progress(rows, f"{folder.path.name}, sizes", len(rows)):
            _try(survey, path, _read_header, path, survey)
        size = image_size or (common_size(survey.sizes) if survey.sizes else FOLDER_SIZE)
        mode = colour or ("grey" if survey.grey == len(rows) else "rgb")
        whites = _whites(survey)
        for *_, path in with_progress(rows, folder.path.name, len(rows)):
            if path not in survey.broken:
                _try(survey, path, _read_pixels, path, survey, whites, (size, mode), images, hashes)
    if survey.broken:
        raise Misuse(_broken(folder, survey.broken, len(rows), listing))
    if len(set(hashes)) == 1:
        raise nothing_to_learn("are all equal", len(rows), images[0])
    names = [folder.name_of(path) for *_, path in rows]
    parts, labels = np.array([part for part, *_ in rows]), np.array([label for _, label, _ in rows])
    parts, notes = _without_copies(parts, labels, hashes, names, folder.path)
    if "test" not in folder.files:
        chosen = _chosen_for_test(parts, labels, hashes)
        if not chosen:
            raise Misuse(
                "the test split needs images without copies, and each image of the folder has one: add others. "
                f"Received: {folder.path}"
            )
        parts[chosen] = "test"
        notes.insert(0, "the test images are a fifth of each class, chosen by a hash of their pixels")
    images, of = np.stack(images), {part: np.flatnonzero(parts == part) for part in ("train", "val", "test")}
    splits = {part: (images[of[part]], labels[of[part]]) for part in of if len(of[part]) or part == "test"}
    class_names = [os.fsencode(name).decode(errors="backslashreplace") for name in folder.names]
    made = arrays(splits["train"], splits["test"], class_names, val=splits.get("val"))
    made["made"] = ", ".join(text for text in (made_from(survey.sizes, size), _colours(survey, len(rows), mode)) if text)
    made["notes"] = [*_conversions(survey), *made["notes"], *notes]
    if folder.ignored:
        made["notes"].append(f"ignored: {describe(folder.ignored)}")
    return made


def _try(survey: _Survey, path: pathlib.Path, function, *arguments) -> None:
    """Call a function that reads a file; if that fails, add the file and the reason to `survey.broken`."""
    try:
        function(*arguments)
    except Exception as error:  # Pillow raises a dozen types for truncated and damaged files
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        survey.broken[path] = "not an image that Pillow reads" if "cannot identify" in reason else reason


def _read_header(path: pathlib.Path, survey: _Survey) -> None:
    """Add size, mode and, where the mode has no standard range, the extremes of an image to the survey."""
    from PIL import Image

    with path.open("rb") as file, Image.open(file) as picture:
        size, grey, deep = pixels.upright_size(picture), pixels.is_grey(picture), pixels.is_deep(picture)
        survey.seen["animated"] += getattr(picture, "n_frames", 1) > 1
        survey.seen["deep"] += deep
        if picture.mode in ("I", "F") and not deep:
            values = np.asarray(picture)
            least, most = survey.extremes.get(picture.mode == "I", (np.inf, -np.inf))
            survey.extremes[picture.mode == "I"] = np.minimum(least, values.min()), np.maximum(most, values.max())
            survey.example = survey.example or path
            survey.seen["ranged"] += 1
    survey.sizes.add(size)
    survey.grey += grey


def _whites(survey: _Survey) -> dict[bool, int]:
    """Of images without a standard range: whether the pixels are integers -> value of white. Raises `Misuse`."""
    try:
        return {whole: pixels.white_of(*limits, whole) for whole, limits in survey.extremes.items()}
    except ValueError as error:
        raise Misuse(f"{survey.seen['ranged']} images of floats or 32 bits: {error}. Received: {survey.example}") from error


def _read_pixels(path: pathlib.Path, survey: _Survey, whites: dict, form: tuple, images: list, hashes: list) -> None:
    """Append an image, converted to a size and colour `form`, and its hash to the lists."""
    from PIL import Image

    # Opened by its path, a TIFF would be memory-mapped by Pillow, which garbles the rows of one with a rotated orientation.
    with path.open("rb") as file, Image.open(file) as picture:
        survey.seen["turned"] += picture.getexif().get(pixels.ORIENTATION, 1) in range(2, 9)
        decoded = pixels.decoded(picture)
    survey.seen["transparent"] += pixels.is_transparent(decoded)
    image = pixels.eight_bits(decoded, whites.get(decoded.dtype.kind == "i"))
    images.append(pixels.resized(image, *form))
    hashes.append(image_hash(image))


def _conversions(survey: _Survey) -> list[str]:
    """Notes on the conversions, with the number of images."""
    texts = {
        "turned": "rotated by their EXIF orientation",
        "transparent": f"transparent, composited on {pixels.BACKGROUND}",
        "deep": "of 16 bits, scaled to 8",
        "ranged": "of floats or 32 bits, scaled by their range",
        "animated": "animated, of which the first frame is used",
    }
    return [f"{survey.seen[kind]} {text}" for kind, text in texts.items() if survey.seen[kind]]


def _colours(survey: _Survey, total: int, colour: str) -> str:
    """How colours were converted, as text; empty if they were not."""
    if survey.grey in (0, total):
        return "" if (survey.grey == total) == (colour == "grey") else f"from {'grey' if survey.grey else 'rgb'}"
    return f"from {survey.grey} grey and {total - survey.grey} rgb images"


def _broken(folder: Folder, broken: dict, total: int, listing: pathlib.Path) -> str:
    """The error about unreadable files, in one line. If they are many, all are listed in a file. Raises `Failure`."""
    lines = [printable(f"{folder.name_of(path)} ({reason})") for path, reason in broken.items()]
    named = ", ".join(lines[:MOST_BROKEN])
    if len(lines) > MOST_BROKEN:
        write_atomic(listing, "".join(f"{line}\n" for line in lines).encode())
        named += f" and {len(lines) - MOST_BROKEN} more ({listing} lists them all)"
    return f"{len(lines)} of {total} images cannot be read: replace or remove them. Received: {named}, in {folder.path}"


def _without_copies(
    parts: np.ndarray, labels: np.ndarray, hashes: list, names: list, where: pathlib.Path
) -> tuple[np.ndarray, list[str]]:
    """Remove test images that are also in train or val.

    Args:
        parts, labels, hashes, names: split, label, hash of the pixels and file name of each image.
        where: the folder.

    Returns:
        The split of each image, empty for the removed ones; and notes on duplicates.

    Raises:
        Misuse: all test images are also in train or val.
    """
    places: dict[bytes, list[int]] = {}
    for number, digest in enumerate(hashes):
        places.setdefault(digest, []).append(number)
    groups = [group for group in places.values() if len(group) > 1]
    notes, parts = [], parts.copy()
    two_labels = [group for group in groups if len(set(labels[group])) > 1]
    if two_labels:
        shown = first_names(f"{names[g[0]]} = {next(names[i] for i in g if labels[i] != labels[g[0]])}" for g in two_labels)
        notes.append(f"{len(two_labels)} images have copies of another class: {shown}")
    across = [group for group in groups if len(set(parts[group])) > 1]
    leaked = sorted(i for group in across for i in group if parts[i] == "test")
    shown = first_names(names[i] for i in leaked)
    if leaked and len(leaked) == (parts == "test").sum():
        raise Misuse(
            f"test must have images that are neither in train nor in val: replace its images. Received: {shown}, in {where}"
        )
    if leaked:
        notes.append(f"{len(leaked)} images of test are also in train or val, and removed from test: {shown}")
    in_val = [i for group in across for i in group if parts[i] == "val" and "train" in parts[group]]
    if in_val:
        notes.append(f"{len(in_val)} images of val are also in train: {first_names(names[i] for i in in_val)}")
    parts[leaked] = ""
    if groups:
        notes.append(f"{len(groups)} images have copies: {first_names(names[group[0]] for group in groups)}")
    return parts, notes


def _chosen_for_test(parts: np.ndarray, labels: np.ndarray, hashes: list) -> list[int]:
    """Indices of the test images: of each class a fifth, those with the smallest hashes, none that has copies."""
    counts, chosen = Counter(hashes), []
    for label in np.unique(labels):
        indices = np.flatnonzero((labels == label) & (parts == "train"))
        single = [i for i in indices if counts[hashes[i]] == 1]
        chosen += sorted(single, key=lambda i: hashes[i])[: max(round(len(indices) * TEST_SHARE), 1)]
    return chosen
