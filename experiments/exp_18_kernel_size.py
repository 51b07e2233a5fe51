"""Exp 18: how large should a convolution's kernel be, and do two 3×3 convolutions beat one of 5×5?

Varies   kernels of 3, 5 or 7 pixels a side, or two of 3, whose receptive field is that of one of 5. Each with 32 filters in the
         second block, and (`matched`) with as many as give the baseline's number of parameters.
Fixed    `same` padding; SGD with momentum; the learning rate is searched for each arm.
Expect   two 3×3 ahead of one 5×5, as on ImageNet (Simonyan & Zisserman 2015); larger kernels slower, and behind at matched size.
Found    small-cifar10: Refuted: two 3x3 convolutions beat one of 5x5, by at least 0.015 (the reverse is true). Test accuracy
         -0.020 (98.5 % interval -0.036 to -0.004), 10 seeds.
"""

from common.experiment import Claim, Experiment, Setting
from common.models import matched, small_cnn
from common.optimizers import sgd
from common.space import choice, log_range

KERNELS = {
    "3": {"kernel_size": 3},
    "5": {"kernel_size": 5},
    "7": {"kernel_size": 7},
    "two 3": {"kernel_size": 3, "depth": 2},
}
ARMS = {
    **{f"{name}x{name[-1]}": kernel for name, kernel in KERNELS.items()},
    **{f"{name}x{name[-1]}, matched": kernel | {"match": True} for name, kernel in KERNELS.items() if name != "3"},
}


def build(trial, *, kernel_size, depth=1, match=False):
    """The network of one arm. The second block has twice as many filters as the first, or one less."""

    def sized(filters):
        return small_cnn(trial, widths=(-(-filters // 2), filters), kernel_size=kernel_size, depth=depth)

    return matched(sized, small_cnn(trial).count_params()) if match else sized(32)


def train(trial, *, learning_rate, **options):
    """Fit one network."""
    return trial.fit(build(trial, **options), optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 1.0, default=0.01)},
    sweep={"searched kernel": {"kernel_size": choice(3, 5, 7), "depth": choice(1, 2)}},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="3x3",
    claims=[
        Claim("two 3x3 convolutions beat one of 5x5", "two 3x3", "5x5", 0.015, id="two-3x3-beat-5x5"),
        Claim(
            "two 3x3 convolutions beat one of 5x5 at an equal number of parameters",
            "two 3x3, matched",
            "5x5, matched",
            0.015,
            id="two-3x3-beat-5x5-matched",
        ),
        Claim("3x3 beats 5x5 at an equal number of parameters", "3x3", "5x5, matched", 0.015, id="3x3-beats-5x5-matched"),
        Claim("3x3 beats 7x7 at an equal number of parameters", "3x3", "7x7, matched", 0.015, id="3x3-beats-7x7-matched"),
    ],
)

if __name__ == "__main__":
    experiment.main()
