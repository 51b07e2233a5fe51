"""Exp 14: what keeps gradients from vanishing or exploding in a deep network?

Varies   the initial weights (He's, or half or twice as wide; LeCun's for tanh and the sigmoid), the activation, the depth,
         residual connections, the optimizer and a penalty, each arm at a learning rate of its own; a penalty's strength is
         searched with it.
Fixed    six dense layers of 64 (two where shallow), ReLU, SGD without momentum unless the arm says otherwise.
Expect   gradients shrink or grow by a factor a layer unless the weights have He's variance (He et al. 2015); the sigmoid loses
         most (Glorot & Bengio 2010), residual connections next to nothing. Adam, which divides by the gradient's own size,
         relieves most; momentum less; the penalties do nothing for gradients that vanish, as they shrink the weights.
Measure  by layer, the norm of the loss' gradient at its output, on 256 training images; decades between first and last layer.
"""

from keras import initializers, optimizers, regularizers

from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.gradients import record_layer_norms
from common.models import deep_dense
from common.optimizers import falling, sgd
from common.space import choice, log_range
from common.text import to_id

SMALL, LARGE = {"variance": 0.5}, {"variance": 8.0}
HELP = {"momentum": {"optimizer": "momentum"}, "Adam": {"optimizer": "Adam"}, "L1": {"penalty": "L1"}, "L2": {"penalty": "L2"}}
ARMS = {
    "small weights": SMALL,
    "large weights": LARGE,
    "shallow": {**SMALL, "depth": 2},
    "residual": {**SMALL, "residual": True},
    "He": {"variance": 2.0},
    "tanh": {"variance": 1.0, "activation": "tanh"},
    "sigmoid": {"variance": 1.0, "activation": "sigmoid"},
    **{f"small weights, {name}": SMALL | own for name, own in HELP.items()},
    **{f"large weights, {name}": LARGE | own for name, own in HELP.items()},
}
RATES = {  # weights that are too large need far smaller steps
    "small": log_range(3e-3, 3, limits=(3e-4, 30)),
    "large": log_range(1e-5, 1e-2, limits=(1e-7, 1)),
    "Adam": log_range(1e-4, 0.1),
}
DECADES = "decades between first and last layer, untrained"


def space(arm):
    """Rates that suit the arm's weights and optimizer, and strengths of its penalty."""
    rate = RATES["Adam" if "Adam" in arm else "large" if "large" in arm else "small"]
    return {"learning_rate": rate} | ({"strength": choice(1e-4, 1e-2)} if "penalty" in ARMS[arm] else {})


def train(
    trial, *, learning_rate, variance, depth=6, activation="relu", residual=False, optimizer=None, penalty=None, strength=0
):
    """Fit one deep network, its gradients measured before and after. A weight has `variance` over its layer's inputs."""
    initializer = initializers.VarianceScaling(variance, "fan_in")
    regularizer = {"L1": regularizers.L1, "L2": regularizers.L2}[penalty](strength) if penalty else None
    options = {"activation": activation, "kernel_initializer": initializer, "kernel_regularizer": regularizer}
    model = deep_dense(trial, depth=depth, residual=residual, **options)
    record_layer_norms(trial, model, "dense", "untrained")
    momentum = 0.9 if optimizer == "momentum" else 0.0
    plain = sgd(trial, learning_rate, momentum=momentum)
    trial.fit(model, optimizer=optimizers.Adam(falling(trial, learning_rate)) if optimizer == "Adam" else plain)
    record_layer_norms(trial, model, "dense", "trained")
    return model


experiment = Experiment(
    train,
    arms=ARMS,
    search={arm: space(arm) for arm in ARMS},
    setting=Setting("mnist", epochs=10, batch_size=128),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    baseline="small weights",
    claims=[
        *(
            Claim(
                f"{name} relieves vanishing gradients",
                f"small weights, {name}",
                "small weights",
                0.015,
                id=to_id(f"{name} vanishing"),
            )
            for name in HELP
        ),
        *(
            Claim(
                f"{name} relieves exploding gradients",
                f"large weights, {name}",
                "large weights",
                0.015,
                id=to_id(f"{name} exploding"),
            )
            for name in HELP
        ),
        Claim("residual connections relieve vanishing gradients", "residual", "small weights", 0.015, id="residual-vanishing"),
        Claim(
            "a shallow network suffers less from vanishing gradients", "shallow", "small weights", 0.015, id="shallow-vanishing"
        ),
        less("He's weights keep gradients even", "He", "small weights", DECADES, 0.5, id="he-even"),
        less("residual connections keep gradients even", "residual", "small weights", DECADES, 0.5, id="residual-even"),
        less("gradients vanish less through tanh than through the sigmoid", "tanh", "sigmoid", DECADES, 0.5, id="tanh-even"),
    ],
)

if __name__ == "__main__":
    experiment.main()
