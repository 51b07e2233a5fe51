"""Rows as TensorBoard shows them: a run per trial, and a view of some experiments with the columns of the HParams table.

`<setting folder>/tensorboard/<experiment>/<arm>/<seed>/` holds the run of a trial. A view is a folder of links to experiments,
for TensorBoard knows the columns of one HParams table per folder.
"""

import contextlib
import datetime
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
from tensorboard.compat.proto import event_pb2

from common.files import write_atomic
from common.report import events
from common.rows import schema, store
from common.rows.metric import DISPLAY, predictor_stage
from common.rows.table import Table
from common.text import file_name

RUNS, VIEWS = "tensorboard", ".tensorboard"
"""Folders of runs, in a setting's folder, and of views, in the results folder."""
PREFIX = "events.out.tfevents."
"""Start of the names of event files, which TensorBoard looks for. A hash follows of what the file was made from."""
TRIAL = "trial/"
"""Start of the tags of numbers that a trial has once."""
NUMBERS = tuple(
    column.name
    for column in schema.COLUMNS
    if column.kind != "setting" and column.name not in (*schema.TEXTS, *schema.HASHES, *schema.BOOLEANS)
)
"""Columns of a row that are drawn as scalars."""
SHOWN = ("train_seconds", "total_seconds", "parameters")
"""Columns of the HParams table beside the scores."""
CODE = b"".join(path.read_bytes() for path in (pathlib.Path(__file__), pathlib.Path(events.__file__)))


def write_runs(table: Table) -> tuple[int, int]:
    """Write the runs of an experiment's trials, and delete those of trials that have no row any more.

    A run whose row, epochs, measures and samples are those that it was made from is left as it is. Returns the number of runs,
    and of those that were written.
    """
    samples = store.read_samples(table.files)
    settings = hparams(table)
    folder, written, kept = table.files.folder / RUNS / table.files.experiment, 0, set()
    measures = {key: rows for key, rows in table.measures.groupby(["entry", "seed"])} if len(table.measures) else {}
    first = {entry: min(seed for name, seed in table.by_trial if name == entry) for entry, _ in table.by_trial}
    for (entry, seed), row in table.by_trial.items():
        images = samples.get(entry) if seed == first[entry] else None
        values = measures.get((entry, seed))
        measured = [] if values is None else list(zip(values["name"], values["value"], values["unit"], strict=True))
        trial = _Trial(table, row, settings[entry], measured, images)
        path = folder / folder_name(entry) / str(seed) / f"{PREFIX}{trial.digest()}"
        kept.add(path)
        if not path.exists() or not path.stat().st_size:
            write_atomic(path, events.to_bytes(trial.events()), synced=False)
            written += 1
    for path in set(folder.rglob(f"{PREFIX}*")) - kept:
        path.unlink()
        for parent in list(path.parents)[:2]:  # of the seed, of the arm
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()
    return len(kept), written


def write_view(results: pathlib.Path, name: str, tables: Sequence[Table]) -> pathlib.Path:
    """Write the view of some experiments. Returns its folder, which is a `--logdir` of TensorBoard.

    Args:
        name: of the view.
    """
    view, several = results / VIEWS / name, len({table.files.folder for table in tables}) > 1
    shutil.rmtree(view, ignore_errors=True)  # links are deleted, not what they lead to
    for table in tables:
        place = view / table.files.folder.name / table.files.experiment if several else view / table.files.experiment
        place.parent.mkdir(parents=True, exist_ok=True)
        runs = table.files.folder / RUNS / table.files.experiment
        place.symlink_to(os.path.relpath(runs.resolve(), place.parent.resolve()))
    content = events.to_bytes([events.event(0.0, 0, [events.columns(_columns(tables), _metrics(tables))])])
    write_atomic(view / f"{PREFIX}{hashlib.sha256(content).hexdigest()[:16]}", content)
    return view


def hparams(table: Table) -> dict[str, dict[str, events.Value]]:
    """Entry -> its hyperparameters: experiment, folder, arm (the entry), arguments of `train`, fields of the setting.

    Names whose value is None everywhere are left out. For every other name each entry has a value, since TensorBoard's parallel
    coordinates leave out lines with a gap. All are of one type: numbers, booleans, or else texts.
    """
    rows = {entry: row for (entry, _), row in reversed(table.by_trial.items())}
    found: dict[str, dict] = {}
    for entry, row in rows.items():
        about = {"experiment": table.files.experiment, "folder": table.files.folder.name, "arm": entry}
        found[entry] = about | _object(row.get("setting")) | _object(row.get("arguments"))
    names = dict.fromkeys(name for values in found.values() for name in values)
    columns = {name: [values.get(name) for values in found.values()] for name in names}
    columns = {name: column for name, column in columns.items() if any(value is not None for value in column)}
    return {
        entry: {name: _value(values.get(name), column) for name, column in columns.items()} for entry, values in found.items()
    }


def _value(value: object, column: Sequence[object]) -> events.Value:
    """A value of a column, as number, boolean or text."""
    if all(isinstance(one, bool) for one in column):
        return value
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in column):
        return float(value)
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def folder_name(entry: str) -> str:
    """An entry's name as the name of a folder."""
    name = file_name(entry)
    return name.replace(".", "_") if set(name) <= {"."} else name


def _columns(tables: Sequence[Table]) -> dict[str, list[events.Value]]:
    """Name -> values of the hyperparameters that are columns of a view.

    Of one experiment its arguments, and whatever else varies in it; of several what all of them have and some vary.
    """
    found = [values for table in tables for values in hparams(table).values()]
    arguments = {name for row in tables[0].by_trial.values() for name in _object(row.get("arguments"))}
    columns = {}
    for name in dict.fromkeys(name for values in found for name in values):
        values = [one[name] for one in found if name in one]
        everywhere = len(values) == len(found) and len({type(value) for value in values}) == 1
        if name == "arm" or (everywhere and (len(set(values)) > 1 or (len(tables) == 1 and name in arguments))):
            columns[name] = values
    return columns


def _object(cell: object) -> dict:
    """The object in a cell of JSON; empty for rows of early versions, which have none."""
    return json.loads(cell) if isinstance(cell, str) else {}


def _metrics(tables: Sequence[Table]) -> dict[str, str]:
    """Tag -> name of the columns of scores of a view, the most important first; TensorBoard shows the first five unasked."""
    names = []
    for primary in dict.fromkeys(table.primary for table in tables):
        names += [primary.on(split) for split in ("test", "val", "train")] + [f"best_{primary.on('test')}"]
    names += ["test_nll", *SHOWN]
    there = [name for name in dict.fromkeys(names) if any(name in t.rows and t.rows[name].notna().any() for t in tables)]
    return {f"{TRIAL}{name}": " ".join(DISPLAY.get(part, part) for part in name.split("_")) for name in there}


class _Trial:
    """A trial's row with what belongs to it, as events."""

    def __init__(self, table: Table, row: dict, hparams: dict, measures: list[tuple], images: np.ndarray | None):
        self.row, self.hparams, self.measures, self.images = row, hparams, measures, images
        self.epochs = table.epochs_of(row["entry"], row["seed"])
        self.stage = next(iter(predictor_stage(row, self.epochs).get("stage", ())), None)
        self.group = f"{table.files.experiment}/{row['entry']}, {table.files.folder.name}"

    def digest(self) -> str:
        """Hash of everything that its events are made from."""
        epochs = {name: values.tolist() for name, values in self.epochs.items()}
        content = json.dumps([self.row, self.hparams, self.measures, epochs, self.group], default=str).encode()
        images = b"" if self.images is None else repr(self.images.shape).encode() + self.images.tobytes()
        return hashlib.sha256(CODE + content + images).hexdigest()[:16]

    def events(self) -> Iterator[event_pb2.Event]:
        """Hyperparameters, curves, final numbers and training images of the trial."""
        start, end = self._times()
        yield events.event(start, 0, events.session(self.hparams, self.group, start, end, self.row["status"] == "done"))
        if self.images is not None:
            yield events.event(start, 0, [events.image("training images/as augmented in the first epoch", _strip(self.images))])
        yield from self._curves(start)
        last = int(self.row["final_epoch"]) if _known(self.row.get("final_epoch")) else 0
        numbers = [events.scalar(TRIAL + name, float(self.row[name])) for name in NUMBERS if _known(self.row.get(name))]
        for name, value, unit in self.measures:
            numbers.append(events.scalar(f"measures/{name}{f' ({unit})' if isinstance(unit, str) else ''}", float(value)))
        yield events.event(end, last, numbers)

    def _curves(self, start: float) -> Iterator[event_pb2.Event]:
        """An event per epoch. The tags of other stages than that of the predictor name the stage."""
        names = [name for name in self.epochs if name not in ("stage", "epoch", "steps")]
        seconds = np.nan_to_num(np.asarray(self.epochs.get("seconds", ()), float))
        for i, epoch in enumerate(self.epochs.get("epoch", ())):
            stage = self.epochs["stage"][i]
            suffix = f" ({stage})" if stage != self.stage else ""
            values = [events.scalar(_tag(n) + suffix, float(self.epochs[n][i])) for n in names if _known(self.epochs[n][i])]
            yield events.event(start + float(seconds[: i + 1].sum()), int(epoch), values)

    def _times(self) -> tuple[float, float]:
        """When the trial started and ended, in seconds since 1970; from 0 on if that is unknown."""
        total = float(self.row["total_seconds"]) if _known(self.row.get("total_seconds")) else 0.0
        finished = self.row.get("finished")
        if not isinstance(finished, str):
            return 0.0, total
        end = datetime.datetime.fromisoformat(finished).timestamp()
        return end - total, end


def _known(value) -> bool:
    """Whether a cell holds a number; infinity is one."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and not math.isnan(value)


def _tag(name: str) -> str:
    """Tag of a column of epochs: `loss/train` for `train_loss`, so that curves of a kind stand together."""
    split, _, rest = name.partition("_")
    return f"{rest}/{split}" if split in ("train", "val") else name


def _strip(images: np.ndarray) -> np.ndarray:
    """Images [n, height, width, channels] beside each other, with white gaps: [height, …, channels]."""
    spaced = np.pad(images, ((0, 0), (0, 0), (0, max(1, images.shape[2] // 14)), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)
