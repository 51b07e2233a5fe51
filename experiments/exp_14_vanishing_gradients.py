"""Exp 14: what keeps gradients from vanishing or exploding in a deep network?

Varies   the variance of the initial weights, v / (inputs of a layer), and one remedy at a time: Adam, momentum, an L1 or L2
         penalty, residual connections, fewer layers. The learning rate is searched for each arm, with a penalty's strength.
Fixed    six dense layers of 64 units with ReLU, SGD without momentum, unless the arm says otherwise.
Expect   gradients shrink or grow by a factor per layer unless the weights have He's variance (He et al. 2015); the sigmoid loses
         most (Glorot & Bengio 2010), residual connections next to nothing. Adam, which divides by the scale of the gradients,
         helps most; momentum less; the penalties do nothing for gradients that vanish, as they shrink the weights.
Measure  the norm of the loss' gradient at the output of each layer, over 256 training images, before and after training; how
         many decades those of the first and the last layer lie apart.

Arms: `small weights` (v = 0.5: gradients vanish) and `large weights` (v = 8: they explode), each alone and with momentum, Adam,
L1 or L2; with small weights also `shallow` (two layers) and `residual`; `He` (v = 2); `tanh` and `sigmoid` (v = 1, LeCun's).
Claims about accuracy compare a remedy with the same initial weights without it; those about gradients compare, before training,
the decades between first and last layer.
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
ARMS = {
    "small weights": SMALL,
    "large weights": LARGE,
    "shallow": {**SMALL, "depth": 2},
    "residual": {**SMALL, "residual": True},
    "He": {"variance": 2.0},
    "tanh": {"variance": 1.0, "activation": "tanh"},
    "sigmoid": {"variance": 1.0, "activation": "sigmoid"},
    "small weights, momentum": {**SMALL, "optimizer": "momentum"},
    "small weights, Adam": {**SMALL, "optimizer": "Adam"},
    "small weights, L1": {**SMALL, "penalty": "L1"},
    "small weights, L2": {**SMALL, "penalty": "L2"},
    "large weights, momentum": {**LARGE, "optimizer": "momentum"},
    "large weights, Adam": {**LARGE, "optimizer": "Adam"},
    "large weights, L1": {**LARGE, "penalty": "L1"},
    "large weights, L2": {**LARGE, "penalty": "L2"},
}
REMEDIES = ("momentum", "Adam", "L1", "L2")
BASELINE, DECADES = "small weights", "decades between first and last layer, untrained"


def space(arm):
    """The search space of one arm: learning rates, and strengths of its penalty."""
    rates = log_range(3e-3, 3, limits=(3e-4, 30))
    if arm.get("optimizer") == "Adam":
        rates = log_range(1e-4, 0.1)
    elif arm["variance"] == LARGE["variance"]:  # exploding gradients need far smaller steps
        rates = log_range(1e-5, 1e-2, limits=(1e-7, 1))
    return {"learning_rate": rates} | ({"strength": choice(1e-4, 1e-2)} if "penalty" in arm else {})


def train(
    trial, *, learning_rate, variance, depth=6, activation="relu", residual=False, optimizer=None, penalty=None, strength=0
):
    """Fit one deep network, and record its gradients before and after. `variance` is v, of the initial weights."""
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


def remedy(name, weights, gradients):
    """The claim that a remedy improves accuracy where the initial weights make gradients vanish or explode."""
    text = f"with {weights} initial weights ({gradients} gradients), {name} improves accuracy"
    return Claim(text, f"{weights} weights, {name}", f"{weights} weights", 0.015, id=to_id(f"{name} {gradients}"))


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: space(arm) for name, arm in ARMS.items()},
    sweep={"searched variance": {"variance": log_range(0.25, 16), "learning_rate": log_range(1e-4, 3)}},
    setting=Setting("mnist", epochs=10, batch_size=128),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    baseline=BASELINE,
    claims=[
        *(remedy(name, "small", "vanishing") for name in REMEDIES),
        *(remedy(name, "large", "exploding") for name in REMEDIES),
        Claim("with small initial weights, residual connections help", "residual", BASELINE, 0.015, id="residual-vanishing"),
        Claim("with small initial weights, two layers beat six", "shallow", BASELINE, 0.015, id="shallow-vanishing"),
        less("gradients vanish less with He's weights than with small ones", "He", BASELINE, DECADES, 0.5, id="he-even"),
        less(
            "gradients vanish less with residual connections than without", "residual", BASELINE, DECADES, 0.5, id="residual-even"
        ),
        less("gradients vanish less through tanh than through the sigmoid", "tanh", "sigmoid", DECADES, 0.5, id="tanh-even"),
    ],
)

if __name__ == "__main__":
    experiment.main()
