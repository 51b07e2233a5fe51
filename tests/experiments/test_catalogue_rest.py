"""Arms of experiments 27, 29, 30, 31, 32, 33 and 35 train what their names say."""

import keras
import numpy as np
import pytest
from conftest import PROJECT

from common import calibration, features, inference, tasks
from common.data.streams import Streams
from common.training.execution import load_script
from common.training.seeding import seeded_weights

pytestmark = pytest.mark.slow


def experiment(number):
    (path,) = (PROJECT / "experiments").glob(f"exp_{number}_*.py")
    return load_script(str(path))


def trained(made, trial, arm, **arguments):
    with seeded_weights(trial.streams):
        return made.train(trial, **made.arguments(arm), **arguments)


def measures(trial):
    return {name: value for name, value, _ in trial.measures}


def test_27_frozen_features_are_the_pretrained_ones_and_fine_tuned_ones_are_not(make_trial, digits, tmp_path):
    made, kept = experiment(27), {}
    for arm in ("scratch", "frozen", "fine-tuned"):
        trial = make_trial(epochs=1, classes=5, folder=tmp_path / arm)
        fields = {"train_size": 20, "classes": (5, 6, 7, 8, 9)}
        trial.train, trial.val, trial.others = tasks.examples(digits, tasks.classification, Streams(0), **fields)
        model = trained(made, trial, arm, learning_rate=0.01)
        source = trial.models.get("pretrain")
        kept[arm] = source and np.array_equal(*(m.get_layer("conv1_1").get_weights()[0] for m in (model, source)))
        assert list(trial.fits) == (["fit"] if arm == "scratch" else ["pretrain", "fit"])
    assert kept == {"scratch": None, "frozen": True, "fine-tuned": False}


def test_29_every_size_has_all_kinds_and_only_networks_are_searched(make_trial, tmp_path):
    made = experiment(29)
    kinds = {"cnn": keras.Model, "hog": features.Linear, "pixels": features.Linear}
    for kind, type_ in kinds.items():
        arms = [arm for arm in made.arms if made.arms[arm]["kind"] == kind]
        assert [made.arms[arm].get("train_size") for arm in arms] == [None, 1000, 300, 100]
        trial = make_trial(epochs=1, train_size=100, folder=tmp_path / kind)
        assert isinstance(trained(made, trial, arms[0], **({"learning_rate": 0.001} if kind == "cnn" else {})), type_)
        assert measures(trial).keys() == (set() if kind == "cnn" else {"C", "learned numbers"})
    assert set(made.search) == {arm for arm in made.arms if made.arms[arm]["kind"] == "cnn"}


def test_30_no_arm_is_deterministic_and_all_batches_are_full():
    made = experiment(30)
    assert made.alone
    for selected in (made.select("full"), made.select("quick")):
        for arm in made.arms:
            setting = made.arm_setting(arm, selected.setting, selected)
            assert not setting.deterministic
            assert setting.train_size % setting.batch_size == 0
    assert made.arm_setting("XLA", selected.setting, selected).xla


def test_31_the_arms_differ_in_file_and_weights_as_named(make_trial, tmp_path):
    made, outcomes = experiment(31), {}
    assert made.alone
    for arm in made.arms:
        trial = make_trial(epochs=1, folder=tmp_path / arm)
        student = {"student_rate": 0.001} if arm in made.search else {}
        predictor = trained(made, trial, arm, learning_rate=0.001, **student)
        assert isinstance(predictor, inference.Converted)
        outcomes[arm] = measures(trial) | {"stages": list(trial.fits)}
    size = {arm: outcome["size_bytes"] for arm, outcome in outcomes.items()}
    assert size["baseline"] / size["float16"] == pytest.approx(2, rel=0.05)
    assert size["baseline"] / size["int8"] == pytest.approx(4, rel=0.05)
    assert outcomes["pruned"]["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert outcomes["pruned"]["gzip_bytes"] < 0.5 * outcomes["baseline"]["gzip_bytes"]
    assert outcomes["distilled"]["stages"] == ["teacher", "fit"]
    assert outcomes["student alone"]["stages"] == ["fit"]
    assert size["distilled"] == size["student alone"] < 0.1 * size["baseline"]


def test_32_every_arm_gets_as_many_updates_and_the_gan_sees_the_train_split_alone(make_trial, tmp_path):
    made, updates = experiment(32), {}
    for arm in made.arms:
        trial = make_trial(epochs=1, train_size=32, folder=tmp_path / arm)
        trained(made, trial, arm, learning_rate=0.02, gan_rate=0.001)
        updates[arm] = trial.fits["fit"].steps
        if arm == "real + generated":
            assert trial.fits["gan"].epoch == 20
            assert trial.fits["gan"].steps == 20 * trial.steps_per_epoch
    assert set(updates.values()) == {8}


def test_33_the_temperature_arm_is_the_baselines_network(make_trial, tmp_path):
    made, outputs = experiment(33), {}
    for arm in ("baseline", "temperature"):
        trial = make_trial(epochs=3, folder=tmp_path / arm)
        predictor = trained(made, trial, arm, learning_rate=0.05)
        images = trial.val.images
        outputs[arm] = trial.predict(predictor, images) if arm == "baseline" else predictor.predict(images)
    assert isinstance(predictor, calibration.Tempered)
    assert np.allclose(outputs["temperature"] * measures(trial)["temperature"], outputs["baseline"], rtol=1e-5)


def test_35_speed_is_recorded_on_distinct_devices_only(make_trial, tmp_path):
    made = experiment(35)
    assert made.alone
    for distinct in (True, False):
        trial = make_trial(folder=tmp_path / str(distinct))
        trial.distinct_devices = distinct
        trained(made, trial, "1 replica", learning_rate=0.01)
        assert ("doublings of speed" in measures(trial)) == distinct
