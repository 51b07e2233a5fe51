"""Exp 17: does pooling make training faster and more accurate?

Varies   what halves the image after each convolution: max- or average-pooling, a strided convolution, nothing; or pooling over
         the whole image before the head (Lin et al. 2014). Plain, and at the baseline's number of parameters.
Fixed    architecture otherwise, SGD with momentum, each arm at a learning rate of its own. The units of the hidden dense layer
         make parameters match: without pooling its 64 would see sixteen times as many features.
Expect   no pooling several times slower, and less accurate, most of all at matched size; strided convolutions about as good as
         pooling (Springenberg et al. 2015); max about as good as average.
"""

from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.models import matched, small_cnn
from common.optimizers import sgd
from common.space import log_range

POOLING = {
    "max": {"pooling": "max"},
    "average": {"pooling": "average"},
    "strided": {"pooling": "strided"},
    "none": {"pooling": None},
    "global average": {"pooling": "max", "global_pooling": True},
}
ARMS = {**POOLING, **{f"{name}, matched": POOLING[name] | {"match": True} for name in ("strided", "none", "global average")}}


def build(trial, *, pooling, global_pooling=False, match=False):
    """One arm's network."""

    def sized(units):
        return small_cnn(trial, pooling=pooling, global_pooling=global_pooling, dense=(units,))

    return matched(sized, small_cnn(trial, dense=(64,)).count_params()) if match else sized(64)


def train(trial, *, learning_rate, **options):
    """Fit one network."""
    return trial.fit(build(trial, **options), optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 1.0, default=0.01)},
    setting=Setting("cifar10", epochs=10, batch_size=128),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    baseline="max",
    alone=True,  # for the claim about seconds
    claims=[
        less("pooling makes training faster", "max", "none", "seconds", 1.0, id="pooling-faster"),
        Claim("pooling makes training more accurate", "max", "none", id="pooling-helps", margin=0.015),
        Claim(
            "it does so also at an equal number of parameters", "max", "none, matched", id="pooling-helps-matched", margin=0.015
        ),
        Claim(
            "strided convolutions are not worse than max-pooling",
            "strided",
            "max",
            id="strided-not-worse",
            margin=0.02,
            kind="not worse",
        ),
        Claim("max-pooling beats average pooling", "max", "average", id="max-beats-average", margin=0.015),
    ],
)

if __name__ == "__main__":
    experiment.main()
