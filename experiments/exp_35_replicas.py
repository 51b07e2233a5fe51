"""Exp 35: does a batch that is shared by several devices give the same network, and does it get there sooner?

Varies   replicas, devices that share each batch: GPUs, or logical CPU devices where there are none.
Fixed    the global batch, the learning rate, which suits one replica, and the number of updates.
Expect   the same accuracy, as the update is the same sum in another order; with a device for each replica nearly as many
         times the speed (Goyal et al. 2017), on one processor none: there, speed is not measured.
"""

import math

from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

COUNTS = (2, 4, 8)
ARMS = {"1 replica": {"replicas": 1}, **{f"{n} replicas": {"replicas": n} for n in COUNTS}}


def train(trial, *, learning_rate):
    """Fit the network; its speed counts only where every replica has a device of its own."""
    model = trial.fit(small_cnn(trial, widths=(32, 64)), optimizer=sgd(trial, learning_rate))
    if trial.distinct_devices and trial.clocks["train"]:
        trial.record("doublings of speed", math.log2(trial.timed_images / trial.clocks["train"]), "log2 images/s")
    return model


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=5, batch_size=1024),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    baseline="1 replica",
    alone=True,
    claims=[
        *(
            Claim(
                f"{n} replicas give the same accuracy as one",
                f"{n} replicas",
                "1 replica",
                id=f"{n}-replicas-same",
                margin=0.02,
                kind="same",
            )
            for n in COUNTS
        ),
        *(
            # Half of the way to n times the speed.
            Claim(
                f"{n} devices speed up the updates",
                f"{n} replicas",
                "1 replica",
                id=f"{n}-devices-faster",
                margin=gain,
                metric="doublings of speed",
            )
            for n, gain in zip(COUNTS, (0.5, 1.0, 1.5), strict=True)
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
