"""Exp 04: which penalty on the weights helps most, and is decoupled weight decay the same as an L2 penalty?

Varies   what shrinks the kernels: nothing, an L1 penalty λ Σ|w|, an L2 penalty λ Σw², both λ Σ(w² + |w| / 10), or weight decay,
         which subtracts decay · rate · w in each update; learning rate and strength are searched for each arm.
Fixed    architecture, epochs, batch size; SGD with momentum, or Adam; biases are not shrunk.
Expect   L2 and decay alike with SGD; decay ahead of L2 with Adam, which divides the penalty's gradient by the scale of each
         weight's gradients (Loshchilov & Hutter 2019); all effects small where the network is small.
"""

from keras import regularizers

from common.claims import overfits_less, same
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import decay_kernels_alone, falling, named
from common.space import log_range

ARMS = {
    "SGD": {"optimizer": "momentum", "pull": "none"},
    "SGD, L1": {"optimizer": "momentum", "pull": "L1"},
    "SGD, L2": {"optimizer": "momentum", "pull": "L2"},
    "SGD, L1 + L2": {"optimizer": "momentum", "pull": "L1 + L2"},
    "SGD, decay": {"optimizer": "momentum", "pull": "decay"},
    "Adam": {"optimizer": "Adam", "pull": "none"},
    "Adam, L2": {"optimizer": "Adam", "pull": "L2"},
    "Adam, decay": {"optimizer": "Adam", "pull": "decay"},  # AdamW
}
RATES = {"momentum": log_range(0.005, 0.2, default=0.05), "Adam": log_range(5e-4, 0.02, default=0.001)}
STRENGTHS = {"L1": log_range(1e-6, 1e-3), "L2": log_range(1e-5, 1e-2), "L1 + L2": log_range(1e-5, 1e-2)}
# Kernels shrink about as in L2: momentum multiplies the gradient 2 λ w by ten; Adam's rates are a fiftieth of SGD's.
DECAYS = {"momentum": log_range(2e-4, 0.2), "Adam": log_range(0.01, 10.0)}


def space(optimizer, pull):
    """The search space of one arm."""
    strengths = {"decay": DECAYS[optimizer], **STRENGTHS}
    return {"learning_rate": RATES[optimizer]} | ({"strength": strengths[pull]} if pull != "none" else {})


def train(trial, *, optimizer, pull, learning_rate, strength=None):
    """Fit one network whose kernels are shrunk in one way."""
    penalties = {"L1": (strength, 0.0), "L2": (0.0, strength), "L1 + L2": (strength and strength / 10, strength)}
    penalty = regularizers.L1L2(*penalties[pull]) if pull in penalties else None
    rate = falling(trial, learning_rate)
    made = decay_kernels_alone(named(optimizer, rate, weight_decay=strength)) if pull == "decay" else named(optimizer, rate)
    return trial.fit(small_cnn(trial, kernel_regularizer=penalty), optimizer=made)


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: space(**arm) for name, arm in ARMS.items()},
    tuner="halton",  # the same quasi-random points in every arm's space, fewer than a grid of rate and strength needs
    points=16,
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="SGD",
    claims=[
        Claim("an L1 penalty improves accuracy", "SGD, L1", "SGD", 0.015, id="l1-helps"),
        Claim("an L2 penalty improves accuracy", "SGD, L2", "SGD", 0.015, id="l2-helps"),
        Claim("L1 and L2 penalties together improve accuracy", "SGD, L1 + L2", "SGD", 0.015, id="l1-and-l2-help"),
        overfits_less("SGD, L2", "SGD", id="l2"),
        same("with SGD, weight decay and an L2 penalty are the same", "SGD, decay", "SGD, L2", id="sgd-l2-same-as-decay"),
        Claim("with Adam, weight decay beats an L2 penalty", "Adam, decay", "Adam, L2", 0.015, id="adam-decay-beats-l2"),
    ],
)

if __name__ == "__main__":
    experiment.main()
