"""Estimates of a model's accuracy from its training images alone, by training on a part of them and scoring the others."""

from collections.abc import Callable

import numpy as np

from common import metrics


def accuracy(trial, model, split) -> float:
    """Accuracy of a model on the examples of a `Split`."""
    return metrics.accuracy(trial.predict(model, split), split.labels)


def held_out_accuracy(trial, fit: Callable, parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over held-out parts of the accuracy of a model that is trained on the others.

    Args:
        fit: f(i, rest, held out) -> model trained on the split `rest`; i counts the parts from 1.
        parts: pairs of positions in `trial.train` to train on and to hold out, see `Trial.folds`.
    """
    accuracies = []
    for i, (rest, held_out) in enumerate(parts, start=1):
        part = trial.train.take(held_out)
        accuracies.append(accuracy(trial, fit(i, trial.train.take(rest), part), part))
    return float(np.mean(accuracies))
