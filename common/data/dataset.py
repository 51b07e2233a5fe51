"""`load(name)` -> Dataset: decodes a dataset once into a cache, and opens it from there.

The cache (`CACHE_DIR`, by default `.cache/` in the project) holds uint8 `.npy` files with their SHA-256. They are memory-mapped,
so workers share their pages, and opening one takes a fraction of a second.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np

from common.data import folders, prepared, sources
from common.data.arrays import description
from common.data.cache import CACHE_FORMAT, cache_dir, sha256, valid_meta, write_cache
from common.data.pixels import MODES
from common.data.split import Split
from common.data.streams import Streams, least_counts, stratified_order
from common.errors import Failure, Misuse
from common.files import PROJECT, user_path
from common.text import did_you_mean, printable

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
CHILD = (sys.executable, "-m", "common.data.dataset")
"""Command of the child process that decodes a TFDS dataset."""
PROBE_SECONDS = 8
"""Time limit for an answer of the network."""


@dataclass(frozen=True)
class Dataset:
    """A cached dataset, as returned by `load`. Only `test()` opens the test split."""

    name: str
    folder: pathlib.Path
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_size: int
    test_size: int
    checksum: str
    """SHA-256 over all images and labels, hexadecimal."""
    val_size: int = 0
    """Number of examples at the end of train that are the official validation split; 0 if val is drawn from train."""

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def to_json(self) -> dict:
        """The fields as plain values, which a worker receives as JSON."""
        return {**vars(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, fields: dict) -> "Dataset":
        """The dataset with the fields that `to_json` returned."""
        sequences = {name: tuple(fields[name]) for name in ("shape", "class_names")}
        return cls(**{**fields, **sequences, "folder": pathlib.Path(fields["folder"])})

    @property
    def val_fraction(self) -> float:
        """Fraction of train that becomes val where there is no official validation split."""
        return 0.2 if self.name == "digits" else 0.1

    def split_sizes(self) -> tuple[int, int]:
        """Sizes of train and val."""
        val = self.val_size or max(round(self.train_size * self.val_fraction), min(self.classes, self.train_size // 2))
        return self.train_size - val, val

    def least_train_counts(self) -> np.ndarray:
        """A lower bound for the number of train examples that each class has in the split of any seed: int [classes]."""
        labels = self._open("train")[1]
        if self.val_size:
            return _counts(labels[: -self.val_size], self.classes)
        counts = _counts(labels, self.classes)
        least = np.zeros_like(counts)
        least[: labels.max() + 1] = least_counts(labels, self.split_sizes()[0])
        return np.where(counts > 1, np.minimum(least, counts - 1), least)  # see `_exchange`

    def split(self, streams: Streams) -> tuple[Split, Split]:
        """Train and val: the official validation split if there is one, else a stratified random split.

        Train is in a random order of which every prefix is stratified. A val that is drawn has an example of each class that has
        at least two.
        """
        images, labels = self._open("train")
        if self.val_size:
            order = stratified_order(labels[: -self.val_size], streams.generator("split"))
            return self._part(images, labels, order), self._part(images, labels, np.arange(len(order), len(labels)))
        order = stratified_order(labels, streams.generator("split"))
        train, val = np.split(order, [self.split_sizes()[0]])
        _exchange(labels, train, val)
        return self._part(images, labels, train), self._part(images, labels, np.sort(val))

    def test(self) -> Split:
        """The official test split; for datasets without one a fixed fifth of train."""
        images, labels = self._open("test")
        return self._part(images, labels, np.arange(len(labels)))

    def about(self) -> str:
        """One line that describes the dataset: classes, sizes of the splits, image size and colour, conversions, notes."""
        meta = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        train, val = (_counts(split.labels, self.classes) for split in self.split(Streams(0)))
        counts = {"train": train, "val": val, "test": np.array(meta["test_counts"])}
        return description(self.class_names, counts, self.shape, meta["made"], meta["notes"])

    def _part(self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Split:
        return Split(images, labels[ids].astype(np.int64), ids, classes=self.classes)

    def _open(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels. The main process has verified their hashes.

        Raises:
            Failure: the cache was deleted, or another command has written it anew, from changed images.
        """
        try:
            images, labels = (np.load(self.folder / f"{split}_{what}.npy", mmap_mode="r") for what in ("images", "labels"))
            there = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))["checksum"]
        except (OSError, ValueError, KeyError) as error:
            raise Failure(f"the data cache {self.folder} was deleted or is being written: run again") from error
        if there != self.checksum:  # looked at last, so that the arrays opened before it are those of this dataset
            raise Failure(f"the images of {self.name} have changed since this run began: run again")
        return images, labels


def _counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Number of examples of each class: int [classes]."""
    return np.bincount(labels, minlength=classes)


def _exchange(labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> None:
    """Swap examples in place so that val has one of each class: against one of the class that is most frequent in val.

    Rounding leaves a rare class without an example in val. A class with a single example stays in train.
    """
    counts = np.bincount(labels[val], minlength=labels.max() + 1)
    for rare in np.flatnonzero(counts == 0):
        positions, most = np.flatnonzero(labels[train] == rare), counts.argmax()
        if len(positions) > 1 and counts[most] > 1:
            last = np.flatnonzero(labels[val] == most)[-1]
            train[positions[-1]], val[last] = val[last], train[positions[-1]]
            counts[rare] += 1
            counts[most] -= 1


def load(name: str, image_size: int | None = None, colour: str | None = None) -> Dataset:
    """Open a dataset from the cache, and write it to the cache first if it is missing, damaged or out of date.

    Args:
        name: one of `NAMES`, any other image-classification dataset of TFDS, or a folder with one subfolder per class.
        image_size: resize images to squares of this side in pixels, without keeping their aspect ratio. By default the images'
            size, or 64 if they differ in size or are larger than 256.
        colour: "grey" or "rgb"; by default that of the images.

    Raises:
        Misuse: unknown name, unreadable image. Failure: no network, corrupt files.
    """
    if colour is not None and colour not in MODES:
        raise Misuse(f"colour must be grey or rgb. Received: {colour!r}")
    if image_size is not None and not 1 <= image_size <= 1024:
        raise Misuse(f"image_size must be between 1 and 1024 pixels. Received: {image_size}")
    path = image_folder(name)
    image_files = folders.scan(path) if path else None
    source = image_files.digest() if image_files else _source(name)
    key = f"{slug(name)}-{image_size or 'native'}-{colour or 'native'}-{CACHE_FORMAT}"  # two versions may share CACHE_DIR
    folder = cache_dir() / key
    meta = valid_meta(folder, source)
    if meta is None:
        if name == "digits":
            write_cache(folder, source, name, sources.digits(image_size, colour))
        elif image_files:
            listing = folder.with_name(f"{key}.broken.txt")
            write_cache(folder, source, name, sources.image_folder(image_files, image_size, colour, listing))
        else:
            _prepare_from_tfds(folder, name, image_size, colour)
            source = _source(name)  # which may have been downloaded
        meta = valid_meta(folder, source)
        if meta is None:
            raise Failure(f"the data cache {folder} changed while it was written: run again")
    return Dataset(
        name=slug(name),
        folder=folder,
        shape=tuple(meta["shape"]),
        class_names=tuple(meta["class_names"]),
        train_size=meta["train"],
        test_size=meta["test"],
        checksum=meta["checksum"],
        val_size=meta["val"],
    )


def slug(name: str) -> str:
    """A dataset's name as used in file names; of a folder, its last component and a hash of its path."""
    folder = image_folder(name)
    if folder is None:
        return re.sub("[/:*]", "_", name)
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=4).hexdigest()
    return re.sub(r"[^A-Za-z0-9_.]+", "_", folder.name) + f"_{digest}"


def _source(name: str) -> str:
    """What a cache is made from: a dataset's name; for TFDS with a hash of the prepared copy's description, if there is one."""
    copy = prepared.prepared_copy(name) if name != "digits" else None
    return name if copy is None else f"{name} {sha256(copy / 'dataset_info.json')}"


def image_folder(name: str) -> pathlib.Path | None:
    """The absolute path if `name` is that of an image folder; None for the name of a dataset. Raises `Misuse`."""
    if name in NAMES or not (os.path.exists(name) or name.startswith((".", "/", "~"))):
        return None
    path = name if os.path.exists(name) else user_path(name, "dataset")
    if os.path.isfile(path):
        raise Misuse(f"dataset must be a folder with one subfolder per class, not a file (unpack an archive). Received: {name!r}")
    if not os.path.isdir(path):
        raise Misuse(f"dataset folder does not exist or cannot be read. Received: {name!r}")
    return pathlib.Path(path).resolve()


# --- TFDS ----------------------------------------------------------------------------------------------------------


def _prepare_from_tfds(folder: pathlib.Path, name: str, image_size: int | None, colour: str | None) -> None:
    """Decode a TFDS dataset in a child process, which keeps TensorFlow's import, memory and messages out of this one.

    Raises:
        Misuse: unknown dataset. Failure: neither a prepared copy nor a network.
    """
    if prepared.prepared_copy(name) is None:
        import tensorflow_datasets as tfds

        builders = tfds.list_builders(with_community_datasets=False)
        if prepared.parsed(name)[0] not in builders:
            names = ", ".join(prepared.prepared_names(name))
            hint = did_you_mean(name, NAMES) or did_you_mean(name, builders)
            raise Misuse(
                f"dataset must be one of {', '.join(NAMES)}, another image-classification dataset of tensorflow-datasets "
                f"by its name, or a folder with one subfolder per class{f'; prepared here: {names}' if names else ''}. "
                f"Received: {name!r}{hint}"
            )
        if not network_answers():
            raise Failure(
                f"dataset {name} is not on this machine (looked in {', '.join(map(str, prepared.tfds_dirs()))}) and the network "
                "does not answer: use DATASET=digits, which needs no download, or set TFDS_DATA_DIR to a folder that holds a "
                f"prepared copy ({name}/<version>/)"
            )
        print(f"{name}: downloading to {prepared.tfds_dirs()[0]} …", file=sys.stderr)
    arguments = [name, str(folder), str(image_size or 0), colour or ""]
    process = subprocess.Popen(
        [*CHILD, *arguments],
        cwd=PROJECT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
    )
    last = ""
    with process:
        for line in process.stderr:
            if line.startswith(f"{name}, "):  # progress
                print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
    if process.returncode != 0:
        raise (Misuse if process.returncode == Misuse.status else Failure)(
            last or f"reading {name} ended with exit status {process.returncode}"
        )


def network_answers() -> bool:
    """Whether the host from which TFDS and Keras download can be reached, through the user's proxy if there is one."""
    answered = threading.Event()

    def ask():
        try:
            urllib.request.urlopen("https://storage.googleapis.com/tfds-data", timeout=PROBE_SECONDS).close()
            answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # name look-ups ignore timeouts, so it may still run at the end
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def main() -> None:
    """The child process: decode one TFDS dataset into the cache."""
    parser = argparse.ArgumentParser(description="Decode one TFDS dataset into a cache folder.")
    for name in ("name", "folder", "image_size", "colour"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    try:
        arrays = prepared.tfds_dataset(arguments.name, int(arguments.image_size) or None, arguments.colour or None)
        write_cache(pathlib.Path(arguments.folder), _source(arguments.name), arguments.name, arrays)
    except (Misuse, Failure) as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
