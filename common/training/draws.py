"""The global random generators of Python, NumPy, TensorFlow and Keras: seeded by the trial, and saved in its checkpoints."""

import contextlib
import random
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.random import seed_generator
from tensorflow.python.eager import context

from common.data.streams import Streams
from common.errors import Misuse


def generator_states() -> tuple:
    """States of the global generators of NumPy, Python, TensorFlow and Keras."""
    generator = get_global_attribute("global_seed_generator")
    return *_library_states(), None if generator is None else keras.ops.convert_to_numpy(generator.state)


def restore_generator_states(states: tuple) -> None:
    """Set the generators to states that `generator_states` returned."""
    *library_states, keras_state = states
    _restore_library_states(library_states)
    _start_keras(None if keras_state is None else int(keras_state[0]))
    if keras_state is not None:
        get_global_attribute("global_seed_generator").state.assign(keras_state)


def _library_states() -> tuple:
    """States of the generators of NumPy, Python and TensorFlow."""
    tensorflow = context.context()
    operations = getattr(tensorflow, "_rng", None)
    return np.random.get_state(), random.getstate(), (tensorflow._seed, operations and operations.getstate())


def _restore_library_states(states: Sequence) -> None:
    numpy, python, (seed, operations) = states
    np.random.set_state(numpy)
    random.setstate(python)
    context.context()._set_global_seed(seed)
    if operations:
        context.context()._rng.setstate(operations)


def _start_keras(seed: int | None) -> None:
    """Replace Keras' global generator by one with this seed; for None Keras creates one when it is first used."""
    set_global_attribute("global_seed_generator", None if seed is None else keras.random.SeedGenerator(seed, name="global"))


@contextlib.contextmanager
def seeded_draws(streams: Streams) -> Iterator[None]:
    """Context manager that seeds the global generators for `train` and its callbacks by the trial's seed.

    What they draw does not depend on the layers that were built before.
    """
    seed = streams.key("init", "global")
    keras.utils.set_random_seed(seed)
    _start_keras(seed)
    with isolated_layer_seeds():
        yield


@contextlib.contextmanager
def temporary_global_seed(seed: int) -> Iterator[None]:
    """Context manager that seeds the global generators of Python, NumPy, TensorFlow and Keras, and restores them at its end."""
    before, generator = _library_states(), get_global_attribute("global_seed_generator")
    seed_source = seed_generator.python_random
    random.seed(seed)
    np.random.seed(seed)
    context.context()._set_global_seed(seed)
    _start_keras(None)
    seed_generator.python_random = random.Random(seed)
    try:
        yield
    finally:
        _restore_library_states(before)
        set_global_attribute("global_seed_generator", generator)
        seed_generator.python_random = seed_source


@contextlib.contextmanager
def isolated_layer_seeds() -> Iterator[None]:
    """Context manager in which the seeds that Keras draws for layers do not advance Python's global generator.

    Keras draws them from a copy, so they have the usual values. If nothing else was drawn, the copy's state is kept at the end.
    """
    original = seed_generator.python_random
    if original is not random:  # already isolated
        yield
        return
    before = random.getstate()
    copy = seed_generator.python_random = random.Random()
    copy.setstate(before)
    try:
        yield
    finally:
        seed_generator.python_random = original
    if random.getstate() == before:
        random.setstate(copy.getstate())


@contextlib.contextmanager
def forbid_global_noise() -> Iterator[None]:
    """Context manager that raises `Misuse` if a function traced within draws from Keras' global generator.

    All layers would share its noise, and a killed trial could not resume it.
    """
    generator = get_global_attribute("global_seed_generator")
    _start_keras(None)
    try:
        yield
        drawn = get_global_attribute("global_seed_generator") is not None
    finally:
        set_global_attribute("global_seed_generator", generator)
    if drawn:
        raise Misuse(
            "an update must not draw from Keras' global random generator, which a killed trial could not resume: draw from the "
            "step's seed, or in a layer from the layer's keras.random.SeedGenerator. Received: keras.random without a seed in "
            "a layer, loss, augmentation or step"
        )
