"""Exp 20: how much does more training data help, and does it reduce overfitting?

Varies   the share of the training images that is used, 1 % to all of them (smaller sets are subsets of larger ones), with equal
         epochs, so that a small set gets fewer updates, or with equal steps, for which its images are repeated until an epoch
         has as many as one of all images.
Fixed    architecture, SGD with momentum at one learning rate, searched on all images.
Expect   accuracy grows with the logarithm of the number of images (Sun et al. 2017), faster at equal epochs, where fewer
         images are also less training; at equal steps the gap between train and test shrinks as images are added.
Found    small-cifar10: Supported: all images beat 10 % of them at equal steps, by at least 0.015. Test accuracy +0.188 (99 %
         interval +0.176 to +0.201), 5 seeds.
"""

import numpy as np

from common.claims import each, overfits_less
from common.experiment import Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ALL = "all images"
SHARES = {"30 %": 0.3, "10 %": 0.1, "3 %": 0.03, "1 %": 0.01}
ARMS = {
    ALL: {"repeated": False},
    **{f"{name}, equal steps": {"train_size": share, "repeated": True} for name, share in SHARES.items()},
    **{f"{name}, equal epochs": {"train_size": share, "repeated": False} for name, share in SHARES.items()},
}


def train(trial, *, repeated, learning_rate):
    """Fit one network to the arm's images, repeated up to the full number where the arm says so."""
    images = trial.train
    if repeated:  # in an order that keeps the classes balanced where the last repetition is cut off
        images = images.take(np.resize(images.drawn(len(images), trial.streams, "repeated"), trial.full_size))
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate, on=images), on=images)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=10, batch_size=8, image_size=14),
    baseline=ALL,
    claims=[
        *each(
            ("steps", "epochs"), "all images beat 10 % of them at equal {}", ALL, "10 %, equal {}", 0.015, id="all beat tenth {}"
        ),
        overfits_less(ALL, "10 %, equal steps", id="more-data"),
    ],
)

if __name__ == "__main__":
    experiment.main()
