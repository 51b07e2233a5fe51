"""Makes two updates on several replicas with many pairs of options: `gradients.py OUTPUT REPLICAS`.

It writes the changes of the weights as JSON: `by hand`, for each entry of `BY_HAND` (with 4 replicas only those in float16), and
with 2 replicas `optimizers`, for each optimizer on one replica and on two, and `resumed`, see `resumed.py`.
"""

import itertools
import json
import pathlib
import sys
import tempfile

import keras
import numpy as np
import resumed
import tensorflow as tf
from keras import optimizers

from common.data.split import Split
from common.data.streams import Streams
from common.training import execution
from common.training.trial import Examples, Host, Trial

SIZE, CLASSES, RATE = 7, 3, 0.5
"""Seven examples cannot be split evenly over 2 or 4 replicas."""
WEIGHTS, ACTIVITIES = 0.01, 0.02
"""Factors of the penalties."""
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CLIPS = ({}, {"clipnorm": 0.02}, {"global_clipnorm": 0.03}, {"clipvalue": 0.004})
DECAYS = ({}, {"weight_decay": 0.1})
EXTRAS = ({}, {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 1}, {"loss_scale_factor": 8.0})
BY_HAND = [(PRECISIONS[i % 3], CLIPS[i % 4], DECAYS[(i // 4 + i) % 2], EXTRAS[i // 4]) for i in range(12)]
"""Combinations that contain every pair of options of SGD, for comparison with NumPy."""


def kinds():
    """New instances of every optimizer of Keras, some with several options, all wrapped in a `LossScaleOptimizer`.

    The wrapper is that of float16, but the precision is float32.
    """
    plain = {name: kind for name, kind in vars(optimizers).items() if isinstance(kind, type) and name[0].isupper()}
    abstract = ("Optimizer", "OptimizerMap", "MultiOptimizer", "LossScaleOptimizer")
    made = {name: kind(0.1) for name, kind in plain.items() if name not in abstract}
    parted = optimizers.OptimizerMap(optimizers.SGD(0.1), {".*bias": optimizers.Adam(0.1)})
    made |= {
        "SGD_momentum": optimizers.SGD(0.1, momentum=0.9),
        "SGD_nesterov": optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.1),
        "RMSprop_centered": optimizers.RMSprop(0.1, momentum=0.5, centered=True),
        "Adam_amsgrad": optimizers.Adam(0.1, amsgrad=True, use_ema=True, ema_overwrite_frequency=1),
        "AdamW_averaged": optimizers.AdamW(0.1, weight_decay=0.1, use_ema=True),
        "MultiOptimizer": optimizers.MultiOptimizer(parted),
    }
    return {name: optimizers.LossScaleOptimizer(one) for name, one in made.items()}


def examples():
    """Images [n, 2, 2, 1] and labels."""
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 2, 2, 1), np.uint8)
    return Split.of(images, np.arange(SIZE) % CLASSES, CLASSES)


def first_kernel(shape=(4, CLASSES), dtype=None):
    return np.linspace(-0.5, 0.5, 12).reshape(shape)


def dense(name, **options):
    return keras.layers.Dense(CLASSES, name=name, kernel_initializer=first_kernel, **options)


def linear():
    """Softmax regression on 4 pixels with weight and activity penalties, and a constraint without effect."""
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Flatten(name="flatten")(keras.layers.Rescaling(1 / 256, name="rescale")(inputs))
    penalties = {
        "kernel_regularizer": keras.regularizers.L2(WEIGHTS),
        "activity_regularizer": keras.regularizers.L2(ACTIVITIES),
    }
    return keras.Model(inputs, dense("logits", kernel_constraint=keras.constraints.MaxNorm(100.0), **penalties)(x))


def heads(names):
    """A model with a softmax regression for each name."""
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Flatten(name="flatten")(keras.layers.Rescaling(1 / 256, name="rescale")(inputs))
    return keras.Model(inputs, [dense(name)(x) for name in names])


def updated(strategy, folder, precision, build, make, **options):
    """The change of the weights that two updates make."""
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy(precision)
    split = examples()
    trial = Trial(Examples(split, split, CLASSES, SIZE), Host(folder, strategy), streams=Streams(0), epochs=2, batch_size=SIZE)
    with strategy.scope():
        model = build()
        before = model.get_weights()
        trial.fit(model, optimizer=make(), **options)
    change = [(after - old).tolist() for old, after in zip(before, model.get_weights(), strict=True)]
    return {"change": change, "norms": trial.fits["fit"].norms}


def separate_losses(model, images, targets, seed):
    """A step that returns the cross-entropy of each head."""
    outputs = dict(zip(kinds_of(model), model(images, training=True), strict=True))
    return {
        name: keras.losses.categorical_crossentropy(targets, tf.cast(output, tf.float32), from_logits=True)
        for name, output in outputs.items()
    }, None


def kinds_of(model):
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def main(output, replicas):
    shared = execution.start(threads=1, replicas=replicas, workers=1, deterministic=True)
    alone = tf.distribute.OneDeviceStrategy("/cpu:0")
    names = list(kinds())
    with tempfile.TemporaryDirectory() as name:
        folders = (pathlib.Path(name) / str(i) for i in itertools.count())
        by_hand = [
            updated(shared, next(folders), precision, linear, lambda: optimizers.SGD(RATE, **clip, **decay, **extra))  # noqa: B023
            for precision, clip, decay, extra in BY_HAND
            if replicas == 2 or precision == "mixed_float16"
        ]
        pair = [
            updated(strategy, next(folders), "float32", lambda: heads(names), kinds, step=separate_losses)
            for strategy in ((alone, shared) if replicas == 2 else ())
        ]
        keras.config.set_dtype_policy("float32")
        again = resumed.results(shared, next(folders)) if replicas == 2 else {}
    by_optimizer = {name: [one["change"][2 * i : 2 * i + 2] for one in pair] for i, name in enumerate(names)}
    pathlib.Path(output).write_text(json.dumps({"by hand": by_hand, "optimizers": by_optimizer, "resumed": again}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
