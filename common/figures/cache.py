"""Draws the figures that are out of date, on all cores.

Beside an experiment's figures stands a stamp with digests of all that determines them. While these stay the same, the figures are
neither drawn nor written. Matplotlib is imported only where there is something to draw.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from common.data.cache import cached_class_names
from common.errors import Failure
from common.files import PROJECT, write_changed
from common.machine import cores
from common.rows import schema, store

CODE = (
    *(f"{name}.py" for name in ("claims", "errors", "files", "metrics", "space", "text")),
    *(f"{room}/*.py" for room in ("data", "rows", "verdicts", "figures")),
)
"""Patterns of the modules in common/ that determine figures."""
PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "scipy")
"""Packages that determine figures."""


class Drawn(NamedTuple):
    """The figures of one experiment."""

    paths: list[pathlib.Path]
    """The PNGs, in the order of their kinds, then those of sweeps."""
    error: str = ""
    """Why they cannot be drawn, in one line."""


class Stamp(NamedTuple):
    """What an experiment's figures were drawn from."""

    key: str
    """Digest of rows, declaration, search, code and packages."""
    local: str
    """Digest of logits and test images, which are not published; empty without logits."""
    fonts: str
    """Digest of the installed fonts; empty if the default font has all characters of the figures."""
    figures: list[str]
    """Names of the PNGs."""


class Drawing(NamedTuple):
    """The drawing of one experiment's figures."""

    files: schema.Files
    key: str
    local: str
    svg: bool
    copies: bool

    @property
    def stamp(self) -> pathlib.Path:
        """Path of the stamp."""
        return self.files.folder / ".figures" / f"{self.files.experiment}.json"


def redraw(experiments: Sequence[schema.Files], *, svg: bool = False, copies: bool = False) -> Iterator[Drawn]:
    """The figures of each experiment, in this order. Those that are out of date or missing are drawn.

    Figures of logits are left as they are on a machine without logits.

    Args:
        svg: whether to draw them as SVG too; copies: whether to make the small copies for the page too.
    """
    drawings = [Drawing(files, _key(files), _local(files), svg, copies) for files in experiments]
    ready = {
        drawing: Drawn(paths)
        for drawing in drawings
        if (paths := _up_to_date(drawing)) is not None and not (copies and _lacks_copies(drawing))
    }
    waiting = [drawing for drawing in drawings if drawing not in ready]
    if min(cores(), len(waiting)) < 2:  # another process would only cost its imports
        yield from (ready.get(drawing) or _draw(drawing) for drawing in drawings)
        return
    waiting.sort(
        key=lambda drawing: -drawing.files.rows.stat().st_size if drawing.files.rows.exists() else 0
    )  # the longest first
    with _processes(min(cores(), len(waiting))) as pool:
        with _without_interrupts():
            futures = {drawing: pool.submit(_draw, drawing) for drawing in waiting}
        for drawing in drawings:
            try:
                yield ready.get(drawing) or futures[drawing].result()
            except BrokenProcessPool:
                yield Drawn(
                    [], f"{_named(drawing)} cannot be drawn (a process that draws was killed): run the same command again"
                )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _key(files: schema.Files) -> str:
    """See `Stamp.key`."""
    store.up_to_date(files)
    parts = (*files.folded, files.journal, files.declaration, files.points, files.tuned)
    contents = {path.name: _digest(path.read_bytes()) for path in parts if path.exists()}
    return _digest(json.dumps([files.folder.name, contents, _versions()]).encode())


@functools.cache
def _versions() -> dict[str, str]:
    """Digest of each module in `CODE`, and version of each package."""
    room = PROJECT / "common"
    modules = {f"{path.relative_to(room)}": _digest(path.read_bytes()) for pattern in CODE for path in sorted(room.glob(pattern))}
    return modules | {name: importlib.metadata.version(name) for name in PACKAGES}


def _local(files: schema.Files) -> str:
    """See `Stamp.local`. The content of logits and images is determined by the rows."""
    logits = sorted(files.local("logits", "", 0, "").parent.glob("*.npy"))
    if not logits:
        return ""
    rows = files.rows.read_text(encoding="utf-8", errors="replace") if files.rows.exists() else ""
    images = {checksum: names for checksum, names in cached_class_names().items() if checksum in rows}
    return _digest(json.dumps([[path.name for path in logits], images], sort_keys=True).encode())


def _fonts() -> str:
    """See `Stamp.fonts`."""
    from common.figures import fonts

    return _digest(fonts.files().encode())


def _stamped(drawing: Drawing) -> Stamp | None:
    """The stamp; None if there is none or it is damaged."""
    try:
        return Stamp(**json.loads(drawing.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _up_to_date(drawing: Drawing) -> list[pathlib.Path] | None:
    """The paths of the figures, if they were drawn from the same and none has been deleted; else None."""
    stamp = _stamped(drawing)
    if (
        stamp is None
        or stamp.key != drawing.key
        or drawing.local not in ("", stamp.local)
        or (stamp.fonts and stamp.fonts != _fonts())
    ):
        return None
    paths = [drawing.files.folder / name for name in stamp.figures]
    kinds = (".png", ".svg") if drawing.svg else (".png",)
    return paths if all(path.with_suffix(kind).exists() for path in paths for kind in kinds) else None


def _lacks_copies(drawing: Drawing) -> bool:
    """Whether a figure of the page has no small copy."""
    from common.figures import copies

    return not all(copies.copy_of(path).exists() for _, path in copies.paths(drawing.files))


def _draw(drawing: Drawing) -> Drawn:
    """Draw an experiment's figures, unless only small copies are missing."""
    from common.figures import copies

    try:
        paths = _up_to_date(drawing)
        paths = _drawn(drawing) if paths is None else paths
        for name, path in copies.paths(drawing.files) if drawing.copies else ():
            copies.small(name, path)
    except Failure as error:
        return Drawn([], str(error))
    except Exception as error:  # such as an arm's name that Matplotlib cannot draw: others are still drawn
        message = " ".join(str(error).split()) or "no message"
        return Drawn([], f"{_named(drawing)} cannot be drawn ({type(error).__name__}: {message})")
    return Drawn(paths)


def _drawn(drawing: Drawing) -> list[pathlib.Path]:
    """Draw an experiment's figures, remove those that its rows no longer allow, and write the stamp. Returns their paths."""
    from common.figures import draw, fonts, search

    before, calls = _stamped(drawing), fonts.installed.cache_info()
    paths = [*draw.draw(drawing.files, svg=drawing.svg), *search.draw_sweep(drawing.files, svg=drawing.svg)]
    used = _fonts() if fonts.installed.cache_info() != calls else ""
    left = {path for kind in draw.KINDS if kind.of_logits for path in draw.of_all_parts(drawing.files, kind)}
    for path in {drawing.files.folder / name for name in (before.figures if before else ())} - {*paths, *left}:
        path.unlink(missing_ok=True)
        path.with_suffix(".svg").unlink(missing_ok=True)
    stamp = Stamp(drawing.key, drawing.local, used, [path.name for path in paths])
    write_changed(drawing.stamp, json.dumps(stamp._asdict(), indent=1).encode())
    return paths


def _named(drawing: Drawing) -> str:
    return f"the figures of {drawing.files.experiment} in {drawing.files.folder}"


@contextlib.contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Context manager of processes, which end at once when it is left by an exception, such as Ctrl-C."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Context manager whose new processes never receive Ctrl-C, which a terminal sends to all; here it waits until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Make this process end when its parent is killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
