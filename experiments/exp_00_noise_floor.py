"""Exp 00: how much does test accuracy vary when only the random seeds change?

Varies   which random streams follow the seed: all of them, or one while the others stay at seed 0. Two control arms check the
         procedure itself: the same training under other seeds, and training with 40 % wrong labels.
Fixed    architecture, SGD with momentum, one learning rate, light augmentation.
Expect   no single stream explains the whole standard deviation (Bouthillier et al. 2021); a difference between two arms of
         another experiment that is smaller than the standard deviation of `all` needs many seeds to be detected. The control
         under other seeds is the same, the one with wrong labels worse.
Found    small-cifar10: Supported: training under other seeds gives the same accuracy, within 0.02. Test accuracy -0.002 (99 %
         interval -0.018 to +0.015), 5 seeds.
"""

from common.augment import rotation, translation
from common.claims import same
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
    """Fit the same network in every arm."""
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
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    seeds=20,
    baseline=None,  # the arms train the same network; only the seeds of their streams differ
    claims=[
        same("training under other seeds gives the same accuracy", "other seeds", "all", id="seeds-same"),
        Claim("correct labels beat 40 % wrong labels", "all", "wrong labels", 0.02, id="wrong-labels-worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
