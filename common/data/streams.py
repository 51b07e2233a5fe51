"""Named random streams: every draw is a function of (stream, seed, purpose), never of the arm.

`split` divides train and val, `init` draws the initial weights, `order` shuffles each epoch, `augment` is for augmentation,
`noise` for dropout and other random layers, `corrupt` for subsets and label noise. So no arm changes the draws of another, and a
resumed trial repeats no draws: the only state is the counter in Keras' random layers, which is saved with the model.
"""

import hashlib

import numpy as np

STREAMS = ("split", "init", "order", "augment", "noise", "corrupt")


class Streams:
    """The random streams of a trial.

    Args:
        seed: of the streams in `vary`; the others have seed 0.
    """

    def __init__(self, seed: int, vary: tuple[str, ...] = STREAMS):
        self.seed = seed
        self.vary = tuple(vary)

    def _digest(self, stream: str, parts: tuple) -> bytes:
        if stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}. Received: {stream!r}")
        seed = self.seed if stream in self.vary else 0
        return hashlib.blake2b(repr((stream, seed, *parts)).encode(), digest_size=16).digest()

    def key(self, stream: str, *parts: int | str) -> int:
        """A seed in [0, 2³¹) for functions such as `tf.random.stateless_uniform` and Keras initialisers."""
        return int.from_bytes(self._digest(stream, parts)[:4], "little") >> 1

    def generator(self, stream: str, *parts: int | str) -> np.random.Generator:
        """A new NumPy generator (Philox) for a purpose, `parts`, of the given stream."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._digest(stream, parts), "little")))


def stratified_order(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of the examples of which every prefix is stratified: int64 [n].

    The k-th example of a class with m examples, k = 0 … m − 1, is placed at the fraction (k + ½) / m of the order.

    Args:
        labels: int [n].
    """
    drawn = generator.permutation(len(labels))
    by_class = drawn[np.argsort(labels[drawn], kind="stable")]
    within = np.concatenate(_places(np.bincount(labels)))
    rank = np.empty(len(labels), np.int64)
    rank[drawn] = np.arange(len(labels))
    return by_class[np.lexsort((rank[by_class], within))]


def least_counts(labels: np.ndarray, size: int) -> np.ndarray:
    """The smallest number of examples of each class in the first `size` of any `stratified_order` of the labels: int [classes].

    Examples of different classes at the same place of the order come in a random order.
    """
    places = _places(np.bincount(labels))
    ordered = np.sort(np.concatenate(places))
    return np.array([np.count_nonzero(of_class < ordered[size]) if size < len(ordered) else len(of_class) for of_class in places])


def _places(counts: np.ndarray) -> list[np.ndarray]:
    """The places of each class's examples in a stratified order of all, as fractions of it: (k + ½) / m for k = 0 … m − 1."""
    return [(np.arange(count) + 0.5) / max(count, 1) for count in counts]
