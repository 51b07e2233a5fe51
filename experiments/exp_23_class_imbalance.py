"""Exp 23: does class imbalance hurt cross-entropy more than other losses?

Varies   how many times as frequent the first class is as the last (a long tail; 1:1 is the balanced control of equal size), and
         the loss; the learning rate is searched for each pair.
Fixed    architecture, SGD with momentum, the number of training images; val and test keep their class proportions.
Expect   the rarest classes lose most; weighting and class-balanced weights help somewhat (Cui et al. 2019), logit adjustment
         more (Menon et al. 2021); focal loss little, as it weighs hard examples, not rare ones (Lin et al. 2017). At 1:1, class
         weights, class-balanced weights and logit adjustment are nearly cross-entropy itself.
"""

import numpy as np
from keras import losses

from common.claims import each
from common.experiment import Claim, Experiment, Setting
from common.losses import class_balanced_weights, logit_adjusted
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

LOSSES = ("cross-entropy", "class weights", "focal", "class-balanced", "logit adjustment", "hinge")
ARMS = {f"{loss}, {skew}:1": {"loss": loss, "imbalance": float(skew)} for skew in (1, 10, 100) for loss in LOSSES}


def train(trial, *, loss, learning_rate):
    """Fit one network to the imbalanced classes, with one loss."""
    counts = np.bincount(trial.train.labels, minlength=trial.classes)
    chosen = {
        "focal": losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True),
        "logit adjustment": logit_adjusted(counts / counts.sum()),
        "hinge": losses.CategoricalHinge(),
    }.get(loss, losses.CategoricalCrossentropy(from_logits=True))
    weights = {
        "class weights": len(trial.train) / (trial.classes * counts),  # King & Zeng 2001
        "class-balanced": class_balanced_weights(counts, beta=1 - trial.classes / len(trial.train)),
    }.get(loss)
    optimizer = sgd(trial, learning_rate)
    return trial.fit(small_cnn(trial), optimizer=optimizer, loss=chosen, class_weight=weights)


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.001, 0.3, default=0.05)},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=250, image_size=14),
    baseline="cross-entropy, 1:1",
    claims=[
        *each(
            LOSSES[1:],
            "an imbalance of 100:1 costs 'cross-entropy' more recall than '{}'",
            ["{}, 100:1", "{}, 1:1"],
            ["cross-entropy, 100:1", "cross-entropy, 1:1"],
            0.015,
            id="skew {}",
            kind="interaction",
            metric="test_recall",
        ),
        Claim(
            "at 100:1, logit adjustment beats cross-entropy in the accuracy of the worst class",
            "logit adjustment, 100:1",
            "cross-entropy, 100:1",
            0.02,
            id="worst-class",
            metric="worst_class_accuracy",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
