"""Exp 14: what keeps gradients from vanishing or exploding in a deep network?

Varies   the variance of the initial weights, v / (inputs of a layer), and one remedy at a time: Adam, momentum, an L1 or L2
         penalty, clipping, residual connections, fewer layers. The learning rate is searched for each arm, with a penalty's
         strength, or the norm at which gradients are clipped as a share of that of the untrained network.
Fixed    six dense layers of 64 units with ReLU, SGD without momentum, unless the arm says otherwise.
Expect   gradients shrink or grow by a factor per layer unless the weights have He's variance (He et al. 2015); the sigmoid loses
         most (Glorot & Bengio 2010), residual connections next to nothing. Adam, which divides by the scale of the gradients,
         helps most; momentum less; the penalties do nothing for gradients that vanish, as they shrink the weights. Clipping keeps
         the first updates from being far too long (Pascanu et al. 2013), but changes nothing about the ratio of the layers.
Measure  the norm of the loss' gradient at the output of each layer, over 256 training images, before and after training; how
         many decades those of the first and the last layer lie apart.

Arms: `small weights` (v = 0.5: gradients vanish) and `large weights` (v = 8: they explode), each alone and with momentum, Adam,
L1 or L2; with large weights also clipping; with small ones also `shallow` (two layers) and `residual`; `He` (v = 2); `tanh` and
`sigmoid` (v = 1, LeCun's). A remedy relieves vanishing or exploding gradients if it improves accuracy, and if it brings the
gradients of first and last layer nearer to each other: of both there are claims, against the same initial weights without the
remedy. What depends on the untrained network alone (`He`, `residual`, `tanh`) is compared before training.
"""

from keras import initializers, regularizers

from common.claims import less
from common.experiment import Claim, Experiment, Setting
from common.gradients import record_layer_norms, weights_norm
from common.models import deep_dense
from common.optimizers import clipping, falling, named
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
    "large weights, clipping": LARGE,
}
REMEDIES = {"small": ("momentum", "Adam", "L1", "L2"), "large": ("momentum", "Adam", "L1", "L2", "clipping")}
GRADIENTS = {"small": "vanishing", "large": "exploding"}
BASELINE = "small weights"
UNTRAINED, TRAINED = (f"decades between first and last layer, {when}" for when in ("untrained", "trained"))


def space(name, arm):
    """The search space of one arm: learning rates, and strengths of its penalty or shares at which it clips."""
    rates = log_range(3e-3, 3, limits=(3e-4, 30))
    if name == "large weights, clipping":
        return {"learning_rate": log_range(1e-4, 0.1, limits=(1e-6, 10)), "share": choice(1e-2, 1e-1)}
    if arm.get("optimizer") == "Adam":
        rates = log_range(1e-4, 0.1)
    elif arm["variance"] == LARGE["variance"]:  # exploding gradients need far smaller steps
        rates = log_range(1e-5, 1e-2, limits=(1e-7, 1))
    return {"learning_rate": rates} | ({"strength": choice(1e-4, 1e-2)} if "penalty" in arm else {})


def train(
    trial,
    *,
    learning_rate,
    variance,
    depth=6,
    activation="relu",
    residual=False,
    optimizer="SGD",
    penalty=None,
    strength=0,
    share=0,
):
    """Fit one deep network, and record its gradients before and after. `variance` is v, of the initial weights."""
    initializer = initializers.VarianceScaling(variance, "fan_in")
    regularizer = {"L1": regularizers.L1, "L2": regularizers.L2}[penalty](strength) if penalty else None
    options = {"activation": activation, "kernel_initializer": initializer, "kernel_regularizer": regularizer}
    model = deep_dense(trial, depth=depth, residual=residual, **options)
    record_layer_norms(trial, model, "dense", "untrained")
    limit = clipping("global", share * weights_norm(trial, model), model) if share else {}
    trial.fit(model, optimizer=named(optimizer, falling(trial, learning_rate), **limit))
    record_layer_norms(trial, model, "dense", "trained")
    return model


def relieves(name, weights):
    """The two claims that a remedy relieves the gradients that initial weights make vanish or explode."""
    better, worse, gradients = f"{weights} weights, {name}", f"{weights} weights", GRADIENTS[weights]
    accuracy = f"with {weights} initial weights ({gradients} gradients), {name} improves accuracy"
    even = f"with {weights} initial weights, {name} brings the gradients of first and last layer nearer to each other"
    return [
        Claim(accuracy, better, worse, 0.015, id=to_id(f"{name} {gradients}")),
        less(even, better, worse, TRAINED, 0.5, id=to_id(f"{name} {gradients} even")),
    ]


experiment = Experiment(
    train,
    arms=ARMS,
    search={name: space(name, arm) for name, arm in ARMS.items()},
    sweep={"searched variance": {"variance": log_range(0.25, 16), "learning_rate": log_range(1e-4, 3)}},
    setting=Setting("mnist", epochs=10, batch_size=128),
    small=Setting("mnist", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline=BASELINE,
    figures=("profiles",),
    about=("test_accuracy", TRAINED),
    claims=[
        *(claim for weights, names in REMEDIES.items() for name in names for claim in relieves(name, weights)),
        Claim("with small initial weights, residual connections help", "residual", BASELINE, 0.015, id="residual-vanishing"),
        Claim("with small initial weights, two layers beat six", "shallow", BASELINE, 0.015, id="shallow-vanishing"),
        less("gradients vanish less with He's weights than with small ones", "He", BASELINE, UNTRAINED, 0.5, id="he-even"),
        less(
            "gradients vanish less with residual connections than without",
            "residual",
            BASELINE,
            UNTRAINED,
            0.5,
            id="residual-even",
        ),
        less("gradients vanish less through tanh than through the sigmoid", "tanh", "sigmoid", UNTRAINED, 0.5, id="tanh-even"),
    ],
)

if __name__ == "__main__":
    experiment.main()
