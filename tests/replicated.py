"""An experiment whose arms cover everything that is summed over replicas."""

import csv
import subprocess
import sys

from conftest import PROJECT

from common.rows import schema, store

SCRIPT = '''"""Exp 91: do replicas agree?

Varies   the quantities that are summed over replicas.
Fixed    all else; the last batch of each epoch has 2 examples, fewer than 4 replicas.
Expect   equal losses.
"""
import keras
import tensorflow as tf
from keras import callbacks, layers, optimizers, regularizers

from common.augment import flip
from common.experiment import Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {},
    "penalty": {"l2": 0.01},
    "adamw": {"optimizer": "adamw"},
    "clipped by global norm": {"clip": {"global_clipnorm": 0.3}},
    "clipped by norm": {"clip": {"clipnorm": 0.1}},
    "clipped by value": {"clip": {"clipvalue": 0.01}},
    "batch norm": {"normalization": "batch"},
    "weights": {"class_weight": [3, 1, 1, 1, 0.2, 1, 1, 1, 1, 1], "weighted": True},
    "callbacks": {"patience": 1},
    "augmented": {"augment": True},
    "moving average": {"clip": {"use_ema": True}},
    "activity penalty": {"normalization": "batch", "l2": 0.01, "activity": 0.001},
    "masks": {"step": True},
    "counting loss": {"counts": True},
}


def counting():
    """A loss that grows by 1 % with each update."""
    count = tf.Variable(0.0, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    def loss(targets, logits):
        count.assign_add(1.0)
        return (1 + 0.01 * count) * tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    return loss


def equal_masks(model, images, targets, seed):
    """A step whose loss is the fraction of units with different dropout masks on the replicas."""
    logits = model(images, training=True)
    kept = model.get_layer("drop")(tf.ones((1, 400)), training=True)
    context = tf.distribute.get_replica_context()
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, kept)
    share = tf.reduce_mean(tf.cast((mean > 0.01) & (mean < 1.99), tf.float32))
    return share + 0.0 * tf.reduce_sum(logits, axis=-1), logits


def train(trial, *, l2=0.0, optimizer="sgd", clip=None, patience=None, augment=False, weighted=False, activity=0.0, **options):
    """One arm."""
    normalization, class_weight = options.get("normalization"), options.get("class_weight")
    if options.get("step"):
        inputs = keras.Input(trial.input_shape)
        x = layers.Dropout(0.5, name="drop")(layers.Flatten(name="flatten")(inputs))
        model = keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))
        return trial.fit(model, optimizer=optimizers.SGD(0.01), step=equal_masks)
    model = small_cnn(trial, widths=(4, 8), normalization=normalization, kernel_regularizer=regularizers.L2(l2))
    if activity:
        model.get_layer("conv1_1").activity_regularizer = regularizers.L2(activity)
    made = optimizers.SGD(0.01, momentum=0.9, **(clip or {}))
    if optimizer == "adamw":
        made = optimizers.AdamW(0.001, weight_decay=0.1)
    watch = []
    if patience:
        watch.append(callbacks.ReduceLROnPlateau("val_loss", patience=patience, min_delta=1.0, factor=0.5))
        watch.append(callbacks.EarlyStopping("val_loss", patience=2, min_delta=1.0, restore_best_weights=True))
    given = {"class_weight": class_weight, "sample_weight": (lambda split: 1 + split.ids % 3) if weighted else None}
    given["loss"] = counting() if options.get("counts") else None
    return trial.fit(model, optimizer=made, callbacks=watch, augment=[flip()] if augment else [], **given)


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=3, batch_size=16, train_size=50), seeds=1)
'''


def write(folder):
    path = folder / "exp_91_replicas.py"
    path.write_text(SCRIPT)
    return path


def run(folder, replicas):
    """Epoch rows and rows of all arms, by arm."""
    script = write(folder)
    command = [
        sys.executable,
        "-m",
        "common.commands.run",
        str(script),
        "--results",
        str(folder / "out"),
        "--replicas",
        str(replicas),
        "--jobs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    files = schema.Files(folder / "out" / f"quick-digits-replicas={replicas}", "exp_91_replicas")
    rows = {row["arm"]: row for row in store.read_rows(files)}
    return rows, list(csv.DictReader(files.epochs.open()))
