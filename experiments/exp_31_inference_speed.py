"""Exp 31: how can a trained network be made smaller and quicker, and what does that cost?

Varies   the numbers of the TFLite file: float32, float16 or int8; or the network: four fifths of its weights pruned, or a
         narrow student taught by it, beside the same student on its own. Pruning trains on, so one arm just trains on.
Fixed    the network before that, Adam, epochs of each stage; scores are those of the converted file. The two students have
         rates of their own. Each trial runs alone; latencies are medians.
Expect   float16 and int8 two and four times smaller at about the same accuracy, int8 the quickest of the three (Jacob et al.
         2018); pruning costs no accuracy and shrinks what gzip makes of the file (Han et al. 2015), but no latency without
         sparse kernels; a taught student ahead of one on its own (Hinton et al. 2015).
"""

from keras import optimizers

from common import inference
from common.claims import less
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = log_range(1e-4, 1e-2)
ARMS = {
    "baseline": {},
    "trained twice as long": {"budget": 2},
    "float16": {"numbers": "float16"},
    "int8": {"numbers": "int8"},
    "pruned": {"sparsity": 0.8},
    "distilled": {"student": "taught"},
    "student alone": {"student": "alone"},
}


def train(trial, *, learning_rate, numbers="float32", sparsity=0.0, student=None, student_rate=None, budget=1):
    """Fit the network, change it as the arm says, and convert it."""
    if student != "alone":
        model = small_cnn(trial, widths=(32, 64), dense=(128,))
        epochs = budget * trial.epochs
        optimizer = optimizers.Adam(falling(trial, learning_rate, epochs=epochs))
        trial.fit(model, optimizer=optimizer, stage="teacher", epochs=epochs)
    if sparsity:
        inference.prune(model, sparsity)
        trial.fit(model, optimizer=optimizers.Adam(falling(trial, learning_rate)), stage="fine-tuning")
        trial.record("sparsity", inference.sparsity_of(model))
    if student:
        step = inference.distillation(model) if student == "taught" else None
        optimizer = optimizers.Adam(falling(trial, student_rate))
        model = trial.fit(small_cnn(trial, widths=(8, 16)), optimizer=optimizer, step=step)
    return inference.deployed(trial, model, numbers)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=RATES, arms={arm: {"student_rate": RATES} for arm in ("distilled", "student alone")}),
    setting=Setting("cifar10", epochs=15, batch_size=64),
    quick=Setting("digits", epochs=10, batch_size=32, train_size=300),
    alone=True,
    claims=[
        less("float16 is smaller", "float16", "baseline", "size_bytes", 500_000, id="float16-smaller"),
        less("int8 is smaller", "int8", "baseline", "size_bytes", 1_000_000, id="int8-smaller"),
        less("int8 answers one image sooner", "int8", "baseline", "latency_1", 0.02, id="int8-sooner-for-1"),
        less("int8 answers 64 images sooner", "int8", "baseline", "latency_64", 1.0, id="int8-sooner-for-64"),
        less("a pruned network is smaller when compressed", "pruned", "baseline", "gzip_bytes", 500_000, id="pruned-smaller"),
        less("a student answers 64 images sooner", "distilled", "baseline", "latency_64", 1.0, id="student-sooner-for-64"),
        Claim("float16 has the same accuracy", id="float16-same", better="float16", worse="baseline", margin=0.02, kind="same"),
        Claim("int8 costs no accuracy", id="int8-not-worse", better="int8", worse="baseline", margin=0.02, kind="not worse"),
        Claim(
            "pruning costs no accuracy", "pruned", "trained twice as long", id="pruned-not-worse", margin=0.02, kind="not worse"
        ),
        Claim(
            "a taught student beats one on its own",
            id="taught-beats-alone",
            better="distilled",
            worse="student alone",
            margin=0.015,
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
