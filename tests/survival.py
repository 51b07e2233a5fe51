"""An experiment with all kinds of state, whose rows must not depend on interruptions."""

import csv

from common.files import read_arrays
from common.rows import schema, store

SCRIPT = '''"""Exp 90: does a run survive?

Varies   dropout.
Fixed    all else.
Expect   equal rows.
"""
import keras
from keras import callbacks, optimizers

from common.augment import flip, translation
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {"baseline": {"dropout": 0.0}, "dropout": {"dropout": 0.5}}


def train(trial, *, dropout):
    """Two stages, callbacks with state, dropout, augmentation, batch normalisation."""
    model = small_cnn(trial, widths=(4, 8), dropout=dropout, normalization="batch")
    trial.fit(model, optimizer=optimizers.SGD(0.1, momentum=0.9), stage="warm", epochs=2)
    trial.record("warm", float(keras.ops.mean(model.get_layer("logits").kernel)))
    stop = callbacks.EarlyStopping("val_accuracy", patience=4, restore_best_weights=True)
    plateau = callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.7)
    return trial.fit(model, optimizer=optimizers.Adam(0.01), callbacks=[stop, plateau], augment=[flip(), translation()])


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=EPOCHS, batch_size=16, train_size=200), seeds=2)
'''


REPRODUCIBLE = tuple(column.name for column in schema.COLUMNS if column.kind != "measurement")


def write(folder, text=SCRIPT, epochs=8):
    path = folder / "exp_90_survive.py"
    path.write_text(text.replace("EPOCHS", str(epochs)))
    return path


def files_in(folder):
    return schema.Files(folder / "quick-digits", "exp_90_survive")


def reproducible(folder, *trials):
    """Rows, epochs, measures and arrays that must be equal whenever a run is repeated.

    Args:
        trials: (arm, seed) of the trials, by default all.
    """
    files = files_in(folder)

    def chosen(rows):
        return [row for row in rows if not trials or (row["arm"], int(row["seed"])) in trials]

    rows = [{name: row[name] for name in REPRODUCIBLE} for row in chosen(store.read_rows(files))]
    epochs = [{k: v for k, v in row.items() if k != "seconds"} for row in chosen(csv.DictReader(files.epochs.open()))]
    measures = chosen(csv.DictReader(files.measures.open()))
    keys = {f"{arm}/{seed}" for arm, seed in trials} | {arm for arm, seed in trials if seed == 0}
    arrays = {**read_arrays(files.predictions), **read_arrays(files.samples)}
    return rows, epochs, measures, {key: array.tobytes() for key, array in arrays.items() if not trials or key in keys}
