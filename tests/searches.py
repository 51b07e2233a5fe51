"""An experiment that searches the learning rates of its arms, and what its runs write."""

import csv
import json

from linear import LINEAR

from common.rows import schema, store

NAME = "exp_92_search"
SCRIPT = f'''"""Exp 92: which learning rates does a search choose?

Varies   the momentum.
Fixed    all else.
Expect   a rate for each arm.
"""
import numpy as np

from common.experiment import Experiment, Setting
from common.space import log_range

ARMS = {{"baseline": {{"momentum": 0.0}}, "momentum": {{"momentum": 0.9}}, "fixed": {{"momentum": 0.9, "learning_rate": 0.01}}}}

{LINEAR}

def train(trial, *, momentum, learning_rate):
    """One arm."""
    trial.record("searched rate", learning_rate)
    return descend(trial, learning_rate, momentum)


experiment = Experiment(
    train,
    arms=ARMS,
    search={{"learning_rate": log_range(0.001, 0.1, points=3, limits=(0.001, 1.0), default=0.02)}},
    setting=Setting("digits", epochs=3, batch_size=16, train_size=60),
    seeds=2,
)
'''

SEARCH = '{"learning_rate": log_range(0.001, 0.1, points=3, limits=(0.001, 1.0), default=0.02)}'
SHARED = SCRIPT
for _old, _new in (
    ("import log_range\n", "import log_range, shared\n\nAPART = log_range(0.1, 0.3, limits=(0.1, 0.3))"),
    ('ARMS = {"baseline"', 'ARMS = {"first": {"momentum": 0.5}, "apart": {"momentum": 0.9}, "baseline"'),
    (SEARCH, 'shared(learning_rate=log_range(0.03, 0.3), arms={"apart": {"learning_rate": APART}})'),
    ("    arms=ARMS,", '    arms=ARMS,\n    baseline="first",'),
):
    SHARED = SHARED.replace(_old, _new)
"""With a rate that is searched on the arm `first` for all arms, and separately for the arm `apart`."""


def write(folder, text=SCRIPT):
    path = folder / f"{NAME}.py"
    path.write_text(text)
    return path


def files_in(out, name="quick-digits"):
    return schema.Files(out / name, NAME)


def rates_of(files):
    """(arm, `own` or `common`) -> learning rate in the rows, after a check that `train` received the rate of each row."""
    rows, measures = store.read_rows(files), store.read_measures(files).to_dict("records")
    rates = {(row["arm"], row["rate"]): json.loads(row["arguments"])["learning_rate"] for row in rows}
    assert [m["value"] for m in measures if m["name"] == "searched rate"] == [rates[row["arm"], row["rate"]] for row in rows]
    return rates


def table(out):
    """The table of the points of a sweep."""
    with files_in(out).points.open(newline="") as file:
        return list(csv.DictReader(file))


def points(out):
    """The columns of the table that must not depend on kills."""
    names = (
        *("arm", "tuner", "sweep", "point", "untuned", "learning_rate", "epochs", "seed", "status", "score", "nll"),
        "fingerprint",
    )
    return [[row[name] for name in names] for row in table(out)]
