"""Cosines between successive updates, and ups and downs of the loss, of numbers that a reader can follow."""

import types

import keras
import numpy as np
import pytest
from conftest import arrays_equal
from keras import optimizers

from common import models
from common.oscillation import COSINE, UPS_AND_DOWNS, Oscillation, ups_and_downs
from common.training.seeding import seeded_weights


class Recorder:
    """A stand-in for a trial with the losses of a stage."""

    def __init__(self, losses, epochs):
        self.fits, self.measures = {"fit": types.SimpleNamespace(losses=losses, epoch=epochs)}, {}

    def record(self, name, value, unit=""):
        self.measures[name] = value


def mean_cosine(optimizer, *gradients):
    """The measure after updates with these gradients, each a number for either of two variables."""
    oscillation = Oscillation(optimizer)
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([1.0])]
    optimizer.build(variables)
    for x, y, z in gradients:
        optimizer.apply([keras.ops.array([x, y]), keras.ops.array([z])], variables)
    recorder = Recorder([], 0)
    oscillation.record(recorder)
    return None if COSINE not in recorder.measures else pytest.approx(recorder.measures[COSINE], abs=1e-5)


def test_cosines_are_those_of_successive_updates_over_all_variables():
    there, across, back = (3.0, 0.0, 4.0), (0.0, 7.0, 0.0), (-3.0, 0.0, -4.0)
    assert mean_cosine(optimizers.SGD(0.1), there, there) == 1
    assert mean_cosine(optimizers.SGD(0.1), there, back) == -1
    assert mean_cosine(optimizers.SGD(0.1), there, across) == 0
    assert mean_cosine(optimizers.SGD(0.1), there, (5.0, 0.0, 0.0)) == 0.6
    assert mean_cosine(optimizers.SGD(0.1), there, there, back) == 0
    assert mean_cosine(optimizers.SGD(0.1), there) is None
    assert mean_cosine(optimizers.SGD(0.1), there, (0.0, 0.0, 0.0), there) is None  # no two successive updates


def test_momentum_turns_less_where_gradients_go_to_and_fro():
    # v = 1, then 0.9 - 0.5 = 0.4, then 0.36 + 1 = 1.36: every update points in the same direction.
    gradients = [(-1.0, 0.0, 0.0), (0.5, 0.0, 0.0), (-1.0, 0.0, 0.0)]
    assert mean_cosine(optimizers.SGD(1.0, momentum=0.9), *gradients) == 1
    assert mean_cosine(optimizers.SGD(1.0), *gradients) == -1


def test_ups_and_downs_are_changes_within_epochs():
    assert ups_and_downs([1.0, 2.0, 0.5, 9.0, 9.0, 8.0], 3) == pytest.approx((1 + 1.5 + 0 + 1) / 4)
    assert ups_and_downs([3.0, 2.0], 2) == 1


def test_ups_and_downs_are_of_the_epochs_of_their_stage():
    """Which may be on fewer images than the trial's."""
    optimizer = optimizers.SGD(0.1)
    oscillation = Oscillation(optimizer)
    optimizer.build([keras.Variable([0.0])])
    recorder = Recorder([1.0, 2.0, 0.5, 9.0, 9.0, 8.0], 2)
    oscillation.record(recorder)
    assert recorder.measures == {UPS_AND_DOWNS: pytest.approx((1 + 1.5 + 0 + 1) / 4)}


def test_an_epoch_of_one_batch_has_no_ups_and_downs():
    recorder = Recorder([3.0, 2.0, 1.0], 3)
    optimizer = optimizers.SGD(0.1)
    oscillation = Oscillation(optimizer)
    optimizer.build([keras.Variable([0.0])])
    oscillation.record(recorder)
    assert recorder.measures == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam])
def test_measuring_changes_no_bit_and_what_it_counts_is_saved_with_the_optimizer(make_trial, kind):
    weights = []
    for watched in (False, True):
        trial, optimizer = make_trial(folder=str(watched)), kind(0.05)
        oscillation = Oscillation(optimizer) if watched else None
        with seeded_weights(trial.streams):
            model = models.small_cnn(trial, widths=(4,))
        trial.fit(model, optimizer=optimizer)
        weights.append(model.get_weights())
    assert arrays_equal(*weights)
    oscillation.record(trial)
    measures = {name: value for name, value, _ in trial.measures}
    assert -1 <= measures[COSINE] <= 1
    assert measures[UPS_AND_DOWNS] == pytest.approx(ups_and_downs(trial.fits["fit"].losses, trial.steps_per_epoch))
    saved = {variable.path.split("/")[-1] for variable in optimizer.variables}
    assert {"cosines", "counted_cosines", "update_before_0"} <= saved
    assert float(oscillation.count) == trial.steps - 1


@pytest.mark.slow
def test_the_losses_of_a_stage_are_those_of_its_batches(make_trial):
    trial = make_trial(epochs=2, train_size=40)  # batches of 16, 16 and 8
    with seeded_weights(trial.streams):
        model = models.small_cnn(trial, widths=(4,))
    trial.fit(model, optimizer=optimizers.SGD(0.05))
    state = trial.fits["fit"]
    by_epoch = np.reshape(state.losses, (2, 3))
    assert (by_epoch @ [16, 16, 8] / 40).tolist() == pytest.approx([row["train_loss"] for row in state.history], rel=1e-6)
