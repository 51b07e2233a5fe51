"""Hand-crafted features, and linear classifiers of scikit-learn on them."""

import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from common.errors import Misuse

CHUNK = 1000
"""Images per chunk, which bounds the memory for gradients."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Grid of C, the inverse strength of the penalty."""


def pixels(images: np.ndarray) -> np.ndarray:
    """Flattened pixels / 255: uint8 [n, height, width, channels] -> float32 0 … 1 [n, height · width · channels]."""
    return images.reshape(len(images), -1) / np.float32(255)


def hog(images: np.ndarray, *, cell: int = 4, block: int = 2, bins: int = 9) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs 2005): uint8 [n, height, width, channels] -> float32 [n, features].

    Gradients are taken by the filter [−1, 0, 1] on the square root of the pixels, in the channel with the largest norm. Each
    votes with its norm for its unsigned orientation (0 … 180°), interpolated linearly between the two nearest bin centres 0°,
    20°, …, without interpolation between cells. Votes are summed over cells; overlapping blocks of cells are normalised to
    length 1, clipped at 0.2 and normalised again (L2-Hys).

    Args:
        cell: pixels per side; rows and columns that do not fill a cell at the bottom and right are left out.
        block: cells per side.
        bins: number of orientations.

    Raises:
        Misuse: the images have fewer cells per side than a block.
    """
    if min(images.shape[1:3]) < cell * block:
        raise Misuse(
            f"hog needs images of at least {cell * block} pixels per side. Received: {images.shape[1]}x{images.shape[2]}"
        )
    return np.concatenate([_hog(images[first : first + CHUNK], cell, block, bins) for first in range(0, len(images), CHUNK)])


def _hog(images, cell, block, bins):
    roots = np.sqrt(images / np.float32(255))
    across, down = np.zeros_like(roots), np.zeros_like(roots)
    across[:, :, 1:-1] = roots[:, :, 2:] - roots[:, :, :-2]
    down[:, 1:-1] = roots[:, 2:] - roots[:, :-2]
    longest = np.argmax(across**2 + down**2, axis=-1)[..., None]
    across, down = (np.take_along_axis(gradient, longest, axis=-1)[..., 0] for gradient in (across, down))
    place = (np.arctan2(down, across) / np.pi % 1.0) * bins
    lower = np.floor(place)
    share = place - lower
    histograms = []
    lines, columns = (side // cell for side in images.shape[1:3])
    length = np.hypot(across, down)
    for b in range(bins):
        votes = length * ((lower % bins == b) * (1 - share) + ((lower + 1) % bins == b) * share)
        votes = votes[:, : lines * cell, : columns * cell].reshape(len(images), lines, cell, columns, cell)
        histograms.append(votes.sum(axis=(2, 4)))
    cells = np.stack(histograms, axis=-1)
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (block, block), axis=(1, 2))
    blocks = np.moveaxis(blocks, 3, -1).reshape(*blocks.shape[:3], -1)  # cell by cell
    for limit in (0.2, np.inf):
        blocks = blocks / np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + 1e-6)
        blocks = np.minimum(blocks, limit)
    return blocks.reshape(len(images), -1).astype(np.float32)


class Linear:
    """A predictor: features of the images, and a linear classifier of scikit-learn that is fitted to `trial.train`.

    Attributes:
        strength: C, the value in `STRENGTHS` with the highest accuracy on val; of ties the smallest.
        learned: number of learned parameters.
    """

    def __init__(self, trial, features: Callable[[np.ndarray], np.ndarray], classifier: type):
        began = time.perf_counter()
        train, val = features(trial.train.images), features(trial.val.images)
        with threadpool_limits(1):  # trials run side by side, and the bits depend on the number of threads
            fitted = [classifier(C=c, **OPTIONS[classifier]).fit(train, trial.train.labels) for c in STRENGTHS]
        accuracies = [model.score(val, trial.val.labels) for model in fitted]
        best = int(np.argmax(accuracies))
        self.strength = STRENGTHS[best]
        self._features, self._classifier, self._classes = features, fitted[best], trial.classes
        self.learned = self._classifier.coef_.size + self._classifier.intercept_.size
        trial.clocks["train"] += time.perf_counter() - began

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Scores float32 [n, classes] for images uint8 [n, height, width, channels].

        A class without training examples gets a score below all others.
        """
        decision = self._classifier.decision_function(self._features(images))
        if decision.ndim == 1:  # two classes have one decision function
            decision = np.stack([-decision, decision], axis=1)
        scores = np.full((len(images), self._classes), decision.min() - 1, np.float32)
        scores[:, self._classifier.classes_] = decision
        return scores


OPTIONS = {LinearSVC: {"random_state": 0, "tol": 1e-3}, LogisticRegression: {"max_iter": 300}}


def hog_svm(trial) -> Linear:
    """Linear support vector machine on `hog` features."""
    return Linear(trial, hog, LinearSVC)


def pixel_regression(trial) -> Linear:
    """Logistic regression on `pixels`."""
    return Linear(trial, pixels, LogisticRegression)
