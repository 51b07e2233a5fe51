import keras
import numpy as np
import pytest
from keras import optimizers

from common import models
from common import optimizers as ours
from common.errors import Misuse
from common.training.seeding import seeded_weights

STEPS = 200


@pytest.mark.parametrize(
    ("schedule", "first", "middle", "end"),
    [
        (ours.inverse_time, 0.5, 0.5 / 50.5, 0.005),  # 1 / (1 + 99 / 2), 1 / (1 + 99)
        (ours.exponential, 0.5, 0.05, 0.005),  # 0.01^½ is 0.1
        (ours.step, 0.5, 0.05, 0.005),
        (ours.linear, 0.5, 0.25, 0.0),
        (ours.cosine, 0.5, 0.25, 0.0),
        (ours.warm_up_cosine, 0.05, 0.5 * (1 + np.cos(np.pi * 91 / 191)) / 2, 0.0),
    ],
)
def test_schedules_by_hand(schedule, first, middle, end):
    rates = schedule(0.5, STEPS)
    assert [float(rates(t)) for t in (0, STEPS // 2, STEPS)] == pytest.approx([first, middle, end], abs=1e-6)


def test_the_step_schedule_drops_at_half_and_at_three_quarters_of_the_updates():
    rates = [float(ours.step(1.0, 8)(t)) for t in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_rises_linearly_to_the_peak_rate_then_follows_a_cosine():
    rates = [float(ours.warm_up_cosine(1.0, 40)(t)) for t in range(41)]
    assert rates[:2] == pytest.approx([0.5, 1.0], abs=1e-6)  # a twentieth of 40
    assert rates[1:] == pytest.approx([0.5 + 0.5 * np.cos(np.pi * t / 39) for t in range(40)], abs=1e-6)


def test_sgd_has_momentum_and_a_rate_that_ends_with_the_fit(make_trial):
    trial = make_trial(train_size=40, batch_size=16, epochs=4)  # 3 updates an epoch
    few = trial.train.take(np.arange(16))
    for given, updates in (({}, 12), ({"epochs": 20}, 60), ({"on": few}, 4), ({"on": few, "epochs": 20}, 20)):
        made = ours.sgd(trial, 0.5, **given)
        rates = [float(made._learning_rate(t)) for t in range(updates + 1)]
        assert made.momentum == 0.9
        assert max(rates) == pytest.approx(0.5)
        assert rates[-1] == pytest.approx(0.0, abs=1e-8)
        assert min(rates[:-1]) > 0
    assert ours.sgd(trial, 0.5, momentum=0.0, clipnorm=1.0).clipnorm == 1.0


def test_a_falling_rate_of_another_length_than_its_stage_is_refused(make_trial):
    """It would be 0 for the rest of the stage, or end above 0."""
    trial = make_trial(epochs=2)
    few = trial.train.take(np.arange(32))
    for made, fitted in (({}, {"epochs": 3}), ({}, {"on": few}), ({"epochs": 1}, {})):
        with pytest.raises(Misuse, match="must fall over all updates of its stage: .* Received: a schedule of"):
            trial.fit(models.small_cnn(trial, widths=(4,)), optimizer=ours.sgd(trial, 0.1, **made), **fitted)
    trial.fit(models.small_cnn(trial, widths=(4,)), optimizer=ours.sgd(trial, 0.1, epochs=1, on=few), epochs=1, on=few)


def test_an_optimizer_has_the_options_of_its_name():
    made = {name: ours.named(name, 0.5) for name in ours.NAMED}
    assert {name: type(one).__name__ for name, one in made.items() if type(one).__name__ != name} == {
        **dict.fromkeys(("momentum", "Nesterov"), "SGD"),
        **{"AdaGrad": "Adagrad", "AdaDelta": "Adadelta"},
    }
    assert [(made[name].momentum, made[name].nesterov) for name in ("SGD", "momentum", "Nesterov")] == [
        (0.0, False),
        (0.9, False),
        (0.9, True),
    ]
    assert all(float(one.learning_rate) == 0.5 for one in made.values())
    assert ours.named("Adam", 0.5, weight_decay=0.1).weight_decay == 0.1
    with pytest.raises(Misuse, match="Received: 'Adagrad' .did you mean 'AdaGrad'"):
        ours.named("Adagrad", 0.5)


@pytest.mark.parametrize("kind", ["value", "norm", "global"])
def test_a_gradient_at_the_limit_of_each_number_or_variable_has_the_longest_norm(kind):
    """Four variables of 12, 3, 12 and 4 numbers, whose clipped gradients are as long as the limit allows."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(4)])
    ((option, limit),) = ours.clipping(kind, 2.0, model).items()
    assert option == {"value": "clipvalue", "norm": "clipnorm", "global": "global_clipnorm"}[kind]
    count = {"value": 12 + 3 + 12 + 4, "norm": 4, "global": 1}[kind]
    assert np.linalg.norm([limit] * count) == pytest.approx(2.0)


@pytest.mark.parametrize("schedule", [ours.inverse_time, ours.exponential, ours.step, ours.linear, ours.warm_up_cosine])
def test_schedules_of_one_update_are_finite(schedule):
    assert np.isfinite(float(schedule(0.1, 1)(0)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam])
def test_decay_kernels_alone_decays_only_kernels(make_trial, kind):
    """One update with and without decay: kernels differ by rate · decay · weight, other weights are equal."""
    after = []
    for decay in (None, 0.5):
        trial = make_trial(train_size=16, epochs=1, folder=str(decay))
        with seeded_weights(trial.streams):
            model = models.small_cnn(trial, normalization="batch")
        for variable in model.trainable_variables:
            if variable.name != "kernel":
                variable.assign(variable + 1.0)  # decay has no effect on a bias of 0
        before = model.get_weights()
        optimizer = kind(0.1, weight_decay=decay)
        trial.fit(model, optimizer=ours.decay_kernels_alone(optimizer) if decay else optimizer)
        after.append(model.get_weights())
    names = [variable.name for variable in model.weights]
    assert {"kernel", "bias", "gamma", "beta"} <= set(names)
    for name, weight, plain, decayed in zip(names, before, *after, strict=True):
        assert np.allclose(decayed, plain - (0.1 * 0.5 * weight if name == "kernel" else 0), atol=1e-6), name
        assert name != "kernel" or not np.array_equal(plain, weight)


def test_decay_depends_on_the_name_of_a_weight_and_not_on_its_path():
    """Layers have the names of weights without decay. A decay of ½ at rate 1 halves the weights that it applies to."""
    stack = [
        keras.Input((3,)),
        keras.layers.Dense(3, name="beta_block", bias_initializer="ones"),
        keras.layers.Dense(3, name="gamma_head", bias_initializer="ones"),
        keras.layers.RMSNormalization(name="bias_scale"),
        keras.layers.LayerNormalization(name="kernel", beta_initializer="ones"),
    ]
    variables = keras.Sequential(stack, name="bias").trainable_variables
    before = [variable.numpy() for variable in variables]
    optimizer = ours.decay_kernels_alone(optimizers.SGD(1.0, weight_decay=0.5))
    optimizer.build(variables)
    optimizer.apply([np.zeros_like(value) for value in before])
    for variable, value in zip(variables, before, strict=True):
        assert np.allclose(variable, value / (2 if variable.name == "kernel" else 1)), variable.path


def test_an_optimizer_without_decay_is_refused():
    with pytest.raises(Misuse, match="Received: weight_decay=None"):
        ours.decay_kernels_alone(keras.optimizers.SGD(0.1))
