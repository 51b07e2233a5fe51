"""Temperature scaling: one number, fitted on validation data, makes the confidence of a trained classifier honest."""

import numpy as np
from scipy import optimize

from common import metrics
from common.training import prediction

COLDEST, HOTTEST = 0.05, 20.0


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """T > 0 of the lowest NLL of logits / T (Guo et al. 2017, section 4.2); logits float [n, classes], labels int [n].

    It lies between 0.05 and 20: where all examples are classified rightly, the NLL falls without end as T goes to 0.
    """

    def nll(log_temperature):
        return metrics.nll(logits / np.exp(log_temperature), labels)

    bounds = np.log([COLDEST, HOTTEST])
    return float(np.exp(optimize.minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


class Tempered:
    """A predictor: a model's logits divided by the temperature that suits the trial's validation split."""

    def __init__(self, trial, model):
        self.temperature = best_temperature(trial.predict(model, trial.val), trial.val.labels)
        self._forward = prediction.forward(model, trial.input_shape)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 [n, classes] for images uint8 [n, height, width, channels]."""
        return self._forward(images) / np.float32(self.temperature)
