"""Exp 36: does automatic search find a better network than the published one, and does Bayesian search beat random search?

Varies   who chooses depth, width, kernel size, normalisation, pooling and learning rate of `small_cnn`: random or Bayesian
         search, of 12 points and anew for each seed; against the published model A at a searched learning rate, trained for the
         setting's epochs or for as many as a whole search takes.
Fixed    Adam, batch size, epochs of each training.
Expect   search ahead of the published network (it may choose normalisation); Bayesian not worse than random, and hardly better
         with so few points (Li & Talwalkar 2019).
"""

from keras import optimizers

from common.claims import not_worse
from common.experiment import Claim, Experiment, Setting, shared
from common.models import loss_tuning, small_cnn
from common.optimizers import falling
from common.space import choice, log_range

ARMS = {"published": {}, "published, epochs of a search": {"epochs": 130}, "random": {}, "Bayesian": {}}
SPACE = {
    "depth": choice(1, 2, 3),
    "width": log_range(8, 32, whole=True, default=16),
    "kernel_size": choice(3, 5),
    "normalization": choice("none", "batch", "layer"),
    "pooling": choice("max", "average", "strided"),
    "learning_rate": log_range(1e-4, 1e-2, default=0.001),
}


def train(trial, *, learning_rate, depth=None, width=None, kernel_size=None, normalization=None, pooling=None):
    """Fit the network that a search proposes, or the published one."""
    model = loss_tuning(trial)
    if depth is not None:
        model = small_cnn(
            trial,
            widths=(width, 2 * width),
            depth=depth,
            kernel_size=kernel_size,
            normalization=None if normalization == "none" else normalization,
            pooling=pooling,
        )
    return trial.fit(model, optimizer=optimizers.Adam(falling(trial, learning_rate)))


SEARCHED = ["random", "Bayesian"]
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=SPACE["learning_rate"], arms=dict.fromkeys(SEARCHED, SPACE)),
    tuner={"random": "random", "Bayesian": "bayesian"},
    points=12,
    search_per_seed=True,  # a seed's difference includes the luck of its search
    setting=Setting("cifar10", epochs=10, batch_size=64, train_size=10_000),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    baseline="published",
    claims=[
        Claim("automatic search beats the published network", SEARCHED, "published", 0.015, id="search-beats-published"),
        Claim(
            "automatic search beats the published network trained for as many epochs as the search",
            SEARCHED,
            "published, epochs of a search",
            0.015,
            id="search-at-equal-epochs",
        ),
        not_worse("Bayesian search is not worse than random search", "Bayesian", "random", id="bayesian-not-worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
