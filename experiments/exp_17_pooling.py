"""Exp 17: does pooling make training faster and more accurate?

Varies   what halves the image after each convolution: max- or average-pooling, a strided convolution, or nothing; or max-pooling
         with global average pooling before the head (Lin et al. 2014). Each as it is, and (`matched`) with as many filters as
         give the baseline's number of parameters, under the same head of 64 units: without pooling no more than 2.
Fixed    architecture otherwise, SGD with momentum; the learning rate is searched for each arm.
Expect   no pooling several times slower, and less accurate, most of all at matched size; strided convolutions about as good as
         pooling (Springenberg et al. 2015); max about as good as average.
"""

from common.claims import less, not_worse
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
    """The network of one arm. The second block has twice as many filters as the first, or one less."""

    def sized(filters):
        widths = (-(-filters // 2), filters)
        return small_cnn(trial, widths=widths, pooling=pooling, global_pooling=global_pooling, dense=(64,))

    return matched(sized, small_cnn(trial, dense=(64,)).count_params()) if match else sized(32)


def train(trial, *, learning_rate, **options):
    """Fit one network."""
    return trial.fit(build(trial, **options), optimizer=sgd(trial, learning_rate))


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(1e-3, 1.0, default=0.01)},
    setting=Setting("cifar10", epochs=10, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="max",
    about=("seconds", "test_accuracy"),
    alone=True,  # for the claim about seconds
    datasets=("cifar10", "mnist"),
    claims=[
        less("max-pooling makes training faster than no pooling", "max", "none", "seconds", 1.0, id="pooling-faster"),
        Claim("max-pooling beats no pooling", "max", "none", 0.015, id="pooling-helps"),
        Claim("max-pooling beats no pooling at equal parameters", "max", "none, matched", 0.015, id="pooling-helps-matched"),
        not_worse("strided convolutions are not worse than max-pooling", "strided", "max", id="strided-not-worse"),
        Claim("max-pooling beats average pooling", "max", "average", 0.015, id="max-beats-average"),
    ],
)

if __name__ == "__main__":
    experiment.main()
