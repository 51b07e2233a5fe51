"""The named random streams: every draw is a function of (stream, seed, what it is for), never of the arm.

`split` carves validation from train, `init` draws the first weights, `order` shuffles the epochs, `augment` changes
images, `noise` drives dropout and other random layers, `corrupt` chooses subsets and corrupts labels. No arm can shift the
draws of another, and nothing has to be replayed after a kill: the only position kept is the count of draws in a layer of
Keras' own, which is a variable of the model and saved with it.
"""

import collections
import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np

STREAMS = ("split", "init", "order", "augment", "noise", "corrupt")


class Streams:
    """The streams of one trial: `seed` for those in `vary`, seed 0 for the others."""

    def __init__(self, seed: int, vary: tuple[str, ...] = STREAMS):
        self.seed = seed
        self.vary = tuple(vary)

    def _digest(self, stream: str, parts: tuple) -> bytes:
        if stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}. Received: {stream!r}")
        seed = self.seed if stream in self.vary else 0
        return hashlib.blake2b(repr((stream, seed, *parts)).encode(), digest_size=16).digest()

    def key(self, stream: str, *parts: int | str) -> int:
        """A seed in [0, 2³¹) for `tf.random.stateless_*`, Keras initialisers and the like."""
        return int.from_bytes(self._digest(stream, parts)[:4], "little") >> 1

    def generator(self, stream: str, *parts: int | str) -> np.random.Generator:
        """A fresh NumPy generator (Philox) at the start of the given stream."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._digest(stream, parts), "little")))


def stratified_order(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of the examples in which every prefix holds the classes in their overall proportions.

    The k-th drawn example of a class of n is placed at (k + ½) / n of the way.
    """
    drawn = generator.permutation(len(labels))
    by_class = drawn[np.argsort(labels[drawn], kind="stable")]
    counts = np.bincount(labels)
    within = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n])
    rank = np.empty(len(labels), np.int64)
    rank[drawn] = np.arange(len(labels))
    return by_class[np.lexsort((rank[by_class], within))]


@contextlib.contextmanager
def seeded_weights(streams: Streams) -> Iterator[None]:
    """Within: a layer's initial weights depend on (seed, layer path, weight name, shape) alone.

    Keras draws the seeds of its initialisers in construction order, so one more layer changes the weights of all
    later ones. An initialiser whose seed the caller chose is left alone. Layers want names of their own: an automatic
    name such as `dense_1` counts the layers before it.
    """
    import keras

    original = keras.layers.Layer.add_weight
    alike: collections.Counter = collections.Counter()  # weights of one layer that share name and shape are told apart

    def add_weight(layer, *args, shape=None, initializer=None, dtype=None, name=None, **kwargs):
        names = ("shape", "initializer", "dtype")
        given = {"shape": shape, "initializer": initializer, "dtype": dtype, **dict(zip(names, args, strict=False))}
        wanted = keras.initializers.get(given["initializer"])
        if wanted is None and str(given["dtype"] or "float").startswith("float"):
            wanted = keras.initializers.GlorotUniform()  # what Keras takes when none is named
        config = wanted.get_config() if isinstance(wanted, keras.Initializer) else {}
        if "seed" in config and config["seed"] is None:
            weight = (layer.path or layer.name, name or "", str(tuple(given["shape"] or ())))
            seed = streams.key("init", *weight, alike[layer, weight])
            alike[layer, weight] += 1
            wanted = type(wanted).from_config({**config, "seed": seed})
        given["initializer"] = wanted
        return original(layer, *args[len(names) :], **given, name=name, **kwargs)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = original
