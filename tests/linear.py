"""A linear classifier in NumPy, as a part of scripts: its trials take milliseconds, since nothing is compiled."""

LINEAR = '''
class Linear:
    """Predicts logits that are linear in the pixels."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, images):
        return _features(images) @ self.weights


def _features(images):
    """The pixels and a constant, float64 [n, pixels + 1]."""
    return np.column_stack([images.reshape(len(images), -1) / 255, np.ones(len(images))])


def descend(trial, learning_rate, momentum=0.0):
    """Softmax regression by gradient descent on the whole train split, for as many updates as the setting has."""
    features, targets = _features(trial.train.images), np.eye(trial.classes)[trial.train.labels]
    weights = velocity = np.zeros((features.shape[1], trial.classes))
    for _ in range(trial.steps):
        scores = np.exp(features @ weights - (features @ weights).max(axis=1, keepdims=True))
        gradient = features.T @ (scores / scores.sum(axis=1, keepdims=True) - targets) / len(targets)
        velocity = momentum * velocity + gradient
        weights = weights - learning_rate * velocity
    return Linear(weights)
'''
"""To be put before `train`, which returns `descend(trial, learning_rate)`; it needs NumPy as `np`."""

SCRIPT = f'''"""Exp 90: does a run end as it should?

Varies   the momentum.
Fixed    all else.
Expect   a row for each trial.
"""
import numpy as np

from common.experiment import Experiment, Setting

ARMS = {{"baseline": {{"momentum": 0.0}}, "momentum": {{"momentum": 0.9}}}}

{LINEAR}

def train(trial, *, momentum):
    """One arm."""
    return descend(trial, 0.1, momentum)


experiment = Experiment(train, arms=ARMS, setting=Setting("digits", epochs=2, batch_size=16, train_size=64), seeds=2)
'''
"""With the name of `survival.SCRIPT`, whose functions write it and find its files."""
