"""Exp 25: which loss should a regression be trained with when some targets are wrong?

Varies   the share of targets in train and val that are drawn at random (outliers), and the loss; the learning rate is searched
         for each pair.
Fixed    architecture, SGD with momentum, epochs; the task is to predict the angle by which an image was rotated.
Expect   MSE estimates the mean of right and wrong targets and suffers most; MAE estimates the median; Huber, which is linear for
         errors above 4.5 degrees, is near MAE (Huber 1964). Without outliers they are close.
"""

from keras import losses

from common.claims import interaction
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
    """Fit one network to angles in units of 45 degrees, with one loss."""
    chosen = {"MSE": losses.MeanSquaredError(), "MAE": losses.MeanAbsoluteError(), "Huber": losses.Huber(delta=0.1)}[loss]
    return trial.fit(small_cnn(trial), optimizer=sgd(trial, learning_rate), loss=chosen)


def more_robust(loss):
    """The claims that a loss beats MSE under outliers, and loses less through them."""
    noisy, clean = [f"{loss}, 30 %", "MSE, 30 %"], [f"{loss}, 0 %", "MSE, 0 %"]
    return (
        Claim(f"{loss} beats MSE with 30 % outliers", *noisy, 0.5, id=to_id(f"{loss} beats MSE")),
        interaction(f"30 % outliers cost {loss} less accuracy than MSE", noisy, clean, 0.5, id=to_id(f"{loss} loses less")),
    )


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(0.003, 0.3, default=0.01)},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=2500),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="MSE, 0 %",
    task=rotated,
    claims=[*more_robust("MAE"), *more_robust("Huber")],
)

if __name__ == "__main__":
    experiment.main()
