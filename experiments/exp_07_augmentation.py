"""Exp 07: does changing the training images at random improve accuracy on unseen ones?

Varies   augment, what happens to each training image in each epoch.
Fixed    architecture, SGD with momentum, a rate that suits the baseline, epochs; validation and test images are never changed.
Expect   on natural images each helps and all together help most; on digits a flip makes other characters and hurts.
"""

from common.augment import crop, flip, rotation, translation
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "baseline": {"augment": []},
    "flip": {"augment": ["flip"]},
    "rotation": {"augment": ["rotation"]},
    "translation": {"augment": ["translation"]},
    "crop": {"augment": ["crop"]},
    "all": {"augment": ["flip", "rotation", "translation", "crop"]},
}
AUGMENTATIONS = {"flip": flip(0.5), "rotation": rotation(15), "translation": translation(0.1), "crop": crop(0.8)}


def train(trial, *, augment, learning_rate):
    """Build and fit the network on images changed by the named augmentations."""
    return trial.fit(
        small_cnn(trial),
        optimizer=sgd(trial, learning_rate),
        augment=[AUGMENTATIONS[name] for name in augment],
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=5000),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    figures=("mistakes",),
    claims=[
        Claim("flips improve accuracy", id="flips-help", better="flip", worse="baseline", margin=0.015),
        Claim("rotations improve accuracy", id="rotations-help", better="rotation", worse="baseline", margin=0.015),
        Claim("shifts improve accuracy", id="shifts-help", better="translation", worse="baseline", margin=0.015),
        Claim("crops improve accuracy", id="crops-help", better="crop", worse="baseline", margin=0.015),
        Claim("all four together improve accuracy", id="all-help", better="all", worse="baseline", margin=0.015),
    ],
)

if __name__ == "__main__":
    experiment.main()
