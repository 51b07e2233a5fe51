"""Exp 10: how much does accuracy depend on the learning rate, and less so with adaptive optimizers?

Varies   the learning rate over four decades, for five optimizers.
Fixed    architecture, epochs, batch size; the rate is constant.
Expect   Adam and RMSprop at their best near 1e-3, SGD near 0.1, momentum a tenth of that; the adaptive ones do well over more
         decades around their best rate.
Found    small-cifar10: Open: Adam stays near its best accuracy over more decades of the learning rate than SGD, by at least 0.25
         decades. Range within 0.02 of the best test accuracy +0.36 decades (99 % interval -0.18 to +0.90), 5 seeds.
"""

from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import named
from common.space import log_range
from common.text import to_id

OPTIMIZERS = ("SGD", "momentum", "AdaGrad", "RMSprop", "Adam")
RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]
ARMS = {f"{name}, {rate:g}": {"optimizer": name, "learning_rate": rate} for name in OPTIMIZERS for rate in RATES}


def flatter(adaptive, plain):
    """The claim that accuracy within 0.02 of an optimizer's best spans at least 0.25 decades more of the rate than another's."""
    better, worse = ([f"{name}, {rate:g}" for rate in RATES] for name in (adaptive, plain))
    text = f"{adaptive} stays near its best accuracy over more decades of the learning rate than {plain}"
    return Claim(text, id=to_id(f"{adaptive} flatter"), better=better, worse=worse, kind="flatness", margin=0.25, within=0.02)


def train(trial, *, optimizer, learning_rate):
    """Fit one network with one optimizer at one constant rate."""
    return trial.fit(small_cnn(trial), optimizer=named(optimizer, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    sweep={f"{name}, searched": {"optimizer": name, "learning_rate": log_range(RATES[0], RATES[-1])} for name in OPTIMIZERS},
    setting=Setting("cifar10", epochs=10, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline=None,  # each rate is compared with the best one of the same optimizer
    claims=[flatter("Adam", "SGD"), flatter("RMSprop", "momentum")],
)

if __name__ == "__main__":
    experiment.main()
