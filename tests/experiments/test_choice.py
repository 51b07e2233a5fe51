"""The settings that experiment 28 chooses, without training: networks whose accuracy on each held-out part is made up."""

import numpy as np
import pytest

from common.data.split import Split
from common.files import experiment_scripts
from common.training.execution import load_script

EXPERIMENT = load_script(str(next(path for path in experiment_scripts() if path.stem[4:6] == "28")))
SETTINGS = EXPERIMENT.train.__globals__["SETTINGS"]
PARTS, SIZE = 5, 10
CORRECT = np.array([[6, 5, 5, 5, 5], [7, 0, 0, 0, 0], [5, 9, 9, 9, 9], [1, 1, 1, 1, 1], [7, 1, 1, 1, 1], [5, 9, 9, 9, 9]])
"""Correct ones of ten predictions of each setting on each part: the second is the best on the first part, the third over all."""


class Fake:
    """A stand-in for a trial that fits nothing."""

    input_shape, classes, batch_size, epochs, replicas = (8, 8, 1), 2, 5, 1, 1

    def __init__(self):
        self.train = Split.of(np.zeros((PARTS * SIZE, 8, 8, 1), np.uint8), np.zeros(PARTS * SIZE, int), 2)
        self.stages, self.measures = [], {}

    def folds(self, count, repeat=0):
        positions = np.arange(PARTS * SIZE)
        held = np.split(positions, count)
        return [(np.setdiff1d(positions, one), one) for one in held]

    def fit(self, model, *, optimizer, stage, on, validate):
        filters = model.get_layer("conv1_1").filters
        dropout = any(layer.name == "dropout" for layer in model.layers)
        self.stages.append((stage, {"widths": (filters, 2 * filters), "dropout": 0.5 if dropout else 0.0}, on))
        return self.stages[-1][1]

    def predict(self, setting, split):
        part = split.ids[0] // SIZE
        wrong = np.arange(len(split)) >= CORRECT[SETTINGS.index(setting), part]
        return np.stack([~wrong, wrong], axis=1).astype(float)

    def record(self, name, value, unit=""):
        self.measures[name] = value


@pytest.mark.parametrize(("arm", "chosen", "estimate"), [("chosen by hold-out", 1, 0.7), ("chosen by 5 folds", 2, 0.82)])
def test_the_setting_with_the_highest_held_out_accuracy_is_chosen_and_fitted_to_all_images(arm, chosen, estimate):
    trial = Fake()
    returned = EXPERIMENT.train(trial, **EXPERIMENT.arguments(arm), learning_rate=0.1)
    parts = EXPERIMENT.arms[arm]["used"]
    assert len(trial.stages) == len(SETTINGS) * parts + 1
    assert len({stage for stage, _, _ in trial.stages}) == len(trial.stages)
    stage, setting, on = trial.stages[-1]
    assert (stage, setting, on) == ("fit", SETTINGS[chosen], None)  # `fit`: equal choices train the same network
    assert returned == SETTINGS[chosen]
    assert trial.measures == {"chosen setting": chosen, "estimated_accuracy": pytest.approx(estimate)}


def test_a_setting_is_never_scored_on_images_that_it_was_fitted_to():
    trial = Fake()
    EXPERIMENT.train(trial, **EXPERIMENT.arguments("chosen by 5 folds"), learning_rate=0.1)
    on = [set(split.ids) for _, _, split in trial.stages[:-1]]
    assert all(len(ids) == (PARTS - 1) * SIZE for ids in on)
    assert len({frozenset(ids) for ids in on}) == PARTS


def test_settings_to_choose_from_are_six_networks():
    assert len({repr(setting) for setting in SETTINGS}) == len(SETTINGS) == 6
