"""Exp 05: does dropout reduce overfitting, and does it need longer training to pay?

Varies   the rate of dropout before each dense layer, or of spatial dropout (whole feature maps) after each block; the epochs:
         the setting's, or four times as many (4E).
Fixed    architecture, SGD with momentum, one learning rate, searched on the baseline; no augmentation.
Expect   a smaller gap between train and test, a better accuracy with enough epochs; rates of 0.2 to 0.5 best, 0.7 too much for a
         short run (Srivastava et al. 2014); spatial dropout helps convolutions more (Tompson et al. 2015).
Found    small-cifar10: Refuted: 'dropout 0.5' overfits less than 'baseline': a gap smaller by at least 0.015, a score worse by
         less than 0.02 (the gap is smaller, but the score is worse by more than 0.02). Gap between training and test accuracy
         -0.283 (98.5 % interval -0.311 to -0.255, supported), test accuracy -0.047 (98.5 % interval -0.063 to -0.031, refuted),
         10 seeds.
"""

from common.claims import interaction, overfits_less
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import linear_range, log_range

KINDS = {
    "baseline": {},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.3": {"dropout": 0.3},
    "dropout 0.5": {"dropout": 0.5},
    "dropout 0.7": {"dropout": 0.7},
    "spatial 0.2": {"spatial_dropout": 0.2},
}
ARMS = {**KINDS, **{f"{name}, 4E": {**kind, "epochs": 4.0} for name, kind in KINDS.items()}}


def train(trial, *, learning_rate, dropout=0.0, spatial_dropout=0.0):
    """Fit one network with dropout."""
    model = small_cnn(trial, dense=(64,), dropout=dropout, spatial_dropout=spatial_dropout)
    return trial.fit(model, optimizer=sgd(trial, learning_rate))


SWEPT = {
    "searched dropout": {"dropout": linear_range(0.0, 0.7)},
    "searched spatial": {"spatial_dropout": linear_range(0.0, 0.5)},
}
DROPOUT_4E = [f"dropout {rate}, 4E" for rate in (0.2, 0.3, 0.5)]
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    sweep={**SWEPT, **{f"{name}, 4E": {**arm, "epochs": 4.0} for name, arm in SWEPT.items()}},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    claims=[
        overfits_less("dropout 0.5", "baseline", id="dropout"),
        overfits_less("dropout 0.5, 4E", "baseline, 4E", id="dropout-4e"),
        Claim("with four times the epochs, dropout improves accuracy", DROPOUT_4E, "baseline, 4E", 0.015, id="dropout-helps"),
        Claim("with four times the epochs, spatial dropout helps", "spatial 0.2, 4E", "baseline, 4E", 0.015, id="spatial-helps"),
        interaction(
            "four times the epochs raise accuracy more with dropout than without",
            ["dropout 0.5, 4E", "dropout 0.5"],
            ["baseline, 4E", "baseline"],
            id="dropout-needs-epochs",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
