"""The output at the end of a run: each arm's mean score at its rates beside the published one, and the paths of the figures."""

import pathlib
import statistics
from collections.abc import Sequence

from common.errors import Failure
from common.figures import cache
from common.rows import schema, store
from common.running.fingerprint import PROTOCOL
from common.text import seeds


def show(files: schema.Files, metric: str, *, svg: bool) -> None:
    """Print each arm's mean test score, draw the figures and print their paths.

    If the published rows are of another protocol, with which scores may differ, their line names it.

    Args:
        metric: the task's primary metric; svg: whether to draw the figures as SVG too.

    Raises:
        Failure: a file is damaged, or figures cannot be drawn.
    """
    store.check_scores(files)
    published = files._replace(folder=schema.REFERENCE / files.folder.name)
    reference = _means(store.read_rows(published), metric) if published.rows != files.rows.resolve() else {}
    protocols = {row["protocol"] for row in store.read_rows(published)} - {str(PROTOCOL)}
    earlier = f", protocol {' and '.join(sorted(protocols))}" if protocols else ""
    rows = store.read_rows(files)
    for line in _lines(_means(rows, metric), reference, metric, earlier):
        print(line)
    for line in untrained(rows, metric):
        print(line)
    for path in _drawn(files, svg=svg):
        print(path)


def _lines(means: dict, reference: dict, metric: str, earlier: str) -> list[str]:
    """A line for each arm, with its mean at the common rate and the published mean beside it.

    Args:
        means, reference: see `_means`, of the rows and the published ones; earlier: what the latter's protocol is, in words.
    """
    at_common = {schema.entry_name(entry, schema.COMMON) for entry in means}
    arms, lines = [entry for entry in means if entry not in at_common], []
    width = max(map(len, arms), default=0)
    for entry in arms:
        mean, count = means[entry]
        line = f"{entry:<{width}}  test {metric} {mean:.4f} (mean of {count})"
        common = means.get(schema.entry_name(entry, schema.COMMON))
        if common:
            line += f", at the common rate {common[0]:.4f} (mean of {common[1]})"
        if entry in reference:
            line += f"; published {reference[entry][0]:.4f} (mean of {reference[entry][1]}{earlier})"
        lines.append(line)
    return lines


def untrained(rows: Sequence[dict], metric: str) -> list[str]:
    """A line for each entry that did not train in some seeds: its score on train is that of chance, or it diverged."""
    lines = []
    for entry in dict.fromkeys(schema.entry_of(row) for row in rows):
        final = [row for row in rows if schema.entry_of(row) == entry and row["status"] in schema.FINAL]
        counts = {
            f"train {metric} at chance": sum(row["status"] == "done" and row["trained"] == "False" for row in final),
            "diverged": sum(row["status"] == "diverged" for row in final),
        }
        how = ", ".join(f"{count} {why}" if min(counts.values()) else why for why, count in counts.items() if count)
        if how:
            lines.append(f"{entry} did not train in {sum(counts.values())} of {seeds(len(final))} ({how})")
    return lines


def show_sweep(files: schema.Files, summary: Sequence[str], *, svg: bool) -> None:
    """Print the summary of a sweep, draw its figures and print their paths. Raises `Failure` if they cannot be drawn."""
    for line in summary:
        print(line)
    for path in _drawn(files, svg=svg):
        if path.name.startswith(files.search_stem):
            print(path)


def _drawn(files: schema.Files, *, svg: bool) -> list[pathlib.Path]:
    """The paths of an experiment's figures, which are drawn if they are out of date. Raises `Failure`."""
    (drawn,) = cache.redraw([files], svg=svg)
    if drawn.error:
        raise Failure(drawn.error)
    return drawn.paths


def _means(rows: Sequence[dict], metric: str) -> dict[str, tuple[float, int]]:
    """Entry -> mean of a metric on the test split, and number of rows."""
    entries: dict[str, list[dict]] = {}
    for row in rows:
        if row["status"] in schema.FINAL:
            entries.setdefault(schema.entry_of(row), []).append(row)
    score = f"test_{metric}"
    return {entry: (statistics.fmean(float(r[score]) for r in same), len(same)) for entry, same in entries.items()}
