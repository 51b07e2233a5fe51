"""Golden cases of the task `rotated`, a regression. See `golden.py`."""

import keras
from keras.optimizers import SGD

from common import tasks
from common.experiment import Experiment, Setting
from common.models import small_cnn

LOSSES = {
    "tasks.rotated": keras.losses.MeanSquaredError(),
    "keras.losses.MeanAbsoluteError": keras.losses.MeanAbsoluteError(),
    "keras.losses.Huber": keras.losses.Huber(delta=0.1),
    "outliers": keras.losses.MeanSquaredError(),
}


def train(trial, *, case):
    """Train one case."""
    return trial.fit(small_cnn(trial, widths=(4,)), optimizer=SGD(0.05, momentum=0.9), loss=LOSSES[case])


experiment = Experiment(
    train,
    arms={name: {"case": name, **({"label_noise": 0.3} if name == "outliers" else {})} for name in LOSSES},
    setting=Setting("digits", epochs=1, batch_size=16, train_size=64),
    task=tasks.rotated,
    baseline=None,
)
