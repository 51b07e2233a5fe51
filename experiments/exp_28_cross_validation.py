"""Exp 28: does cross-validation estimate test accuracy better than a hold-out set?

Varies   how the test accuracy of a model trained on all of a small train set is estimated from that set alone.
Fixed    the model and its learning rate; each seed draws another train set, and the accuracy on the test split is the truth.
Expect   accuracy on the training images is far too high; a hold-out set is nearly unbiased but imprecise, being small; k folds
         use every image once and err less (Kohavi 1995); ten folds are a little less pessimistic than five.

Cross-validation does not change the model. What it can prevent is trust in an estimate that is too high, which the claims test.
"""

import numpy as np

from common import metrics
from common.claims import less, same
from common.experiment import Experiment, Setting, shared
from common.models import small_cnn
from common.optimizers import sgd
from common.space import log_range

ARMS = {
    "hold-out": {"folds": 5, "used": 1},
    "repeated hold-out": {"folds": 5, "used": 1, "repeats": 5},
    "5 folds": {"folds": 5, "used": 5},
    "10 folds": {"folds": 10, "used": 10},
    "training images": {"folds": 5, "used": 0},
}


def train(trial, *, folds, used, learning_rate, repeats=1):
    """Fit the model to all images, and once more for each held-out part; without one, estimate on the training images."""

    def fitted(stage, on=None, validate=None):
        optimizer = sgd(trial, learning_rate, on=on)
        return trial.fit(small_cnn(trial), optimizer=optimizer, stage=stage, on=on, validate=validate)

    def accuracy(model, split):
        return metrics.accuracy(trial.predict(model, split), split.labels)

    final = fitted("final")
    held = [part for repeat in range(repeats) for part in trial.folds(folds, repeat)[:used]]
    found = []
    for i, (rest, held_out) in enumerate(held, start=1):
        part = trial.train.take(held_out)
        found.append(accuracy(fitted(f"fold {i}", on=trial.train.take(rest), validate=part), part))
    trial.record("estimated_accuracy", np.mean(found or accuracy(final, trial.train)))
    return final


def errs_less(better, worse, *, id):
    """The claim that an estimate of test accuracy has the smaller absolute error."""
    return less(f"{better} estimate test accuracy better than {worse}", better, worse, "estimate_error", 0.005, id=id)


experiment = Experiment(
    train,
    arms=ARMS,
    search=shared(learning_rate=log_range(1e-3, 0.3)),
    setting=Setting("cifar10", epochs=20, batch_size=32, train_size=1000),
    quick=Setting("digits", epochs=15, batch_size=16, train_size=100, image_size=14),
    seeds=20,
    baseline="hold-out",
    claims=[
        errs_less("5 folds", "hold-out", id="5-folds-beat-hold-out"),
        errs_less("10 folds", "hold-out", id="10-folds-beat-hold-out"),
        errs_less("5 folds", "training images", id="5-folds-beat-training"),
        same("5 folds are as biased as a hold-out set", "5 folds", "hold-out", id="5-folds-bias-same", metric="estimate_bias"),
    ],
)

if __name__ == "__main__":
    experiment.main()
