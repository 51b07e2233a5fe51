"""Exp 08: do strong augmentation and soft labels improve accuracy, and do they need longer training?

Varies   one change of the training images or of their labels at a time; the epochs: the setting's, or four times as many (4E).
Fixed    architecture, SGD with momentum at one learning rate, searched on the baseline (for label smoothing, which changes the
         loss, a separate search); validation and test images are never changed.
Expect   each helps on natural images, most with many epochs (cutout: DeVries & Taylor 2017; mixup: Zhang et al. 2018; CutMix: Yun
         et al. 2019; RandAugment: Cubuk et al. 2020; label smoothing: Szegedy et al. 2016); a network this small underfits,
         so that it gains less than the large ones of the papers.
"""

from keras import losses

from common.augment import cutmix, cutout, mixup, rand_augment, translation
from common.claims import each, interaction
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import linear_range, log_range

AUGMENTATIONS = {
    "translation": translation(0.1),
    "cutout": cutout(0.5),
    "mixup": mixup(1.0),
    "CutMix": cutmix(1.0),
    "RandAugment": rand_augment(operations=2, strength=0.3),
}
KINDS = {"baseline": {}, **{name: {"augment": name} for name in AUGMENTATIONS}, "label smoothing": {"label_smoothing": 0.1}}
ARMS = {**KINDS, **{f"{name}, 4E": {**kind, "epochs": 4.0} for name, kind in KINDS.items()}}
STRONG = ("cutout", "mixup", "CutMix", "RandAugment", "label smoothing")
RATES = log_range(1e-3, 0.3)


def train(trial, *, learning_rate, augment=None, label_smoothing=0.0):
    """Fit one network to images and labels changed in one way."""
    return trial.fit(
        small_cnn(trial),
        optimizer=sgd(trial, learning_rate),
        loss=losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing),
        augment=[AUGMENTATIONS[augment]] if augment else [],
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=RATES, arms={arm: {"learning_rate": RATES} for arm in ARMS if "label smoothing" in arm}),
    sweep={
        "searched smoothing": {"label_smoothing": linear_range(0.0, 0.3)},
        "searched smoothing, 4E": {"label_smoothing": linear_range(0.0, 0.3), "epochs": 4.0},
    },
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=5000),
    quick=Setting("digits", epochs=60, batch_size=32, train_size=300, image_size=14),
    claims=[
        *each(STRONG, "{} improves accuracy with four times the epochs", "{}, 4E", "baseline, 4E", 0.015, id="{} helps"),
        Claim(
            "more complex augmentation helps more: with four times the epochs, RandAugment beats translation",
            "RandAugment, 4E",
            "translation, 4E",
            0.015,
            id="complex-helps-more",
        ),
        interaction(
            "four times the epochs raise accuracy more with CutMix than without augmentation",
            ["CutMix, 4E", "CutMix"],
            ["baseline, 4E", "baseline"],
            id="mixing-needs-epochs",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
