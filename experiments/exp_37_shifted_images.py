"""Exp 37: what helps recognition to cope with light, rotation, scale, noise and blur that it was not trained on?

Varies   augmentation (none, or rotation, translation and crops) and normalisation (none, batch, layer, or of each image before
         the network), each pair at a learning rate of its own.
Fixed    architecture, SGD with momentum, epochs; the changed test images are the same for all.
Expect   what is trained for is learned and little else (Geirhos et al. 2018): augmentation helps against rotation and scale, not
         against noise; an image freed of its own brightness and contrast copes with changes of light.
"""

from common import preprocessing
from common.augment import crop, rotation, translation
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


def train(trial, *, augmented, normalisation, learning_rate):
    """Fit one network to images as they are, or changed at random."""
    if normalisation == "image":
        model = small_cnn(trial, preprocessing=preprocessing.standardised_image())
    else:
        model = small_cnn(trial, normalization=normalisation)
    return trial.fit(
        model,
        optimizer=sgd(trial, learning_rate),
        augment=[rotation(30), translation(0.1), crop(0.7)] if augmented else [],
    )


def copes(better, kind, worse="plain, none", margin=0.015):
    """The claim that an arm is more accurate on images changed in one way."""
    return Claim(
        f"{better} copes better with {kind} than {worse}",
        better,
        worse,
        id=to_id(f"{better} {kind}"),
        metric=f"{kind}_accuracy",
        margin=margin,
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 0.3, default=0.05)},
    setting=Setting("cifar10", epochs=20, batch_size=128, shifted=True),
    quick=Setting("digits", epochs=15, batch_size=32, train_size=300, shifted=True),
    baseline="plain, none",
    claims=[
        *(copes("augmented, none", kind) for kind in ("rotation", "scale", "noise", "shifted")),
        *(copes("plain, image", kind) for kind in ("brightness", "contrast")),
        *(copes("plain, batch", kind) for kind in ("contrast", "noise")),
        Claim(
            "augmentation costs nothing on unchanged images",
            "augmented, none",
            "plain, none",
            id="augmented-not-worse",
            kind="not worse",
            margin=0.02,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
