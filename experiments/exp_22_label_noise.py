"""Exp 22: do robust losses beat cross-entropy when some labels are wrong?

Varies   the share of wrong labels in train and val: 0, 20, 40 or 60 %; the loss: cross-entropy (CE), CE with early stopping, MAE,
         generalized CE, symmetric CE, and at 0 and 40 % hinge. The learning rate is searched for each pair.
Fixed    architecture, large enough to memorise wrong labels; SGD with momentum, epochs; test labels are right.
Expect   CE memorises wrong labels (Zhang et al. 2017), and is best before it does (Arpit et al. 2017), which early stopping
         catches; MAE ignores noise but trains slowly, generalized CE (Zhang & Sabuncu 2018) and symmetric CE (Wang et al. 2019)
         are in between.

Arms: `CE, 40 %` is cross-entropy with 40 % of the labels wrong. Claims compare losses at 40 %; the lead of a loss is its accuracy
less that of CE at the same share of wrong labels.
"""

from keras import losses

from common.callbacks import early_stopping
from common.claims import each, interaction, less
from common.experiment import Claim, Experiment, Setting
from common.losses import generalized_cross_entropy, softmax_absolute_error, symmetric_cross_entropy
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

PATIENCE = 0.12  # of early stopping, as a share of the epochs
ROBUST = ("MAE", "generalized CE", "symmetric CE")
LOSSES = ("CE", "early-stopped CE", *ROBUST)
SHARES = {"0 %": 0.0, "20 %": 0.2, "40 %": 0.4, "60 %": 0.6}
ARMS = {f"{loss}, {percent}": {"loss": loss, "label_noise": share} for percent, share in SHARES.items() for loss in LOSSES}
ARMS |= {"hinge, 0 %": {"loss": "hinge", "label_noise": 0.0}, "hinge, 40 %": {"loss": "hinge", "label_noise": 0.4}}


def train(trial, *, loss, learning_rate):
    """Fit one network to the noisy labels, with one loss."""
    chosen = {
        "MAE": softmax_absolute_error,
        "hinge": losses.CategoricalHinge(),
        "generalized CE": generalized_cross_entropy(0.7),
        "symmetric CE": symmetric_cross_entropy(alpha=0.1, beta=1.0, log_zero=-4.0),
    }.get(loss, losses.CategoricalCrossentropy(from_logits=True))
    return trial.fit(
        small_cnn(trial, dense=(128,)),
        optimizer=sgd(trial, learning_rate),
        loss=chosen,
        callbacks=[early_stopping(trial, PATIENCE)] if loss == "early-stopped CE" else [],
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 1.0, default=0.05)},
    setting=Setting("cifar10", epochs=40, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=24, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=200, image_size=14),
    baseline="CE, 0 %",
    datasets=("cifar10", "mnist"),
    claims=[
        Claim(
            "with 40 % wrong labels, a robust loss (MAE, generalized or symmetric CE) beats cross-entropy",
            ["MAE, 40 %", "generalized CE, 40 %", "symmetric CE, 40 %"],
            "CE, 40 %",
            0.015,
            id="robust-beat-ce",
        ),
        *each(
            ROBUST,
            "the lead of {} over cross-entropy is larger with 40 % wrong labels than with none",
            ["{}, 40 %", "CE, 40 %"],
            ["{}, 0 %", "CE, 0 %"],
            0.015,
            id="{} gains",
            kind="interaction",
        ),
        interaction(
            "the lead of hinge over cross-entropy is larger with no wrong labels than with 40 %",
            ["hinge, 0 %", "CE, 0 %"],
            ["hinge, 40 %", "CE, 40 %"],
            id="hinge-needs-separable",
        ),
        less(
            "with 40 % wrong labels, generalized CE memorises fewer of them than cross-entropy",
            "generalized CE, 40 %",
            "CE, 40 %",
            "memorised",
            0.05,
            id="generalized-learns-less",
        ),
        Claim("with 40 % wrong labels, early stopping helps", "early-stopped CE, 40 %", "CE, 40 %", 0.015, id="stopping-helps"),
    ],
)

if __name__ == "__main__":
    experiment.main()
