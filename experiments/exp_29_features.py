"""Exp 29: do learned features beat hand-made ones, and from how many examples on?

Varies   histograms of oriented gradients with a linear SVM, raw pixels with logistic regression, or a small CNN; training-set
         size.
Fixed    the images; the penalty of the linear models and the CNN's rate are chosen on val.
Expect   the CNN ahead once there are many examples (Krizhevsky et al. 2012); with few ones HOG is not worse, for it need not
         be learned; both ahead of raw pixels (Dalal & Triggs 2005).
"""

from keras import optimizers

from common.experiment import Claim, Experiment, Setting
from common.features import hog_svm, pixel_regression
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

KINDS = {"CNN": "cnn", "HOG + SVM": "hog", "pixels": "pixels"}
SIZES = {"all": {}, "1000": {"train_size": 1000}, "300": {"train_size": 300}, "100": {"train_size": 100}}
ARMS = {f"{name}, {size} examples": {"kind": kind, **own} for size, own in SIZES.items() for name, kind in KINDS.items()}


def train(trial, *, kind, learning_rate=None):
    """Fit a classifier to features of its kind."""
    if kind == "cnn":
        return trial.fit(small_cnn(trial), optimizer=optimizers.Adam(falling(trial, learning_rate)))
    predictor = {"hog": hog_svm, "pixels": pixel_regression}[kind](trial)
    trial.record("C", predictor.strength)
    trial.record("learned numbers", predictor.learned)
    return predictor


experiment = Experiment(
    train,
    arms=ARMS,
    search={f"CNN, {size} examples": {"learning_rate": log_range(3e-4, 3e-2)} for size in SIZES},
    setting=Setting("cifar10", epochs=20, batch_size=32),
    quick=Setting("digits", epochs=20, batch_size=32),
    baseline="CNN, all examples",
    claims=[
        Claim(
            "hand-made features do worse than a CNN",
            "CNN, all examples",
            "HOG + SVM, all examples",
            id="cnn-beats-hog",
            margin=0.015,
        ),
        Claim("a CNN beats raw pixels", "CNN, all examples", "pixels, all examples", id="cnn-beats-pixels", margin=0.015),
        Claim(
            "hand-made features beat raw pixels",
            "HOG + SVM, all examples",
            "pixels, all examples",
            id="hog-beats-pixels",
            margin=0.015,
        ),
        Claim(
            "with 100 examples hand-made features are not worse than a CNN",
            id="hog-not-worse-at-100",
            better="HOG + SVM, 100 examples",
            worse="CNN, 100 examples",
            margin=0.02,
            kind="not worse",
        ),
        Claim(
            "a CNN gains more from more examples than hand-made features do",
            id="cnn-gains-more",
            better=["CNN, all examples", "CNN, 100 examples"],
            worse=["HOG + SVM, all examples", "HOG + SVM, 100 examples"],
            margin=0.015,
            kind="interaction",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
