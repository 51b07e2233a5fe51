"""Trains planned trials in this process, without a worker."""

import tensorflow as tf

from common.running.plan import Plan, Planned, known_columns
from common.running.process import job
from common.training import execution


def trained(plan: Plan, trial: Planned, checkpoint_steps=None):
    """The outcome of a planned trial."""
    row = known_columns(trial, plan.experiment.name, plan.planner.origin)
    sent = job(plan, trial, row, keep=None, checkpoint_steps=checkpoint_steps)
    return execution.run_trial(sent, tf.distribute.OneDeviceStrategy("/cpu:0"), lambda **_: None)
