"""Where images come from: each function decodes one kind of source into the four arrays of a dataset.

train_images, test_images  uint8 [n, height, width, channels]
train_labels, test_labels  int64 [n], indices into class_names
"""

import hashlib
import os
import pathlib
import re

import numpy as np

from common.data.streams import Streams, stratified_order
from common.errors import Failure, Misuse

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MODES = {"grey": "L", "rgb": "RGB"}
FOLDER_SIZE = 64  # pixels a side for images of differing sizes, unless the setting names another


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


def _class_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)


def folder_listing(folder: pathlib.Path) -> str:
    """A digest of the folder's files, sizes and times: when it changes, the cache is rebuilt."""
    lines = []
    for path in _image_files(folder):
        status = path.stat()
        lines.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def image_folder(folder: pathlib.Path, image_size: int | None, colour: str | None) -> dict:
    """One subfolder per class, below `train/` and `test/` where they are there."""
    parts = ("",)
    if (folder / "train").is_dir() and _class_folders(folder / "train"):
        beside = [p.name for p in _class_folders(folder) if p.name not in ("train", "test")]
        if beside:
            raise Misuse(f"a dataset folder with train/ may have test/ beside it, nothing else. Received: {folder / beside[0]}")
        parts = ("train", "test") if (folder / "test").is_dir() else ("train",)
    class_names = [p.name for p in _class_folders(folder / parts[0])]
    if len(class_names) < 2:
        raise Misuse(f"a dataset folder needs one subfolder per class, at least two. Received: {folder}")
    unknown = {p.name for part in parts for p in _class_folders(folder / part)} - set(class_names)
    if unknown:
        raise Misuse(f"test/ has a class that train/ lacks: {sorted(unknown)[0]!r}, in {folder}")
    files = {part: [(f, c) for c, name in enumerate(class_names) for f in _image_files(folder / part / name)] for part in parts}
    for part in parts:
        for label, name in enumerate(class_names):
            count = sum(c == label for _, c in files[part])
            if count < (5 if part != "test" else 1):
                raise Misuse(
                    f"each class needs at least 5 images to train and 1 to test. Received: {count} in {folder / part / name}"
                )
    sizes = {_image_header(f)[0] for rows in files.values() for f, _ in rows}
    if image_size is None and len(sizes) > 1:
        image_size = FOLDER_SIZE
    if image_size is None and len(set(next(iter(sizes)))) > 1:
        image_size = max(next(iter(sizes)))
    if colour is None:
        modes = {_image_header(f)[1] for rows in files.values() for f, _ in rows}
        colour = "grey" if modes <= {"1", "L", "LA", "I;16"} else "rgb"
    splits = [
        (np.stack([_read_image(f, image_size, colour) for f, _ in files[part]]), np.array([c for _, c in files[part]]))
        for part in parts
    ]
    return _arrays(splits[0], splits[1] if len(splits) > 1 else None, class_names, folder.name)


def _image_header(path: pathlib.Path) -> tuple[tuple[int, int], str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.size, picture.mode
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_image(path: pathlib.Path, image_size: int | None, colour: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            array = np.asarray(picture.convert(MODES[colour]), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for truncated and broken files
        raise _unreadable(path, error) from error
    return _fit(array if array.ndim == 3 else array[..., None], image_size, colour)


def _unreadable(path: pathlib.Path, error: Exception) -> Misuse:
    reason = "not an image" if "cannot identify" in str(error) else str(error)
    return Misuse(f"unreadable image ({reason}): replace or remove it. Received: {path}")


def tfds_dirs() -> list[pathlib.Path]:
    """Where prepared TFDS copies are looked for."""
    own = os.environ.get("TFDS_DATA_DIR")
    return [pathlib.Path(own).expanduser().resolve()] if own else [pathlib.Path("~/tensorflow_datasets").expanduser()]


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
