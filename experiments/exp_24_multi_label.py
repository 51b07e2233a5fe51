"""Exp 24: which loss should a network be trained with when an image shows several things?

Varies   the loss, each at a learning rate of its own, and where the line between present and absent is drawn.
Fixed    architecture, SGD with momentum, epochs; images of one to three objects on four tiles.
Expect   binary cross-entropy suits, for labels do not exclude one another; softmax with shared targets can do better where
         labels are very many (Mahajan et al. 2018), but its outputs compete, so where to cut depends on how many objects there
         are; softmax on pairs of labels needs no cut (Su et al. 2022). A cut chosen on val helps binary cross-entropy little.
"""

import types

import keras
import numpy as np
from keras import layers, losses

from common.experiment import Claim, Experiment, Setting
from common.losses import pairwise_softmax, shared_softmax
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.tasks import MOST_OBJECTS, tiles

ARMS = {
    "binary": {"loss": "binary", "cut": "fixed"},
    "binary, cut on val": {"loss": "binary", "cut": "val"},
    "softmax": {"loss": "softmax", "cut": "fixed"},
    "softmax, cut on val": {"loss": "softmax", "cut": "val"},
    "softmax on pairs": {"loss": "pairs", "cut": "fixed"},
}


def train(trial, *, loss, cut, learning_rate):
    """Fit one network to several labels an image; an output above 0 says that the label is present."""
    model = small_cnn(trial)
    if loss == "softmax":  # log q − log ½⋅1/3: present from half of the smallest share that a target gives
        shares = layers.Activation("log_softmax", name="shares")(model.output)
        model = keras.Model(model.input, layers.Rescaling(1.0, offset=np.log(2 * MOST_OBJECTS), name="over_cut")(shares))
    chosen = {"binary": losses.BinaryCrossentropy(from_logits=True), "softmax": shared_softmax, "pairs": pairwise_softmax}[loss]
    trial.fit(model, optimizer=sgd(trial, learning_rate), loss=chosen)
    if cut == "fixed":
        return model
    outputs = trial.predict(model, trial.val)
    cuts = [0.0, *np.quantile(outputs, np.linspace(0, 1, 101))]
    best = max(cuts, key=lambda value: trial.task.scores(outputs - value, trial.val.labels)["f1"])
    trial.record("cut", best)
    return types.SimpleNamespace(predict=lambda images: trial.predict(model, images) - best)


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.01, 1.0, default=0.1)},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=600, image_size=14),
    baseline="binary",
    task=tiles,
    claims=[
        Claim(
            "binary cross-entropy beats softmax with shared targets",
            id="binary-beats-softmax",
            better="binary",
            worse="softmax",
            margin=0.015,
        ),
        Claim(
            "it does so also at the best cut of either",
            "binary, cut on val",
            "softmax, cut on val",
            id="binary-beats-at-best-cut",
            margin=0.015,
        ),
        Claim(
            "softmax needs its cut chosen on val",
            id="softmax-needs-cut",
            better="softmax, cut on val",
            worse="softmax",
            margin=0.015,
        ),
        Claim(
            "softmax on pairs beats binary cross-entropy",
            id="pairs-beat-binary",
            better="softmax on pairs",
            worse="binary",
            margin=0.015,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
