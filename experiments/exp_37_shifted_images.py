"""Exp 37: what makes recognition robust to changes of light, rotation, scale, noise and blur absent from training?

Varies   augmentation (none, or rotation, translation and crops) and normalisation (none, batch, layer, or of each image before
         the network); the learning rate is searched for each pair.
Fixed    architecture, SGD with momentum, epochs; the changed test images are the same for all arms.
Expect   networks become robust to the changes they are trained on and to few others (Geirhos et al. 2018): augmentation helps
         against rotation and scale, not against noise; normalising each image helps against changes of light.
"""

from common import preprocessing
from common.augment import crop, rotation, translation
from common.claims import not_worse
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.text import to_id

NORMALISATIONS = {"none": None, "batch": "batch", "layer": "layer", "image": "image"}
ARMS = {
    f"{'augmented' if augmented else 'plain'}, {name}": {"augmented": augmented, "normalisation": kind}
    for augmented in (False, True)
    for name, kind in NORMALISATIONS.items()
}
REMEDIES = {"augmented, none": "augmentation", "plain, batch": "batch norm", "plain, image": "normalising each image"}


def train(trial, *, augmented, normalisation, learning_rate):
    """Fit one network with the arm's normalisation and augmentation."""
    if normalisation == "image":
        model = small_cnn(trial, preprocessing=preprocessing.standardised_image())
    else:
        model = small_cnn(trial, normalization=normalisation)
    return trial.fit(
        model,
        optimizer=sgd(trial, learning_rate),
        augment=[rotation(30), translation(0.1), crop(0.7)] if augmented else [],
    )


def more_robust(arm, change):
    """The claim that an arm beats the baseline on test images with one kind of change, or (`shifted`) over all kinds."""
    changed = "all changed test images" if change == "shifted" else f"test images with changed {change}"
    text = f"{REMEDIES[arm]} improves accuracy on {changed}"
    return Claim(text, arm, "plain, none", 0.015, id=to_id(f"{arm} {change}"), metric=f"{change}_accuracy")


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 0.3, default=0.05)},
    setting=Setting("cifar10", epochs=20, batch_size=128, shifted=True),
    small=Setting("cifar10", epochs=18, train_size=2500, shifted=True),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14, shifted=True),
    baseline="plain, none",
    claims=[
        *(more_robust("augmented, none", change) for change in ("rotation", "scale", "noise", "shifted")),
        *(more_robust("plain, image", change) for change in ("brightness", "contrast")),
        *(more_robust("plain, batch", change) for change in ("contrast", "noise")),
        not_worse(
            "augmentation costs no accuracy on unchanged images", "augmented, none", "plain, none", id="augmented-not-worse"
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
