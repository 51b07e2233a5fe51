"""Policies of augmentation: several operations, one after the other, each with a strength (AutoAugment, Cubuk et al. 2019).

A policy is a dict of `operation_1`, `strength_1`, `operation_2`, …, as a search space has its values. Scripts declare that
space, so this module does not need Keras.
"""

import numpy as np

OPERATIONS = (
    *("identity", "auto contrast", "equalize", "rotate", "shear x", "shear y", "translate x", "translate y"),
    *("brightness", "colour", "contrast", "sharpness", "posterize", "solarize"),
)
"""Those of RandAugment, most of them from AutoAugment; see `common.operations`."""
STRENGTHS = tuple(tenth / 10 for tenth in range(1, 11))
"""As many as in AutoAugment."""


def random_policy(generator: np.random.Generator, length: int) -> dict:
    """A policy of so many operations, all operations and strengths being equally probable."""
    values = {"operation": OPERATIONS, "strength": STRENGTHS}
    return {f"{name}_{i}": v[generator.integers(len(v))] for name, v in values.items() for i in range(1, length + 1)}


def steps_of(policy: dict) -> list[tuple[str, float]]:
    """Operation and strength of each step of a policy; empty for an empty policy."""
    return [(policy[f"operation_{i}"], policy[f"strength_{i}"]) for i in range(1, len(policy) // 2 + 1)]
