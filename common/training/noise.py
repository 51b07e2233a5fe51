"""Noise of dropout and other random layers: seeded by the trial's seed and the layer, and different on each replica."""

import collections
import contextlib
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute

from common.data.streams import Streams
from common.errors import Misuse
from common.training.seeding import layers_of, placed_layers


def seed_noise(model: keras.Model, streams: Streams, epochs: int) -> None:
    """Seed dropout and other random layers by the trial's seed, the layer's path and the epochs of earlier stages."""
    for place in placed_layers(model):
        for i, generator in enumerate(place.layer._seed_generators):
            generator.state.assign([streams.key("noise", epochs, place.path, i), 0])


@contextlib.contextmanager
def separate_replicas(model: keras.Model, streams: Streams, replicas: int) -> Iterator[None]:
    """Context manager for tracing an update: each replica draws different noise, and has a separate list of added losses.

    Without it Keras would keep the added losses of all replicas, which are traced in turn in different threads, in one list. The
    first replica draws the same noise as a single one.

    Raises:
        Misuse: a layer that is not part of the model draws noise.
    """
    original_next = keras.random.SeedGenerator.next
    known = {id(generator) for layer in layers_of(model) for generator in layer._seed_generators}
    masks = [0] + [streams.key("noise", "replica", replica) for replica in range(1, replicas)]
    added_losses, foreign = collections.defaultdict(list), []

    def next_seed(generator, *args, **kwargs):
        seed = original_next(generator, *args, **kwargs)
        if generator is get_global_attribute("global_seed_generator"):
            return seed  # see `draws.forbid_global_noise`
        if id(generator) not in known:
            foreign.append(generator.state.path)
        replica = tf.distribute.get_replica_context()
        if replicas == 1 or replica is None:
            return seed
        mask = tf.gather(tf.constant(masks, seed.dtype), replica.replica_id_in_sync_group)
        return tf.bitwise.bitwise_xor(seed, tf.stack([mask, tf.zeros_like(mask)]))

    def losses(layer):
        return added_losses[id(layer), threading.get_ident()]

    keras.random.SeedGenerator.next = next_seed
    if replicas > 1:
        keras.layers.Layer._losses = property(losses, lambda layer, value: vars(layer).update(_losses=value))
    try:
        yield
    except Misuse as error:
        raise Misuse(str(error).rsplit("Misuse: ", 1)[-1].strip()) from None  # without the traceback that TensorFlow adds
    finally:
        keras.random.SeedGenerator.next = original_next
        if replicas > 1:
            del keras.layers.Layer._losses
    if foreign:
        raise Misuse(
            "random layers must be part of the model, so that the trial seeds and saves their generators: add the layer to the "
            f"model. Received: a draw from {foreign[0]}"
        )
