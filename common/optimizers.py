"""Learning rate schedules, optimizers by name, clipping, and weight decay that leaves out biases and normalisation.

Schedules are functions of the peak learning rate η and the number of updates (`trial.steps`), so that they end with the run; t
counts updates from 0.
"""

import math

import keras
from keras.optimizers import schedules

from common.data.split import Split
from common.errors import Misuse
from common.text import did_you_mean

Schedule = schedules.LearningRateSchedule
LAST = 0.01
"""Final rate, as a fraction of the peak, of the schedules that do not reach 0."""
WARM_UP = 0.05
"""Fraction of the updates in which the rate rises."""
NAMED = {
    "SGD": (keras.optimizers.SGD, {}),
    "momentum": (keras.optimizers.SGD, {"momentum": 0.9}),
    "Nesterov": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "AdaGrad": (keras.optimizers.Adagrad, {}),
    "AdaDelta": (keras.optimizers.Adadelta, {}),
    **{name: (getattr(keras.optimizers, name), {}) for name in ("RMSprop", "Adam", "AdamW", "Nadam", "Lion", "Muon")},
}
"""Name as in the papers -> optimizer of Keras and its options; others have Keras' defaults."""
NOT_KERNELS = ("bias", "gamma", "beta", "scale")
"""Names of the weights of biases and normalisation layers; `scale` is that of `RMSNormalization`."""


def falling(trial, learning_rate: float, *, epochs: int | None = None, on: Split | None = None) -> Schedule:
    """The default schedule: `warm_up_cosine` over the updates of one call of `Trial.fit`.

    On CIFAR-10 a constant rate has twice the standard deviation between seeds.

    Args:
        learning_rate: peak rate.
        epochs, on: the arguments of that call; by default `trial.epochs` and `trial.train`.
    """
    examples = len(trial.train if on is None else on)
    updates = -(-examples // trial.batch_size) * (epochs or trial.epochs)
    schedule = warm_up_cosine(learning_rate, updates)
    schedule.updates = updates  # so that `Trial.fit` can refuse another number
    return schedule


def sgd(
    trial, learning_rate: float, *, momentum: float = 0.9, epochs: int | None = None, on: Split | None = None, **options
) -> keras.optimizers.SGD:
    """SGD with momentum (Sutskever et al. 2013) and the schedule `falling`; `options` are those of `keras.optimizers.SGD`."""
    return keras.optimizers.SGD(falling(trial, learning_rate, epochs=epochs, on=on), momentum=momentum, **options)


def named(name: str, learning_rate: float | Schedule, **options) -> keras.optimizers.Optimizer:
    """A new optimizer of `NAMED`; `options` are further ones of Keras. Raises `Misuse` for an unknown name."""
    if name not in NAMED:
        raise Misuse(f"optimizer must be one of {', '.join(NAMED)}. Received: {name!r}{did_you_mean(name, NAMED)}")
    kind, fixed = NAMED[name]
    return kind(learning_rate, **fixed, **options)


def clipping(kind: str, longest: float, model: keras.Model) -> dict[str, float]:
    """The option of an optimizer that keeps the norm of the clipped gradient, over all variables, at most at a number.

    Args:
        kind: "value" (of each number), "norm" (of each variable separately) or "global" (of all variables together, Pascanu et
            al. 2013).
        longest: the largest norm.
    """
    return {
        "value": {"clipvalue": longest / math.sqrt(model.count_params())},
        "norm": {"clipnorm": longest / math.sqrt(len(model.trainable_variables))},
        "global": {"global_clipnorm": longest},
    }[kind]


def inverse_time(learning_rate: float, steps: int) -> Schedule:
    """η / (1 + 99 t / steps): a hundredth of η at the end."""
    return schedules.InverseTimeDecay(learning_rate, decay_steps=steps, decay_rate=1 / LAST - 1)


def exponential(learning_rate: float, steps: int) -> Schedule:
    """η · 0.01^(t / steps)."""
    return schedules.ExponentialDecay(learning_rate, decay_steps=steps, decay_rate=LAST)


def step(learning_rate: float, steps: int) -> Schedule:
    """η / 10 after half of the updates, η / 100 after three quarters (He et al. 2015, section 4.2)."""
    # A boundary of Keras belongs to the interval before it.
    bounds = [steps // 2 - 1, steps * 3 // 4 - 1]
    return schedules.PiecewiseConstantDecay(bounds, [learning_rate, learning_rate / 10, learning_rate / 100])


def linear(learning_rate: float, steps: int) -> Schedule:
    """η (1 − t / steps)."""
    return schedules.PolynomialDecay(learning_rate, steps, end_learning_rate=0.0)


def cosine(learning_rate: float, steps: int) -> Schedule:
    """η (1 + cos(π t / steps)) / 2 (Loshchilov & Hutter 2017), without restarts."""
    return schedules.CosineDecay(learning_rate, steps)


def warm_up_cosine(learning_rate: float, steps: int) -> Schedule:
    """Linear warm-up η (t + 1) / w in the first w = steps / 20 updates (Goyal et al. 2017), then `cosine`."""
    rising = max(1, round(WARM_UP * steps)) - 1  # updates before the first at the peak rate
    first = learning_rate / (rising + 1)
    return schedules.CosineDecay(first, steps - rising, warmup_target=learning_rate, warmup_steps=rising)


def decay_kernels_alone(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Exclude biases and normalisation weights from the optimizer's decoupled weight decay, w ← w − η · decay · w. Returns it.

    Keras decays all variables by default. Raises `Misuse` for an optimizer without weight decay.
    """
    if not optimizer.weight_decay:
        raise Misuse(
            "decay_kernels_alone needs an optimizer with weight decay: give it weight_decay=…. "
            f"Received: weight_decay={optimizer.weight_decay!r}"
        )
    original = optimizer.build

    def build(variables):
        # Not var_names: Keras would search the whole path for them, and match a layer called `beta_block`.
        optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if variable.name in NOT_KERNELS])
        original(variables)

    optimizer.build = build
    return optimizer
