"""Exp 07: does data augmentation improve accuracy on unseen images?

Varies   augment: none, one of four random changes of each training image in each epoch, or all four.
Fixed    architecture, SGD with momentum, one learning rate, searched on the baseline; epochs. Validation and test images are
         never changed.
Expect   on natural images each helps and all together help most; on digits a flip makes other characters and hurts.
Found    small-cifar10: Open: flips improve accuracy, by at least 0.015. Test accuracy +0.015 (97.5 % interval +0.012 to +0.017),
         20 seeds.
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
    """Fit the network to images changed by the named augmentations."""
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
    quick=Setting("digits", epochs=60, batch_size=32, train_size=300, image_size=14),
    figures=("mistakes",),
    claims=[
        Claim("flips improve accuracy", "flip", "baseline", 0.015, id="flips-help"),
        Claim("rotations improve accuracy", "rotation", "baseline", 0.015, id="rotations-help"),
        Claim("shifts improve accuracy", "translation", "baseline", 0.015, id="shifts-help"),
        Claim("crops improve accuracy", "crop", "baseline", 0.015, id="crops-help"),
        Claim("flips, rotations, shifts and crops together improve accuracy", "all", "baseline", 0.015, id="all-help"),
    ],
)

if __name__ == "__main__":
    experiment.main()
