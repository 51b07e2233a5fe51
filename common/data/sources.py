"""Where images come from: each function decodes one kind of source into the four arrays of a dataset.

train_images, test_images  uint8 [n, height, width, channels]
train_labels, test_labels  int64 [n], indices into class_names
"""

import hashlib
import os
import pathlib
import re
import shlex
import warnings

import numpy as np

from common.data.streams import Streams, stratified_order
from common.errors import Failure, Misuse

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"),
    *(".heic", ".heif"),  # which Pillow cannot read: better refused by name than left out
)
MODES = {"grey": "L", "rgb": "RGB"}
GREY_MODES = {"1", "L", "LA", "I;16", "I;16B", "I;16L"}
WHOLE_RANGE = 65535 / 255  # of 16 bits, to that of 8
FOLDER_SIZE = 64  # pixels a side for images of differing sizes or of more than LARGEST_SIZE, unless the setting names another
LARGEST_SIZE = 256
FOLDER_RULES = 2  # number of the way in which a folder is read: caches of another are made again
PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""What people call the folders of a split."""


def _arrays(train: tuple, test: tuple | None, class_names: list[str], name: str) -> dict:
    """Name the arrays; where there is no test split, a fixed stratified fifth of train becomes it."""
    if test is None:
        images, labels = train
        order = stratified_order(labels, Streams(0).generator("split", "test", name))
        rest, held_out = np.split(order, [len(labels) - round(len(labels) * 0.2)])
        test, train = [(images[np.sort(part)], labels[np.sort(part)]) for part in (held_out, rest)]
    return {
        "train_images": np.asarray(train[0], np.uint8),
        "train_labels": np.asarray(train[1], np.int64),
        "test_images": np.asarray(test[0], np.uint8),
        "test_labels": np.asarray(test[1], np.int64),
        "class_names": list(class_names),
    }


def _fit(image: np.ndarray, image_size: int | None, colour: str | None) -> np.ndarray:
    """One uint8 image [h, w, c], resized (bilinear) to a square and recoloured where asked."""
    from PIL import Image

    if image_size is None and (colour is None or (image.shape[-1] == 1) == (colour == "grey")):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if colour is not None:
        picture = picture.convert(MODES[colour])
    if image_size is not None:
        picture = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
    array = np.asarray(picture, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def digits(image_size: int | None, colour: str | None) -> dict:
    """The 1,797 handwritten 8×8 digits of scikit-learn (values 0 … 16), enlarged to 28×28 and scaled to 0 … 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images = np.stack([_fit(_fit(image, 28, None), image_size, colour) for image in grey])
    return _arrays((images, digits.target), None, [str(d) for d in range(10)], "digits")


def _hidden(name: str) -> bool:
    """Whether a file or folder is a system's own: `.DS_Store`, `._cat.jpg`, what macOS adds to archives, thumbnails."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _class_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p.name))


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images at any depth, sorted; none where there is no folder. Raises OSError for one that cannot be read."""
    found = []
    if not folder.is_dir():
        return found
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not _hidden(name)]
        images = (name for name in names if not _hidden(name) and name.lower().endswith(IMAGE_SUFFIXES))
        found += [pathlib.Path(place, name) for name in images]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def folder_listing(folder: pathlib.Path) -> str:
    """A digest of the folder's files, sizes and times: when it changes, the cache is rebuilt.

    Raises:
        Misuse: a folder or file that cannot be read.
    """
    try:
        own = _class_folders(folder)
        folders = [*own, *(below for p in own for below in _class_folders(p))]  # each of which may be a link
        lines = [f"rules {FOLDER_RULES}", *(str(p.relative_to(folder)) for p in folders)]
        for path in sorted({path for p in folders for path in _image_files(p)}):
            status = path.stat()
            lines.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}")
    except OSError as error:
        raise Misuse(f"dataset folder cannot be read ({error.strerror}): mend that. Received: {error.filename}") from error
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def image_folder(folder: pathlib.Path, image_size: int | None, colour: str | None) -> dict:
    """One subfolder per class, below `train/` and `test/` where they are there; a class's own subfolders belong to it.

    Images are turned as their EXIF orientation says and laid on white where they are transparent; 16 bits become 8, and of an
    animation the first frame counts. Images beside the class folders have no class and are left out.

    Raises:
        Misuse: too few classes or images, folders of another kind, an unreadable image.
    """
    parts = _parts(folder)
    class_folders = {part: _class_folders(folder / part) for part in parts}
    names = [p.name for p in class_folders[parts[0]]]
    if len(names) < 2:
        raise Misuse(_too_few_classes(folder / parts[0], class_folders[parts[0]]))
    unknown = sorted({p.name for part in parts for p in class_folders[part]} - set(names))
    if unknown:
        raise Misuse(f"test/ has a class that train/ lacks: {unknown[0]!r}, in {folder}")
    files = {part: [_image_files(folder / part / name) for name in names] for part in parts}
    for part in parts:
        for name, own in zip(names, files[part], strict=True):
            if len(own) < (5 if part != "test" else 1):
                raise Misuse(
                    "each class needs at least 5 images to train and 1 to test: add some, or take its folder away. "
                    f"Received: {len(own)} in {folder / part / name}"
                )
    with warnings.catch_warnings():  # of large images, palettes and EXIF data that Pillow reads nevertheless
        warnings.simplefilter("ignore")
        headers = {_image_header(f) for part in parts for own in files[part] for f in own}
        image_size = image_size or _common_size({size for size, _ in headers})
        colour = colour or ("grey" if {mode for _, mode in headers} <= GREY_MODES else "rgb")
        splits = [
            (
                np.stack([_read_image(f, image_size, colour) for own in files[part] for f in own]),
                np.repeat(np.arange(len(names)), [len(own) for own in files[part]]),
            )
            for part in parts
        ]
    class_names = [os.fsencode(name).decode(errors="backslashreplace") for name in names]
    return _arrays(splits[0], splits[1] if len(splits) > 1 else None, class_names, folder.name)


def _parts(folder: pathlib.Path) -> tuple[str, ...]:
    """The folders of the official splits; a blank one where there are none."""
    folders = _class_folders(folder)
    if (folder / "train").is_dir() and _class_folders(folder / "train"):
        beside = [p.name for p in folders if p.name not in ("train", "test")]
        if beside:
            raise Misuse(
                "a dataset folder with train/ may have test/ beside it, nothing else, for validation images are drawn from "
                f"train/. Received: {folder / beside[0]}"
            )
        return ("train", "test") if (folder / "test").is_dir() else ("train",)
    if folders and all(p.name.lower() in PARTS for p in folders):
        raise Misuse(
            "the folders of a split must be called train and, where there is one, test, and hold one subfolder per class. "
            f"Received: {folders[0]}"
        )
    return ("",)


def _too_few_classes(folder: pathlib.Path, class_folders: list[pathlib.Path]) -> str:
    """What is wrong with a folder that has no two classes, and what to do."""
    inner, below = folder, class_folders
    while len(below) == 1:
        inner, below = below[0], _class_folders(below[0])
    if below:
        said = f"the classes lie deeper, DATASET={shlex.quote(str(inner))}"
    elif any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir()):
        said = "move the images into folders named after their class"
    else:
        said = f"it has {len(class_folders)}"
    return f"a dataset folder needs one subfolder per class, at least two: {said}. Received: {folder}"


def _common_size(sizes: set[tuple[int, int]]) -> int | None:
    """Pixels a side for images of some widths and heights; None for those that keep their size."""
    longest = max(map(max, sizes))
    if len(sizes) > 1 or longest > LARGEST_SIZE:
        return FOLDER_SIZE
    return None if sizes == {(longest, longest)} else longest


def _image_header(path: pathlib.Path) -> tuple[tuple[int, int], str]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            # Pillow reads a 16-bit PGM into 32 bits.
            return picture.size, "I;16" if (picture.mode, picture.format) == ("I", "PPM") else picture.mode
    except Exception as error:
        raise _unreadable(path, error) from error


def _read_image(path: pathlib.Path, image_size: int | None, colour: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            array = np.asarray(_flat(picture).convert(MODES[colour]), np.uint8)
    except Exception as error:  # Pillow's readers raise a dozen kinds for truncated and broken files
        raise _unreadable(path, error) from error
    return _fit(array if array.ndim == 3 else array[..., None], image_size, colour)


def _flat(picture):
    """A Pillow image as viewers show it: upright, opaque on white, of 8 bits a channel."""
    from PIL import Image, ImageOps

    deep = picture.mode in GREY_MODES - {"1", "L", "LA"} or (picture.mode, picture.format) == ("I", "PPM")
    if picture.mode in ("I", "F") and not deep:
        raise ValueError("pixels of 32 bits, whose range nothing says; save it with 8 or 16")
    picture = ImageOps.exif_transpose(picture)
    if deep:
        return Image.fromarray(np.round(np.asarray(picture) / WHOLE_RANGE).astype(np.uint8))
    if picture.has_transparency_data:
        own = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", own.size, "white"), own)
    return picture


def _unreadable(path: pathlib.Path, error: Exception) -> Misuse:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = "not an image that Pillow reads" if "cannot identify" in reason else reason
    return Misuse(f"unreadable image ({reason}): replace or remove it. Received: {path}")


def tfds_dirs() -> list[pathlib.Path]:
    """Where prepared TFDS copies are looked for."""
    own = os.environ.get("TFDS_DATA_DIR")
    return [pathlib.Path(own).expanduser().resolve()] if own else [pathlib.Path(os.path.expanduser("~/tensorflow_datasets"))]


def prepared_copy(name: str) -> pathlib.Path | None:
    """The newest prepared version of a TFDS dataset on this machine (`name` may hold a config: `cmaterdb/devanagari`)."""
    found = [info.parent for folder in tfds_dirs() for info in (folder / name).rglob("dataset_info.json")]
    whole = [p for p in found if "incomplete" not in p.name and re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    return max(whole, key=lambda p: tuple(map(int, p.name.split("."))), default=None)


def tfds_dataset(name: str, image_size: int | None, colour: str | None) -> dict:
    """Read a prepared TFDS dataset, downloading it first where it is missing."""
    import tensorflow_datasets as tfds

    copy = prepared_copy(name)
    if copy is None:
        try:
            builder = tfds.builder(name, data_dir=tfds_dirs()[0])
            builder.download_and_prepare()
        except Exception as error:  # whatever TFDS, its builders or the network raise
            raise Failure(
                f"dataset {name} could not be downloaded ({_brief(error)}): see DATASET=digits, TFDS_DATA_DIR"
            ) from error
    else:
        builder = tfds.builder_from_directory(copy)
    features = builder.info.features
    kinds = {key: type(features[key]).__name__ for key in ("image", "label") if key in features}
    if kinds != {"image": "Image", "label": "ClassLabel"}:
        raise Misuse(
            f"{name} is not an image-classification dataset: it needs an image and one class label. Received: {kinds or features}"
        )
    if image_size is None and None in features["image"].shape[:2]:
        image_size = FOLDER_SIZE
    if colour is None and features["image"].shape[-1] not in (1, 3):
        colour = "rgb"
    try:
        splits = {}
        for split in [s for s in ("train", "test") if s in builder.info.splits]:
            images, labels = [], []
            for row in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
                images.append(_fit(row["image"][..., :3], image_size, colour))
                labels.append(row["label"])
            splits[split] = (np.stack(images), np.array(labels))
    except Exception as error:
        raise Failure(
            f"dataset {name} in {builder.data_dir} is corrupt ({_brief(error)}): delete that folder and prepare it again"
        ) from error
    if "train" not in splits:
        raise Misuse(f"{name} has no train split. Received: {list(builder.info.splits)}")
    return _arrays(splits["train"], splits.get("test"), features["label"].names, name)


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"
