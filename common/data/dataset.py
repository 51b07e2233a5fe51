"""`load(name)` -> Dataset: the only place that knows where images come from.

Every dataset is kept decoded as uint8 `.npy` files in a cache (`CACHE_DIR`, by default `.cache/` of the project), each
with its SHA-256, and opened by memory map, so that workers share its pages and a start takes a fraction of a second.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np

from common.data import folders, prepared, sources
from common.data.arrays import described
from common.data.pixels import MODES
from common.data.split import Split
from common.data.streams import Streams, stratified_order
from common.errors import Failure, Misuse
from common.files import PROJECT, user_path
from common.text import did_you_mean, printable

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
CACHE_FORMAT = 2
CHILD = (sys.executable, "-m", "common.data.dataset")
"""The process that reads TFDS."""
PROBE_SECONDS = 8  # how long a silent network is waited for before it counts as absent


@dataclass(frozen=True)
class Dataset:
    """A cached dataset; `load` makes one. The test split is opened only by `test()`."""

    name: str
    folder: pathlib.Path
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_size: int
    test_size: int
    checksum: str
    """SHA-256 over all images and labels, hexadecimal."""
    val_size: int = 0
    """How many examples at the end of train are its official validation split; 0 where val is drawn from train."""

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def to_json(self) -> dict:
        """For another process."""
        return {**vars(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, fields: dict) -> "Dataset":
        """What `to_json` gave."""
        sequences = {name: tuple(fields[name]) for name in ("shape", "class_names")}
        return cls(**{**fields, **sequences, "folder": pathlib.Path(fields["folder"])})

    @property
    def val_fraction(self) -> float:
        return 0.2 if self.name == "digits" else 0.1

    def split_sizes(self) -> tuple[int, int]:
        """How many examples `split` gives to train and to val."""
        val = self.val_size or max(round(self.train_size * self.val_fraction), min(self.classes, self.train_size // 2))
        return self.train_size - val, val

    def split(self, streams: Streams) -> tuple[Split, Split]:
        """Train and val, both stratified; train in the order drawn, of which every prefix holds the classes in proportion.

        Val is the official one where there is one. Else it holds at least one example of each class of which there are two.
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
        """The official test split, or the fixed stratified fifth where there is none."""
        images, labels = self._open("test")
        return self._part(images, labels, np.arange(len(labels)))

    def about(self) -> str:
        """One line about what was understood: classes, splits, size and colour, what they were made from, what is odd."""
        meta = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        train, val = (_counts(split.labels, self.classes) for split in self.split(Streams(0)))
        counts = {"train": train, "val": val, "test": np.array(meta["test_counts"])}
        return described(self.class_names, counts, self.shape, meta["made"], meta["notes"])

    def _part(self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Split:
        return Split(images, labels[ids].astype(np.int64), ids, classes=self.classes)

    def _open(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.load(self.folder / f"{split}_{what}.npy", mmap_mode="r") for what in ("images", "labels"))


def _counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Examples of each class, int [classes]."""
    return np.bincount(labels, minlength=classes)


def _exchange(labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> None:
    """Give val an example of each class that it lacks, for one of the class it has most of, in place.

    A class lacks one where its share of val is less than half an example. At least one example stays in train.
    """
    counts = np.bincount(labels[val], minlength=labels.max() + 1)
    for rare in np.flatnonzero(counts == 0):
        own, most = np.flatnonzero(labels[train] == rare), counts.argmax()
        if len(own) > 1 and counts[most] > 1:
            last = np.flatnonzero(labels[val] == most)[-1]
            train[own[-1]], val[last] = val[last], train[own[-1]]
            counts[rare] += 1
            counts[most] -= 1


def load(name: str, image_size: int | None = None, colour: str | None = None) -> Dataset:
    """Open a dataset, preparing its cache first where it is missing, damaged or out of date.

    Args:
        name: one of `NAMES`, any other image-classification dataset of TFDS, or a folder with one subfolder per class.
        image_size: pixels a side to resize to, whatever the shape; by default the dataset's own size, 64 where its images
            differ or are larger than 256.
        colour: "grey" or "rgb"; by default the dataset's own.

    Raises:
        Misuse: unknown name, unreadable image. Failure: no network, corrupt files.
    """
    if colour is not None and colour not in MODES:
        raise Misuse(f"colour must be grey or rgb. Received: {colour!r}")
    if image_size is not None and not 1 <= image_size <= 1024:
        raise Misuse(f"image_size must lie between 1 and 1024 pixels. Received: {image_size}")
    own_folder = image_folder(name)
    own = folders.listed(own_folder) if own_folder else None
    source = own.digest() if own else name
    key = f"{slug(name)}-{image_size or 'native'}-{colour or 'native'}-{CACHE_FORMAT}"  # two versions may share CACHE_DIR
    folder = cache_dir() / key
    meta = _valid_meta(folder, source)
    if meta is None:
        if name == "digits":
            _write_cache(folder, source, name, sources.digits(image_size, colour))
        elif own:
            listing = folder.with_name(f"{key}.broken.txt")
            _write_cache(folder, source, name, sources.image_folder(own, image_size, colour, listing))
        else:
            _prepare_from_tfds(folder, name, image_size, colour)
        meta = _valid_meta(folder, source)
        if meta is None:
            raise Failure(f"the cache {folder} changed while it was written: run again")
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


def reopen(dataset: Dataset) -> Dataset:
    """The same dataset for a worker: the parent has verified it, so only its presence is checked."""
    if not all((dataset.folder / name).exists() for name in FILES):
        raise Failure(f"the data cache {dataset.folder} has gone: run again")
    return dataset


def cache_dir() -> pathlib.Path:
    own = os.environ.get("CACHE_DIR")
    return user_path(own, "CACHE_DIR").resolve() if own else PROJECT / ".cache"


def cached_test_images(checksum: str, labels: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
    """The test images of the dataset with a checksum, and the names of its classes; None where this machine has no such cache.

    Nothing is decoded or downloaded.

    Args:
        labels: those of the images; a dataset of which other images were scored is not the one.
    """
    for path in sorted(cache_dir().glob("*/meta.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["checksum"] == checksum and np.array_equal(np.load(path.with_name("test_labels.npy")), labels):
                return np.load(path.with_name("test_images.npy"), mmap_mode="r"), about["class_names"]
        except (OSError, ValueError, KeyError):
            continue  # another process is writing it
    return None


def slug(name: str) -> str:
    """A dataset's name as part of a file name: for a folder, its last component and a hash of its path."""
    folder = image_folder(name)
    if folder is None:
        return re.sub("[/:*]", "_", name)
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=4).hexdigest()
    return re.sub(r"[^A-Za-z0-9_.]+", "_", folder.name) + f"_{digest}"


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _valid_meta(folder: pathlib.Path, source: str) -> dict | None:
    """The cache's description if every file is whole and the source is still the same."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != CACHE_FORMAT or meta["source"] != source:
            return None
        if any(_sha256(folder / name) != meta["files"][name] for name in FILES):
            return None
        return meta
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(folder: pathlib.Path, source: str, name: str, arrays: dict) -> None:
    """Write the four arrays and their description under a temporary name, then rename the folder."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for file in FILES:
            np.save(temporary / file, arrays[file.removesuffix(".npy")])
        files = {file: _sha256(temporary / file) for file in FILES}
        divided = f"val {arrays['val']}" if arrays["val"] else ""
        meta = {
            "format": CACHE_FORMAT,
            "name": name,
            "source": source,
            "shape": arrays["train_images"].shape[1:],
            "class_names": arrays["class_names"],
            "train": len(arrays["train_labels"]),
            "test": len(arrays["test_labels"]),
            "files": files,
            "checksum": hashlib.sha256("".join([*(files[f] for f in FILES), divided]).encode()).hexdigest(),
            **{about: arrays[about] for about in ("val", "made", "notes")},
            "test_counts": _counts(arrays["test_labels"], len(arrays["class_names"])).tolist(),
        }
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _valid_meta(folder, source) is None:  # else another process was faster
            raise Failure(
                f"the data cache {folder} cannot be written ({error.strerror or error}): "
                "free some space, or set CACHE_DIR to a folder that can be written"
            ) from error


def image_folder(name: str) -> pathlib.Path | None:
    """The folder that `name` means, or None where it is the name of a dataset."""
    if name in NAMES or not (os.path.exists(name) or name.startswith((".", "/", "~"))):
        return None
    path = name if os.path.exists(name) else user_path(name, "dataset")
    if os.path.isfile(path):
        raise Misuse(f"dataset must be a folder with one subfolder per class, not a file (unpack an archive). Received: {name!r}")
    if not os.path.isdir(path):
        raise Misuse(f"dataset folder does not exist, or may not be read. Received: {name!r}")
    return pathlib.Path(path).resolve()


# --- the cache -----------------------------------------------------------------------------------------------------


def _prepare_from_tfds(folder: pathlib.Path, name: str, image_size: int | None, colour: str | None) -> None:
    """Decode a TFDS dataset in a process of its own: TensorFlow's import, memory and messages stay there."""
    if prepared.prepared_copy(name) is None:
        import tensorflow_datasets as tfds

        builders = tfds.list_builders(with_community_datasets=False)
        if prepared.parsed(name)[0] not in builders:
            there = ", ".join(prepared.prepared_names(name))
            hint = did_you_mean(name, NAMES) or did_you_mean(name, builders)
            raise Misuse(
                f"dataset must be one of {', '.join(NAMES)}, another image-classification dataset of tensorflow-datasets "
                f"by its name, or a folder with one subfolder per class{f'; prepared here: {there}' if there else ''}. "
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
            if line.startswith(f"{name}, "):  # how far it is
                print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
    if process.returncode != 0:
        raise (Misuse if process.returncode == Misuse.status else Failure)(
            last or f"reading {name} ended with exit status {process.returncode}"
        )


def network_answers() -> bool:
    """Whether the host that TFDS and Keras download from answers at all, through the user's proxy if there is one."""
    answered = threading.Event()

    def ask():
        try:
            urllib.request.urlopen("https://storage.googleapis.com/tfds-data", timeout=PROBE_SECONDS).close()
            answered.set()
        except urllib.error.HTTPError:
            answered.set()  # an answer, if an unfriendly one
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # name look-ups ignore time-outs, so the thread may outlive us
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode one TFDS dataset into a cache folder.")
    for name in ("name", "folder", "image_size", "colour"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    try:
        arrays = prepared.tfds_dataset(arguments.name, int(arguments.image_size) or None, arguments.colour or None)
        _write_cache(pathlib.Path(arguments.folder), arguments.name, arguments.name, arrays)
    except (Misuse, Failure) as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
