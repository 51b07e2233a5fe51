"""Exp 30: what makes training faster, 16-bit numbers, XLA or larger batches, and does it cost accuracy?

Varies   the precision of the layers' outputs, whether XLA compiles the updates, the batch size.
Fixed    architecture, Adam at a learning rate searched on the baseline or for the batch size, epochs; operations are not
         deterministic, as determinism switches XLA off. Each trial runs alone, and records what it was compiled to.
Expect   16 bits save time where the device multiplies 16-bit numbers, at the same accuracy (Micikevicius et al. 2018); XLA saves
         time on accelerators, and loses it on CPUs, where it does not use oneDNN's convolutions; larger batches save time until
         the device is fully used.
"""

from keras import optimizers

from common import profiling
from common.claims import less, not_worse
from common.experiment import Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = log_range(1e-4, 1e-2)
ARMS = {
    "baseline": {},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "float16": {"precision": "mixed_float16"},
    "XLA": {"xla": True},
    "batch 32": {"batch_size": 32},
    "batch 256": {"batch_size": 256},
}


def train(trial, *, learning_rate):
    """Fit the network, and record what it was compiled to."""
    watch = profiling.Watch()
    model = trial.fit(
        small_cnn(trial, widths=(32, 64)), optimizer=optimizers.Adam(falling(trial, learning_rate)), callbacks=[watch]
    )
    profiling.record(trial, model, watch)
    return model


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=RATES, arms={arm: {"learning_rate": RATES} for arm in ("batch 32", "batch 256")}),
    # Sizes that every batch size divides: XLA compiles anew for a smaller last batch.
    setting=Setting("cifar10", epochs=4, batch_size=128, train_size=10_240, deterministic=False),
    small=Setting("cifar10", epochs=4, batch_size=128, train_size=5120, deterministic=False),
    quick=Setting("digits", epochs=3, batch_size=128, train_size=1024, deterministic=False),
    alone=True,
    about=("seconds", "test_accuracy"),
    claims=[
        less("bfloat16 speeds up training", "bfloat16", "baseline", "seconds", 0.1, id="bfloat16-faster"),
        less("float16 speeds up training", "float16", "baseline", "seconds", 0.1, id="float16-faster"),
        less("XLA speeds up training", "XLA", "baseline", "seconds", 0.1, id="xla-faster"),
        less("batches of 256 train faster than batches of 32", "batch 256", "batch 32", "seconds", 0.1, id="large-batch-faster"),
        not_worse("bfloat16 costs no accuracy", "bfloat16", "baseline", id="bfloat16-not-worse"),
        not_worse("float16 costs no accuracy", "float16", "baseline", id="float16-not-worse"),
        not_worse("XLA costs no accuracy", "XLA", "baseline", id="xla-not-worse"),
    ],
)

if __name__ == "__main__":
    experiment.main()
