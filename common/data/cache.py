"""The cache of decoded datasets: a folder for each, with uint8 `.npy` files, their SHA-256 and a description in `meta.json`."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np

from common.errors import Failure
from common.files import PROJECT, user_path

FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
CACHE_FORMAT = 2


def cache_dir() -> pathlib.Path:
    """The folder of all caches."""
    path = os.environ.get("CACHE_DIR")
    return user_path(path, "CACHE_DIR").resolve() if path else PROJECT / ".cache"


def cached_test_images(checksum: str, labels: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
    """Test images and class names of the dataset with the given checksum and test labels; None if it is not in the cache.

    Nothing is decoded or downloaded.
    """
    for folder, meta in _cached():
        try:
            if meta["checksum"] == checksum and np.array_equal(np.load(folder / "test_labels.npy"), labels):
                return np.load(folder / "test_images.npy", mmap_mode="r"), meta["class_names"]
        except (OSError, ValueError, KeyError):
            continue  # another process is writing it
    return None


def cached_class_names() -> dict[str, list[str]]:
    """Checksum -> class names of each dataset in the cache."""
    return {meta["checksum"]: meta.get("class_names", []) for _, meta in _cached() if "checksum" in meta}


def _cached() -> Iterator[tuple[pathlib.Path, dict]]:
    """Folder and meta.json of each dataset in the cache."""
    for path in sorted(cache_dir().glob("*/meta.json")):
        meta = {}
        with contextlib.suppress(OSError, ValueError):  # another process is writing it
            meta = json.loads(path.read_text(encoding="utf-8"))
        yield path.parent, meta


def valid_meta(folder: pathlib.Path, source: str) -> dict | None:
    """The content of a cache's meta.json; None if a file is missing or damaged, or the source has changed.

    A cache stands for a prepared copy that is no longer there.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != CACHE_FORMAT or source not in (meta["source"], meta["source"].partition(" ")[0]):
            return None
        if any(sha256(folder / name) != meta["files"][name] for name in FILES):
            return None
        return meta
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_cache(folder: pathlib.Path, source: str, name: str, arrays: dict) -> None:
    """Write the arrays and meta.json to a temporary folder, then rename it. Raises `Failure`."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for file in FILES:
            np.save(temporary / file, arrays[file.removesuffix(".npy")])
        files = {file: sha256(temporary / file) for file in FILES}
        val = f"val {arrays['val']}" if arrays["val"] else ""
        meta = {
            "format": CACHE_FORMAT,
            "name": name,
            "source": source,
            "shape": arrays["train_images"].shape[1:],
            "class_names": arrays["class_names"],
            "train": len(arrays["train_labels"]),
            "test": len(arrays["test_labels"]),
            "files": files,
            "checksum": hashlib.sha256("".join([*(files[f] for f in FILES), val]).encode()).hexdigest(),
            **{key: arrays[key] for key in ("val", "made", "notes")},
            "test_counts": np.bincount(arrays["test_labels"], minlength=len(arrays["class_names"])).tolist(),
        }
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if valid_meta(folder, source) is None:  # else another process was faster
            raise Failure(
                f"the data cache {folder} cannot be written ({error.strerror or error}): "
                "free some space, or set CACHE_DIR to a writable folder"
            ) from error


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
