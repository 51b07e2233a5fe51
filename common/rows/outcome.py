"""`Outcome`: the results of one trial, and its form on disk until its row is written."""

import dataclasses
import io
import json
import pathlib
from dataclasses import dataclass, field

import numpy as np

from common.errors import Failure
from common.files import read_arrays, write_atomic

OUTCOME = "outcome.npz"
ARRAYS = ("predicted", "logits", "samples")
OF_IMAGE = "of_images/"
"""Start of the names of `Outcome.of_images` on disk."""


@dataclass
class Outcome:
    """The results of one trial."""

    row: dict
    epochs: list[dict] = field(default_factory=list)
    measures: list[dict] = field(default_factory=list)
    predicted: np.ndarray | None = None
    """Predictions for the test images: classes, int [n]; or, depending on the task, 0 and 1 [n, labels] or numbers [n]."""
    logits: np.ndarray | None = None
    """Logits of the test images, float32 [n, classes]."""
    of_images: dict[str, np.ndarray] = field(default_factory=dict)
    """Numbers for each test image, keys of `schema.OF_IMAGES`: float [n] each."""
    samples: np.ndarray | None = None
    """A few augmented training images, uint8 [n, height, width, channels]."""

    def table(self, part: str) -> list[dict]:
        """Its rows in a table of the experiment, a key of `schema.TABLES`."""
        return [self.row] if part == "rows" else getattr(self, part)


def save_outcome(folder: pathlib.Path, outcome: Outcome) -> None:
    """Write an outcome to its trial's folder, atomically."""
    write_atomic(folder / OUTCOME, to_bytes(outcome))


def load_outcome(folder: pathlib.Path) -> Outcome | None:
    """The outcome in a trial's folder; None if there is none or it is damaged."""
    try:
        named = read_arrays(folder / OUTCOME)
        return _outcome(named) if named else None
    except (Failure, ValueError, KeyError, TypeError):
        return None


def to_bytes(outcome: Outcome) -> bytes:
    """An outcome as the content of a `.npz` file."""
    fields = {one.name: getattr(outcome, one.name) for one in dataclasses.fields(outcome)}
    arrays = {name: fields.pop(name) for name in ARRAYS}
    named = {name: array for name, array in arrays.items() if array is not None}
    named |= {OF_IMAGE + name: array for name, array in fields.pop("of_images").items()}
    named["fields"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


def from_bytes(content: bytes) -> Outcome:
    """The outcome that `to_bytes` has written. Raises `ValueError`, `KeyError` or `TypeError` for that of another version."""
    with np.load(io.BytesIO(content)) as archive:
        return _outcome(dict(archive))


def _outcome(named: dict[str, np.ndarray]) -> Outcome:
    of_images = {name.removeprefix(OF_IMAGE): named.pop(name) for name in list(named) if name.startswith(OF_IMAGE)}
    return Outcome(**json.loads(named.pop("fields").tobytes()), of_images=of_images, **named)
