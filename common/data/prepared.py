"""Datasets of TFDS: which prepared copy a name means, and its images as the arrays of a dataset; see `arrays`."""

import fnmatch
import io
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from common.data import pixels
from common.data.arrays import arrays, content, told
from common.data.sources import FOLDER_SIZE, common_size, made_from
from common.errors import Failure, Misuse
from common.files import user_path

VALIDATION = ("validation", "valid", "val", "dev")
"""What TFDS datasets call the split that is val."""
NAME = re.compile(r"(?P<dataset>[^/:]+)(/(?P<config>[^:]+))?(:(?P<version>.+))?")
DAMAGED = ("DataLossError", "InvalidArgumentError", "NotFoundError")
"""What TensorFlow raises where files are damaged or gone."""
JPEG = b"\xff\xd8"


class Copy(NamedTuple):
    """A prepared version of a dataset on this machine."""

    config: str
    """Blank where the dataset has none."""
    version: tuple[int, ...]
    path: pathlib.Path


def tfds_dirs() -> list[pathlib.Path]:
    """Where prepared TFDS copies are looked for."""
    own = os.environ.get("TFDS_DATA_DIR")
    return [user_path(own, "TFDS_DATA_DIR").resolve()] if own else [pathlib.Path(os.path.expanduser("~/tensorflow_datasets"))]


def parsed(name: str) -> tuple[str, str, str]:
    """Dataset, config and version of a name as TFDS writes it, blank where it does not say them. Raises `Misuse`."""
    found = NAME.fullmatch(name)
    if not found:
        raise Misuse(f"a dataset of TFDS is called dataset, dataset/config or dataset/config:1.0.0. Received: {name!r}")
    return found["dataset"], found["config"] or "", found["version"] or ""


def prepared_copy(name: str) -> pathlib.Path | None:
    """The newest prepared version of a TFDS dataset on this machine, in the config that the name says or that TFDS takes.

    Raises:
        Misuse: several configs, of which neither the name nor TFDS says one.
    """
    dataset, config, version = parsed(name)
    found = [copy for folder in tfds_dirs() for copy in _copies(folder / dataset)]
    if not config and any(copy.config for copy in found):
        config = _default_config(dataset)
        there = sorted({copy.config for copy in found})
        if config is None and len(there) > 1:
            choices = " or ".join(f"{dataset}/{one}" for one in there)
            raise Misuse(f"{dataset} has several configs: name one, {choices}. Received: {name}")
        config = there[0] if config is None else config
    fitting = [c for c in found if c.config == config and fnmatch.fnmatch(".".join(map(str, c.version)), version or "*")]
    return max(fitting, key=lambda copy: copy.version).path if fitting else None


def prepared_names(name: str) -> list[str]:
    """What the prepared copies of a dataset are called, whatever config and version the name says."""
    dataset, *_ = parsed(name)
    copies = {copy[:2] for folder in tfds_dirs() for copy in _copies(folder / dataset)}
    return ["/".join(filter(None, (dataset, config))) + ":" + ".".join(map(str, version)) for config, version in sorted(copies)]


def _copies(folder: pathlib.Path) -> Iterator[Copy]:
    for info in folder.rglob("dataset_info.json"):
        *config, version = info.parent.relative_to(folder).parts or ("",)
        if re.fullmatch(r"\d+\.\d+\.\d+", version) and not any("incomplete" in part for part in config):
            yield Copy("/".join(config), tuple(map(int, version.split("."))), info.parent)


def _default_config(dataset: str) -> str | None:
    """The config that TFDS takes where none is named; None where it does not know the dataset."""
    import tensorflow_datasets as tfds

    try:
        default = tfds.builder_cls(dataset).default_builder_config
    except Exception:  # not registered
        return None
    return default.name if default else None


def tfds_dataset(name: str, image_size: int | None, colour: str | None) -> dict:
    """Read a prepared TFDS dataset, downloading it first where it is missing; a validation split becomes val.

    Raises:
        Misuse: not one labelled image each, or images that have no 8 bits. Failure: no download, damaged files.
    """
    builder = _builder(name)
    features, there = builder.info.features, [name for name, split in builder.info.splits.items() if split.num_examples]
    kinds = {key: type(feature).__name__ for key, feature in getattr(features, "items", dict)()}
    if (kinds.get("image"), kinds.get("label")) != ("Image", "ClassLabel"):
        said = ", ".join(f"{key}: {kind}" for key, kind in kinds.items()) or type(features).__name__
        raise Misuse(
            f"{name} is not an image-classification dataset: it needs a feature image, an Image, and a feature label, a "
            f"ClassLabel. Received: {said}"
        )
    if "train" not in there:
        raise Misuse(f"{name} has no train split. Received: {there}")
    height, width, channels = features["image"].shape
    if image_size is None:
        image_size = FOLDER_SIZE if None in (height, width) else common_size({(width, height)})
    if colour is None and channels not in (1, 3):
        colour = "grey" if channels == 2 else "rgb"
    called = {"train": ("train",), "val": VALIDATION, "test": ("test",)}
    names = {part: next(s for s in own if s in there) for part, own in called.items() if any(s in there for s in own)}
    white = _white(builder, name, names.values())
    sizes, splits, seen = set(), {}, {"turned": 0, "transparent": 0}
    for part, split in names.items():
        images, labels = [], []
        for image, label, orientation in told(_Rows(builder, name, split), f"{name}, {split}"):
            image = pixels.upright(image, orientation)
            sizes.add((image.shape[1], image.shape[0]))
            seen["turned"] += orientation > 1
            seen["transparent"] += pixels.is_transparent(image)
            images.append(pixels.fit(_mapped(image, white, name), image_size, colour))
            labels.append(label)
        splits[part] = np.stack(images), _checked(np.array(labels), features["label"].num_classes, f"{split} of {name}")
    classes = features["label"].names or list(map(str, range(1 + max(int(labels.max()) for _, labels in splits.values()))))
    made = arrays(splits["train"], splits.get("test"), classes, name=name, val=splits.get("val"))
    made["made"] = made_from(sizes, image_size)
    dtype, copies = np.dtype(features["image"].np_dtype), _copies_in_test(made)
    notes = {
        f"{seen['turned']} turned as their EXIF data say": seen["turned"],
        f"{seen['transparent']} transparent, laid on {pixels.GROUND}": seen["transparent"],
        f"{dtype} pixels, scaled to 8 bits": dtype != np.uint8,
        "the test images are a fifth of train": "test" not in splits,
        f"{copies} images of test are also in train": copies,
    }
    made["notes"] = [*(text for text, holds in notes.items() if holds), *made["notes"]]
    return made


def _builder(name: str):
    import tensorflow_datasets as tfds

    copy = prepared_copy(name)
    if copy is not None:
        try:
            return tfds.builder_from_directory(copy)
        except Exception as error:  # whatever TFDS raises for a copy of another version or a file that has gone
            raise Failure(f"dataset {name} in {copy} cannot be opened ({_brief(error)}): prepare it again") from error
    try:
        builder = tfds.builder(name, data_dir=tfds_dirs()[0])
        builder.download_and_prepare()
    except Exception as error:  # whatever TFDS, its builders or the network raise
        raise Failure(f"dataset {name} could not be downloaded ({_brief(error)}): see DATASET=digits, TFDS_DATA_DIR") from error
    return builder


class _Rows:
    """The examples of a split in their order: image, label, and the orientation that a JPEG file says, 1 for upright."""

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
        """Raises `Failure` where the files are damaged or gone."""
        import tensorflow_datasets as tfds

        rows = iter(tfds.as_numpy(self.builder.as_dataset(split=self.split, shuffle_files=False, **options)))
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # one of TensorFlow's, which this room does not import
                which, damaged = f"dataset {self.name} in {self.builder.data_dir}", type(error).__name__ in DAMAGED
                said = "is corrupt" if damaged else "cannot be read"
                remedy = ": delete that folder and prepare it again" if damaged else ""
                raise Failure(f"{which} {said} ({_brief(error)}){remedy}") from error
            if row is None:
                return
            yield row


def _orientation(file: bytes) -> int:
    from PIL import Image

    if not file.startswith(JPEG):
        return 1
    try:
        with Image.open(io.BytesIO(file)) as picture:
            return picture.getexif().get(pixels.ORIENTATION, 1)
    except Exception:  # Pillow does not read what TensorFlow does
        return 1


def _white(builder, name: str, splits) -> int | None:
    """What white is in images whose type does not say it; None where it does."""
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


def _mapped(image: np.ndarray, white: int | None, name: str) -> np.ndarray:
    try:
        return pixels.eight_bits(image, white)
    except ValueError as error:
        raise Misuse(f"{error}. Received: an image of {name}") from error


def _checked(labels: np.ndarray, classes: int | None, which: str) -> np.ndarray:
    """Labels as they are. Raises `Misuse` for one that is of no class, as -1 is."""
    wrong = labels[(labels < 0) | (labels >= (classes or np.inf))]
    if len(wrong):
        raise Misuse(
            f"{len(wrong)} of the {len(labels)} images in {which} have no label: choose a dataset whose splits are labelled. "
            f"Received: {wrong[0]}"
        )
    return labels


def _copies_in_test(made: dict) -> int:
    """How many test images are also in train."""
    trained = {content(image) for image in made["train_images"]}
    return sum(content(image) in trained for image in made["test_images"])


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"
