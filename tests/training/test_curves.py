"""Epochs are scored on a part of val where the setting says so, what is chosen on all of it, and nothing is scored twice."""

import keras
import numpy as np
import pytest
from conftest import arrays_equal
from keras import callbacks, layers, optimizers

from common import metrics, models
from common.training import prediction
from common.training.scoring import score
from common.training.seeding import seeded_weights


@pytest.fixture
def scored(monkeypatch):
    """The number of images in each forward pass of a whole split, in the order of the passes."""
    sizes, predict = [], prediction.predict
    monkeypatch.setattr(prediction, "predict", lambda call, split: sizes.append(len(split)) or predict(call, split))
    return sizes


def cnn(trial, **options):
    with seeded_weights(trial.streams):
        return models.small_cnn(trial, widths=(4,), **options)


def fit(trial, model, **options):
    trial.fit(model, **{"optimizer": optimizers.SGD(0.1), **options})
    return trial.fits["fit"]


def test_epochs_are_scored_on_a_part_of_val_and_the_last_on_all(make_trial, scored):
    trial = make_trial(epochs=3, val_per_epoch=100)
    model = cnn(trial)
    done = fit(trial, model)
    assert scored == [100, 100, 288]
    last = trial.predict(model, trial.val)
    assert done.history[-1]["val_accuracy"] == metrics.accuracy(last, trial.val.labels)
    whole = make_trial(epochs=3, folder="whole")
    other = cnn(whole)
    assert [row["train_loss"] for row in fit(whole, other).history] == [row["train_loss"] for row in done.history]
    assert arrays_equal(model.get_weights(), other.get_weights())
    for part, all_of_it in zip(done.history, whole.fits["fit"].history, strict=True):
        assert part["val_loss"] == pytest.approx(all_of_it["val_loss"], rel=0.2)


def test_the_part_is_stratified_equal_for_all_arms_and_weighted_as_the_whole(make_trial):
    parts = []
    for arm in ("a", "b"):
        trial = make_trial(epochs=2, folder=arm, val_per_epoch=100)
        seen, take = [], trial.val.take
        trial.val.take = lambda positions, seen=seen, take=take: seen.append(positions) or take(positions)
        done = fit(trial, cnn(trial, dropout=0.5 if arm == "b" else 0.0), sample_weight=lambda split: 1.0 + (split.labels == 3))
        (positions,) = seen
        parts.append(positions)
    assert np.array_equal(*parts)
    counts = np.bincount(trial.val.labels[positions])
    assert abs(counts - 100 * np.bincount(trial.val.labels) / len(trial.val)).max() <= 1
    assert all(np.isfinite(row["val_loss"]) for row in done.history)


def test_a_stage_with_callbacks_scores_all_of_val_after_each_epoch(make_trial, scored):
    fit(make_trial(epochs=2, val_per_epoch=100), cnn(make_trial()), callbacks=[callbacks.EarlyStopping("val_loss", patience=5)])
    assert scored == [288, 288]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"normalization": "batch"}])
def test_the_best_epoch_is_chosen_on_all_of_val_among_the_best_on_the_part_and_the_last(make_trial, options):
    trial = make_trial(epochs=7, val_per_epoch=30)
    model = cnn(trial, **options)
    done = fit(trial, model, optimizer=optimizers.SGD(0.2, momentum=0.9))
    kept = {one["epoch"]: one["weights"] for one in done.contenders}
    by_part = sorted(done.history[:-1], key=lambda row: (-row["val_accuracy"], row["val_nll"], row["epoch"]))
    assert list(kept) == [row["epoch"] for row in by_part[:3]] + [7]
    final = model.get_weights()
    row, _ = score(trial, model, done, test=trial.val)
    ranks = {}
    for epoch, values in kept.items():
        model.set_weights(values)
        outputs = trial.predict(model, trial.val)
        ranks[epoch] = metrics.accuracy(outputs, trial.val.labels), -metrics.nll(outputs, trial.val.labels)
    best = max(sorted(ranks), key=ranks.get)
    assert row["best_epoch"] == best
    assert (row["best_val_accuracy"], -row["best_val_nll"]) == ranks[best]
    assert row["best_test_accuracy"] == ranks[best][0]
    assert arrays_equal(kept[7], final)


def test_nothing_is_scored_twice_with_the_same_weights(make_trial, scored):
    """Train, val and test have 64, 288 and 40 images; the last epoch's scores on val are the final ones."""
    trial = make_trial(epochs=1)
    model = cnn(trial)
    done = fit(trial, model)
    test = trial.val.take(np.arange(40))
    row, outputs = score(trial, model, done, test=test)
    assert scored == [288, 64, 40]
    assert row["best_epoch"] == 1
    assert row["best_val_accuracy"] == row["val_accuracy"] == done.history[-1]["val_accuracy"]
    assert np.array_equal(outputs["val"], trial.predict(model, trial.val))


@pytest.mark.slow
def test_outputs_are_not_taken_from_the_last_epoch_if_anything_has_changed_since(make_trial, scored):
    class Halved(layers.Layer):
        factor = 0.5

        def call(self, inputs):
            return self.factor * inputs

    changes = {
        "weights": lambda model: model.layers[-1].bias.assign(np.arange(10.0)),
        "attribute": lambda model: setattr(model.layers[-1], "activation", keras.activations.tanh),
        "custom": lambda model: setattr(model.layers[-1], "factor", 2.0),
        "statistics": lambda model: None,
    }
    for name, change in changes.items():
        trial = make_trial(epochs=1, folder=name)
        model = cnn(trial, **({"normalization": "batch"} if name == "statistics" else {}))
        if name == "custom":
            model = keras.Model(model.input, Halved(name="halved")(model.output))
        done = fit(trial, model)
        scored.clear()
        change(model)
        _, outputs = score(trial, model, done, test=None)
        assert scored[:2] == [64, 288], name
        expected = prediction.predict(prediction.forward(model, trial.input_shape), trial.val)
        assert np.array_equal(outputs["val"], expected), name


def test_a_search_scores_no_best_epoch(make_trial, scored):
    trial = make_trial(epochs=4, val_per_epoch=100)
    model = cnn(trial)
    done = fit(trial, model)
    scored.clear()
    row, _ = score(trial, model, done, test=None)
    assert scored == [64]
    assert not [name for name in row if name.startswith("best")]
