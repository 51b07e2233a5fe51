"""The cache of figures: redraws those whose rows have changed, on all cores, and keeps a small copy of each for the page."""

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
from common.rows import schema, store

PHOTOGRAPHS = {kind.name for kind in draw.KINDS if kind.photographs}
"""Names of the kinds of figures that show photographs."""
COLOURS = 64
"""Colours of the small copy of any other figure."""
DRAWING = [path for room in ("rows", "verdicts", "figures") for path in sorted((PROJECT / "common" / room).glob("*.py"))]
"""The modules whose changes make figures be redrawn."""


def redraw(experiments: list[schema.Files]) -> list[str]:
    """Redraw the figures whose rows, code or fonts have changed. Returns a line about each experiment that cannot be drawn."""
    changed = []
    drawing = [fonts.files().encode(), *(hashlib.sha256(path.read_bytes()).digest() for path in DRAWING)]
    for files in experiments:
        store.up_to_date(files)
        parts = (*files.folded, files.journal, files.declaration, files.points)
        content = b"".join([*(hashlib.sha256(path.read_bytes()).digest() for path in parts if path.exists()), *drawing])
        digest = hashlib.sha256(content).hexdigest()
        if not _is_drawn(files, digest):
            changed.append((files, digest))
    if not changed:
        return []
    changed.sort(key=lambda pair: -pair[0].rows.stat().st_size if pair[0].rows.exists() else 0)  # most rows first
    if min(cores(), len(changed)) == 1:  # another process would only cost its imports
        return [line for line in map(_redraw, changed) if line]
    with ProcessPoolExecutor(min(cores(), len(changed)), mp_context=multiprocessing.get_context("spawn")) as pool:
        return [line for line in pool.map(_redraw, changed) if line]


def _redraw(changed: tuple[schema.Files, str]) -> str | None:
    """Draw one experiment's figures and their small copies. Returns an error message, or None."""
    files, digest = changed
    try:
        drawn = [*draw.draw(files), *search.draw_sweep(files)]
        for name, path in paths(files):
            small(name, path)
        write_atomic(_stamp(files), "\n".join([digest, *(path.name for path in drawn)]).encode())
    except Failure as error:
        return str(error)
    except Exception as error:  # such as an arm's name that Matplotlib cannot draw: others are still drawn
        message = " ".join(str(error).split()) or "no message"
        return f"the figures of {files.experiment} in {files.folder} cannot be drawn ({type(error).__name__}: {message})"
    return None


def _is_drawn(files: schema.Files, digest: str) -> bool:
    """Whether the figures were drawn from content of this digest, and none has been deleted."""
    try:
        known, *names = _stamp(files).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return known == digest and all((files.folder / name).exists() for name in names)


def _stamp(files: schema.Files) -> pathlib.Path:
    """The file with the digest and the names of the figures that were drawn."""
    return files.folder / ".figures" / f"{files.experiment}.sha256"


def paths(files: schema.Files) -> list[tuple[str, pathlib.Path]]:
    """Kind and path of each existing figure that the page shows."""
    there = [(kind.name, draw.path(files, kind)) for kind in draw.KINDS if kind.on_page]
    return [(name, path) for name, path in [*there, *search.paths(files)] if path.exists()]


def small(name: str, path: pathlib.Path) -> bytes:
    """A figure as WebP with few colours, about a fifth of the PNG's size; cached until the figure changes."""
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
