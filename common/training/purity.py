"""Checks that tracing an update neither draws from Python's generators nor changes Python state.

An update is traced once, so such a draw or count would have the same value in all updates.
"""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from common.errors import Misuse
from common.training import adapters, draws, graphs, seeding
from common.training.references import Found, all_found, collect, fields, reached_by
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


def _changed(before: dict[str, object], after: dict[str, object], absent: object = None) -> str | None:
    """The place of a value that differs between two states; None if none does.

    Args:
        absent: what stands for a value that the second state lacks; by default such values do not count.
    """
    return next((name for name in before if before[name] != after.get(name, absent or before[name])), None)


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
    parts = Found({}, {}, {}, set())
    for where, values in held.items():
        for name, value in values.items():
            place = f"`{name}` of {where}"
            if isinstance(value, FIXED) and name != "stop_training":
                state[place] = repr(value)
            elif callable(value):
                state[place] = id(value)
                if isinstance(value, keras.Regularizer | keras.constraints.Constraint):
                    collect(vars(value), place, parts)
    return state | parts.state


def check_compiled_state(stage: Stage, compiled: dict[str, object]) -> None:
    """Raise `Misuse` if a callback has changed what the compiled update holds fixed.

    Args:
        compiled: `compiled_state` at the time when it was compiled.
    """
    if changed := _changed(compiled, compiled_state(stage), absent="replaced by another kind of object"):
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


def refuse_untrained(
    stage: Stage, outside: dict[str, keras.Layer | keras.Variable | tf.Variable], read: Sequence[graphs.CapturedVariable]
) -> None:
    """Raise `Misuse` for weights outside of the model that nothing trains.

    These are trainable variables, and layers with their random initial weights, that neither an update of this stage or an
    earlier one nor a callback refers to in order to write them.

    Args:
        outside: see `referred_to`.
        read: variables that the update reads, and that are neither the model's nor written by an update.
    """
    if not outside:
        return
    changed = [v for one in reached_by(stage.callbacks) for v in (one.variables if isinstance(one, keras.Layer) else [one])]
    handles = graphs.handles(read) - graphs.handles(changed)
    for where, one in outside.items():
        of_layer = isinstance(one, keras.Layer)
        variables = [v for v in (one.trainable_variables if of_layer else [one]) if v.trainable and graphs.handles([v]) & handles]
        if any(not of_layer or seeding.has_initial_values(variable) for variable in variables):
            raise Misuse(
                "weights outside of the model are not trained: make the layer a part of the model (its output may go unused), "
                "give a variable to a layer by self.add_weight, or set trainable=False if it is meant to stay as it is. "
                f"Received: {where}"
            )


def referred_to(stage: Stage) -> dict[str, keras.Layer | keras.Variable | tf.Variable]:
    """The layers, models and variables that the user's functions refer to, by a description of their place."""
    return _found_in(stage).outside


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
