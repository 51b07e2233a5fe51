"""Golden cases of the task `tiles`, multi-label. See `golden.py`."""

import keras
from keras.optimizers import SGD

from common import losses, tasks, thresholds
from common.experiment import Experiment, Setting
from common.models import small_cnn

CUT = "thresholds.AtBestCut"
LOSSES = {
    CUT: losses.shared_softmax,
    "tasks.tiles": keras.losses.BinaryCrossentropy(from_logits=True),
    "losses.pairwise_softmax": losses.pairwise_softmax,
    "losses.shared_softmax": losses.shared_softmax,
}


def train(trial, *, case):
    """Train one case."""
    model = trial.fit(small_cnn(trial, widths=(4,)), optimizer=SGD(0.05, momentum=0.9), loss=LOSSES[case])
    if case != CUT:
        return model
    predictor = thresholds.AtBestCut(trial, model)
    trial.record("cut", predictor.cut)
    return predictor


experiment = Experiment(
    train,
    arms={name: {"case": name} for name in LOSSES},
    setting=Setting("digits", epochs=1, batch_size=16, train_size=64),
    task=tasks.tiles,
    baseline=None,
)
