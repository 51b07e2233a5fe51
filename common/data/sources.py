"""Where images come from: each function decodes one kind of source into the arrays of a dataset; see `arrays`.

TFDS is in `prepared`.
"""

import os
import pathlib
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from common.data import pixels
from common.data.arrays import arrays, content, examples, nothing_to_learn, told
from common.data.folders import Folder, described
from common.errors import Misuse
from common.files import write_atomic
from common.text import printable

FOLDER_SIZE = 64  # pixels a side for images of differing sizes or of more than LARGEST_SIZE, unless the setting names another
LARGEST_SIZE = 256
TEST_SHARE = 0.2
MOST_BROKEN = 20
"""Files named in a line; beyond that a file lists them."""


def digits(image_size: int | None, colour: str | None) -> dict:
    """The 1,797 handwritten 8×8 digits of scikit-learn (values 0 … 16), enlarged to 28×28 and scaled to 0 … 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images = np.stack([pixels.fit(pixels.fit(image, 28, None), image_size, colour) for image in grey])
    return arrays((images, digits.target), None, [str(d) for d in range(10)], name="digits")


def common_size(sizes: set[tuple[int, int]]) -> int | None:
    """Pixels a side for images of some widths and heights; None for those that keep their size."""
    longest = max(map(max, sizes))
    if len(sizes) > 1 or longest > LARGEST_SIZE:
        return FOLDER_SIZE
    return None if sizes == {(longest, longest)} else longest


def made_from(sizes: set[tuple[int, int]], image_size: int | None) -> str:
    """What images of some widths and heights went through to become squares; blank where they kept their size."""
    if image_size is None or sizes == {(image_size, image_size)}:
        return ""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    shown = " … ".join(f"{width}×{height}" for width, height in dict.fromkeys((ordered[0], ordered[-1])))
    stretched = any(width != height for width, height in sizes)
    return f"resized from {shown}" + (", stretched to squares (shapes are not kept)" if stretched else "")


# --- a folder of one's own -------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What is known of the files of a folder after their headers, and later their pixels, were read."""

    sizes: set = field(default_factory=set)
    grey: int = 0
    extremes: dict = field(default_factory=dict)
    """Of images without a range of their own: whether they are whole numbers -> least and most."""
    example: pathlib.Path | None = None
    """One of these."""
    seen: Counter = field(default_factory=Counter)
    """How many images needed what."""
    broken: dict = field(default_factory=dict)
    """Reason of each file that cannot be read."""


def image_folder(folder: Folder, image_size: int | None, colour: str | None, listing: pathlib.Path) -> dict:
    """The images of a folder as viewers show them: upright, on white where they are transparent; of an animation the first.

    Where there is no folder of test, a fifth of each class is tested on: chosen by what the images show, whatever they, their
    folder and their class are called, so that it hardly changes with images that come or go.

    Args:
        listing: a file for the names of images that cannot be read, where they are many.

    Raises:
        Misuse: images that cannot be read, all of them named.
    """
    rows = [(part, label, path) for part, own in folder.files.items() for label, paths in enumerate(own) for path in paths]
    found, images, digests = _Found(), [], []
    with warnings.catch_warnings():  # of large images, palettes and EXIF data that Pillow reads nevertheless
        warnings.simplefilter("ignore")
        for *_, path in told(rows, f"{folder.path.name}, sizes", len(rows)):
            _try(found, path, _read_header, path, found)
        size = image_size or (common_size(found.sizes) if found.sizes else FOLDER_SIZE)
        shown = colour or ("grey" if found.grey == len(rows) else "rgb")
        whites = _whites(found)
        for *_, path in told(rows, folder.path.name, len(rows)):
            if path not in found.broken:
                _try(found, path, _read_pixels, path, found, whites, (size, shown), images, digests)
    if found.broken:
        raise Misuse(_broken(folder, found.broken, len(rows), listing))
    if len(set(digests)) == 1:
        raise nothing_to_learn("are all equal", len(rows), images[0])
    names = [folder.name_of(path) for *_, path in rows]
    parts, labels = np.array([part for part, *_ in rows]), np.array([label for _, label, _ in rows])
    parts, notes = _without_copies(parts, labels, digests, names, folder.path)
    if "test" not in folder.files:
        chosen = _chosen_for_test(parts, labels, digests)
        if not chosen:
            raise Misuse(f"each picture is there several times, and none is left to test on: add others. Received: {folder.path}")
        parts[chosen] = "test"
        notes.insert(0, "the test images are a fifth of each class, chosen by what they show")
    images, of = np.stack(images), {part: np.flatnonzero(parts == part) for part in ("train", "val", "test")}
    splits = {part: (images[of[part]], labels[of[part]]) for part in of if len(of[part]) or part == "test"}
    class_names = [os.fsencode(name).decode(errors="backslashreplace") for name in folder.names]
    made = arrays(splits["train"], splits["test"], class_names, val=splits.get("val"))
    made["made"] = ", ".join(text for text in (made_from(found.sizes, size), _colours(found, len(rows), shown)) if text)
    made["notes"] = [*_seen(found), *made["notes"], *notes]
    if folder.ignored:
        made["notes"].append(f"ignored: {described(folder.ignored)}")
    return made


def _try(found: _Found, path: pathlib.Path, function, *arguments) -> None:
    """Call a function on a file, and note why that fails."""
    try:
        function(*arguments)
    except Exception as error:  # Pillow's readers raise a dozen kinds for truncated and broken files
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        found.broken[path] = "not an image that Pillow reads" if "cannot identify" in reason else reason


def _read_header(path: pathlib.Path, found: _Found) -> None:
    from PIL import Image

    with path.open("rb") as file, Image.open(file) as picture:
        size, grey, deep = pixels.upright_size(picture), pixels.is_grey(picture), pixels.is_deep(picture)
        found.seen["animated"] += getattr(picture, "n_frames", 1) > 1
        found.seen["deep"] += deep
        if picture.mode in ("I", "F") and not deep:
            values = np.asarray(picture)
            least, most = found.extremes.get(picture.mode == "I", (np.inf, -np.inf))
            found.extremes[picture.mode == "I"] = np.minimum(least, values.min()), np.maximum(most, values.max())
            found.example = found.example or path
            found.seen["ranged"] += 1
    found.sizes.add(size)
    found.grey += grey


def _whites(found: _Found) -> dict[bool, int]:
    """What white is in images without a range of their own, by whether they are whole numbers. Raises `Misuse`."""
    try:
        return {whole: pixels.white_of(*limits, whole) for whole, limits in found.extremes.items()}
    except ValueError as error:
        raise Misuse(f"{found.seen['ranged']} images of floats or 32 bits: {error}. Received: {found.example}") from error


def _read_pixels(path: pathlib.Path, found: _Found, whites: dict, form: tuple, images: list, digests: list) -> None:
    from PIL import Image

    # By its path Pillow would map a TIFF into memory, and mix up the lines of one that lies on its side.
    with path.open("rb") as file, Image.open(file) as picture:
        found.seen["turned"] += picture.getexif().get(pixels.ORIENTATION, 1) in range(2, 9)
        decoded = pixels.decoded(picture)
    found.seen["transparent"] += pixels.is_transparent(decoded)
    image = pixels.eight_bits(decoded, whites.get(decoded.dtype.kind == "i"))
    images.append(pixels.fit(image, *form))
    digests.append(content(image))


def _seen(found: _Found) -> list[str]:
    """What was done to images of some kinds, and to how many."""
    said = {
        "turned": "turned as their EXIF data say",
        "transparent": f"transparent, laid on {pixels.GROUND}",
        "deep": "of 16 bits, scaled to 8",
        "ranged": "of floats or 32 bits, scaled by their range",
        "animated": "of several frames, the first taken",
    }
    return [f"{found.seen[kind]} {text}" for kind, text in said.items() if found.seen[kind]]


def _colours(found: _Found, total: int, colour: str) -> str:
    """What a colour was made from, where not from the same."""
    if found.grey in (0, total):
        return "" if (found.grey == total) == (colour == "grey") else f"from {'grey' if found.grey else 'rgb'}"
    return f"from {found.grey} grey and {total - found.grey} rgb images"


def _broken(folder: Folder, broken: dict, total: int, listing: pathlib.Path) -> str:
    """One line about all files that cannot be read; where they are many, a file lists them. Raises `Failure`."""
    lines = [printable(f"{folder.name_of(path)} ({reason})") for path, reason in broken.items()]
    named = ", ".join(lines[:MOST_BROKEN])
    if len(lines) > MOST_BROKEN:
        write_atomic(listing, "".join(f"{line}\n" for line in lines).encode())
        named += f" and {len(lines) - MOST_BROKEN} more ({listing} lists them all)"
    return f"{len(lines)} of {total} images cannot be read: replace or remove them. Received: {named}, in {folder.path}"


def _without_copies(
    parts: np.ndarray, labels: np.ndarray, digests: list, names: list, where: pathlib.Path
) -> tuple[np.ndarray, list[str]]:
    """The split of each image, blank for those of test that are also in train or val; and what to say about copies.

    Raises:
        Misuse: all images of a folder of test are also in train.
    """
    places: dict[bytes, list[int]] = {}
    for number, digest in enumerate(digests):
        places.setdefault(digest, []).append(number)
    copies = [own for own in places.values() if len(own) > 1]
    notes, parts = [], parts.copy()
    two_labels = [own for own in copies if len(set(labels[own])) > 1]
    if two_labels:
        shown = examples(f"{names[own[0]]} = {next(names[i] for i in own if labels[i] != labels[own[0]])}" for own in two_labels)
        notes.append(f"{len(two_labels)} pictures lie under two labels: {shown}")
    seen = [own for own in copies if len(set(parts[own])) > 1]
    leaked = sorted(i for own in seen for i in own if parts[i] == "test")
    shown = examples(names[i] for i in leaked)
    if leaked and len(leaked) == (parts == "test").sum():
        raise Misuse(f"each image of test is also in train or val: test on others. Received: {shown}, in {where}")
    if leaked:
        notes.append(f"{len(leaked)} images of test are also in train or val, and left out of test: {shown}")
    validated = [i for own in seen for i in own if parts[i] == "val" and "train" in parts[own]]
    if validated:
        notes.append(f"{len(validated)} images of val are also in train: {examples(names[i] for i in validated)}")
    parts[leaked] = ""
    if copies:
        notes.append(f"{len(copies)} pictures are there several times: {examples(names[own[0]] for own in copies)}")
    return parts, notes


def _chosen_for_test(parts: np.ndarray, labels: np.ndarray, digests: list) -> list[int]:
    """Of each class a fifth of the images, those that come first by content; a picture that has copies is trained on."""
    counts, chosen = Counter(digests), []
    for label in np.unique(labels):
        own = np.flatnonzero((labels == label) & (parts == "train"))
        single = [i for i in own if counts[digests[i]] == 1]
        chosen += sorted(single, key=lambda i: digests[i])[: max(round(len(own) * TEST_SHARE), 1)]
    return chosen
