"""Trains golden cases as a worker trains a trial: `train_cases.py OUTPUT REPLICAS PART PARTS SCRIPT …`.

Of the arms of the scripts with REPLICAS replicas it trains every PARTS-th, starting at PART, and writes their results as JSON:
name -> values.
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
    """The setting of a case."""
    declared = experiment.select("full")
    return experiment.arm_setting(arm, declared.setting, declared)


def values(script: pathlib.Path, arm: str, strategy: tf.distribute.Strategy) -> dict:
    """Train a case and return its results.

    Returns:
        `loss` and gradient `norm` of each epoch of each stage; `measures` without a unit, if any (those with one are times, file
        sizes and derived numbers); `score`, the NLL (in the task `rotated` the error) on val of the predictor that `train`
        returned; `weights`, the hash of its weights, empty unless it is a Keras model; `kind` of processor; `versions` of the
        packages.
    """
    experiment = execution.load_script(script)
    setting = setting_of(experiment, arm)
    dataset = load(setting.dataset, setting.image_size, setting.colour)
    job = Job(
        script=script,
        seed=0,
        arguments=experiment.arguments(arm),
        setting=setting,
        dataset=dataset,
        full_size=dataset.split_sizes()[0],
        folder=script.parent,  # not written to
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
    gc.freeze()  # the garbage collector skips objects of the imports, which would take as long as training a case
    arms = []
    for script in map(pathlib.Path, sys.argv[5:]):
        experiment = execution.load_script(script)
        arms += [(script, a) for a in experiment.arms if setting_of(experiment, a).replicas == replicas]
    cases = {arm: values(script, arm, strategy) for script, arm in arms[part::parts]}
    pathlib.Path(output).write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
