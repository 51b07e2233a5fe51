"""Exp 35: does sharing each batch among several devices give the same accuracy in less time?

Varies   replicas, the devices that share each batch: GPUs, or logical CPU devices where there are none.
Fixed    the batch size over all replicas, the learning rate, searched for one replica, and the number of updates.
Expect   the same accuracy, as the update is the same sum in another order; with one device per replica nearly proportional speed
         (Goyal et al. 2017), on one processor none: there, speed is not recorded.
"""

import math

from common.claims import each
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

COUNTS = (2, 4, 8)
ARMS = {"1 replica": {"replicas": 1}, **{f"{n} replicas": {"replicas": n} for n in COUNTS}}


def train(trial, *, learning_rate):
    """Fit the network, and record its speed where every replica has a separate device."""
    model = trial.fit(small_cnn(trial, widths=(32, 64)), optimizer=sgd(trial, learning_rate))
    if trial.distinct_devices and trial.clocks["train"]:
        trial.record("doublings of speed", math.log2(trial.timed_images / trial.clocks["train"]), "log2 images/s")
    return model


def faster(n, doublings):
    """The claim that n devices train faster than one, by so many doublings of the images per second."""
    text = f"{n} devices train faster than one"
    return Claim(text, f"{n} replicas", "1 replica", doublings, id=f"{n}-devices-faster", metric="doublings of speed")


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=5, batch_size=1024),
    small=Setting("cifar10", epochs=6, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="1 replica",
    alone=True,
    about=("test_accuracy", "doublings of speed"),
    claims=[
        *each(COUNTS, "{} replicas are as accurate as one", "{} replicas", "1 replica", 0.02, id="{} replicas same", kind="same"),
        *(faster(n, 0.5 * math.log2(n)) for n in COUNTS),  # half of the doublings that n devices make possible
    ],
)

if __name__ == "__main__":
    experiment.main()
