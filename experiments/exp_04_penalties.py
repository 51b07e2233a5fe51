"""Exp 04: which penalty on the weights helps most, and is decoupled weight decay the same as an L2 penalty?

Varies   what pulls kernels towards 0: nothing, λ Σ|w|, λ Σw², λ Σ(w² + |w| / 10), or a decay of decay · rate · w in each update;
         each at its own best learning rate and strength.
Fixed    architecture, epochs, batch size; SGD with momentum, or Adam; biases are left alone.
Expect   L2 and decay alike for SGD, decay ahead of L2 for Adam, which divides the penalty's gradient by each weight's own scale
         (Loshchilov & Hutter 2019); all small where the network is small.
"""

from keras import optimizers, regularizers

from common.claims import overfits_less
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import decay_kernels_alone, falling
from common.space import log_range

ARMS = {
    "SGD": {"optimizer": "SGD", "pull": "none"},
    "SGD, L1": {"optimizer": "SGD", "pull": "L1"},
    "SGD, L2": {"optimizer": "SGD", "pull": "L2"},
    "SGD, L1 + L2": {"optimizer": "SGD", "pull": "L1 + L2"},
    "SGD, decay": {"optimizer": "SGD", "pull": "decay"},
    "Adam": {"optimizer": "Adam", "pull": "none"},
    "Adam, L2": {"optimizer": "Adam", "pull": "L2"},
    "Adam, decay": {"optimizer": "Adam", "pull": "decay"},  # AdamW
}
RATES = {"SGD": log_range(0.005, 0.2, default=0.05), "Adam": log_range(5e-4, 0.02, default=0.001)}
STRENGTHS = {"L1": log_range(1e-6, 1e-3), "L2": log_range(1e-5, 1e-2), "L1 + L2": log_range(1e-5, 1e-2)}
# So that kernels shrink alike: momentum of 0.9 makes ten of the gradient 2 λ w; Adam's rate is about a fiftieth of SGD's.
DECAYS = {"SGD": log_range(2e-4, 0.2), "Adam": log_range(0.01, 10.0)}


def space(optimizer, pull):
    """What is searched for one arm."""
    strengths = {"decay": DECAYS[optimizer], **STRENGTHS}
    return {"learning_rate": RATES[optimizer]} | ({"strength": strengths[pull]} if pull != "none" else {})


def train(trial, *, optimizer, pull, learning_rate, strength=None):
    """Fit one network whose kernels are pulled towards 0 in one way."""
    penalties = {"L1": (strength, 0.0), "L2": (0.0, strength), "L1 + L2": (strength and strength / 10, strength)}
    penalty = regularizers.L1L2(*penalties[pull]) if pull in penalties else None
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    made = getattr(optimizers, optimizer)(
        falling(trial, learning_rate), weight_decay=strength if pull == "decay" else None, **options
    )
    if pull == "decay":
        made = decay_kernels_alone(made)
    return trial.fit(small_cnn(trial, kernel_regularizer=penalty), optimizer=made)


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: space(**arm) for name, arm in ARMS.items()},
    tuner="halton",  # the same places of each space: fair, and far fewer than all crossings of rate and strength
    points=16,
    setting=Setting("cifar10", epochs=20, batch_size=128),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    baseline="SGD",
    claims=[
        Claim("an L1 penalty improves accuracy", id="l1-helps", better="SGD, L1", worse="SGD", margin=0.015),
        Claim("an L2 penalty improves accuracy", id="l2-helps", better="SGD, L2", worse="SGD", margin=0.015),
        Claim("L1 and L2 together improve accuracy", id="l1-and-l2-help", better="SGD, L1 + L2", worse="SGD", margin=0.015),
        *overfits_less("SGD, L2", "SGD", id="l2"),
        Claim(
            "for SGD an L2 penalty and decay are the same", "SGD, decay", "SGD, L2", 0.02, id="sgd-l2-same-as-decay", kind="same"
        ),
        Claim(
            "for Adam decay beats an L2 penalty", id="adam-decay-beats-l2", better="Adam, decay", worse="Adam, L2", margin=0.015
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
