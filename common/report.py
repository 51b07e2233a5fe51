"""Rows to figures: `make plots`, or `python -m common.report --results DIR`. Reads rows alone, so TensorFlow is not needed."""

import argparse
import io
import pathlib
import sys
import textwrap
from collections.abc import Iterator

import pandas as pd

from common import plots, results
from common.errors import Failure, Misuse
from common.files import read_arrays, write_atomic


def draw(files: results.Files) -> list[pathlib.Path]:
    """Draw the figures of one experiment in one setting, as PNG beside its rows. Returns their paths."""
    return [_save(path, figure) for path, figure in _figures(files)]


def _figures(files: results.Files) -> Iterator[tuple[pathlib.Path, object]]:
    declaration = results.read_declaration(files)
    kept = [row for row in results.read_rows(files) if row["status"] in results.FINAL]
    if not kept:
        return
    rows = pd.read_csv(files.rows)
    rows = rows[rows["status"].isin(results.FINAL)]
    arms = list(declaration["arms"])
    title = "\n".join(textwrap.wrap(f"{files.experiment}: {declaration['question']}", 95))
    caption = _caption(files, rows)

    def path(kind):
        return files.folder / f"{files.experiment}_{kind}.png"

    yield path("accuracy"), plots.final_accuracy(rows, arms, "\n".join(textwrap.wrap(title, 75)), caption)
    epochs = results.read_epochs(files)
    if len(epochs):
        yield path("curves"), plots.learning_curves(epochs, arms, title, caption)
    samples = read_arrays(files.samples)
    if samples:
        note = f"{files.folder.name}, seed 0: the first training images, as trained on in the first epoch"
        yield path("samples"), plots.sample_sheet(samples, arms, "\n".join(textwrap.wrap(title, 75)), note)


def _caption(files: results.Files, rows: pd.DataFrame) -> str:
    counts = rows.groupby("arm").size()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"

    def span(column):
        values = sorted(rows[column].unique())
        return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"

    return (
        f"{files.folder.name}: {seeds} seeds per arm, {span('train_size')} training images, {span('epochs')} epochs, "
        f"batch {span('batch_size')}, {rows['test_size'].iloc[0]} test images"
    )


def _save(path: pathlib.Path, figure) -> pathlib.Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the figures of all experiments that have rows.")
    parser.add_argument("--results", default="results", help="folder that holds the setting folders")
    folder = pathlib.Path(parser.parse_args().results)
    status = 0
    if not folder.is_dir():
        print(f"results folder does not exist: run an experiment first. Received: {folder}", file=sys.stderr)
        sys.exit(Misuse.status)
    for setting in results.setting_folders(folder):
        for files in results.experiments(setting):
            try:
                for path in draw(files):
                    print(path)
            except Failure as error:
                print(error, file=sys.stderr)
                status = error.status
    sys.exit(status)


if __name__ == "__main__":
    main()
