"""Exp 12: how many examples should an update see, at equal passes over the data and at equal updates?

Varies   the batch, from one example (on a part of the data, with a control) to all; the epochs, equal or such that the updates
         are equal to those of the baseline, on the part to those of single examples; each at its own best rate.
Fixed    architecture, plain SGD, the images.
Expect   at equal passes the fewer updates the worse, full-batch descent by far the worst; at equal updates larger batches not
         worse, with diminishing returns (Shallue et al. 2019); the best rate grows with the batch (Goyal et al. 2017).
"""

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
    """Two decades about the rate at which an update of plain SGD does best: the higher, the less noise its gradient has."""
    lowest = {1: 1e-3, 8: 3e-3, 32: 0.01}.get(arm["batch_size"], 0.03)
    return {"learning_rate": log_range(lowest, 100 * lowest)}


def train(trial, *, learning_rate, updates_of=None):
    """Fit one network for the setting's epochs, or for as many updates as batches of `updates_of` make in these."""
    epochs = trial.epochs
    if updates_of is not None:
        updates = -(-len(trial.train) // updates_of) * trial.epochs
        epochs = max(1, round(updates / trial.steps_per_epoch))
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate, momentum=0.0, epochs=epochs), epochs=epochs)


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: rates(arm) for name, arm in ARMS.items()},
    # 1,024 images make whole batches of every size, and the parts' too.
    setting=Setting("cifar10", epochs=8, batch_size=32, train_size=5 * 1024),
    quick=Setting("digits", epochs=8, batch_size=32, train_size=1024, image_size=8),
    figures=("steps",),
    baseline="batch 32",
    claims=[
        Claim(
            "mini-batches beat full-batch descent at equal passes",
            "batch 32",
            "full batch",
            id="mini-beats-full-batch",
            margin=0.015,
        ),
        Claim(
            "small mini-batches beat large ones at equal passes", "batch 32", "batch 512", id="small-beats-large", margin=0.015
        ),
        *(
            Claim(text, better, worse, id=name, margin=0.02, kind="not worse")
            for name, text, better, worse in (
                ("single-not-worse", "single examples are not worse at equal passes", "part, batch 1", "part, batch 32"),
                (
                    "mini-at-equal-updates",
                    "nor are mini-batches at equal updates",
                    "part, batch 32, equal updates",
                    "part, batch 1",
                ),
                ("large-at-equal-updates", "nor is a large batch at equal updates", "batch 512, equal updates", "batch 32"),
                ("full-at-equal-updates", "nor is full-batch descent at equal updates", "full batch, equal updates", "batch 32"),
            )
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
