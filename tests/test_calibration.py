import numpy as np
import pytest
from keras import optimizers

from common import calibration, metrics, models
from common.training.seeding import seeded_weights


def test_the_best_temperature_of_two_classes_by_hand():
    # Logits ±1 that are right in three of four cases: the NLL is lowest where σ(2 / T) = 3/4, so T = 2 / ln 3.
    logits = np.tile([[1.0, -1.0]], (4, 1))
    labels = np.array([0, 0, 0, 1])
    assert calibration.best_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_the_temperature_of_multiplied_logits_is_the_factor():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 5))
    shares = np.exp(metrics.log_softmax(logits))
    labels = np.array([generator.choice(5, p=p / p.sum()) for p in shares])
    assert calibration.best_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)


def test_the_temperature_of_perfect_predictions_is_the_lower_bound():
    assert calibration.best_temperature(np.eye(3), np.arange(3)) == pytest.approx(calibration.LOWEST, rel=0.01)


@pytest.mark.slow
def test_a_tempered_model_predicts_the_same_classes_at_a_lower_val_nll(make_trial):
    trial = make_trial(train_size=100, epochs=12)
    with seeded_weights(trial.streams):
        model = trial.fit(models.small_cnn(trial), optimizer=optimizers.Adam(0.01))
    plain = trial.predict(model, trial.val)
    predictor = calibration.Tempered(trial, model)
    tempered = predictor.predict(trial.val.images)
    assert predictor.temperature != pytest.approx(1, abs=0.05)
    assert np.allclose(tempered * predictor.temperature, plain, rtol=1e-5)
    assert np.array_equal(tempered.argmax(axis=1), plain.argmax(axis=1))
    assert metrics.nll(tempered, trial.val.labels) < metrics.nll(plain, trial.val.labels)
