"""Exp 03: does an L2 penalty help a small CNN?

Varies   l2, the penalty on the kernels of all convolution and dense layers.
Fixed    architecture, SGD with momentum, one learning rate, searched on the baseline; no augmentation.
Expect   best near 1e-4; worse than no penalty at 1e-2 (underfitting).
Found    small-cifar10: Refuted: an L2 penalty improves accuracy, by at least 0.015 (by less, if at all). With 'l2=1e-3', one of 3
         arms: test accuracy +0.001 (99 % interval -0.007 to +0.009), 5 seeds.
"""

from keras import regularizers

from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "baseline": {"l2": 0.0},
    "l2=1e-5": {"l2": 1e-5},
    "l2=1e-4": {"l2": 1e-4},
    "l2=1e-3": {"l2": 1e-3},
    "l2=1e-2": {"l2": 1e-2},
}


def train(trial, *, l2, learning_rate):
    """Build one arm's model and fit it."""
    model = small_cnn(trial, kernel_regularizer=regularizers.L2(l2))
    # Not Adam, which divides the penalty's gradient by the scale of each weight's gradients.
    return trial.fit(model, optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    sweep={"searched l2": {"l2": log_range(1e-6, 1e-2)}},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    claims=[
        Claim("an L2 penalty improves accuracy", ["l2=1e-5", "l2=1e-4", "l2=1e-3"], "baseline", 0.015, id="l2-helps"),
    ],
)

if __name__ == "__main__":
    experiment.main()
