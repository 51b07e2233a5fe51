"""Exp 09: which optimizer is best when each has the learning rate that suits it, and which without tuning?

Varies   the optimizer; its rate is searched, or left at Keras' default.
Fixed    architecture, epochs; the batch, except for gradient descent, which sees all examples in each update.
Expect   momentum, Nesterov and the Adam family within a point of each other once tuned (Choi et al. 2019); gradient descent
         far behind at an equal number of passes; AdaDelta's and SGD's defaults too slow for a short run.
"""

from keras import optimizers

from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range
from common.text import to_id

OPTIMIZERS = {
    "SGD": {"optimizer": "SGD"},
    "momentum": {"optimizer": "SGD", "options": {"momentum": 0.9}},
    "Nesterov": {"optimizer": "SGD", "options": {"momentum": 0.9, "nesterov": True}},
    "AdaGrad": {"optimizer": "Adagrad"},
    "AdaDelta": {"optimizer": "Adadelta"},
    **{name: {"optimizer": name} for name in ("RMSprop", "Adam", "AdamW", "Nadam", "Lion", "Muon")},
}
DEFAULT_RATES = {name: 0.01 if own["optimizer"] == "SGD" else 0.001 for name, own in OPTIMIZERS.items()}  # Keras'
LOWEST = {"SGD": 0.01, "AdaGrad": 3e-3, "AdaDelta": 0.1, "Lion": 3e-5, "Muon": 1e-3, "gradient descent": 0.01}
"""Rates from which two decades are searched; the grid grows where the best is at its edge."""
LOWEST |= {"momentum": 1e-3, "Nesterov": 1e-3, **dict.fromkeys(("RMSprop", "Adam", "AdamW", "Nadam"), 1e-4)}
ARMS = {
    **OPTIMIZERS,
    "gradient descent": {"optimizer": "SGD", "batch_size": None},
    **{f"{name}, default": {**own, "learning_rate": DEFAULT_RATES[name]} for name, own in OPTIMIZERS.items()},
}


def train(trial, *, optimizer, learning_rate, options=None):
    """Fit one network with one optimizer; all but its rate and the named options as Keras has it."""
    made = getattr(optimizers, optimizer)(falling(trial, learning_rate), **(options or {}))
    return trial.fit(small_cnn(trial), optimizer=made)


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: {"learning_rate": log_range(low, 100 * low, default=DEFAULT_RATES.get(name))} for name, low in LOWEST.items()},
    setting=Setting("cifar10", epochs=20, batch_size=128, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    figures=("steps",),
    baseline="SGD",
    claims=[
        Claim("momentum beats plain SGD", id="momentum-beats-sgd", better="momentum", worse="SGD", margin=0.015),
        Claim(
            "mini-batches beat full-batch descent at equal passes",
            id="mini-beats-full-batch",
            better="SGD",
            worse="gradient descent",
            margin=0.015,
        ),
        Claim(
            "Adam at its default beats SGD at its default",
            id="default-adam-beats-sgd",
            better="Adam, default",
            worse="SGD, default",
            margin=0.015,
        ),
        Claim(
            "momentum converges faster than plain SGD",
            "momentum",
            "SGD",
            id="momentum-sooner-than-sgd",
            margin=1,
            metric="epochs_to_target",
            target=0.9,
        ),
        *(
            less(f"{name} reaches a lower training loss than SGD", name, "SGD", "train_nll", 0.01, id=to_id(f"{name} lower loss"))
            for name in ("Adam", "AdaGrad")
        ),
        Claim(
            "tuned momentum is not worse than tuned Adam",
            id="momentum-not-worse",
            better="momentum",
            worse="Adam",
            margin=0.02,
            kind="not worse",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
