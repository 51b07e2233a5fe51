"""Exp 11: does lowering the learning rate during training end at a better model than a constant rate, and how should it fall?

Varies   the schedule, over the same number of updates; each at its own best rate.
Fixed    architecture, epochs, SGD with momentum.
Expect   every decay ahead of the constant rate, and a higher rate to begin with; cosine and linear to 0 not behind step decay
         (Loshchilov & Hutter 2017; Defazio et al. 2023); a warm-up needless for so small a network.
"""

from keras import callbacks
from keras.optimizers import SGD

from common import optimizers
from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.space import log_range

ARMS = {
    "constant": {"schedule": "constant"},
    "inverse time": {"schedule": "inverse_time"},
    "step": {"schedule": "step"},
    "exponential": {"schedule": "exponential"},
    "linear": {"schedule": "linear"},
    "cosine": {"schedule": "cosine"},
    "warm-up + cosine": {"schedule": "warm_up_cosine"},
    "on plateau": {"schedule": "on_plateau"},
}


def train(trial, *, schedule, learning_rate):
    """Fit one network with a rate that changes in one way until the run ends."""
    rate, watching = learning_rate, []
    if schedule == "on_plateau":
        # A tenth once the validation loss has not fallen for a tenth of the epochs.
        watching = [callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=max(1, trial.epochs // 10))]
    elif schedule != "constant":
        rate = getattr(optimizers, schedule)(learning_rate, trial.steps)
    return trial.fit(small_cnn(trial), optimizer=SGD(rate, momentum=0.9), callbacks=watching)


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(3e-3, 0.3)},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=15, batch_size=32, train_size=300),
    figures=("steps",),
    baseline="constant",
    claims=[
        Claim(
            "learning-rate decay ends at a better model than a constant rate",
            id="decay-helps",
            better=["inverse time", "step", "exponential", "linear", "cosine"],
            worse="constant",
            margin=0.015,
        ),
        Claim("so does lowering it on plateau", id="plateau-helps", better="on plateau", worse="constant", margin=0.015),
        less("a decay reaches a lower training loss", "cosine", "constant", "train_nll", 0.01, id="decay-lower-loss"),
        Claim("cosine is not worse than step decay", "cosine", "step", id="cosine-not-worse", margin=0.02, kind="not worse"),
        Claim("a warm-up improves on cosine alone", id="warm-up-helps", better="warm-up + cosine", worse="cosine", margin=0.015),
    ],
)

if __name__ == "__main__":
    experiment.main()
