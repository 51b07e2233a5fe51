"""Draws of `train` and callbacks from global generators depend only on the seed, and are resumed after a kill."""

import keras
import numpy as np
import pytest
from survival import write
from trials import trained

from common.data.streams import Streams
from common.running.plan import Planner, Variant
from common.running.scripts import read_script
from common.training.draws import seeded_draws
from common.training.seeding import seeded_weights

SCRIPT = '''"""Exp 90: what do global generators draw?

Varies   what else there is.
Fixed    all that is drawn.
Expect   equal draws.
"""
import pathlib
import random

import keras
import numpy as np
import tensorflow as tf
from keras import callbacks, layers, optimizers

from common.experiment import Experiment, Setting

ARMS = {"baseline": {}, "layers before": {"before": 3}, "killed": {"kill": True}}


def draws():
    """One number of each generator."""
    kernel = keras.initializers.RandomNormal()((1,))
    return {
        "numpy": np.random.normal(),
        "python": random.random(),
        "tensorflow": float(tf.random.normal(())),
        "keras": float(keras.random.normal(())),
        "initializer": float(kernel[0]),
    }


class Shake(callbacks.Callback):
    """Adds draws to a bias at the start of each epoch; raises an error in the second update of the second epoch if `kill`."""

    def __init__(self, kill):
        super().__init__()
        self.kill = kill

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        bias = self.model.get_layer("logits").bias
        bias.assign(bias + np.float32(list(draws().values()) * 2))

    def on_train_batch_end(self, batch, logs=None):
        if self.kill and (self.epoch, batch) == (1, 1):
            raise InterruptedError


def train(trial, *, before=0, kill=False):
    """Draw before, within and after a training."""
    for i in range(before):
        layers.Dropout(0.5)
        layers.Dense(3, name=f"before{i}").build((None, 3))
    for name, number in draws().items():
        trial.record(f"{name} before", number)
    flag = pathlib.Path(__file__).with_name(f"flag{trial.seed}")
    kill = kill and not flag.exists()
    if kill:
        flag.touch()
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs := keras.Input(trial.input_shape)))
    model = keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))
    trial.fit(model, optimizer=optimizers.SGD(0.1), callbacks=[trial.unsaved(Shake(kill))])
    for name, number in draws().items():
        trial.record(f"{name} after", number)
    return model


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=3, batch_size=16, train_size=64), seeds=2)
'''


@pytest.mark.slow
def test_global_draws_depend_only_on_the_seed_also_after_a_kill(tmp_path):
    """`InterruptedError` stands for SIGKILL."""
    experiment = read_script(write(tmp_path, SCRIPT))
    planner = Planner(experiment, experiment.select(), tmp_path / "out")
    plan = planner.plan([(Variant(arm), seed) for seed in range(2) for arm in experiment.arms])
    rows, measures = {}, {}
    for trial in plan.trials:
        key = trial.variant.arm, trial.seed
        if trial.variant.arm == "killed":
            with pytest.raises(InterruptedError):
                trained(plan, trial, checkpoint_steps=1)
        outcome = trained(plan, trial, checkpoint_steps=1)
        rows[key], measures[key] = outcome.row, {measure["name"]: measure["value"] for measure in outcome.measures}
    for seed in range(2):
        assert rows["killed", seed]["resumes"] == 1
        assert len(measures["baseline", seed]) == 10
        for arm in ("layers before", "killed"):
            assert measures[arm, seed] == measures["baseline", seed]
            assert rows[arm, seed]["weights"] == rows["baseline", seed]["weights"]
    assert all(value != measures["baseline", 1][name] for name, value in measures["baseline", 0].items())


@pytest.mark.parametrize("before", [0, 2])
def test_the_first_draws_are_those_of_freshly_seeded_generators(before):
    """Reference: a generator of NumPy with the same seed, and the first state of a `SeedGenerator` of Keras."""
    streams = Streams(4)
    seed = streams.key("init", "global")
    with seeded_weights(streams), seeded_draws(streams):
        for _ in range(before):
            keras.layers.Dropout(0.5)
        assert np.random.normal() == np.random.RandomState(seed).normal()
        drawn = keras.random.normal((3,))
    state = keras.random.SeedGenerator(seed).next(ordered=False)
    assert np.array_equal(drawn, keras.src.backend.random.tf.random.stateless_normal((3,), seed=state))
