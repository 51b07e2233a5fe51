"""Compiled functions of TensorFlow: what they draw, what they write to, and what they leave behind."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import auto_control_deps_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.ops import gradient_registry

from common.errors import Misuse

CHANCE = (
    *("RngReadAndSkip", "RngSkip", "NonDeterministicInts", "StatefulRandomBinomial", "StatefulStandardNormal"),
    *("StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt", "StatefulUniformInt"),
)
"""Operations that draw and carry no seed; those that carry one are known by it."""
PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
LIBRARIES = tuple(f"{pathlib.Path(module.__file__).parent}/" for module in (tf, keras, np))


def refuse_chance(call: tf.types.experimental.PolymorphicFunction) -> None:
    """Trace a function of one signature. Raises `Misuse` where it draws from what no checkpoint holds, or calls Python."""
    for operation in _operations(call.get_concrete_function().graph):
        if operation.type in PYTHON:
            raise Misuse(
                "tf.py_function and tf.numpy_function call Python, whose state no checkpoint holds: write it in operations of "
                f"TensorFlow or Keras. Received: {operation.type}{_place(operation)}"
            )
        seeded = any(attribute.name in ("seed", "seed2") for attribute in operation.op_def.attr)
        if operation.type in CHANCE or (seeded and not _draws_nothing(operation)):
            raise Misuse(
                "TensorFlow's own generators are neither seeded by the trial nor saved with it: draw from the step's seed or an "
                "augmentation's uniforms, or in a layer by keras.random from a keras.random.SeedGenerator of its own. "
                f"Received: {operation.type}{_place(operation)}"
            )


def _draws_nothing(operation: tf.Operation) -> bool:
    """Whether an operation that carries a seed makes no use of it: a recurrent network of cuDNN without dropout."""
    return operation.type.startswith("CudnnRNN") and operation.get_attr("dropout") == 0


def _operations(graph: tf.Graph) -> Iterator[tf.Operation]:
    """All operations of a graph and of the functions that it calls, at any depth."""
    graphs, known = [graph], {""}
    for one in graphs:  # which grows
        for operation in one.get_operations():
            yield operation
            for attribute in operation.node_def.attr.values():
                called = {attribute.func.name, *(function.name for function in attribute.list.func)} - known
                known |= called
                functions = [one._get_function(name) for name in sorted(called)]
                graphs += [function.graph for function in functions if function is not None]


def _place(operation: tf.Operation) -> str:
    """Where in the user's code an operation was made, in words."""
    for frame in reversed(operation.traceback or ()):
        if not frame.filename.startswith(LIBRARIES):
            return f" at {frame.filename}:{frame.lineno}"
    return ""


class Outside:
    """A variable that is neither a model's nor an optimizer's, known by its handle alone: a step's own, or a teacher's."""

    def __init__(self, handle: tf.Tensor):
        data = handle._handle_data.shape_and_type[0]
        self.handle, self.dtype, self.shape = handle, tf.as_dtype(data.dtype), tf.TensorShape(data.shape)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype))

    def assign(self, value: np.ndarray) -> None:
        """Set it."""
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=tf.constant(value, self.dtype))


def written_outside(call: tf.types.experimental.PolymorphicFunction, known: Sequence = ()) -> list[Outside]:
    """The variables that a function writes besides those that are known, in the order in which it came upon them.

    Raises `Misuse` where it writes to what is no variable: a table, say.
    """
    graph = call.get_concrete_function().graph
    natives = [v if isinstance(v, Outside) else v.value for v in known]
    ours = {id(part.handle) for native in natives for part in getattr(native, "values", (native,))}
    read = set(auto_control_deps_utils.get_read_only_resource_input_indices_graph(graph))
    inputs = {id(tensor): i for i, tensor in enumerate(graph.inputs)}
    outside = []
    for handle, inner in graph.captures:
        if handle.dtype != tf.resource or id(handle) in ours or inputs[id(inner)] in read:
            continue
        if all(user.type.startswith("Collective") for user in inner.consumers()):
            continue  # by which TensorFlow keeps collectives in order
        if not (handle._handle_data and handle._handle_data.is_set):
            raise Misuse("no checkpoint holds what an update writes to: hold variables. Received: a lookup table or a queue")
        outside.append(Outside(handle))
    return outside


@contextlib.contextmanager
def put_back(variables: Sequence[Outside]) -> Iterator[None]:
    """Afterwards variables have the values that they have now."""
    before = [np.array(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def putting_back(function: Callable) -> Callable:
    """A function of tensors that is called eagerly, outside of updates: what it writes to is put back after each call.

    Its first call traces it, which shows to which variables it writes, and makes those that it makes when it is first called.
    """
    variables = None

    def call(*tensors):
        nonlocal variables
        if variables is None:
            try:
                variables = written_outside(tf.function(lambda: function(*tensors)))
            except Misuse:
                raise
            except Exception:
                function(*tensors)  # which most often fails as well, and then says plainly where
                raise
        with put_back(variables):
            return function(*tensors)

    return call


@contextlib.contextmanager
def gradients_forgotten() -> Iterator[None]:
    """Afterwards TensorFlow knows no gradient function defined within: it keeps them for good, each with its whole graph."""
    known = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - known:
            del gradient_registry._registry[name]


def frozen(call: tf.types.experimental.PolymorphicFunction) -> tf.types.experimental.ConcreteFunction:
    """A compiled function whose variables are constants with their values of now."""
    return convert_variables_to_constants_v2(call.get_concrete_function())
