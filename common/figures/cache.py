"""The figures beside the rows: redrawn where rows have changed, on all cores, and a smaller copy of each for the page."""

import hashlib
import io
import multiprocessing
import pathlib
from concurrent.futures import ProcessPoolExecutor

from PIL import Image

from common.errors import Failure
from common.figures import draw, fonts, search
from common.files import PROJECT, write_atomic
from common.machine import cores
from common.rows import schema

PHOTOGRAPHS = {kind.name for kind in draw.KINDS if kind.photographs}
COLOURS = 64
"""Of all other figures."""
DRAWING = [path for room in ("rows", "verdicts", "figures") for path in sorted((PROJECT / "common" / room).glob("*.py"))]
"""The code that decides what a figure shows."""


def redraw(experiments: list[schema.Files]) -> list[str]:
    """Redraw the figures whose rows, code or fonts have changed. Returns a line about each experiment that cannot be drawn."""
    changed = []
    drawing = [fonts.files().encode(), *(hashlib.sha256(path.read_bytes()).digest() for path in DRAWING)]
    for files in experiments:
        parts = (files.rows, files.epochs, files.measures, files.predictions, files.samples, files.declaration, files.points)
        content = b"".join([*(hashlib.sha256(path.read_bytes()).digest() for path in parts if path.exists()), *drawing])
        digest = hashlib.sha256(content).hexdigest()
        if not _is_drawn(files, digest):
            changed.append((files, digest))
    if not changed:
        return []
    changed.sort(key=lambda pair: -pair[0].rows.stat().st_size if pair[0].rows.exists() else 0)  # the longest first
    if min(cores(), len(changed)) == 1:  # a process of its own would only import everything once more
        return [line for line in map(_redraw, changed) if line]
    with ProcessPoolExecutor(min(cores(), len(changed)), mp_context=multiprocessing.get_context("spawn")) as pool:
        return [line for line in pool.map(_redraw, changed) if line]


def _redraw(changed: tuple[schema.Files, str]) -> str | None:
    """Draw one experiment's figures. Returns a line if that fails."""
    files, digest = changed
    try:
        drawn = [*draw.draw(files), *search.draw_sweep(files)]
        for name, path in paths(files):
            small(name, path)
        write_atomic(_stamp(files), "\n".join([digest, *(path.name for path in drawn)]).encode())
    except Failure as error:
        return str(error)
    except Exception as error:  # whatever matplotlib makes of a name: the figures of the others are drawn
        said = " ".join(str(error).split()) or "no message"
        return f"the figures of {files.experiment} in {files.folder} cannot be drawn ({type(error).__name__}: {said})"
    return None


def _is_drawn(files: schema.Files, digest: str) -> bool:
    """Whether the figures are those of a digest, and all there."""
    try:
        known, *names = _stamp(files).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return known == digest and all((files.folder / name).exists() for name in names)


def _stamp(files: schema.Files) -> pathlib.Path:
    return files.folder / ".figures" / f"{files.experiment}.sha256"


def paths(files: schema.Files) -> list[tuple[str, pathlib.Path]]:
    """Name of the kind and path of each figure that the page shows, as far as they are there."""
    there = [(kind.name, draw.path(files, kind)) for kind in draw.KINDS if kind.on_page]
    return [(name, path) for name, path in [*there, *search.paths(files)] if path.exists()]


def small(name: str, path: pathlib.Path) -> bytes:
    """A figure as WebP in few colours, a fifth of the size and none the worse. Kept for as long as the figure is the same."""
    original = path.read_bytes()
    kept = path.parent / ".figures" / f"{hashlib.sha256(original).hexdigest()[:16]}-{COLOURS}.webp"
    if not kept.exists():
        image, buffer = Image.open(path).convert("RGB"), io.BytesIO()
        if name in PHOTOGRAPHS:
            image.save(buffer, "webp", quality=75, method=4)
        else:
            few = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)  # the others merge the colours of arms
            few.convert("RGB").save(buffer, "webp", lossless=True, quality=60, method=4)
        write_atomic(kept, buffer.getvalue())
    return kept.read_bytes()
