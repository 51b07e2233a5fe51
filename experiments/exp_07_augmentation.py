"""Exp 07: does changing the training images at random improve accuracy on unseen ones?

Varies   augment, what happens to each training image in each epoch.
Fixed    architecture, SGD with momentum, epochs; validation and test images are never changed.
Expect   on natural images each helps and all together help most; on digits a flip makes other characters and hurts.
"""

from keras import optimizers

from common.augment import crop, flip, rotation, translation
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {"augment": []},
    "flip": {"augment": ["flip"]},
    "rotation": {"augment": ["rotation"]},
    "translation": {"augment": ["translation"]},
    "crop": {"augment": ["crop"]},
    "all": {"augment": ["flip", "rotation", "translation", "crop"]},
}
AUGMENTATIONS = {"flip": flip(0.5), "rotation": rotation(15), "translation": translation(0.1), "crop": crop(0.8)}


def train(trial, *, augment):
    """Build and fit the network on images changed by the named augmentations."""
    return trial.fit(
        small_cnn(trial),
        optimizer=optimizers.SGD(0.05, momentum=0.9),
        augment=[AUGMENTATIONS[name] for name in augment],
    )


experiment = Experiment(
    train,
    arms=ARMS,
    setting=Setting("cifar10", epochs=20, batch_size=128),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    figures=("mistakes",),
    claims=[
        Claim("flips improve accuracy", id="flips-help", better="flip", worse="baseline", margin=0.005),
        Claim("rotations improve accuracy", id="rotations-help", better="rotation", worse="baseline", margin=0.005),
        Claim("shifts improve accuracy", id="shifts-help", better="translation", worse="baseline", margin=0.005),
        Claim("crops improve accuracy", id="crops-help", better="crop", worse="baseline", margin=0.005),
        Claim("all four together improve accuracy", id="all-help", better="all", worse="baseline", margin=0.005),
    ],
)

if __name__ == "__main__":
    experiment.main()
