"""Arms of experiment 39 change images as their names say."""

import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import PROJECT

from common import augment, operations, space
from common.data.streams import Streams
from common.training.augmentation import apply, draws
from common.training.execution import load_script


@pytest.fixture(scope="module")
def made():
    return load_script(str(PROJECT / "experiments" / "exp_39_augmentation_policy.py"))


def given(made, arm, seed=0, **searched):
    """The augmentations that an arm hands to `fit`."""
    options = {"epochs": 3, "batch_size": 5, "train": range(160), "steps": 96}
    trial = types.SimpleNamespace(input_shape=(32, 32, 3), classes=10, streams=Streams(seed), **options)
    trial.fit = lambda model, **given: given["augment"]
    return made.train(trial, **made.arguments(arm), learning_rate=0.1, **searched)


def changed(augmentations):
    """Sixteen random images after augmentations."""
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32))
    return apply(augmentations, images, None, tf.constant(draws(Streams(0), 0, augmentations, 16)))[0].numpy()


BY_HAND = [augment.flip(0.5), augment.translation(4 / 32)]
POLICY = {f"operation_{i}": name for i, name in enumerate(("rotate", "solarize", "sharpness"), start=1)}
POLICY |= {"strength_1": 0.2, "strength_2": 0.5, "strength_3": 0.9}


@pytest.mark.parametrize(
    ("arm", "searched", "expected"),
    [
        ("baseline", {}, []),
        ("flip and crop", {}, BY_HAND),
        ("RandAugment", {}, [*BY_HAND, augment.rand_augment(operations=3, strength=4 / 10)]),
        (
            "searched",
            POLICY,
            [*BY_HAND, *(augment.operation(POLICY[f"operation_{i}"], POLICY[f"strength_{i}"]) for i in (1, 2, 3))],
        ),
    ],
)
def test_an_arm_changes_images_by_its_policy(made, arm, searched, expected):
    assert np.array_equal(changed(given(made, arm, **searched)), changed(expected))


def test_the_search_takes_all_operations_and_strengths_and_starts_from_none(made):
    searched = made.search["searched"]
    assert list(searched) == [f"{name}_{i}" for name in ("operation", "strength") for i in (1, 2, 3)]
    assert all(searched[f"operation_{i}"].values == operations.OPERATIONS for i in (1, 2, 3))
    assert all(searched[f"strength_{i}"].values == pytest.approx(np.linspace(0.1, 1, 10)) for i in (1, 2, 3))
    assert (made.tuner["searched"], made.search_per_seed) == ("random", True)
    untuned = given(made, "searched", **space.defaults(searched))
    assert np.array_equal(changed(untuned), changed(BY_HAND))


@pytest.mark.slow
def test_a_random_policy_has_as_many_operations_as_a_searched_one_and_is_another_for_each_seed(made, monkeypatch):
    monkeypatch.setitem(made.train.__globals__, "operation", lambda name, strength: (name, strength))
    policies = [given(made, "random policy", seed)[len(BY_HAND) :] for seed in range(300)]
    assert policies[7] == given(made, "random policy", 7)[len(BY_HAND) :]
    assert len(set(map(tuple, policies))) == 300
    assert {len(policy) for policy in policies} == {3}
    names, strengths = zip(*(step for policy in policies for step in policy), strict=True)
    counts = np.array([names.count(name) for name in operations.OPERATIONS])
    assert counts.sum() == 900
    assert counts.min() > 64 - 4 * np.sqrt(64)  # each about every 14th time
    drawn, times = np.unique(strengths, return_counts=True)
    assert drawn == pytest.approx(np.linspace(0.1, 1, 10))
    assert np.abs(times - 90).max() < 4 * np.sqrt(90)


def test_all_arms_train_for_the_same_epochs_at_the_same_rate(made):
    for name in ("quick", "small", "full"):
        selected = made.select(name)
        assert len({made.arm_setting(arm, selected.setting, selected) for arm in made.arms}) == 1
    assert all("learning_rate" in made.shared_by(arm) for arm in made.arms)
