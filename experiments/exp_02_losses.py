"""Exp 02: which loss should a classifier be trained with?

Varies   the loss; the learning rate is searched for each arm. With two classes (the first two of the dataset): log loss of one
         sigmoid output, or cross-entropy of two softmax outputs.
Fixed    architecture, SGD with momentum, no augmentation.
Expect   cross-entropy well ahead of MSE on softmax and of MAE, whose gradients vanish where the model is confidently wrong
         (Ghosh et al. 2017); MSE on logits about equal to cross-entropy (Hui & Belkin 2021). With two classes no difference, as
         the softmax of two logits is the sigmoid of their difference.
Measure  the norm of the gradient of an image's loss with respect to its logits, mean over the val images in each of five bins of
         the probability of the true class, after training.
Found    small-cifar10, all classes: Open: cross-entropy beats MSE on softmax, by at least 0.015. Test accuracy +0.003 (99 %
         interval -0.018 to +0.024), 5 seeds.
         small-cifar10, classes 0+1: Open: with two classes, log loss of one output and cross-entropy of two are equally accurate,
         within 0.02. Test accuracy +0.003 (99.67 % interval -0.021 to +0.027), 5 seeds.
"""

from keras import losses

from common.claims import overfits_less, same, sooner
from common.experiment import Claim, Experiment, Setting
from common.gradients import record_logit_norms
from common.losses import log_loss, rescaled_squared_error, softmax_absolute_error, softmax_squared_error
from common.models import small_cnn, with_one_output
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "cross-entropy": {"loss": "cross-entropy"},
    "binary cross-entropy": {"loss": "binary cross-entropy"},
    "MSE on softmax": {"loss": "MSE on softmax"},
    "MSE on logits": {"loss": "MSE on logits"},
    "MAE": {"loss": "MAE"},
    "categorical hinge": {"loss": "categorical hinge"},
    "squared hinge": {"loss": "squared hinge"},
    "two classes, cross-entropy": {"loss": "cross-entropy", "classes": [0, 1]},
    "two classes, log loss": {"loss": "log loss", "classes": [0, 1]},
}


def train(trial, *, loss, learning_rate):
    """Fit one network to one loss."""
    chosen = {
        "cross-entropy": losses.CategoricalCrossentropy(from_logits=True),
        "binary cross-entropy": losses.BinaryCrossentropy(from_logits=True),
        "MSE on softmax": softmax_squared_error,
        # Hui & Belkin rescale (k = 15, M = 30) where there are many classes, not with ten.
        "MSE on logits": rescaled_squared_error(scale=1.0, target=1.0),
        "MAE": softmax_absolute_error,
        "categorical hinge": losses.CategoricalHinge(),
        "squared hinge": losses.SquaredHinge(),
        "log loss": log_loss,
    }[loss]
    model = with_one_output(small_cnn(trial)) if loss == "log loss" else small_cnn(trial)
    trial.fit(model, optimizer=sgd(trial, learning_rate), loss=chosen)
    record_logit_norms(trial, model, chosen)
    return model


experiment = Experiment(
    train,
    arms=ARMS,
    search={"learning_rate": log_range(3e-3, 1.0)},
    setting=Setting("cifar10", epochs=20, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    figures=("mistakes", "profiles"),
    baseline="cross-entropy",
    datasets=("cifar10", "mnist"),
    claims=[
        Claim("cross-entropy beats MSE on softmax", "cross-entropy", "MSE on softmax", 0.015, id="ce-beats-mse"),
        Claim("cross-entropy beats MSE on logits", "cross-entropy", "MSE on logits", 0.015, id="ce-beats-mse-on-logits"),
        Claim("cross-entropy beats MAE", "cross-entropy", "MAE", 0.015, id="ce-beats-mae"),
        sooner(
            "cross-entropy reaches 90 % of its final accuracy in fewer epochs than MSE on softmax",
            "cross-entropy",
            "MSE on softmax",
            id="ce-sooner-than-mse",
        ),
        overfits_less("categorical hinge", "cross-entropy", id="hinge"),
        Claim(
            "on images whose class gets a probability below 0.2, the gradient of cross-entropy is nearer to its largest than "
            "that of MSE on softmax",
            "cross-entropy",
            "MSE on softmax",
            0.1,
            id="gradient-where-wrong",
            metric="gradient where wrong",
        ),
        same(
            "with two classes, log loss of one output and cross-entropy of two are equally accurate",
            "two classes, log loss",
            "two classes, cross-entropy",
            id="log-loss-same",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
