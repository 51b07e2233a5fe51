"""Datasets of TFDS: finds the prepared copy for a name, and reads it as the arrays of a dataset, see `arrays`."""

import fnmatch
import io
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from common.data import pixels
from common.data.arrays import arrays, image_hash, with_progress
from common.data.sources import FOLDER_SIZE, common_size, made_from
from common.errors import Failure, Misuse
from common.files import user_path

VALIDATION = ("validation", "valid", "val", "dev")
"""Names of the validation split in TFDS datasets."""
NAME = re.compile(r"(?P<dataset>[^/:]+)(/(?P<config>[^:]+))?(:(?P<version>.+))?")
DAMAGED = ("DataLossError", "InvalidArgumentError", "NotFoundError")
"""Errors that TensorFlow raises for damaged or missing files."""
JPEG = b"\xff\xd8"


class Copy(NamedTuple):
    """A prepared version of a dataset on this machine."""

    config: str
    """Empty if the dataset has no configs."""
    version: tuple[int, ...]
    path: pathlib.Path


def tfds_dirs() -> list[pathlib.Path]:
    """Folders in which prepared TFDS datasets are searched."""
    path = os.environ.get("TFDS_DATA_DIR")
    return [user_path(path, "TFDS_DATA_DIR").resolve()] if path else [pathlib.Path(os.path.expanduser("~/tensorflow_datasets"))]


def parsed(name: str) -> tuple[str, str, str]:
    """Dataset, config and version of a TFDS name, empty if it does not give them. Raises `Misuse`."""
    match = NAME.fullmatch(name)
    if not match:
        raise Misuse(f"a dataset of TFDS must be named as dataset, dataset/config or dataset/config:1.0.0. Received: {name!r}")
    return match["dataset"], match["config"] or "", match["version"] or ""


def prepared_copy(name: str) -> pathlib.Path | None:
    """Path of the newest prepared version of a TFDS dataset that matches a name; None if there is none.

    Without a config in the name, that is TFDS' default, or the only one that is prepared.

    Raises:
        Misuse: several configs are prepared, the name gives none, and TFDS has no default.
    """
    dataset, config, version = parsed(name)
    copies = [copy for folder in tfds_dirs() for copy in _copies(folder / dataset)]
    if not config and any(copy.config for copy in copies):
        config = _default_config(dataset)
        configs = sorted({copy.config for copy in copies})
        if config is None and len(configs) > 1:
            choices = " or ".join(f"{dataset}/{one}" for one in configs)
            raise Misuse(f"{dataset} has several configs: name one, {choices}. Received: {name}")
        config = configs[0] if config is None else config
    matching = [c for c in copies if c.config == config and fnmatch.fnmatch(".".join(map(str, c.version)), version or "*")]
    return max(matching, key=lambda copy: copy.version).path if matching else None


def prepared_names(name: str) -> list[str]:
    """Full names, with config and version, of all prepared copies of a name's dataset."""
    dataset, *_ = parsed(name)
    copies = {copy[:2] for folder in tfds_dirs() for copy in _copies(folder / dataset)}
    return ["/".join(filter(None, (dataset, config))) + ":" + ".".join(map(str, version)) for config, version in sorted(copies)]


def _copies(folder: pathlib.Path) -> Iterator[Copy]:
    """The prepared copies in a dataset's folder."""
    for info in folder.rglob("dataset_info.json"):
        *config, version = info.parent.relative_to(folder).parts or ("",)
        if re.fullmatch(r"\d+\.\d+\.\d+", version) and not any("incomplete" in part for part in config):
            yield Copy("/".join(config), tuple(map(int, version.split("."))), info.parent)


def _default_config(dataset: str) -> str | None:
    """Name of the config that TFDS uses by default; None if the dataset has none or is unknown to TFDS."""
    import tensorflow_datasets as tfds

    try:
        default = tfds.builder_cls(dataset).default_builder_config
    except Exception:  # not registered
        return None
    return default.name if default else None


def tfds_dataset(name: str, image_size: int | None, colour: str | None) -> dict:
    """Read a TFDS dataset, downloaded first if necessary, as arrays; see `arrays`.

    Args:
        image_size, colour: see `common.data.dataset.load`.

    Raises:
        Misuse: examples without an image and a label, or images that cannot be converted to 8 bits.
        Failure: the download failed, or files are damaged.
    """
    builder = _builder(name)
    features, available = builder.info.features, [name for name, split in builder.info.splits.items() if split.num_examples]
    kinds = {key: type(feature).__name__ for key, feature in getattr(features, "items", dict)()}
    if (kinds.get("image"), kinds.get("label")) != ("Image", "ClassLabel"):
        received = ", ".join(f"{key}: {kind}" for key, kind in sorted(kinds.items())) or type(features).__name__
        raise Misuse(
            f"{name} is not an image-classification dataset: it needs a feature `image` of type Image and a feature `label` of "
            f"type ClassLabel. Received: {received}"
        )
    if "train" not in available:
        raise Misuse(f"{name} has no train split: choose another dataset. Received: {available}")
    height, width, channels = features["image"].shape
    if image_size is None:
        image_size = FOLDER_SIZE if None in (height, width) else common_size({(width, height)})
    if colour is None and channels not in (1, 3):
        colour = "grey" if channels == 2 else "rgb"
    known = {"train": ("train",), "val": VALIDATION, "test": ("test",)}
    names = {part: next(s for s in of if s in available) for part, of in known.items() if any(s in available for s in of)}
    white = _white(builder, name, names.values())
    sizes, splits, seen = set(), {}, {"turned": 0, "transparent": 0}
    for part, split in names.items():
        images, labels = [], []
        for image, label, orientation in with_progress(_Rows(builder, name, split), f"{name}, {split}"):
            image = pixels.upright(image, orientation)
            sizes.add((image.shape[1], image.shape[0]))
            seen["turned"] += orientation > 1
            seen["transparent"] += pixels.is_transparent(image)
            images.append(pixels.resized(_eight_bits(image, white, name), image_size, colour))
            labels.append(label)
        splits[part] = np.stack(images), _checked(np.array(labels), features["label"].num_classes, f"{split} of {name}")
    classes = features["label"].names or list(map(str, range(1 + max(int(labels.max()) for _, labels in splits.values()))))
    made = arrays(splits["train"], splits.get("test"), classes, name=name, val=splits.get("val"))
    made["made"] = made_from(sizes, image_size)
    dtype, copies = np.dtype(features["image"].np_dtype), _copies_in_test(made)
    notes = {
        f"{seen['turned']} rotated by their EXIF orientation": seen["turned"],
        f"{seen['transparent']} transparent, composited on {pixels.BACKGROUND}": seen["transparent"],
        f"{dtype} pixels, scaled to 8 bits": dtype != np.uint8,
        "the test images are a fifth of train": "test" not in splits,
        f"{copies} images of test are also in train": copies,
    }
    made["notes"] = [*(text for text, holds in notes.items() if holds), *made["notes"]]
    return made


def _builder(name: str):
    """The TFDS builder of a dataset: of the prepared copy, else of a new download. Raises `Failure`."""
    import tensorflow_datasets as tfds

    copy = prepared_copy(name)
    if copy is not None:
        try:
            return tfds.builder_from_directory(copy)
        except Exception as error:  # TFDS raises various types for a copy of another version or a missing file
            raise Failure(f"dataset {name} in {copy} cannot be opened ({_brief(error)}): prepare it again") from error
    try:
        builder = tfds.builder(name, data_dir=tfds_dirs()[0])
        builder.download_and_prepare()
    except Exception as error:  # TFDS, its builders and the network raise various types
        raise Failure(
            f"dataset {name} could not be downloaded ({_brief(error)}): use DATASET=digits, which needs no download, or set "
            "TFDS_DATA_DIR to a folder with a prepared copy"
        ) from error
    return builder


class _Rows:
    """Iterates over a split in its fixed order: image, label and EXIF orientation (1, upright, for formats other than JPEG)."""

    def __init__(self, builder, name: str, split: str):
        self.builder, self.name, self.split = builder, name, split

    def __len__(self) -> int:
        return self.builder.info.splits[self.split].num_examples

    def __iter__(self):
        import tensorflow_datasets as tfds

        rows = self._read()
        if self.builder.info.features["image"].encoding_format == "png":
            yield from ((row["image"], int(row["label"]), 1) for row in rows)
            return
        files = self._read(decoders={"image": tfds.decode.SkipDecoding()})
        for row, file in zip(rows, files, strict=True):
            yield row["image"], int(row["label"]), _orientation(file["image"])

    def _read(self, **options) -> Iterator[dict]:
        """The examples of the split. Raises `Failure` for damaged or missing files."""
        import tensorflow_datasets as tfds

        rows = iter(tfds.as_numpy(self.builder.as_dataset(split=self.split, shuffle_files=False, **options)))
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # TensorFlow's error types are not imported here
                damaged = type(error).__name__ in DAMAGED
                problem = "is corrupt" if damaged else "cannot be read"
                remedy = ": delete that folder and prepare it again" if damaged else ""
                raise Failure(f"dataset {self.name} in {self.builder.data_dir} {problem} ({_brief(error)}){remedy}") from error
            if row is None:
                return
            yield row


def _orientation(file: bytes) -> int:
    """EXIF orientation of an encoded image, 1 … 8."""
    from PIL import Image

    if not file.startswith(JPEG):
        return 1
    try:
        with Image.open(io.BytesIO(file)) as picture:
            return picture.getexif().get(pixels.ORIENTATION, 1)
    except Exception:  # a file that TensorFlow reads and Pillow does not
        return 1


def _white(builder, name: str, splits) -> int | None:
    """Value of white in images whose type has no standard range; None for other types. Raises `Misuse`."""
    dtype = np.dtype(builder.info.features["image"].np_dtype)
    if not pixels.needs_white(np.empty(0, dtype)):
        return None
    least, most = np.inf, -np.inf
    for split in splits:
        for image, *_ in _Rows(builder, name, split):
            least, most = np.minimum(least, image.min()), np.maximum(most, image.max())
    try:
        return pixels.white_of(least, most, dtype.kind in "iu")
    except ValueError as error:
        raise Misuse(f"images of {dtype}: {error}. Received: {name}") from error


def _eight_bits(image: np.ndarray, white: int | None, name: str) -> np.ndarray:
    """`pixels.eight_bits`, whose error becomes a `Misuse` with the dataset's name."""
    try:
        return pixels.eight_bits(image, white)
    except ValueError as error:
        raise Misuse(f"{error}. Received: an image of {name}") from error


def _checked(labels: np.ndarray, classes: int | None, which: str) -> np.ndarray:
    """The labels unchanged. Raises `Misuse` for one outside 0 … classes − 1, such as the -1 of unlabelled splits."""
    wrong = labels[(labels < 0) | (labels >= (classes or np.inf))]
    if len(wrong):
        raise Misuse(
            f"{len(wrong)} of the {len(labels)} images in {which} have no label: choose a dataset whose splits are labelled. "
            f"Received: {wrong[0]}"
        )
    return labels


def _copies_in_test(made: dict) -> int:
    """Number of test images that are also in train."""
    train = {image_hash(image) for image in made["train_images"]}
    return sum(image_hash(image) in train for image in made["test_images"])


def _brief(error: Exception) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"
