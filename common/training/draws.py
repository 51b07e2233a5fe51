"""The global generators of Python, NumPy, TensorFlow and Keras: seeded by the trial, and saved with it."""

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


def generators() -> tuple:
    """The states of the global generators of NumPy, Python, TensorFlow and Keras, from which callbacks may draw."""
    own = get_global_attribute("global_seed_generator")
    return *_others(), None if own is None else keras.ops.convert_to_numpy(own.state)


def restore_generators(states: tuple) -> None:
    """Set the generators to what `generators` gave."""
    *others, own = states
    _restore_others(others)
    _start_keras(None if own is None else int(own[0]))
    if own is not None:
        get_global_attribute("global_seed_generator").state.assign(own)


def _others() -> tuple:
    """The states of those of NumPy, Python and TensorFlow."""
    tensorflow = context.context()
    operations = getattr(tensorflow, "_rng", None)
    return np.random.get_state(), random.getstate(), (tensorflow._seed, operations and operations.getstate())


def _restore_others(states: Sequence) -> None:
    numpy, python, (seed, operations) = states
    np.random.set_state(numpy)
    random.setstate(python)
    context.context()._set_global_seed(seed)
    if operations:
        context.context()._rng.setstate(operations)


def _start_keras(seed: int | None) -> None:
    """Keras' global generator: one that begins with a seed, or none, which Keras then makes when it is asked for."""
    set_global_attribute("global_seed_generator", None if seed is None else keras.random.SeedGenerator(seed, name="global"))


@contextlib.contextmanager
def seeded_draws(streams: Streams) -> Iterator[None]:
    """Within, what `train` and its callbacks draw from the global generators follows the trial's seed, not the layers made."""
    seed = streams.key("init", "global")
    keras.utils.set_random_seed(seed)
    _start_keras(seed)
    with seeds_drawn_apart():
        yield


@contextlib.contextmanager
def global_seeds(seed: int) -> Iterator[None]:
    """Within, the global generators of Python, NumPy, TensorFlow and Keras start at a seed. Afterwards they go on as before."""
    before, own, drawing = _others(), get_global_attribute("global_seed_generator"), seed_generator.python_random
    random.seed(seed)
    np.random.seed(seed)
    context.context()._set_global_seed(seed)
    _start_keras(None)
    seed_generator.python_random = random.Random(seed)
    try:
        yield
    finally:
        _restore_others(before)
        set_global_attribute("global_seed_generator", own)
        seed_generator.python_random = drawing


@contextlib.contextmanager
def seeds_drawn_apart() -> Iterator[None]:
    """Within: seeds that Keras draws for layers leave Python's global generator as it is; they are the same as ever."""
    original = seed_generator.python_random
    if original is not random:  # which is so already
        yield
        return
    before = random.getstate()
    apart = seed_generator.python_random = random.Random()
    apart.setstate(before)
    try:
        yield
    finally:
        seed_generator.python_random = original
    if random.getstate() == before:
        random.setstate(apart.getstate())


@contextlib.contextmanager
def global_noise_refused() -> Iterator[None]:
    """Raises `Misuse` where what is traced within draws from Keras' global generator, by which all layers would share noise."""
    own = get_global_attribute("global_seed_generator")
    _start_keras(None)
    try:
        yield
        drawn = get_global_attribute("global_seed_generator") is not None
    finally:
        set_global_attribute("global_seed_generator", own)
    if drawn:
        raise Misuse(
            "an update draws from Keras' global random generator, which a killed trial could not go on from: draw from the "
            "step's seed, or in a layer from a keras.random.SeedGenerator of its own. Received: keras.random without a seed in "
            "a layer, loss, augmentation or step"
        )
