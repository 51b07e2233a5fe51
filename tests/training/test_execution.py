"""Trials of one worker do not depend on each other."""

from linear import LINEAR
from survival import write
from trials import trained

from common.running.plan import Planner, Variant
from common.running.scripts import read_script

SCRIPT = f'''"""Exp 90: does an arm that configures Keras change later trials?

Varies   the global configuration.
Fixed    all else.
Expect   no.
"""
import keras
import numpy as np
import tensorflow as tf

from common.experiment import Experiment, Setting

ARMS = {{"baseline": {{}}, "configured": {{"configured": True}}, "after": {{"configured": False}}}}

{LINEAR}

def train(trial, *, configured=False):
    """Record the configuration, and change it."""
    trial.record("channels last", keras.config.image_data_format() == "channels_last")
    trial.record("float32", keras.config.floatx() == "float32")
    trial.record("epsilon", keras.config.epsilon())
    trial.record("policy in float32", keras.config.dtype_policy().name == "float32")
    trial.record("eager", tf.config.functions_run_eagerly())
    if configured:
        keras.config.set_image_data_format("channels_first")
        keras.config.set_floatx("float64")
        keras.config.set_epsilon(0.1)
        keras.config.set_dtype_policy("float64")
        tf.config.run_functions_eagerly(True)
    return descend(trial, 0.1)


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=1, batch_size=16, train_size=64), seeds=1)
'''


def test_each_trial_starts_with_the_workers_configuration(tmp_path):
    experiment = read_script(write(tmp_path, SCRIPT))
    plan = Planner(experiment, experiment.select(), tmp_path / "out").plan([(Variant(arm), 0) for arm in experiment.arms])
    measured = [{one["name"]: one["value"] for one in trained(plan, trial).measures} for trial in plan.trials]
    default = {"channels last": 1, "float32": 1, "epsilon": 1e-7, "policy in float32": 1, "eager": 0}
    assert measured == [default] * 3
