"""What a call shows at its end: each arm's mean beside the published one, and the figures."""

import statistics
from collections.abc import Sequence

from common.rows import schema, store
from common.running.fingerprint import PROTOCOL


def show(files: schema.Files, metric: str) -> None:
    """Print each arm's mean test score beside the published one, draw the figures and print their paths.

    Published rows of an earlier protocol may differ for that reason, which their line then says.
    """
    published = files._replace(folder=schema.REFERENCE / files.folder.name)
    reference = _means(store.read_rows(published), metric) if published.rows != files.rows.resolve() else {}
    protocols = {row["protocol"] for row in store.read_rows(published)} - {str(PROTOCOL)}
    earlier = f", protocol {' and '.join(sorted(protocols))}" if protocols else ""
    means = _means(store.read_rows(files), metric)
    width = max((len(entry) for entry in means), default=0)
    for entry, (mean, count, diverged) in means.items():
        line = f"{entry:<{width}}  test {metric} {mean:.4f} (mean of {count})"
        line += f", {diverged} diverged" if diverged else ""
        if entry in reference:
            line += f"; published {reference[entry][0]:.4f} (mean of {reference[entry][1]}{earlier})"
        print(line)
    from common.figures import draw, search  # which import pandas and Matplotlib

    for path in [*draw.draw(files), *search.draw_sweep(files)]:
        print(path)


def show_sweep(files: schema.Files, summary: Sequence[str]) -> None:
    """Print what a search found, draw its figures and print their paths."""
    from common.figures import search

    for line in summary:
        print(line)
    for path in search.draw_sweep(files):
        print(path)


def _means(rows: Sequence[dict], metric: str) -> dict[str, tuple[float, int, int]]:
    """Per entry: mean of a metric on the test split, number of rows, how many of them diverged."""
    entries: dict[str, list[dict]] = {}
    for row in rows:
        if row["status"] in schema.FINAL:
            entries.setdefault(schema.entry_of(row), []).append(row)
    score = f"test_{metric}"
    return {
        entry: (
            statistics.fmean(float(r[score]) for r in same),
            len(same),
            sum(r["status"] == "diverged" for r in same),
        )
        for entry, same in entries.items()
    }
