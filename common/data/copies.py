"""Copies of a cached dataset on other machines, which are checked by SHA-256."""

import json
import os
import shutil
from collections.abc import Sequence

from common.data.cache import FILES, valid_meta
from common.data.dataset import Dataset
from common.errors import Failure
from common.files import locked

COPIED = ("meta.json", *FILES)
"""Files of a cached dataset that another machine needs."""


def copy_state(dataset: Dataset) -> str:
    """State of this machine's copy of a dataset from another one: `ready`, `missing`, or why it cannot be used, in words."""
    try:
        meta = json.loads((dataset.folder / "meta.json").read_text(encoding="utf-8"))
        checksum, source = meta["checksum"], meta["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return "missing"
    if checksum != dataset.checksum:
        wanted = f"instead of {dataset.checksum[:12]}: delete that folder"
        return f"has other images or labels of {dataset.name} in {dataset.folder} (SHA-256 {checksum[:12]} {wanted})"
    return "missing" if valid_meta(dataset.folder, source) is None else "ready"


def write_copy(dataset: Dataset, contents: Sequence[bytes]) -> None:
    """Write this machine's copy of a dataset from another one, unless another process has.

    Args:
        contents: of the files in `COPIED`.

    Raises:
        Failure: it cannot be written, or is not what the other machine has.
    """
    with locked(dataset.folder.parent):
        if copy_state(dataset) == "ready":
            return
        temporary = dataset.folder.with_name(f"{dataset.folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            for name, content in zip(COPIED, contents, strict=True):
                (temporary / name).write_bytes(content)
            shutil.rmtree(dataset.folder, ignore_errors=True)
            temporary.rename(dataset.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise Failure(f"cannot write the data cache {dataset.folder} ({error.strerror or error})") from error
    if copy_state(dataset) != "ready":
        raise Failure(f"the data cache {dataset.folder} was damaged on its way here")
