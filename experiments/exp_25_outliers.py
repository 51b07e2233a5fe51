"""Exp 25: which loss should a regression be trained with when some targets are wrong?

Varies   the share of targets that are drawn at random, in train and val alike, and the loss, each pair at a rate of its own.
Fixed    architecture, SGD with momentum, epochs; the task is to tell by what angle an image was turned.
Expect   MSE follows the mean of what is right and what is wrong and suffers most; MAE follows the median; Huber, which is linear
         for errors above 4.5 degrees, is near MAE (Huber 1964). Without outliers they are close.
"""

from keras import losses

from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.tasks import rotated
from common.text import to_id

ARMS = {
    f"{loss}, {100 * share:g} %": {"loss": loss, "label_noise": share}
    for share in (0.0, 0.1, 0.2, 0.3)
    for loss in ("MSE", "MAE", "Huber")
}


def train(trial, *, loss, learning_rate):
    """Fit one network to angles in units of 45 degrees."""
    chosen = {"MSE": losses.MeanSquaredError(), "MAE": losses.MeanAbsoluteError(), "Huber": losses.Huber(delta=0.1)}[loss]
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate), loss=chosen)


def more_robust(loss):
    """The two parts of the claim that a loss is more robust than MSE."""
    noisy, clean = [f"{loss}, 30 %", "MSE, 30 %"], [f"{loss}, 0 %", "MSE, 0 %"]
    return (
        Claim(f"{loss} beats MSE at 30 % outliers", *noisy, id=to_id(f"{loss} beats MSE"), margin=0.5),
        Claim(
            f"{loss} loses less than MSE from none to 30 % outliers",
            noisy,
            clean,
            id=to_id(f"{loss} loses less"),
            kind="interaction",
            margin=0.5,
        ),
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 0.3, default=0.01)},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    quick=Setting("digits", epochs=15, batch_size=32, train_size=300),
    baseline="MSE, 0 %",
    task=rotated,
    claims=[*more_robust("MAE"), *more_robust("Huber")],
)

if __name__ == "__main__":
    experiment.main()
