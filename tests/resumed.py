"""Trains on two replicas, once uninterrupted and once killed within an epoch and resumed, for `gradients.py`."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from common.data.split import Split
from common.data.streams import Streams
from common.errors import Misuse
from common.training.seeding import seeded_weights
from common.training.trial import Examples, Host, Trial

SIZE, BATCH, CLASSES, STEPS = 30, 7, 3, 2
"""Batches of 7 cannot be split evenly; the last of the five in an epoch has 2 examples. STEPS: updates between checkpoints."""
KILLED_AT = 8
"""Update after which the training is killed, the third of the second epoch; it resumes after the sixth."""


class Killed(Exception):
    """Stands for SIGKILL within one process."""


def network():
    """A network with batch normalisation, dropout and noise."""
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs := keras.Input((4, 4, 1))))
    x = layers.BatchNormalization(name="norm")(layers.Dense(8, name="hidden")(x))
    x = layers.GaussianNoise(0.1, name="noise")(layers.Dropout(0.5, name="drop")(x))
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def run(strategy, folder, kills=False, step=None):
    """Train and return the final state. With `kills` the training is killed first, then resumed."""
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 4, 4, 1), np.uint8)
    split = Split.of(images, np.arange(SIZE) % CLASSES, CLASSES)
    for kill in (True, False) if kills else (False,):
        keras.utils.clear_session(free_memory=False)
        host = Host(folder, strategy, checkpoint_steps=STEPS)
        trial = Trial(Examples(split, split, CLASSES, SIZE), host, streams=Streams(0), epochs=3, batch_size=BATCH)
        seen = []

        def watch(batch, logs, kill=kill, seen=seen):
            seen.append(batch)
            if kill and len(seen) == KILLED_AT:
                raise Killed

        with strategy.scope(), seeded_weights(trial.streams), contextlib.suppress(Killed):
            model = network()
            callback = trial.unsaved(keras.callbacks.LambdaCallback(on_train_batch_end=watch))
            trial.fit(model, optimizer=optimizers.SGD(0.1, momentum=0.9), callbacks=[callback], step=step)
    return {
        "weights": [weight.tobytes().hex() for weight in model.get_weights()],
        "momentum": [np.array(variable).tobytes().hex() for variable in model.optimizer.variables],
        "norms": trial.fits["fit"].norms,
        "losses": [row["train_loss"] for row in trial.fits["fit"].history],
        "updates": len(seen),
        "resumes": trial.resumes,
    }


def uneven(model, images, targets, seed):
    """A step that returns as many losses on each replica as the first has examples."""
    logits = model(images, training=True)
    values = losses.categorical_crossentropy(targets, logits, from_logits=True)
    return tf.concat([values, values[: 4 - tf.shape(values)[0]]], axis=0), logits


def results(strategy, folder):
    """The results of both trainings, and the error for a step with a wrong number of losses on the second replica."""
    made = {kind: run(strategy, folder / kind, kind == "killed") for kind in ("whole", "killed")}
    try:
        run(strategy, folder / "uneven", step=uneven)
    except Misuse as error:
        made["uneven"] = str(error)
    return made
