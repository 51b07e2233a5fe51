"""Exp 06: does early stopping reduce overfitting, and how large should its patience be?

Varies   the patience, as a share of the epochs; whether the weights of the lowest validation loss are restored.
Fixed    architecture, Adam at one learning rate, searched on the baseline; enough epochs to overfit.
Expect   a smaller gap at about equal accuracy, in a part of the epochs; the larger the patience, the better and the more
         expensive (Prechelt 1998), and the more restoring the best weights matters.
Found    small-cifar10: Open: 'patience 8%, best restored' overfits less than 'baseline': a gap smaller by at least 0.015, a score
         worse by less than 0.02. Gap between training and test accuracy -0.194 (99 % interval -0.272 to -0.116, supported), test
         accuracy -0.017 (99 % interval -0.045 to +0.010, open), 5 seeds.
         small-mnist: Open: 'patience 8%, best restored' overfits less than 'baseline': a gap smaller by at least 0.005, a score
         worse by less than 0.005. Gap between training and test accuracy -0.0025 (99 % interval -0.0146 to +0.0095, open), test
         accuracy -0.0067 (99 % interval -0.0150 to +0.0016, open), 5 seeds.
"""

from keras import optimizers

from common.callbacks import early_stopping
from common.claims import less, not_worse, overfits_less
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

SHARES = (0.03, 0.08, 0.16)
"""Patiences, as shares of the epochs."""
ARMS = {
    "baseline": {"patience": None},
    **{f"patience {share:.0%}": {"patience": share} for share in SHARES},
    **{f"patience {share:.0%}, best restored": {"patience": share, "restore": True} for share in SHARES},
}


def train(trial, *, patience, learning_rate, restore=False):
    """Fit one network, with early stopping where the arm has a patience."""
    stopping = [] if patience is None else [early_stopping(trial, patience, restore=restore)]
    optimizer = optimizers.Adam(falling(trial, learning_rate))
    model = trial.fit(small_cnn(trial, dense=(64,)), optimizer=optimizer, callbacks=stopping)
    trial.record("budget_used", trial.fits["fit"].steps / trial.steps, "share of the updates")
    return model


SHORT, MEDIUM, LONG = (f"patience {share:.0%}, best restored" for share in SHARES)
UNRESTORED = f"patience {SHARES[1]:.0%}"
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-4, 3e-2)),
    sweep={"searched patience": {"patience": log_range(0.03, 0.3), "restore": True}},
    setting=Setting("cifar10", epochs=60, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=5000),
    quick=Setting("digits", epochs=80, batch_size=32, train_size=200, image_size=14),
    datasets=("cifar10", "mnist"),
    claims=[
        overfits_less(MEDIUM, "baseline", id="stopping"),
        Claim("early stopping improves accuracy", MEDIUM, "baseline", 0.015, id="stopping-helps"),
        less("early stopping saves a quarter of the updates", MEDIUM, "baseline", "budget_used", 0.25, id="stopping-saves"),
        Claim("restoring the best weights improves accuracy", MEDIUM, UNRESTORED, 0.015, id="restoring-helps"),
        not_worse("a patience of 3 % of the epochs is not worse than one of 16 %", SHORT, LONG, id="short-not-worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
