"""Exp 28: does cross-validation estimate test accuracy better than a hold-out set, and choose better settings?

Varies   how the test accuracy of a model trained on all of a small train set is estimated from that set alone; or how one of six
         settings (width, dropout) is chosen: the highest accuracy on one held-out part, or its mean over five folds.
Fixed    the learning rate, and the model where none is chosen; each seed draws another train set, and the accuracy on the test
         split is the truth.
Expect   accuracy on the training images is far too high; a hold-out set is nearly unbiased but imprecise, being small; k folds
         use every image once and err less (Kohavi 1995); ten folds are a little less pessimistic than five. The highest of six
         estimates is too high (Cawley & Talbot 2010), the less so the more precise they are; the settings chosen differ less in
         test accuracy.

Cross-validation does not change the model that is trained. It guards against overfitting where something is chosen by its score:
then the score of the choice is nearer to the truth, and the choice may be better on test images.
"""

import numpy as np

from common.claims import less, same
from common.cross_validation import accuracy, held_out_accuracy
from common.experiment import Claim, Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "hold-out": {"folds": 5, "used": 1},
    "repeated hold-out": {"folds": 5, "used": 1, "repeats": 5},
    "5 folds": {"folds": 5, "used": 5},
    "10 folds": {"folds": 10, "used": 10},
    "training images": {"folds": 5, "used": 0},
    "chosen by hold-out": {"folds": 5, "used": 1, "choose": True},
    "chosen by 5 folds": {"folds": 5, "used": 5, "choose": True},
}
SETTINGS = [{"widths": (width, 2 * width), "dropout": dropout} for width in (4, 8, 16) for dropout in (0.0, 0.5)]
"""What may be chosen: options of `small_cnn`."""


def train(trial, *, folds, used, learning_rate, repeats=1, choose=False):
    """Fit the model to all images, and once more for each held-out part; without one, estimate on the training images.

    With `choose` each of `SETTINGS` is fitted for each held-out part, and the one with the highest mean accuracy to all images.
    """
    held = [part for repeat in range(repeats) for part in trial.folds(folds, repeat)[:used]]

    def fitted(stage, on=None, validate=None, **setting):
        optimizer = sgd(trial, learning_rate, on=on)
        return trial.fit(small_cnn(trial, **setting), optimizer=optimizer, stage=stage, on=on, validate=validate)

    def estimate(name, **setting):
        return held_out_accuracy(trial, lambda i, rest, part: fitted(f"{name} {i}", rest, part, **setting), held)

    if choose:
        estimates = [estimate(f"setting {i}, fold", **setting) for i, setting in enumerate(SETTINGS)]
        chosen = int(np.argmax(estimates))  # of equals the first
        trial.record("chosen setting", chosen)
        trial.record("estimated_accuracy", estimates[chosen])
        return fitted("fit", **SETTINGS[chosen])
    final = fitted("final")
    trial.record("estimated_accuracy", estimate("fold") if held else accuracy(trial, final, trial.train))
    return final


def errs_less(better, worse, *, id):
    """The claim that an estimate of test accuracy has the smaller absolute error."""
    return less(f"{better} estimate test accuracy better than {worse}", better, worse, "estimate_error", 0.005, id=id)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=32, train_size=1000),
    small=Setting("cifar10", epochs=18, train_size=1000),
    quick=Setting("digits", epochs=15, batch_size=16, train_size=100, image_size=14),
    seeds=20,
    baseline="hold-out",
    about=("estimate_error", "test_accuracy"),
    claims=[
        errs_less("5 folds", "hold-out", id="5-folds-beat-hold-out"),
        errs_less("10 folds", "hold-out", id="10-folds-beat-hold-out"),
        errs_less("5 folds", "training images", id="5-folds-beat-training"),
        same("5 folds are as biased as a hold-out set", "5 folds", "hold-out", id="5-folds-bias-same", metric="estimate_bias"),
        less(
            "the accuracy by which 5 folds choose a setting is less above that on test images than the one of a hold-out set",
            "chosen by 5 folds",
            "chosen by hold-out",
            "estimate_bias",
            0.01,
            id="chosen-bias",
        ),
        Claim(
            "the setting that 5 folds choose is more accurate on test images than the one that a hold-out set chooses",
            "chosen by 5 folds",
            "chosen by hold-out",
            0.015,
            id="chosen-accuracy",
        ),
    ],
)

if __name__ == "__main__":
    experiment.main()
