"""Exp 24: which loss should a multi-label classifier be trained with?

Varies   the loss, and the threshold (`cut`) above which an object is predicted: fixed, or chosen on val. The learning rate is
         searched for each arm.
Fixed    architecture, SGD with momentum, epochs; images of one to three objects on four tiles.
Expect   binary cross-entropy suits, for labels do not exclude one another; softmax with shared targets can do better where
         labels are very many (Mahajan et al. 2018), but its outputs compete, so that the threshold depends on how many objects
         there are; softmax on pairs of labels needs no threshold (Su et al. 2022). A threshold chosen on val helps binary
         cross-entropy little.
"""

import keras
import numpy as np
from keras import layers, losses

from common.experiment import Claim, Experiment, Setting
from common.losses import pairwise_softmax, shared_softmax
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.tasks import MOST_OBJECTS, tiles
from common.thresholds import AtBestCut

ARMS = {
    "binary": {"loss": "binary", "cut": "fixed"},
    "binary, cut on val": {"loss": "binary", "cut": "val"},
    "softmax": {"loss": "softmax", "cut": "fixed"},
    "softmax, cut on val": {"loss": "softmax", "cut": "val"},
    "softmax on pairs": {"loss": "pairs", "cut": "fixed"},
}


def train(trial, *, loss, cut, learning_rate):
    """Fit one network to several labels an image. An output above 0 predicts the label."""
    model = small_cnn(trial)
    if loss == "softmax":  # log q − log ½⋅1/3: present above half of the smallest target, 1 / MOST_OBJECTS
        shares = layers.Activation("log_softmax", name="shares")(model.output)
        model = keras.Model(model.input, layers.Rescaling(1.0, offset=np.log(2 * MOST_OBJECTS), name="over_cut")(shares))
    chosen = {"binary": losses.BinaryCrossentropy(from_logits=True), "softmax": shared_softmax, "pairs": pairwise_softmax}[loss]
    trial.fit(model, optimizer=sgd(trial, learning_rate), loss=chosen)
    if cut == "fixed":
        return model
    predictor = AtBestCut(trial, model)
    trial.record("cut", predictor.cut)
    return predictor


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.01, 1.0, default=0.1)},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=600, image_size=14),
    baseline="binary",
    task=tiles,
    claims=[
        Claim("binary cross-entropy beats softmax with shared targets", "binary", "softmax", 0.015, id="binary-beats-softmax"),
        Claim(
            "binary cross-entropy beats softmax with shared targets, both at the best threshold on val",
            "binary, cut on val",
            "softmax, cut on val",
            0.015,
            id="binary-beats-at-best-cut",
        ),
        Claim("a threshold chosen on val improves softmax", "softmax, cut on val", "softmax", 0.015, id="softmax-needs-cut"),
        Claim("softmax on pairs beats binary cross-entropy", "softmax on pairs", "binary", 0.015, id="pairs-beat-binary"),
    ],
)

if __name__ == "__main__":
    experiment.main()
