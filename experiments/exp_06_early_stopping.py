"""Exp 06: does stopping when the validation loss no longer falls reduce overfitting, and how patient should one be?

Varies   the epochs without a lower validation loss after which training ends; whether the weights of its lowest one come back.
Fixed    architecture, Adam at its default rate, a budget long enough to overfit.
Expect   a smaller gap at about equal accuracy for a part of the budget; the more patient the better and the dearer
         (Prechelt 1998); restoring matters more the longer the patience.
"""

from keras import callbacks, optimizers

from common.claims import less, overfits_less
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn

ARMS = {
    "baseline": {"patience": None},
    **{f"patience {patience}": {"patience": patience} for patience in (2, 5, 10)},
    **{f"patience {patience}, best restored": {"patience": patience, "restore": True} for patience in (2, 5, 10)},
}


def train(trial, *, patience, restore=False):
    """Fit one network until its time is up, or its patience."""
    stopping = []
    if patience is not None:
        stopping = [callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=restore)]
    model = trial.fit(small_cnn(trial, dense=(64,)), optimizer=optimizers.Adam(0.001), callbacks=stopping)
    trial.record("budget_used", trial.fits["fit"].steps / trial.steps, "share of the updates")
    return model


HASTY, STOPPED, PATIENT = (f"patience {patience}, best restored" for patience in (2, 5, 10))
experiment = Experiment(
    train,
    arms=ARMS,
    setting=Setting("cifar10", epochs=60, batch_size=128),
    quick=Setting("digits", epochs=60, batch_size=32, train_size=200),
    claims=[
        *overfits_less(STOPPED, "baseline", id="stopping"),
        Claim("early stopping improves accuracy", STOPPED, "baseline", id="stopping-helps", margin=0.005),
        less("it saves a quarter of the budget", STOPPED, "baseline", "budget_used", 0.25, id="stopping-saves"),
        Claim("restoring the best weights improves accuracy", STOPPED, "patience 5", id="restoring-helps", margin=0.005),
        Claim(
            "a patience of 2 is not worse than one of 10",
            HASTY,
            PATIENT,
            id="patience-2-not-worse",
            margin=0.005,
            kind="not worse",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
