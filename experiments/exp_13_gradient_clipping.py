"""Exp 13: does clipping gradients prevent divergence at a high learning rate, and is it more than a lower rate?

Varies   what is clipped (each value, each variable's norm, the norm over all), so that no gradient is longer than a quantile
         of the norms measured at the calm rate; the rate, calm (it suits the baseline) or ten times as high.
Fixed    architecture (leaky ReLU, so that what diverges does not just fall silent), SGD with momentum, epochs.
Expect   nothing gained or lost at the calm rate; at the high one clipping survives where none diverges (Pascanu et al. 2013), the
         norm over all no worse than the others, as it alone keeps the direction; the median safer than the 90 % quantile.
"""

import math

import numpy as np

from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

HIGH = {"times": 10}
KINDS = {"value": "by value", "norm": "by norm", "global": "by global norm"}
CLIPPED = {f"{name}, {q:.0%}": {"clip": kind, "quantile": q} for kind, name in KINDS.items() for q in (0.5, 0.9)}
ARMS = {
    "baseline": {},
    **CLIPPED,
    "high": HIGH,
    **{f"high, {name}": HIGH | arm for name, arm in CLIPPED.items()},
    "high, reduced": HIGH | {"clip": "rate", "quantile": 0.5},
}


def clipping(clip, longest, model):
    """The optimizer's options with which no clipped gradient of all variables together is longer than `longest`."""
    return {
        None: {},
        "rate": {},
        "value": {"clipvalue": longest / math.sqrt(model.count_params())},
        "norm": {"clipnorm": longest / math.sqrt(len(model.trainable_variables))},  # Keras clips each variable for itself
        "global": {"global_clipnorm": longest},
    }[clip]


def train(trial, *, learning_rate, times=1, clip=None, quantile=0.5):
    """Measure the gradient's norms at the calm rate, then fit a fresh network whose gradients are clipped by them."""
    measured = small_cnn(trial, activation="leaky_relu")
    trial.fit(measured, optimizer=sgd(trial, learning_rate), stage="measure")
    norms = np.asarray(trial.fits["measure"].norms)
    longest = float(np.quantile(norms, quantile))
    trial.record("longest_gradient", longest, f"{quantile:.0%} quantile")
    if clip == "rate":  # the control: updates as short, on average, as clipping would make them at the calm rate
        times *= float(np.minimum(1.0, longest / norms).mean())
    model = small_cnn(trial, activation="leaky_relu")
    optimizer = sgd(trial, times * learning_rate, **clipping(clip, longest, model))
    return trial.fit(model, optimizer=optimizer, stage="clipped")


MEDIAN = [f"high, {name}, 50%" for name in KINDS.values()]
BY_GLOBAL_NORM = MEDIAN[-1]
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=10, batch_size=128),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    seeds=10,
    claims=[
        *(
            Claim(
                f"clipping {name} prevents divergence at a high learning rate",
                arm,
                "high",
                id=f"{kind}-survives",
                margin=0.1,
                metric="survival",
            )
            for (kind, name), arm in zip(KINDS.items(), MEDIAN, strict=True)
        ),
        Claim("clipping improves accuracy at a high learning rate", BY_GLOBAL_NORM, "high", id="clipping-helps", margin=0.015),
        Claim(
            "it survives more often than a reduced rate",
            BY_GLOBAL_NORM,
            "high, reduced",
            id="outlives-reduced-rate",
            margin=0.1,
            metric="survival",
        ),
        Claim("it is more accurate than a reduced rate", BY_GLOBAL_NORM, "high, reduced", id="beats-reduced-rate", margin=0.015),
        Claim(
            "at the calm rate it is the same", "by global norm, 90%", "baseline", id="calm-rate-same", margin=0.02, kind="same"
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
