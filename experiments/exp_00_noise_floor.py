"""Exp 00: how much does accuracy move when nothing but chance changes?

Varies   which random streams follow the seed: all, or one alone while the others stay at seed 0. Two controls of the whole
         procedure: the same arm under other seeds, and an arm that must be worse.
Fixed    the one arm that is trained: architecture, SGD with momentum, a rate that suits it, light augmentation.
Expect   no single stream explains the whole spread (Bouthillier et al. 2021); a difference between two arms of another
         experiment that is smaller than the spread of `all` needs many seeds to be seen. The control under other seeds is the
         same, the one with wrong labels worse.
"""

from common.augment import rotation, translation
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "all": {},
    "init": {"vary": ["init"]},
    "order": {"vary": ["order"]},
    "augmentation": {"vary": ["augment"]},
    "split": {"vary": ["split", "corrupt"]},  # which images are held out, and which of the rest are trained on
    "other seeds": {"seed_offset": 500},
    "wrong labels": {"label_noise": 0.4},
}


def train(trial, *, learning_rate):
    """Build and fit the same arm every time."""
    return trial.fit(
        small_cnn(trial),
        optimizer=sgd(trial, learning_rate),
        augment=[translation(0.05), rotation(5)],
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    seeds=20,
    baseline=None,  # the arms differ in what varies between seeds, not in what is trained
    claims=[
        Claim(
            "the same arm under other seeds is the same",
            id="seeds-same",
            better="other seeds",
            worse="all",
            kind="same",
            margin=0.02,
        ),
        Claim(
            "with 40 % of the labels wrong it is worse", id="wrong-labels-worse", better="all", worse="wrong labels", margin=0.02
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
