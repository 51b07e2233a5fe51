"""Classification metrics in NumPy: `logits` float [n, classes], `labels` int [n]; scores are fractions, or nats for the NLL."""

import numpy as np

ECE_BINS = 15


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log q = x − log Σ exp x, float64 [n, classes], computed stably."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of examples whose highest logit is that of the label; of ties the lower class is predicted."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels, −log q, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over equal-width bins of the top probability (Guo et al. 2017, eq. 5).

    Σ_b (n_b / n) · |accuracy(b) − mean confidence(b)|; a confidence on an edge falls into the lower bin.
    """
    q = np.exp(log_softmax(logits))
    confidence, correct = q.max(axis=1), q.argmax(axis=1) == labels
    gap = np.bincount(bin_of(confidence, bins), weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def bin_of(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin of each confidence, int [n] from 0."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix, counts [classes, classes]: rows are labels, columns predictions."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_scores(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float, float]:
    """Macro precision, recall and F1: unweighted means over classes, with 0 for a class whose denominator is 0."""
    counts = confusion(predicted, labels, classes)
    correct, predictions, examples = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)

    def ratio(a, b):
        return np.divide(a, b, out=np.zeros(classes), where=b > 0)

    return (
        float(ratio(correct, predictions).mean()),
        float(ratio(correct, examples).mean()),
        float(ratio(2 * correct, predictions + examples).mean()),
    )


def constant_logits(train_labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    """Logits [n, classes] of the best constant prediction: log of the (smoothed) class frequencies of the train split."""
    counts = np.bincount(train_labels, minlength=classes)
    return np.tile(np.log((counts + 1) / (counts + 1).sum()), (n, 1))
