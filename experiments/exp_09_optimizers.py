"""Exp 09: which optimizer is best when each has the learning rate that suits it, and which without tuning?

Varies   the optimizer; its rate is searched, or left at Keras' default.
Fixed    architecture, epochs; the batch, except for gradient descent, which sees all examples in each update.
Expect   momentum, Nesterov and the Adam family within a point of each other once tuned (Choi et al. 2019); gradient descent
         far behind at an equal number of passes; AdaDelta's and SGD's defaults too slow for a short run.
"""

from keras import optimizers

from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.space import log_range

OPTIMIZERS = ["SGD", "momentum", "Nesterov", "AdaGrad", "AdaDelta", "RMSprop", "Adam", "AdamW", "Nadam", "Lion", "Muon"]
DEFAULT_RATES = {"SGD": 0.01, "momentum": 0.01, "Nesterov": 0.01}  # the others': 0.001, that of their class in Keras
ARMS = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "gradient descent": {"optimizer": "SGD", "batch_size": None},
    **{f"{name}, default": {"optimizer": name, "learning_rate": DEFAULT_RATES.get(name, 0.001)} for name in OPTIMIZERS},
}


def train(trial, *, optimizer, learning_rate):
    """Fit one network with one optimizer; all but the rate as Keras has it."""
    made = {
        "SGD": optimizers.SGD(learning_rate),
        "momentum": optimizers.SGD(learning_rate, momentum=0.9),
        "Nesterov": optimizers.SGD(learning_rate, momentum=0.9, nesterov=True),
        "AdaGrad": optimizers.Adagrad(learning_rate),
        "AdaDelta": optimizers.Adadelta(learning_rate),
        "RMSprop": optimizers.RMSprop(learning_rate),
        "Adam": optimizers.Adam(learning_rate),
        "AdamW": optimizers.AdamW(learning_rate),
        "Nadam": optimizers.Nadam(learning_rate),
        "Lion": optimizers.Lion(learning_rate),
        "Muon": optimizers.Muon(learning_rate),
    }[optimizer]
    return trial.fit(small_cnn(trial), optimizer=made)


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: {"learning_rate": log_range(1e-4, 1.0, default=DEFAULT_RATES.get(name, 0.001))} for name in OPTIMIZERS}
    | {"gradient descent": {"learning_rate": log_range(1e-4, 1.0, default=0.01)}},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    baseline="SGD",
    claims=[
        Claim("momentum beats plain SGD", better="momentum", worse="SGD", margin=0.005),
        Claim("mini-batches beat full-batch descent at equal passes", better="SGD", worse="gradient descent", margin=0.005),
        Claim("Adam at its default beats SGD at its default", better="Adam, default", worse="SGD, default", margin=0.005),
        Claim("tuned momentum is not worse than tuned Adam", better="momentum", worse="Adam", margin=0.005, kind="not worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
