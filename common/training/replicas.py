"""How a batch is shared among replicas, and how their results are put together again."""

import numpy as np
import tensorflow as tf


def shares(size: int, replicas: int) -> tuple[np.ndarray, np.float32]:
    """Bounds int32 [2, replicas] of each replica's part of a batch, and by what its losses are divided."""
    if size < replicas:  # too few to share: each replica takes all of them at a fraction of the weight
        return np.tile(np.int32([[0], [size]]), replicas), np.float32(size * replicas)
    edges = np.cumsum([0] + [size // replicas + (i < size % replicas) for i in range(replicas)])
    return np.int32([edges[:-1], edges[1:]]), np.float32(size)


def sums(tensors: list[tf.Tensor | None], replicas: int) -> list[tf.Tensor | None]:
    """The sums over all replicas; what is None stays None. Called by each replica."""
    if replicas == 1:
        return tensors
    there = [tensor for tensor in tensors if tensor is not None]
    summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, there))
    return [None if tensor is None else next(summed) for tensor in tensors]
