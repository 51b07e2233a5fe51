"""Two arms of every experiment are trained for an epoch, scored, stored and drawn."""

import math

import pytest
import tensorflow as tf

from common import space
from common.errors import Unavailable
from common.figures import draw
from common.files import experiment_scripts
from common.rows import store
from common.running import scripts
from common.running.fingerprint import provenance
from common.running.plan import SMOKE, Planner, Variant, known_columns
from common.running.process import job
from common.training import execution


def two_arms(experiment):
    """The first arm and the last one that a process like this one can run."""
    fields = {arm: experiment.arm_setting(arm, experiment.quick, SMOKE) for arm in experiment.arms}
    fitting = [arm for arm, setting in fields.items() if setting.replicas == 1 and not setting.xla]
    return list(dict.fromkeys([fitting[0], fitting[-1]]))


@pytest.mark.parametrize("path", experiment_scripts(), ids=lambda path: path.stem)
def test_an_experiment_trains_scores_and_draws(path, tmp_path):
    experiment = scripts.declared(path)
    variants = [Variant(arm, values=space.defaults(experiment.search.get(arm, {}))) for arm in two_arms(experiment)]
    setting = experiment.quick.replace(**SMOKE)
    trials = [(variant, 0) for variant in variants]
    plan = Planner(experiment, setting, tmp_path, overridden=list(SMOKE), smoke=True).plan(trials)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    store.write_declaration(plan.files, experiment.declare(setting))
    for trial in plan.trials:
        row = known_columns(trial, experiment.name, provenance())
        try:
            outcome = execution.run_trial(job(plan, trial, row, keep=None, checkpoint_steps=None), strategy, lambda **_: None)
        except Unavailable:
            continue
        outcome.row["beside"] = 0
        assert outcome.row["status"] == "done"
        assert math.isfinite(outcome.row[f"test_{experiment.task.metric}"])
        store.store(plan.files, outcome, list(experiment.arms))
    assert {row["arm"] for row in store.read_rows(plan.files)} <= {variant.arm for variant in variants}
    assert draw.draw(plan.files)
