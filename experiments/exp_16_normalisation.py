"""Exp 16: which normalisation helps, and does batch normalisation need large batches?

Varies   the normalisation after each convolution: none, batch, layer (one group) or group (eight groups); batches of 2 or 32,
         the per-device sizes that Wu & He compare. The learning rate is searched for each arm.
Fixed    architecture, SGD with momentum, the number of epochs, so that small batches make more updates.
Expect   normalisation helps (Ioffe & Szegedy 2015); batch normalisation loses accuracy in small batches, whose statistics are
         noisy, and group normalisation does not; in batches of 32 the two are about level (Wu & He 2018).
Found    small-cifar10: Supported: batch norm improves accuracy in batches of 32, by at least 0.015. Test accuracy +0.029 (99 %
         interval +0.016 to +0.041), 5 seeds.
"""

from common.claims import interaction
from common.experiment import Claim, Experiment, Setting
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range
from common.text import to_id

KINDS = {"none": None, "batch norm": "batch", "layer norm": "layer", "group norm": "group"}
SIZES = {"large batches": 32, "small batches": 2}
ARMS = {
    f"{name}, {size}": {"normalization": kind, "batch_size": count}
    for size, count in SIZES.items()
    for name, kind in KINDS.items()
}


def train(trial, *, normalization, learning_rate):
    """Fit one network with one kind of normalisation."""
    model = small_cnn(trial, normalization=normalization)
    return trial.fit(model, optimizer=sgd(trial, learning_rate))


def space(arm):
    """The search space of one arm: larger batches take larger rates."""
    return {"learning_rate": log_range(3e-4, 0.03) if "small" in arm else log_range(3e-3, 0.3)}


experiment = Experiment(
    train,
    arms=ARMS,
    search={arm: space(arm) for arm in ARMS},
    sweep={
        f"{name}, searched batch": {
            "normalization": kind,
            "batch_size": log_range(2, 64, whole=True),
            "learning_rate": log_range(3e-4, 0.3),
        }
        for name, kind in KINDS.items()
    },
    setting=Setting("cifar10", epochs=10, batch_size=32, train_size=10_000),
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=40, batch_size=32, train_size=300, image_size=14),
    baseline="none, large batches",
    claims=[
        *(
            Claim(
                f"{name} improves accuracy in batches of {n}",
                f"{name}, {size}",
                f"none, {size}",
                0.015,
                id=to_id(f"{name} {size}"),
            )
            for size, n in SIZES.items()
            for name in list(KINDS)[1:]
        ),
        *(
            interaction(
                f"batch norm loses more accuracy in batches of 2 than {name}",
                [f"{name}, small batches", "batch norm, small batches"],
                [f"{name}, large batches", "batch norm, large batches"],
                id=f"batch-suffers-over-{KINDS[name]}",
            )
            for name in ("layer norm", "group norm")
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
