"""Exp 06: does stopping when the validation loss no longer falls reduce overfitting, and how patient should one be?

Varies   for which share of the epochs validation loss may pass without falling before training ends; whether the weights of its
         lowest one come back.
Fixed    architecture, Adam at a rate that suits the baseline and falls to zero, a budget long enough to overfit.
Expect   a smaller gap at about equal accuracy for a part of the budget; the more patient the better and the dearer
         (Prechelt 1998); restoring matters more the longer the patience.
"""

from keras import callbacks, optimizers

from common.claims import less, overfits_less
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

SHARES = (0.03, 0.08, 0.16)
"""Of the epochs, that validation loss may pass without falling."""
ARMS = {
    "baseline": {"patience": None},
    **{f"patience {share:.0%}": {"patience": share} for share in SHARES},
    **{f"patience {share:.0%}, best restored": {"patience": share, "restore": True} for share in SHARES},
}


def train(trial, *, patience, learning_rate, restore=False):
    """Fit one network until its time is up, or its patience."""
    stopping = []
    if patience is not None:
        epochs = max(1, round(patience * trial.epochs))
        stopping = [callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=restore)]
    optimizer = optimizers.Adam(falling(trial, learning_rate))
    model = trial.fit(small_cnn(trial, dense=(64,)), optimizer=optimizer, callbacks=stopping)
    trial.record("budget_used", trial.fits["fit"].steps / trial.steps, "share of the updates")
    return model


HASTY, STOPPED, PATIENT = (f"patience {share:.0%}, best restored" for share in SHARES)
UNRESTORED = f"patience {SHARES[1]:.0%}"
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-4, 3e-2)),
    setting=Setting("cifar10", epochs=60, batch_size=128),
    small=Setting("cifar10", epochs=30, train_size=5000),
    quick=Setting("digits", epochs=60, batch_size=32, train_size=200),
    claims=[
        *overfits_less(STOPPED, "baseline", id="stopping"),
        Claim("early stopping improves accuracy", STOPPED, "baseline", id="stopping-helps", margin=0.015),
        less("it saves a quarter of the budget", STOPPED, "baseline", "budget_used", 0.25, id="stopping-saves"),
        Claim("restoring the best weights improves accuracy", STOPPED, UNRESTORED, id="restoring-helps", margin=0.015),
        Claim(
            "a short patience is not worse than a long one",
            HASTY,
            PATIENT,
            id="short-not-worse",
            margin=0.02,
            kind="not worse",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
