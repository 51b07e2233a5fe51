"""Exp 36: does automatic search beat the published network and optimizer, and does Bayesian search beat random search?

Varies   who chooses depth, width, kernel size, normalisation, pooling and learning rate of `small_cnn`: random or Bayesian
         search, of 12 points and anew for each seed; against the published model A at a searched learning rate, trained for the
         setting's epochs or for as many as a whole search takes. In one arm Bayesian search chooses the optimizer of model A with
         its rate.
Fixed    Adam unless the optimizer is searched, batch size, epochs of each training.
Expect   search ahead of the published network (it may choose normalisation); Bayesian not worse than random, and hardly better
         with so few points (Li & Talwalkar 2019). A searched optimizer about equal to Adam, both at searched rates (Choi et al.
         2019), as 12 points are few for two choices.
"""

from common.claims import not_worse
from common.experiment import Claim, Experiment, Setting, shared
from common.models import loss_tuning, small_cnn
from common.optimizers import falling, named
from common.space import choice, log_range

ARMS = {
    "published": {},
    "published, epochs of a search": {"epochs": 130},
    "random": {},
    "Bayesian": {},
    "published, searched optimizer": {},
}
SPACE = {
    "depth": choice(1, 2, 3),
    "width": log_range(8, 32, whole=True, default=16),
    "kernel_size": choice(3, 5),
    "normalization": choice("none", "batch", "layer"),
    "pooling": choice("max", "average", "strided"),
    "learning_rate": log_range(1e-4, 1e-2, default=0.001),
}
OPTIMIZER_SPACE = {
    "optimizer": choice("Adam", "momentum", "Nesterov", "AdaGrad", "RMSprop", "Nadam", "Lion"),
    "learning_rate": log_range(1e-4, 0.3, default=0.001),
}


def train(trial, *, learning_rate, depth=None, width=None, kernel_size=None, normalization=None, pooling=None, optimizer="Adam"):
    """Fit the network that a search proposes, or the published one, with Adam or with the optimizer that a search proposes."""
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
    return trial.fit(model, optimizer=named(optimizer, falling(trial, learning_rate)))


SEARCHED, OPTIMIZER = ["random", "Bayesian"], "published, searched optimizer"
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=SPACE["learning_rate"], arms={**dict.fromkeys(SEARCHED, SPACE), OPTIMIZER: OPTIMIZER_SPACE}),
    tuner={"random": "random", "Bayesian": "bayesian", OPTIMIZER: "bayesian"},
    points=12,
    search_per_seed=True,  # a seed's difference includes the luck of its search
    setting=Setting("cifar10", epochs=10, batch_size=64, train_size=10_000),
    small=Setting("cifar10", epochs=10, train_size=2500),
    quick=Setting("digits", epochs=10, batch_size=8, train_size=300, image_size=18),
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
        Claim(
            "an optimizer that is searched with its learning rate beats Adam at a searched learning rate",
            OPTIMIZER,
            "published",
            0.015,
            id="searched-optimizer",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
