"""The named random streams: every draw is a function of (stream, seed, what it is for), never of the arm.

`split` carves validation from train, `init` draws the first weights, `order` shuffles the epochs, `augment` changes
images, `noise` drives dropout and other random layers, `corrupt` chooses subsets and corrupts labels. No arm can shift the
draws of another, and nothing has to be replayed after a kill: the only position kept is the count of draws in a layer of
Keras' own, which is a variable of the model and saved with it.
"""

import hashlib

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
