"""Exp 30: what makes training faster: shorter numbers, XLA or larger batches, and does accuracy suffer?

Varies   the precision of a layer's output, whether XLA compiles the updates, the batch size.
Fixed    architecture, Adam at a rate that suits the baseline or the batch, epochs; no operation is made deterministic, for that
         switches XLA off. Each trial runs alone; what it really ran with is among its measures.
Expect   16 bits save time where the device multiplies them as such, at the same accuracy (Micikevicius et al. 2018); XLA saves
         time on accelerators, and loses it on CPUs, whose convolutions it does not hand to oneDNN; larger batches save time
         until the device is busy.
"""

from keras import optimizers

from common import profiling
from common.claims import less
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range
from common.text import to_id

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
    """Fit the network and watch what it is compiled to."""
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
    quick=Setting("digits", epochs=3, batch_size=128, train_size=1024, deterministic=False),
    alone=True,
    claims=[
        less("bfloat16 speeds up training", "bfloat16", "baseline", "seconds", 0.1, id="bfloat16-faster"),
        less("float16 speeds up training", "float16", "baseline", "seconds", 0.1, id="float16-faster"),
        less("XLA speeds up training", "XLA", "baseline", "seconds", 0.1, id="xla-faster"),
        less("larger batches speed up training", "batch 256", "batch 32", "seconds", 0.1, id="large-batch-faster"),
        *(
            Claim(
                f"{arm} costs no accuracy",
                id=to_id(f"{arm} not worse"),
                better=arm,
                worse="baseline",
                margin=0.02,
                kind="not worse",
            )
            for arm in ("bfloat16", "float16", "XLA")
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
