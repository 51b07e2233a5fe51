"""Exp 29: do learned features beat hand-made ones, and from how many training images on?

Varies   the classifier: histograms of oriented gradients (HOG) with a linear SVM, raw pixels with logistic regression, or a small
         CNN; the number of training images.
Fixed    the images; the penalty of the linear models and the learning rate of the CNN are chosen on val.
Expect   the CNN ahead once there are many examples (Krizhevsky et al. 2012); with few ones HOG is not worse, for it need not
         be learned; both ahead of raw pixels (Dalal & Triggs 2005).
"""

from keras import optimizers

from common.claims import interaction, not_worse
from common.experiment import Claim, Experiment, Setting
from common.features import hog_svm, pixel_regression
from common.models import small_cnn
from common.optimizers import falling
from common.space import log_range

KINDS = {"CNN": "cnn", "HOG + SVM": "hog", "pixels": "pixels"}
SIZES = {"all": {}, "1000": {"train_size": 1000}, "300": {"train_size": 300}, "100": {"train_size": 100}}
ARMS = {f"{name}, {size} examples": {"kind": kind, **subset} for size, subset in SIZES.items() for name, kind in KINDS.items()}


def train(trial, *, kind, learning_rate=None):
    """Fit the arm's classifier."""
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
    small=Setting("cifar10", epochs=18, train_size=5000),
    quick=Setting("digits", epochs=20, batch_size=32),
    baseline="CNN, all examples",
    claims=[
        Claim("a CNN beats HOG features", "CNN, all examples", "HOG + SVM, all examples", 0.015, id="cnn-beats-hog"),
        Claim("a CNN beats raw pixels", "CNN, all examples", "pixels, all examples", 0.015, id="cnn-beats-pixels"),
        Claim("HOG features beat raw pixels", "HOG + SVM, all examples", "pixels, all examples", 0.015, id="hog-beats-pixels"),
        not_worse(
            "with 100 images HOG features are not worse than a CNN",
            "HOG + SVM, 100 examples",
            "CNN, 100 examples",
            id="hog-not-worse-at-100",
        ),
        interaction(
            "all images instead of 100 improve a CNN more than HOG features",
            ["CNN, all examples", "CNN, 100 examples"],
            ["HOG + SVM, all examples", "HOG + SVM, 100 examples"],
            id="cnn-gains-more",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
