"""Checks that tracing an update neither draws from Python's generators nor changes Python state.

An update is traced once, so such a draw or count would have the same value in all updates.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from common.errors import Misuse
from common.training import adapters, draws, graphs, seeding
from common.training.references import Found, all_found, collect, fields
from common.training.stage import Stage

FIXED = bool | int | float | str | None
"""Types of attributes that are compared after each epoch."""


@contextlib.contextmanager
def check_purity(stage: Stage) -> Iterator[None]:
    """Context manager that raises `Misuse` if tracing a stage within draws from a Python generator or changes Python state."""
    before, drawn = _python_state(stage), draws.generator_states()
    with draws.isolated_layer_seeds():
        yield
        now = draws.generator_states()
    for name, old, new in zip(("numpy.random", "random", "tf.random"), drawn, now, strict=False):
        if repr(old) != repr(new) or (name == "numpy.random" and not np.array_equal(old[1], new[1])):
            raise Misuse(
                "an update is compiled once, so a number drawn by Python would be the same in all updates: draw by "
                "tf.random.stateless_* from the step's seed or an augmentation's uniforms, or in a layer by keras.random with "
                f"the layer's keras.random.SeedGenerator. Received: a draw from {name}"
            )
    if changed := _changed(before, _python_state(stage)):
        raise Misuse(
            "an update is compiled once, so Python state that it changes would have the same value in all updates: use a "
            f"variable (self.add_weight, in an optimizer self.add_variable). Received: {changed}, which changed"
        )


def _changed(before: dict[str, object], after: dict[str, object]) -> str | None:
    """The place of a value that differs between two states; None if none does."""
    return next((name for name in before if name in after and before[name] != after[name]), None)


def compiled_state(stage: Stage) -> dict[str, object]:
    """Numbers and texts that a compiled update holds fixed, by a description of their place.

    Those of layers, with their functions, penalties and constraints, of optimizers, with their schedules, and of the user's
    functions and of the objects that these use.
    """
    state = _python_state(stage)
    optimizers = [inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer)]
    held = {}
    for one in seeding.layers_of(stage.model):
        held[f"the layer {one.name}"] = {**adapters.custom_fields(one), "trainable": one.trainable}
        for variable in [*one._trainable_variables, *one._non_trainable_variables]:
            parts = {name: getattr(variable, name) for name in ("trainable", "regularizer", "constraint")}
            held[f"the variable {variable.path}"] = parts
    for one in optimizers:
        schedule = one._learning_rate
        held[f"the optimizer {one.name}"] = {**vars(one), "learning_rate": id(schedule)}
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            held[f"the schedule {type(schedule).__name__}"] = vars(schedule)
    for where, values in held.items():
        for name, value in values.items():
            if isinstance(value, FIXED) and name != "stop_training":
                state[f"`{name}` of {where}"] = repr(value)
            elif isinstance(value, keras.Regularizer | keras.constraints.Constraint):
                state[f"`{name}` of {where}"] = id(value), repr(sorted(vars(value).items()))
            elif callable(value):
                state[f"`{name}` of {where}"] = id(value)
    return state


def check_compiled_state(stage: Stage, compiled: dict[str, object]) -> None:
    """Raise `Misuse` if a callback has changed what the compiled update holds fixed.

    Args:
        compiled: `compiled_state` at the time when it was compiled.
    """
    if changed := _changed(compiled, compiled_state(stage)):
        raise Misuse(
            "an update is compiled once, so what a callback changes in Python has no effect on training: use a variable "
            f"that the update reads, or two stages. Received: {changed}, which changed"
        )


def model_state(model: keras.Model) -> dict[str, object]:
    """Attributes of a model's layers, and the numbers that they refer to: what a compiled function of the model holds fixed."""

    def walk(found: Found) -> None:
        for i, layer in enumerate(seeding.layers_of(model)):
            for name, value in {**fields(layer), **adapters.custom_fields(layer), "trainable": layer.trainable}.items():
                where = f"`{name}` of layer {i}"
                found.state[where] = value if isinstance(value, str) else id(value)
                collect(value, where, found)

    return all_found(walk).state


class Outside(NamedTuple):
    """Trainable weights that the user's functions refer to, and that no update trains."""

    where: str
    variables: list
    values: list[np.ndarray]
    """Of the variables, before training."""


def weights_outside(stage: Stage, trained: Sequence) -> list[Outside]:
    """The trainable variables, and layers with random initial weights, that functions refer to and no update trains.

    Args:
        trained: variables that are trained, or written, by updates of this stage or an earlier one.
    """
    known, found = graphs.handles(trained), []
    for where, one in _found_in(stage).outside.items():
        if isinstance(one, keras.layers.Layer):
            variables = [variable for variable in one.trainable_variables if seeding.has_initial_values(variable)]
        else:
            variables = [one] if one.trainable else []
        variables = [variable for variable in variables if known.isdisjoint(graphs.handles([variable]))]
        if variables:
            found.append(Outside(where, variables, [np.array(variable) for variable in variables]))
    return found


def models_outside(stage: Stage) -> list[keras.Model]:
    """The models that the user's functions refer to, but for the one that is trained."""
    return [one for one in _found_in(stage).outside.values() if isinstance(one, keras.Model) and one is not stage.model]


def refuse_unchanged(found: Sequence[Outside]) -> None:
    """Raise `Misuse` for weights outside of the model that still have their values: nothing trains them."""
    for where, variables, values in found:
        if all(np.array_equal(np.array(variable), value) for variable, value in zip(variables, values, strict=True)):
            raise Misuse(
                "weights outside of the model are not trained: make the layer a part of the model (its output may go unused), "
                "give a variable to a layer by self.add_weight, or set trainable=False if it is meant to stay as it is. "
                f"Received: {where}"
            )


def _python_state(stage: Stage) -> dict[str, object]:
    """Numbers and generator states that the user's layers, optimizers and functions refer to, by a description of their place.

    Of other objects that they refer to, those in attributes whose names occur in one of the user's functions.
    """
    return _found_in(stage).state


def _found_in(stage: Stage) -> Found:
    """What the user's layers, optimizers and functions refer to, see `_python_state`."""

    def walk(found: Found) -> None:
        optimizers = (inner for outer in stage.optimizers.values() for inner in adapters.optimizers_in(outer))
        for kind, one in (*(("layer", v) for v in seeding.layers_of(stage.model)), *(("optimizer", v) for v in optimizers)):
            for name, value in fields(one).items():
                collect(value, f"`{name}` of the {kind} {one.name}", found)
        collect(stage.given_weights, "class_weight and sample_weight", found)
        for function in (stage.step, stage.loss, *stage.augment):
            collect(function, getattr(function, "__name__", type(function).__name__), found)

    return all_found(walk)
