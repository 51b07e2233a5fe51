"""Exp 22: do robust losses beat cross-entropy when some labels are wrong?

Varies   the share of wrong labels, in train and val alike, and the loss, each pair at a learning rate of its own.
Fixed    architecture, large enough to learn wrong labels by heart, SGD with momentum, epochs; test labels are right.
Expect   cross-entropy memorises (Zhang et al. 2017) and is best before (Arpit et al. 2017), which early stopping catches; MAE
         ignores noise but trains slowly, generalized CE (Zhang & Sabuncu 2018) and symmetric CE (Wang et al. 2019) compromise.
"""

from keras import callbacks, losses

from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.losses import generalized_cross_entropy, softmax_absolute_error, symmetric_cross_entropy
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.text import to_id

PATIENCE = 0.12
"""Share of the epochs."""
LOSSES = ("CE", "early-stopped CE", "MAE", "generalized CE", "symmetric CE")
ARMS = {f"{loss}, {100 * noise:g} %": {"loss": loss, "label_noise": noise} for noise in (0.0, 0.2, 0.4, 0.6) for loss in LOSSES}
ARMS |= {f"hinge, {100 * noise:g} %": {"loss": "hinge", "label_noise": noise} for noise in (0.0, 0.4)}  # separable, or not


def train(trial, *, loss, learning_rate):
    """Fit one network to labels as they are."""
    chosen = {
        "MAE": softmax_absolute_error,
        "hinge": losses.CategoricalHinge(),
        "generalized CE": generalized_cross_entropy(0.7),
        "symmetric CE": symmetric_cross_entropy(alpha=0.1, beta=1.0, log_zero=-4.0),
    }.get(loss, losses.CategoricalCrossentropy(from_logits=True))
    patience = max(1, round(PATIENCE * trial.epochs))
    stop = callbacks.EarlyStopping(monitor="val_loss", patience=patience, restore_best_weights=True)
    return trial.fit(
        small_cnn(trial, dense=(128,)),
        optimizer=sgd(trial, learning_rate),
        loss=chosen,
        callbacks=[stop] if loss == "early-stopped CE" else [],
    )


ROBUST = LOSSES[2:]
experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 1.0, default=0.05)},
    setting=Setting("cifar10", epochs=40, batch_size=128, train_size=10_000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=200, image_size=14),
    baseline="CE, 0 %",
    claims=[
        Claim(
            "under label noise robust losses beat cross-entropy",
            [f"{loss}, 40 %" for loss in ROBUST],
            "CE, 40 %",
            id="robust-beat-ce",
            margin=0.015,
        ),
        *(
            Claim(
                f"{loss} gains more on cross-entropy at 40 % noise than without",
                id=to_id(f"{loss} gains"),
                better=[f"{loss}, 40 %", "CE, 40 %"],
                worse=[f"{loss}, 0 %", "CE, 0 %"],
                kind="interaction",
                margin=0.015,
            )
            for loss in ROBUST
        ),
        Claim(
            "hinge does well on separable classes, poorly otherwise: against CE it gains more without noise",
            id="hinge-needs-separable",
            better=["hinge, 0 %", "CE, 0 %"],
            worse=["hinge, 40 %", "CE, 40 %"],
            kind="interaction",
            margin=0.015,
        ),
        less(
            "generalized CE learns fewer wrong labels by heart than cross-entropy at 40 % noise",
            *("generalized CE, 40 %", "CE, 40 %", "memorised", 0.05),
            id="generalized-learns-less",
        ),
        Claim(
            "early stopping beats training on at 40 % noise",
            "early-stopped CE, 40 %",
            "CE, 40 %",
            id="stopping-helps",
            margin=0.015,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
