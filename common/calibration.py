"""Temperature scaling: calibrates a trained classifier by one number that is fitted on validation data."""

import numpy as np
from scipy import optimize

from common import metrics

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature."""


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature T with the lowest NLL of logits / T (Guo et al. 2017, section 4.2).

    T is limited to 0.05 … 20: if all examples are classified correctly, the NLL falls to 0 as T → 0.

    Args:
        logits: float [n, classes]; labels: int [n].
    """

    def nll(log_temperature):
        return metrics.nll(logits / np.exp(log_temperature), labels)

    bounds = np.log([LOWEST, HIGHEST])
    return float(np.exp(optimize.minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


class Tempered:
    """A predictor: a model's logits divided by `temperature`, the best one on `trial.val`."""

    def __init__(self, trial, model):
        self.temperature = best_temperature(trial.predict(model, trial.val), trial.val.labels)
        self._trial, self._model = trial, model

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 [n, classes] for images uint8 [n, height, width, channels]."""
        return self._trial.predict(self._model, images) / np.float32(self.temperature)
