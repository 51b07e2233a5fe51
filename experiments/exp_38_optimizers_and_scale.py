"""Exp 38: is plain SGD enough for small data and simple models, and do AdaGrad and RMSprop win on large and complex ones?

Varies   the optimizer; 100 training images, or all of the setting's; `small_cnn` (simple), or ResNet-20 (complex; ResNet-8
         where images have fewer than 32 pixels a side). The learning rate is searched for each arm.
Fixed    batch size. With 100 images the epochs are five times as many, for SGD to converge.
Expect   no support for the claims: tuned SGD and momentum keep up with adaptive methods also in large image models (Wilson et al.
         2017, Choi et al. 2019), and batch normalisation makes the residual network easy for SGD.

Arms: `SGD, 100 images, simple` and so on, all crossings of four optimizers, two sizes and two models.
Claims, for RMSprop and for AdaGrad: its lead over SGD is larger with more images and the complex model than with 100 images and
the simple one; with more images and the complex model it beats SGD; with 100 images and the simple one SGD is not worse.
"""

from keras import optimizers

from common.claims import interaction, not_worse
from common.experiment import Claim, Experiment, Setting
from common.models import resnet, small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = {"SGD": (1e-2, 1.0), "momentum": (1e-3, 0.1), "AdaGrad": (1e-3, 0.1), "RMSprop": (1e-4, 1e-2)}
SIZES = {"100 images": {"train_size": 100, "budget": 5}, "more images": {"budget": 1}}
MODELS = {"simple": "small_cnn", "complex": "resnet"}
ARMS = {
    f"{name}, {images}, {scale}": {"optimizer": name, "network": network, **size}
    for images, size in SIZES.items()
    for scale, network in MODELS.items()
    for name in RATES
}
SMALL, LARGE = "100 images, simple", "more images, complex"


def train(trial, *, optimizer, network, learning_rate, budget):
    """Fit one network with one optimizer."""
    model = small_cnn(trial) if network == "small_cnn" else resnet(trial, blocks=3 if min(trial.input_shape[:2]) >= 32 else 1)
    epochs = budget * trial.epochs
    rate = falling(trial, learning_rate, epochs=epochs)
    made = {
        "SGD": optimizers.SGD(rate),
        "momentum": optimizers.SGD(rate, momentum=0.9),
        "AdaGrad": optimizers.Adagrad(rate),
        "RMSprop": optimizers.RMSprop(rate),
    }[optimizer]
    return trial.fit(model, optimizer=made, epochs=epochs)


def claims(adaptive):
    """The three claims about an adaptive optimizer and SGD."""
    adaptive_small, sgd_small = f"{adaptive}, {SMALL}", f"SGD, {SMALL}"
    adaptive_large, sgd_large = f"{adaptive}, {LARGE}", f"SGD, {LARGE}"
    lead = f"{adaptive} leads SGD by more with more images and a complex model than with 100 images and a simple one"
    beats = f"{adaptive} beats SGD with more images and a complex model"
    suffices = f"SGD is not worse than {adaptive} with 100 images and a simple model"
    name = adaptive.lower()
    return [
        interaction(lead, [adaptive_large, sgd_large], [adaptive_small, sgd_small], id=f"{name}-gains-at-scale"),
        Claim(beats, adaptive_large, sgd_large, 0.015, id=f"{name}-beats-sgd-large"),
        not_worse(suffices, sgd_small, adaptive_small, id=f"sgd-not-worse-{name}"),
    ]


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: {"learning_rate": log_range(*RATES[arm["optimizer"]])} for name, arm in ARMS.items()},
    setting=Setting("cifar10", epochs=10, batch_size=32),
    quick=Setting("digits", epochs=6, batch_size=32, train_size=600, image_size=14),
    baseline=f"SGD, {SMALL}",
    claims=[*claims("RMSprop"), *claims("AdaGrad")],
)

if __name__ == "__main__":
    experiment.main()
