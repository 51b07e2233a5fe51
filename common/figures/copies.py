"""Small copies of figures for the page, as WebP."""

import base64
import hashlib
import io
import pathlib

from PIL import Image

from common.figures import draw, search
from common.files import write_atomic
from common.rows import schema

PHOTOGRAPHS = {kind.name for kind in draw.KINDS if kind.photographs}
"""Names of the kinds of figures that show photographs."""
COLOURS = 64
"""Colours of the small copy of any other figure."""


def paths(files: schema.Files, part: str | None = None) -> list[tuple[str, pathlib.Path]]:
    """Kind and path of each existing figure that the page shows of a part of an experiment (`Table.parts`), by default of all."""
    there = [
        (kind.name, path)
        for kind in draw.KINDS
        if kind.on_page
        for path in (draw.of_all_parts(files, kind) if part is None else [draw.path(files, kind, part)])
    ]
    return [(name, path) for name, path in [*there, *search.paths(files)] if path.exists()]


def copy_of(path: pathlib.Path) -> pathlib.Path:
    """Path of the small copy of a figure, named for its content."""
    return path.parent / ".figures" / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{COLOURS}.webp"


def small(name: str, path: pathlib.Path) -> bytes:
    """A figure as WebP with few colours, about a fifth of the PNG's size; kept until the figure changes."""
    kept = copy_of(path)
    if not kept.exists():
        image, buffer = Image.open(path).convert("RGB"), io.BytesIO()
        if name in PHOTOGRAPHS:
            image.save(buffer, "webp", quality=75, method=4)
        else:
            few = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)  # the others merge the colours of arms
            few.convert("RGB").save(buffer, "webp", lossless=True, quality=60, method=4)
        write_atomic(kept, buffer.getvalue())
    return kept.read_bytes()


def data_uri(name: str, path: pathlib.Path) -> str:
    """The small copy of a figure as a part of a page."""
    return f"data:image/webp;base64,{base64.b64encode(small(name, path)).decode()}"
