"""Exp 31: how can a trained network be made smaller and faster at inference, and what does that cost?

Varies   the number format of the TFLite file: float32, float16 or int8; or the network: four fifths of its weights pruned and
         the rest fine-tuned (its control is trained twice as long), or a narrow student, distilled from it or trained alone.
Fixed    the network before that, Adam, the epochs of each stage; scores are those of the converted file. The students have a
         separate search of the learning rate. Each trial runs alone; latencies are medians.
Expect   float16 and int8 two and four times smaller at about the same accuracy, int8 the fastest of the three (Jacob et al.
         2018); pruning costs no accuracy and makes the compressed file smaller (Han et al. 2015), but not the latency without
         sparse kernels; a distilled student ahead of one trained alone (Hinton et al. 2015).
"""

from keras import optimizers

from common import inference
from common.claims import less, not_worse, same
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

RATES = log_range(1e-4, 1e-2)
ARMS = {
    "baseline": {},
    "trained twice as long": {"epochs": 2.0},
    "float16": {"numbers": "float16"},
    "int8": {"numbers": "int8"},
    "pruned": {"sparsity": 0.8},
    "distilled": {"student": "taught"},
    "student alone": {"student": "alone"},
}


def train(trial, *, learning_rate, numbers="float32", sparsity=0.0, student=None, student_rate=None):
    """Fit the network, prune or distil it where the arm says so, and convert it to TFLite."""
    if student != "alone":
        model = small_cnn(trial, widths=(32, 64), dense=(128,))
        trial.fit(model, optimizer=optimizers.Adam(falling(trial, learning_rate)), stage="teacher")
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
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=20, batch_size=32, train_size=300),
    alone=True,
    about=("size_bytes", "latency_1", "test_accuracy"),
    claims=[
        less("a float16 file is smaller than a float32 one", "float16", "baseline", "size_bytes", 500_000, id="float16-smaller"),
        less("an int8 file is smaller than a float32 one", "int8", "baseline", "size_bytes", 1_000_000, id="int8-smaller"),
        less("int8 lowers the latency of one image", "int8", "baseline", "latency_1", 0.02, id="int8-sooner-for-1"),
        less("int8 lowers the latency of 64 images", "int8", "baseline", "latency_64", 1.0, id="int8-sooner-for-64"),
        less("pruning makes the compressed file smaller", "pruned", "baseline", "gzip_bytes", 500_000, id="pruned-smaller"),
        less("a student lowers the latency of 64 images", "distilled", "baseline", "latency_64", 1.0, id="student-sooner-for-64"),
        same("float16 and float32 have the same accuracy", "float16", "baseline", id="float16-same"),
        not_worse("int8 costs no accuracy", "int8", "baseline", id="int8-not-worse"),
        not_worse("pruning costs no accuracy", "pruned", "trained twice as long", id="pruned-not-worse"),
        Claim("a distilled student beats one trained alone", "distilled", "student alone", 0.015, id="taught-beats-alone"),
    ],
)

if __name__ == "__main__":
    experiment.main()
