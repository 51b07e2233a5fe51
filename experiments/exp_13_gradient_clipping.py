"""Exp 13: does gradient clipping prevent divergence at a high learning rate, and does it do more than a lower rate would?

Varies   what is clipped: each value, each variable's norm or the norm over all variables, at the 50 % or 90 % quantile of the
         gradient norms of a first training; the learning rate: the calm one (searched on the baseline), or `high`, ten times
         that. The control `high, reduced` lowers the high rate as much as clipping at the median would shorten its updates.
Fixed    architecture (leaky ReLU, so that divergence does not end in units that are always 0), SGD with momentum, epochs.
Expect   no effect at the calm rate; at the high one clipping survives where training without it diverges (Pascanu et al. 2013),
         the norm over all no worse than the others, as it alone keeps the direction; the median safer than the 90 % quantile.
Found    small-cifar10: Supported: clipping by value prevents divergence at a high rate, by at least 0.1. Share of seeds that
         train +1.00 (98.5 % interval +0.23 to +1.00), 10 seeds; 'high, by value, 50%' trained in 10 of 10, 'high' in 0. Open:
         clipping by global norm improves accuracy at a high rate, by at least 0.015. 10 seeds; did not train: 'high' 10 of 10
         (diverged); difference over all seeds +0.394; fewer than 5 seeds in which all trained.
"""

import numpy as np

from common.claims import same
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import clipping, sgd
from common.space import linear_range, log_range

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


def train(trial, *, learning_rate, times=1, clip=None, quantile=0.5):
    """Measure gradient norms at the calm rate, then fit a fresh network with gradients clipped at their quantile."""
    measured = small_cnn(trial, activation="leaky_relu")
    trial.fit(measured, optimizer=sgd(trial, learning_rate), stage="measure")
    norms = np.asarray(trial.fits["measure"].norms)
    longest = float(np.quantile(norms, quantile))
    trial.record("longest_gradient", longest, f"{quantile:.0%} quantile")
    if clip == "rate":  # the control: the mean factor by which clipping would shorten updates at the calm rate
        times *= float(np.minimum(1.0, longest / norms).mean())
    model = small_cnn(trial, activation="leaky_relu")
    limit = clipping(clip, longest, model) if clip in KINDS else {}
    optimizer = sgd(trial, times * learning_rate, **limit)
    return trial.fit(model, optimizer=optimizer, stage="clipped")


def survives(text, better, worse, *, id):
    """The claim that an arm finishes without diverging in a larger share of the seeds than another."""
    return Claim(text, better, worse, 0.1, id=id, metric="survival")


CLIPPED_50 = "high, by global norm, 50%"
experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    sweep={"high, searched quantile": HIGH | {"clip": "global", "quantile": linear_range(0.1, 0.99)}},
    setting=Setting("cifar10", epochs=10, batch_size=128),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    seeds=10,
    about=("survival", "test_accuracy"),
    claims=[
        survives("clipping by value prevents divergence at a high rate", "high, by value, 50%", "high", id="value-survives"),
        survives("clipping by norm prevents divergence at a high rate", "high, by norm, 50%", "high", id="norm-survives"),
        survives("clipping by global norm prevents divergence at a high rate", CLIPPED_50, "high", id="global-survives"),
        Claim("clipping by global norm improves accuracy at a high rate", CLIPPED_50, "high", 0.015, id="clipping-helps"),
        survives(
            "clipping by global norm prevents divergence more often than a reduced rate",
            CLIPPED_50,
            "high, reduced",
            id="outlives-reduced-rate",
        ),
        Claim("clipping by global norm beats a reduced rate", CLIPPED_50, "high, reduced", 0.015, id="beats-reduced-rate"),
        same(
            "clipping by global norm makes no difference at the calm rate", "by global norm, 90%", "baseline", id="calm-rate-same"
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
