"""The rate that rises and falls, SGD with it, other schedules, and weight decay of kernels alone.

A schedule is made by f(learning_rate, steps) from the rate at its height and the number of updates (`trial.steps`), so that it
ends where the run ends; t counts updates from 0.
"""

import keras
from keras.optimizers import schedules

from common.data.split import Split
from common.errors import Misuse

Schedule = schedules.LearningRateSchedule
LAST = 0.01
"""Share of the rate that is left at the end of the schedules that never reach 0."""
WARM_UP = 0.05
"""Share of the run, in which the rate rises."""
NOT_KERNELS = ("bias", "gamma", "beta", "scale")
"""Names of the weights of biases and normalisation; `scale` is that of root-mean-square normalisation."""


def falling(trial, learning_rate: float, *, epochs: int | None = None, on: Split | None = None) -> Schedule:
    """The schedule of whatever is not about schedules: `warm_up_cosine` over one call of `Trial.fit`.

    On CIFAR-10 a constant rate leaves twice the noise between seeds.

    Args:
        learning_rate: at its height.
        epochs, on: as that call has them; by default the setting's, and the trial's training images.
    """
    examples = len(trial.train if on is None else on)
    return warm_up_cosine(learning_rate, -(-examples // trial.batch_size) * (epochs or trial.epochs))


def sgd(
    trial, learning_rate: float, *, momentum: float = 0.9, epochs: int | None = None, on: Split | None = None, **options
) -> keras.optimizers.SGD:
    """SGD with momentum (Sutskever et al. 2013) at a rate that rises and falls; see `falling`. `options` are those of Keras."""
    return keras.optimizers.SGD(falling(trial, learning_rate, epochs=epochs, on=on), momentum=momentum, **options)


def inverse_time(learning_rate: float, steps: int) -> Schedule:
    """η / (1 + k t), k such that a hundredth is left at the end."""
    return schedules.InverseTimeDecay(learning_rate, decay_steps=steps, decay_rate=1 / LAST - 1)


def exponential(learning_rate: float, steps: int) -> Schedule:
    """η · 0.01^(t / steps)."""
    return schedules.ExponentialDecay(learning_rate, decay_steps=steps, decay_rate=LAST)


def step(learning_rate: float, steps: int) -> Schedule:
    """A tenth of η from half of the updates on, a hundredth from three quarters on (He et al. 2015, section 4.2)."""
    # Keras still has the old rate at the boundary itself, hence the update before.
    bounds = [steps // 2 - 1, steps * 3 // 4 - 1]
    return schedules.PiecewiseConstantDecay(bounds, [learning_rate, learning_rate / 10, learning_rate / 100])


def linear(learning_rate: float, steps: int) -> Schedule:
    """η (1 − t / steps)."""
    return schedules.PolynomialDecay(learning_rate, steps, end_learning_rate=0.0)


def cosine(learning_rate: float, steps: int) -> Schedule:
    """η (1 + cos(π t / steps)) / 2 (Loshchilov & Hutter 2017), without restarts."""
    return schedules.CosineDecay(learning_rate, steps)


def warm_up_cosine(learning_rate: float, steps: int) -> Schedule:
    """η (t + 1) / w in the first w updates, a twentieth of them all (Goyal et al. 2017); cosine from there."""
    rising = max(1, round(WARM_UP * steps)) - 1  # updates before the one at full rate
    first = learning_rate / (rising + 1)
    return schedules.CosineDecay(first, steps - rising, warmup_target=learning_rate, warmup_steps=rising)


def decay_kernels_alone(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Keep an optimizer's decoupled decay, w ← w − η · decay · w in each update, off biases and normalisation. Returns it.

    Keras would decay all variables. Raises `Misuse` for an optimizer without decay.
    """
    if not optimizer.weight_decay:
        raise Misuse(f"this is for an optimizer with a weight_decay. Received: {optimizer.weight_decay!r}")
    original = optimizer.build

    def build(variables):
        # By the weights' own names: Keras would look for a name anywhere in a path, such as that of a layer `beta_block`.
        optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if variable.name in NOT_KERNELS])
        original(variables)

    optimizer.build = build
    return optimizer
