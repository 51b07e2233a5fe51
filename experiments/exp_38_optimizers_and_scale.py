"""Exp 38: is plain SGD enough for small data and simple models, and do AdaGrad and RMSprop win on large and complex ones?

Varies   the optimizer, each at a rate of its own; 100 training images or many more; `small_cnn` or ResNet-20 (ResNet-8 where
         images have fewer than 32 pixels a side).
Fixed    batch size. Few images are trained on for five times as many epochs, else SGD would have no time to finish.
Expect   none of the gaps that the claims want: tuned SGD and momentum keep up with adaptive methods also in large image models
         (Wilson et al. 2017, Choi et al. 2019), and batch normalisation makes the residual network easy for SGD.
"""

from keras import optimizers

from common.experiment import Claim, Experiment, Setting
from common.models import resnet, small_cnn
from common.optimizers import falling
from common.space import log_range
from common.text import to_id

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
    """The three parts of what is claimed for an adaptive optimizer."""
    better, worse = [f"{adaptive}, {LARGE}", f"SGD, {LARGE}"], [f"{adaptive}, {SMALL}", f"SGD, {SMALL}"]
    return (
        Claim(
            f"{adaptive} gains more on SGD at large scale than at small",
            better,
            worse,
            id=to_id(f"{adaptive} gains at scale"),
            margin=0.015,
            kind="interaction",
        ),
        Claim(
            f"{adaptive} beats SGD on large data and a complex model",
            *better,
            id=to_id(f"{adaptive} beats SGD large"),
            margin=0.015,
        ),
        Claim(
            f"SGD is not worse than {adaptive} on small data and a simple model",
            *worse[::-1],
            id=to_id(f"SGD not worse {adaptive}"),
            margin=0.02,
            kind="not worse",
        ),
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search={arm: {"learning_rate": log_range(*RATES[own["optimizer"]])} for arm, own in ARMS.items()},
    setting=Setting("cifar10", epochs=10, batch_size=32),
    quick=Setting("digits", epochs=6, batch_size=32, train_size=600, image_size=14),
    baseline=f"SGD, {SMALL}",
    claims=[*claims("RMSprop"), *claims("AdaGrad")],
)

if __name__ == "__main__":
    experiment.main()
