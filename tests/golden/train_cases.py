"""A process that trains golden cases as a worker trains a trial: `train_cases.py OUTPUT REPLICAS PART PARTS SCRIPT …`.

Of the arms of these scripts that have so many replicas it trains one in PARTS, the first of them at PART, and writes what they
came to as JSON: name -> values.
"""

import gc
import json
import pathlib
import sys

import tensorflow as tf

from common import machine
from common.data.dataset import load
from common.experiment import Experiment, Setting
from common.rows.schema import KEY
from common.training import execution
from common.training.job import Job


def setting_of(experiment: Experiment, arm: str) -> Setting:
    """What a case is trained under."""
    declared = experiment.select("full")
    return experiment.arm_setting(arm, declared.setting, declared)


def values(script: pathlib.Path, arm: str, strategy: tf.distribute.Strategy) -> dict:
    """What a case comes to.

    Returns:
        `loss` and `norm` of the gradient, in each epoch of each stage; `measures` that have no unit, where there are any (those
        with one are times, sizes of files and what follows from others); `score`, the NLL (of the task `rotated` the error) on
        val of the predictor that `train` returned; `weights`, the hash of its weights, blank where it is no Keras model;
        `kind` of processor and `versions` of the packages.
    """
    experiment = execution.load_script(script)
    setting = setting_of(experiment, arm)
    job = Job(
        script=script,
        seed=0,
        arguments=experiment.arguments(arm),
        setting=setting,
        dataset=load(setting.dataset, setting.image_size, setting.colour),
        folder=script.parent,  # nothing is written
        keep=None,
        checkpoint_steps=None,
        writes=False,
        scores_test=False,
        row=dict.fromkeys(KEY, ""),
        code={},
    )
    outcome = execution.run_trial(job, strategy, lambda **_: None)
    row = outcome.row
    if row["status"] != "done":
        raise ValueError(f"a golden case must not diverge. Received: {arm!r} ({row['reason']})")
    measures = [measure["value"] for measure in outcome.measures if not measure["unit"]]
    return {
        "loss": [epoch["train_loss"] for epoch in outcome.epochs],
        "norm": [epoch["gradient_norm"] for epoch in outcome.epochs],
        **({"measures": measures} if measures else {}),
        "score": row.get("val_nll", row.get("val_error")),
        "weights": row.get("weights", ""),
        "kind": machine.kind(),
        "versions": row["versions"],
    }


def main() -> None:
    output, *numbers = sys.argv[1:5]
    replicas, part, parts = map(int, numbers)
    strategy = execution.start(1, replicas, 1, True)
    gc.freeze()  # what the imports made is not looked through after each trial, which would take as long as its training
    arms = []
    for script in map(pathlib.Path, sys.argv[5:]):
        experiment = execution.load_script(script)
        arms += [(script, a) for a in experiment.arms if setting_of(experiment, a).replicas == replicas]
    cases = {arm: values(script, arm, strategy) for script, arm in arms[part::parts]}
    pathlib.Path(output).write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
