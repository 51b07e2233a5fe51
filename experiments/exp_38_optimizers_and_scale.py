"""Exp 38: is plain SGD enough for small data and simple models, and do AdaGrad and RMSprop win on large and complex ones?

Varies   the optimizer; 100 training images, or all of the setting's; `small_cnn` (simple), or ResNet-20 (complex; ResNet-8
         where images have fewer than 32 pixels a side). The learning rate is searched for each arm.
Fixed    batch size, except for gradient descent, which sees all examples in each update. With 100 images the epochs are five
         times as many, for SGD to converge; for gradient descent twenty times, as many updates as SGD makes of batches of 32.
Expect   no support for the claims: tuned SGD and momentum keep up with adaptive methods also in large image models (Wilson et al.
         2017, Choi et al. 2019), and batch normalisation makes the residual network easy for SGD. Gradient descent keeps up with
         100 images, and is far behind with more, where an equal number of epochs gives it few updates.

Arms: `SGD, 100 images, simple` and so on, all crossings of four optimizers, two sizes and two models; gradient descent for the
simple model alone, as a batch of all images needs hundreds of gigabytes for the complex one.
Claims, for RMSprop and for AdaGrad: its lead over SGD is larger with more images and the complex model than with 100 images and
the simple one; with more images and the complex model it beats SGD; with 100 images and the simple one SGD is not worse, nor is
gradient descent.
"""

from common.claims import interaction, not_worse
from common.experiment import Claim, Experiment, Setting
from common.models import resnet, small_cnn
from common.optimizers import falling, named
from common.space import log_range

RATES = {"SGD": (1e-2, 1.0), "momentum": (1e-3, 0.1), "AdaGrad": (1e-3, 0.1), "RMSprop": (1e-4, 1e-2)}
SIZES = {"100 images": {"train_size": 100, "epochs": 5.0}, "more images": {}}
MODELS = {"simple": "small_cnn", "complex": "resnet"}
FULL_BATCH, FULL_BATCH_RATES = {"optimizer": "SGD", "batch_size": None}, (3e-2, 3.0)
SMALL, LARGE = "100 images, simple", "more images, complex"
ARMS = {
    f"{name}, {images}, {scale}": {"optimizer": name, "network": network, **size}
    for images, size in SIZES.items()
    for scale, network in MODELS.items()
    for name in RATES
} | {
    f"gradient descent, {SMALL}": {**FULL_BATCH, "network": "small_cnn", "train_size": 100, "epochs": 20.0},
    "gradient descent, more images, simple": {**FULL_BATCH, "network": "small_cnn"},
}


def rates(arm):
    """Lowest and highest rate of an arm's search."""
    return FULL_BATCH_RATES if "batch_size" in arm else RATES[arm["optimizer"]]


def train(trial, *, optimizer, network, learning_rate):
    """Fit one network with one optimizer."""
    model = small_cnn(trial) if network == "small_cnn" else resnet(trial, blocks=3 if min(trial.input_shape[:2]) >= 32 else 1)
    return trial.fit(model, optimizer=named(optimizer, falling(trial, learning_rate)))


def claims(adaptive):
    """The claims about an adaptive optimizer, and SGD or gradient descent."""
    adaptive_small, sgd_small = f"{adaptive}, {SMALL}", f"SGD, {SMALL}"
    adaptive_large, sgd_large = f"{adaptive}, {LARGE}", f"SGD, {LARGE}"
    lead = f"{adaptive} leads SGD by more with more images and a complex model than with 100 images and a simple one"
    beats = f"{adaptive} beats SGD with more images and a complex model"
    suffices = f"SGD is not worse than {adaptive} with 100 images and a simple model"
    full_batch = f"full-batch gradient descent is not worse than {adaptive} with 100 images and a simple model"
    name = adaptive.lower()
    return [
        interaction(lead, [adaptive_large, sgd_large], [adaptive_small, sgd_small], id=f"{name}-gains-at-scale"),
        Claim(beats, adaptive_large, sgd_large, 0.015, id=f"{name}-beats-sgd-large"),
        not_worse(suffices, sgd_small, adaptive_small, id=f"sgd-not-worse-{name}"),
        not_worse(full_batch, f"gradient descent, {SMALL}", adaptive_small, id=f"gd-not-worse-{name}"),
    ]


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: {"learning_rate": log_range(*rates(arm))} for name, arm in ARMS.items()},
    setting=Setting("cifar10", epochs=10, batch_size=32),
    small=Setting("cifar10", epochs=8, train_size=2500),
    quick=Setting("digits", epochs=14, batch_size=32, train_size=600, image_size=8),
    baseline=f"SGD, {SMALL}",
    claims=[*claims("RMSprop"), *claims("AdaGrad")],
)

if __name__ == "__main__":
    experiment.main()
