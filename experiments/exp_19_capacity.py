"""Exp 19: are deeper and wider networks more accurate, and do simpler ones overfit less?

Varies   the filters of the first block, 4 to 64 (twice as many in the second), and the convolutions per block, 1 to 3.
Fixed    everything else; SGD with momentum; the learning rate is searched for each arm.
Expect   accuracy grows with width and depth, with diminishing returns; a wider network that fits the training images no better
         does not overfit more (Neyshabur et al. 2015). The narrowest has the smallest gap because it fits less, not because
         it is better on unseen images.
Found    small-cifar10: Refuted: three convolutions per block beat one, by at least 0.015 (the reverse is true). Test accuracy
         -0.055 (99 % interval -0.072 to -0.037), 5 seeds.
"""

from common.claims import overfits_less
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import choice, log_range

ARMS = {
    "baseline": {"width": 16, "depth": 1},
    **{f"width={width}": {"width": width, "depth": 1} for width in (4, 8, 32, 64)},
    **{f"depth={depth}": {"width": 16, "depth": depth} for depth in (2, 3)},
}


def train(trial, *, width, depth, learning_rate):
    """Fit one network with the arm's width and depth."""
    model = small_cnn(trial, widths=(width, 2 * width), depth=depth)
    return trial.fit(model, optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 0.1)},
    sweep={"searched size": {"width": log_range(4, 64, whole=True), "depth": choice(1, 2, 3)}},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    claims=[
        Claim("three convolutions per block beat one", "depth=3", "baseline", 0.015, id="deeper-helps"),
        Claim("64 filters in the first block beat 16", "width=64", "baseline", 0.015, id="wider-helps"),
        overfits_less("width=4", "width=64", id="narrow-vs-wide"),
        overfits_less("width=4", "baseline", id="narrow"),
        overfits_less("baseline", "depth=3", id="shallow"),
    ],
)

if __name__ == "__main__":
    experiment.main()
