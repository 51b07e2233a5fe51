import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support

from common import metrics


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 400)
    logits = generator.normal(size=(400, 6)) + 2 * np.eye(6)[labels]  # class 5 never occurs
    return logits, labels


def test_scores_agree_with_scikit_learn(predictions):
    logits, labels = predictions
    q = np.exp(metrics.log_softmax(logits))
    assert metrics.accuracy(logits, labels) == accuracy_score(labels, logits.argmax(1))
    assert metrics.nll(logits, labels) == pytest.approx(log_loss(labels, q, labels=range(6)), rel=1e-12)
    expected = precision_recall_fscore_support(labels, logits.argmax(1), labels=range(6), average="macro", zero_division=0)
    assert metrics.macro_scores(logits.argmax(1), labels, 6) == pytest.approx(expected[:3], rel=1e-12)


def test_nll_of_a_large_logit_is_finite():
    assert metrics.nll(np.array([[1000.0, 0.0]]), np.array([1])) == 1000.0


def test_ece_by_hand():
    # Two examples at confidence 0.8 of which one is right, two at 0.6 of which both are: (2·0.3 + 2·0.4) / 4 = 0.35.
    q = np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    assert metrics.ece(np.log(q), np.array([0, 1, 0, 0])) == pytest.approx(0.35)


def test_confusion_by_hand():
    counts = metrics.confusion(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_constant_logits_predict_the_majority_class():
    logits = metrics.constant_logits(np.array([2, 2, 1]), 4, 5)
    assert logits.shape == (5, 4)
    assert set(logits.argmax(1)) == {2}
