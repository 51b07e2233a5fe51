"""Scores from predictions. NumPy alone; `logits` float [n, classes], `labels` int [n], every score a fraction or nats."""

import numpy as np

ECE_BINS = 15


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log q of each class, float64 [n, classes]: x − log Σ exp x, shifted by the row's maximum."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose highest logit is the label's; ties go to the lower class."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood, −log q of the label, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over equal-width bins of the top probability (Guo et al. 2017, eq. 5).

    Σ_b (n_b / n) · |accuracy(b) − mean confidence(b)|; a confidence on an edge falls into the lower bin.
    """
    q = np.exp(log_softmax(logits))
    confidence, correct = q.max(axis=1), q.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [classes, classes]: rows are labels, columns predictions."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_scores(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float, float]:
    """Precision, recall and F1, each a plain mean over all classes; 0 where a class has nothing to divide by."""
    counts = confusion(predicted, labels, classes)
    hits, called, there = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)

    def ratio(a, b):
        return np.divide(a, b, out=np.zeros(classes), where=b > 0)

    return (
        float(ratio(hits, called).mean()),
        float(ratio(hits, there).mean()),
        float(ratio(2 * hits, called + there).mean()),
    )


def constant_logits(train_labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    """The best constant prediction, for a trial that diverged: log of the train split's class shares, [n, classes]."""
    counts = np.bincount(train_labels, minlength=classes)
    return np.tile(np.log((counts + 1) / (counts + 1).sum()), (n, 1))
