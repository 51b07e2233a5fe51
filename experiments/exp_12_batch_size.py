"""Exp 12: which batch size is best, at an equal number of epochs and at an equal number of updates?

Varies   the batch size, from one example to all of them (one example only on a subset of 256 images, the arms named `part`); the
         number of epochs: equal, or such that the updates are as many as those of the baseline (in the subset, of batch 1).
         The learning rate is searched for each arm.
Fixed    architecture, plain SGD, the images.
Expect   at equal epochs the fewer updates the worse, full-batch descent by far the worst; at equal updates larger batches not
         worse, with diminishing returns (Shallue et al. 2019); the best rate grows with the batch (Goyal et al. 2017).
"""

from common.claims import not_worse
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

PART = {"train_size": 256}
ARMS = {
    "batch 32": {"batch_size": 32},
    "batch 8": {"batch_size": 8},
    "batch 128": {"batch_size": 128},
    "batch 512": {"batch_size": 512},
    "full batch": {"batch_size": None},
    "batch 8, equal updates": {"batch_size": 8, "updates_of": 32},
    "batch 128, equal updates": {"batch_size": 128, "updates_of": 32},
    "batch 512, equal updates": {"batch_size": 512, "updates_of": 32},
    "full batch, equal updates": {"batch_size": None, "updates_of": 32},
    "part, batch 1": {"batch_size": 1, **PART},
    "part, batch 32": {"batch_size": 32, **PART},
    "part, batch 32, equal updates": {"batch_size": 32, "updates_of": 1, **PART},
}


def rates(arm):
    """The search space of one arm: two decades, higher for larger batches, whose gradients have less noise."""
    lowest = {1: 1e-3, 8: 3e-3, 32: 0.01}.get(arm["batch_size"], 0.03)
    return {"learning_rate": log_range(lowest, 100 * lowest)}


def train(trial, *, learning_rate, updates_of=None):
    """Fit one network for the setting's epochs, or for as many updates as batches of `updates_of` would make in them."""
    epochs = trial.epochs
    if updates_of is not None:
        updates = -(-len(trial.train) // updates_of) * trial.epochs
        epochs = max(1, round(updates / trial.steps_per_epoch))
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate, momentum=0.0, epochs=epochs), epochs=epochs)


SWEPT = {"batch_size": log_range(8, 512, whole=True), "learning_rate": log_range(3e-3, 3.0)}
experiment = Experiment(
    train,
    arms=ARMS,
    search={name: rates(arm) for name, arm in ARMS.items()},
    sweep={
        "searched batch": SWEPT,
        "searched batch, equal updates": SWEPT | {"updates_of": 32},
    },
    # Multiples of 1,024 images are divided by every batch size.
    setting=Setting("cifar10", epochs=8, batch_size=32, train_size=5 * 1024),
    small=Setting("cifar10", epochs=30, train_size=1024),
    quick=Setting("digits", epochs=16, batch_size=32, train_size=1024, image_size=8),
    figures=("steps",),
    baseline="batch 32",
    claims=[
        Claim("batch 32 beats full-batch descent at equal epochs", "batch 32", "full batch", 0.015, id="mini-beats-full-batch"),
        Claim("batch 32 beats batch 512 at equal epochs", "batch 32", "batch 512", 0.015, id="small-beats-large"),
        not_worse(
            "batch 1 is not worse than 32 on 256 images at equal epochs", "part, batch 1", "part, batch 32", id="single-not-worse"
        ),
        not_worse(
            "batch 32 is not worse than 1 on 256 images at equal updates",
            "part, batch 32, equal updates",
            "part, batch 1",
            id="mini-at-equal-updates",
        ),
        not_worse(
            "batch 512 is not worse than batch 32 at equal updates",
            "batch 512, equal updates",
            "batch 32",
            id="large-at-equal-updates",
        ),
        not_worse(
            "full-batch descent is not worse than batch 32 at equal updates",
            "full batch, equal updates",
            "batch 32",
            id="full-at-equal-updates",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
