"""Two arms of every experiment are trained for an epoch, scored, stored and drawn, with all texts laid out."""

import math

import pytest
from trials import trained

from common import space
from common.errors import Unavailable
from common.figures import draw
from common.files import experiment_scripts
from common.rows import store
from common.rows.table import Table
from common.running import scripts
from common.running.plan import Planner, Variant

pytestmark = pytest.mark.slow


def two_arms(experiment):
    """The first and the last arm that run with one device and without XLA."""
    smoke = experiment.select(smoke=True)
    fields = {arm: experiment.arm_setting(arm, smoke.setting, smoke) for arm in experiment.arms}
    fitting = [arm for arm, setting in fields.items() if setting.replicas == 1 and not setting.xla]
    return list(dict.fromkeys([fitting[0], fitting[-1]]))


@pytest.mark.parametrize("path", experiment_scripts(), ids=lambda path: path.stem)
def test_an_experiment_trains_scores_and_draws(path, tmp_path):
    experiment = scripts.read_script(path)
    variants = [Variant(arm, values=space.defaults(experiment.searched_by(arm))) for arm in two_arms(experiment)]
    trials = [(variant, 0) for variant in variants]
    planner = Planner(experiment, experiment.select(smoke=True), tmp_path)
    plan = planner.plan(trials)
    store.write_declaration(plan.files, planner.declaration())
    for trial in plan.trials:
        try:
            outcome = trained(plan, trial)
        except Unavailable:
            continue
        outcome.row["beside"] = 0
        assert outcome.row["status"] == "done"
        assert math.isfinite(outcome.row[f"test_{experiment.task.metric}"])
        store.store(plan.files, outcome, list(experiment.arms))
    assert {row["arm"] for row in store.read_rows(plan.files)} <= {variant.arm for variant in variants}
    drawn = [figure for _, figure in draw.figures(Table.read(plan.files))]
    assert drawn
    for figure in drawn:
        figure.draw_without_rendering()  # files of all kinds of figures are written in tests/figures
