"""Norms of gradients, whose values a reader can compute."""

import keras
import numpy as np
import pytest

from common import gradients, losses

CROSS_ENTROPY = keras.losses.CategoricalCrossentropy(from_logits=True)


def logits_of(*probabilities):
    """Logits [n, 2] whose softmax gives these probabilities of the first class."""
    return np.log([[p, 1 - p] for p in probabilities]).astype("float32")


def test_norms_of_cross_entropy_and_mse_are_those_of_their_formulas():
    p = np.array([0.05, 0.3, 0.5, 0.9])
    labels = np.zeros(4, int)
    # Of two classes: q - y = (p - 1, 1 - p), and the squared error is its mean square, (1 - p)^2, with dp/dz = p (1 - p).
    by_hand = np.sqrt(2) * (1 - p)
    assert gradients.logit_norms(CROSS_ENTROPY, logits_of(*p), labels) == pytest.approx(by_hand, rel=1e-4)
    by_hand = np.sqrt(2) * 2 * (1 - p) * p * (1 - p)
    assert gradients.logit_norms(losses.softmax_squared_error, logits_of(*p), labels) == pytest.approx(by_hand, rel=1e-4)


def test_the_norms_do_not_depend_on_the_number_of_examples():
    logits, labels = logits_of(0.1, 0.4, 0.8), np.array([0, 1, 0])
    together = gradients.logit_norms(CROSS_ENTROPY, logits, labels)
    alone = [gradients.logit_norms(CROSS_ENTROPY, logits[i : i + 1], labels[i : i + 1])[0] for i in range(3)]
    assert together == pytest.approx(alone)


def test_values_are_averaged_by_the_probability_of_the_true_class():
    logits, labels = logits_of(0.05, 0.15, 0.25, 0.999, 0.1), np.array([0, 0, 0, 0, 1])
    means = gradients.by_probability(np.array([1.0, 3.0, 5.0, 7.0, 9.0]), logits, labels)
    assert means == pytest.approx({0.1: 2.0, 0.3: 5.0, 0.9: 8.0})


class Recorder:
    """A stand-in for a trial on which a model predicts given logits."""

    def __init__(self, logits, labels):
        self.logits, self.measures = logits, {}
        self.val = type("Val", (), {"labels": labels})

    def predict(self, model, split):
        return self.logits

    def record(self, name, value, unit=""):
        self.measures[name] = value


def test_mse_has_little_gradient_where_it_is_confidently_wrong_and_cross_entropy_its_largest():
    trials = {}
    for name, loss in (("cross-entropy", CROSS_ENTROPY), ("MSE", losses.softmax_squared_error)):
        trials[name] = Recorder(logits_of(0.001, 0.3, 0.5, 0.7, 0.99), np.zeros(5, int))
        gradients.record_logit_norms(trials[name], None, loss)
    measured = {name: trial.measures for name, trial in trials.items()}
    assert all(f"gradient norm at true-class probability 0.{b}" in one for one in measured.values() for b in (1, 3, 5, 7, 9))
    assert measured["cross-entropy"]["gradient where wrong"] == 1
    assert measured["MSE"]["gradient where wrong"] < 0.01
    assert all(one["gradient norm at true-class probability 0.9"] < 0.1 for one in measured.values())


@pytest.mark.parametrize("probabilities", [(0.61, 0.99), (0.01, 0.61), (0.51, 0.49)], ids=["right", "unsure", "untrained"])
def test_a_model_that_is_never_wrong_or_never_certain_has_no_gradient_where_wrong(probabilities):
    trial = Recorder(logits_of(*probabilities), np.zeros(2, int))
    gradients.record_logit_norms(trial, None, CROSS_ENTROPY)
    places = {0.01: 0.1, 0.49: 0.5, 0.51: 0.5, 0.61: 0.7, 0.99: 0.9}
    assert set(trial.measures) == {f"gradient norm at true-class probability {places[p]}" for p in probabilities}


def test_of_a_saturated_softmax_no_share_is_recorded():
    """With logits of ±1000 every gradient is exactly 0."""
    trial = Recorder(np.array([[1000.0, -1000.0], [-1000.0, 1000.0]]), np.zeros(2, int))
    gradients.record_logit_norms(trial, None, losses.softmax_absolute_error)
    assert trial.measures == {f"gradient norm at true-class probability 0.{b}": 0.0 for b in (1, 9)}
