"""Exp 20: how much does more training data help, and does it reduce overfitting?

Varies   the share of the training images that is used, 1 % to all of them; smaller sets lie within larger ones.
Fixed    architecture, SGD with momentum at a rate that suits all images, and either the epochs, where a small set gets few
         updates, or the updates, where its images are shown as often as it takes to make an epoch as long as that of all images.
Expect   accuracy grows with the logarithm of the number of images (Sun et al. 2017), faster at equal epochs, where fewer
         images are also less training; at equal updates the gap between train and test shrinks as images are added.
"""

import numpy as np

from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

SHARES = {"30 %": 0.3, "10 %": 0.1, "3 %": 0.03, "1 %": 0.01}
ARMS = {
    "all images": {"repeated": False},
    **{f"{name}, equal steps": {"train_size": share, "repeated": True} for name, share in SHARES.items()},
    **{f"{name}, equal epochs": {"train_size": share, "repeated": False} for name, share in SHARES.items()},
}


def train(trial, *, repeated, learning_rate):
    """Fit one network to the images there are, or to as many copies of them as make the full number."""
    images = trial.train
    if repeated:  # what the full number is no multiple of comes from all classes
        images = images.take(np.resize(images.drawn(len(images), trial.streams, "repeated"), trial.full_size))
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate, on=images), on=images)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=128),
    quick=Setting("digits", epochs=10, batch_size=8),
    baseline="all images",
    claims=[
        *(
            Claim(
                f"all images beat a tenth of them at equal {equal}",
                "all images",
                f"10 %, equal {equal}",
                id=f"all-beat-tenth-{equal}",
                margin=0.015,
            )
            for equal in ("steps", "epochs")
        ),
        Claim(
            "more data reduces overfitting: a smaller gap",
            id="more-data-gap",
            better="all images",
            worse="10 %, equal steps",
            metric="gap",
            lower_is_better=True,
            margin=0.015,
        ),
        Claim(
            "more data reduces overfitting: accuracy not worse",
            id="more-data-accuracy",
            better="all images",
            worse="10 %, equal steps",
            kind="not worse",
            margin=0.02,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
