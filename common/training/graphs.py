"""Inspects compiled functions of TensorFlow for random operations and side effects, undoes side effects, and calls AutoGraph."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import auto_control_deps_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.ops import gradient_registry

from common.errors import Misuse

UNSEEDED_OPERATIONS = (
    *("RngReadAndSkip", "RngSkip", "NonDeterministicInts", "StatefulRandomBinomial", "StatefulStandardNormal"),
    *("StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt", "StatefulUniformInt"),
)
"""Random operations without a seed attribute; the others are recognised by it."""
SEED_OPERATIONS = ("StatelessRandomGetKeyCounter", "StatelessRandomUniformFullInt")
"""Beginnings of the names of operations that make seeds or keys of a seed."""
PYTHON_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
WITHOUT_CONTROL_FLOW = ("common.", "keras.")
"""Beginnings of the names of modules that have no Python control flow on tensors."""
LIBRARIES = tuple(f"{pathlib.Path(module.__file__).parent}/" for module in (tf, keras, np))


def refuse_unseeded_randomness(call: tf.types.experimental.PolymorphicFunction) -> None:
    """Trace a function of one signature.

    Raises:
        Misuse: it draws from random generators that are not saved, or with a constant seed, or it calls Python.
    """
    for operation in _operations(call.get_concrete_function().graph):
        if operation.type in PYTHON_OPERATIONS:
            raise Misuse(
                "an update must not call Python (tf.py_function, tf.numpy_function), whose state is in no checkpoint: use "
                f"operations of TensorFlow or Keras. Received: {operation.type}{_source_line(operation)}"
            )
        seeded = any(attribute.name in ("seed", "seed2") for attribute in operation.op_def.attr)
        if operation.type in UNSEEDED_OPERATIONS or (seeded and not _ignores_seed(operation)):
            raise Misuse(
                "TensorFlow's generators are neither seeded by the trial nor saved with it: draw from the step's seed or an "
                "augmentation's uniforms, or in a layer by keras.random with the layer's keras.random.SeedGenerator. "
                f"Received: {operation.type}{_source_line(operation)}"
            )
        if _draws_from_constant(operation):
            raise Misuse(
                "a draw with a constant seed gives the same numbers in all updates: draw from the step's seed or an "
                "augmentation's uniforms, in a layer by keras.random with the layer's keras.random.SeedGenerator, and numbers "
                f"that are meant to stay the same before trial.fit. Received: {operation.type}{_source_line(operation)}"
            )


def _draws_from_constant(operation: tf.Operation) -> bool:
    """Whether an operation draws random numbers from a seed, or from a key made of a seed, that is a constant of the graph.

    Numbers that only make further seeds, as in `tf.random.fold_in`, do not count.
    """
    if not operation.type.startswith("Stateless") or operation.type.startswith(SEED_OPERATIONS):
        return False
    arguments = zip(operation.op_def.input_arg, operation.inputs, strict=False)
    return any(argument.name in ("seed", "key") and _is_constant(tensor) for argument, tensor in arguments)


def _is_constant(tensor: tf.Tensor) -> bool:
    """Whether a tensor depends on constants of its graph alone."""
    operation = tensor.op
    if operation.type == "Const" or not operation.inputs:
        return operation.type == "Const"
    return not operation.op_def.is_stateful and all(map(_is_constant, operation.inputs))


def _ignores_seed(operation: tf.Operation) -> bool:
    """Whether an operation has a seed but draws nothing: a recurrent network of cuDNN without dropout."""
    return operation.type.startswith("CudnnRNN") and operation.get_attr("dropout") == 0


def _operations(graph: tf.Graph) -> Iterator[tf.Operation]:
    """All operations of a graph and of the functions that it calls, at any depth."""
    graphs, known = [graph], {""}
    for one in graphs:  # grows during the loop
        for operation in one.get_operations():
            yield operation
            for attribute in operation.node_def.attr.values():
                called = {attribute.func.name, *(function.name for function in attribute.list.func)} - known
                known |= called
                functions = [one._get_function(name) for name in sorted(called)]
                graphs += [function.graph for function in functions if function is not None]


def _source_line(operation: tf.Operation) -> str:
    """File and line of the user's code that created an operation, as the text " at file:line"; empty if unknown."""
    for frame in reversed(operation.traceback or ()):
        if not frame.filename.startswith(LIBRARIES):
            return f" at {frame.filename}:{frame.lineno}"
    return ""


def traced_call(function: Callable, *arguments):
    """Call a function that a script may have written, such as a loss, within a function that is compiled without AutoGraph.

    Its Python control flow on tensors becomes operations, as in `tf.function`. To convert our own functions too would take
    longer than to compile an update.
    """
    module = getattr(function, "__module__", None) or ""
    if tf.executing_eagerly() or module.startswith(WITHOUT_CONTROL_FLOW):
        return function(*arguments)
    return _converted_call()(function, *arguments)


@functools.cache
def _converted_call() -> Callable:
    """A function that calls another one, of any kind that AutoGraph converts."""

    def call(function, *arguments):
        return function(*arguments)

    return tf.autograph.to_graph(call)


class CapturedVariable:
    """A variable that a compiled function captures, such as a teacher's or one that a step creates; accessed by its handle."""

    def __init__(self, handle: tf.Tensor):
        data = handle._handle_data.shape_and_type[0]
        self.handle, self.dtype, self.shape = handle, tf.as_dtype(data.dtype), tf.TensorShape(data.shape)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype))

    def assign(self, value: np.ndarray) -> None:
        """Set the variable."""
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=tf.constant(value, self.dtype))


def written_variables(call: tf.types.experimental.PolymorphicFunction) -> list[CapturedVariable]:
    """The variables that a function writes to, in the order of their capture. Raises `Misuse` as `captured_variables`."""
    return [variable for variable, written in _captures(call) if written]


def captured_variables(
    call: tf.types.experimental.PolymorphicFunction, known: Sequence, constant: Sequence = ()
) -> list[CapturedVariable]:
    """The variables that a function reads or writes, in the order of their capture.

    Args:
        known: variables to leave out; constant: variables to leave out unless the function writes to them.

    Raises:
        Misuse: it writes to another resource, such as a lookup table.
    """
    known, constant = handles(known), handles(constant)
    captures = [(variable, id(variable.handle), written) for variable, written in _captures(call)]
    return [variable for variable, handle, written in captures if handle not in known and (written or handle not in constant)]


def handles(variables: Sequence) -> set[int]:
    """Ids of the handles of variables, of all replicas."""
    natives = [v.value if isinstance(v, keras.Variable) else v for v in variables]  # a `CapturedVariable` has a handle, too
    return {id(part.handle) for native in natives for part in getattr(native, "values", (native,))}


def _captures(call: tf.types.experimental.PolymorphicFunction) -> Iterator[tuple[CapturedVariable, bool]]:
    """The variables that a function captures, and whether it writes to each."""
    graph = call.get_concrete_function().graph
    read_only = set(auto_control_deps_utils.get_read_only_resource_input_indices_graph(graph))
    inputs = {id(tensor): i for i, tensor in enumerate(graph.inputs)}
    for handle, inner in graph.captures:
        if handle.dtype != tf.resource or all(user.type.startswith("Collective") for user in inner.consumers()):
            continue  # no resource, or one by which TensorFlow orders collectives
        written = inputs[id(inner)] not in read_only
        if handle._handle_data and handle._handle_data.is_set:
            yield CapturedVariable(handle), written
        elif written:
            raise Misuse(
                "an update may write to variables only, since checkpoints save nothing else: use tf.Variable. "
                "Received: a lookup table or a queue"
            )


@contextlib.contextmanager
def preserved(variables: Sequence[CapturedVariable]) -> Iterator[None]:
    """Context manager that restores the present values of variables at its end."""
    before = [np.array(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def without_side_effects(function: Callable) -> Callable:
    """Wrap a function of tensors for eager calls outside of updates: variables that it writes to are restored after each call.

    The first call traces the function, to find these variables and to create those that it creates in its first call.
    """
    variables = None

    def call(*tensors):
        nonlocal variables
        if variables is None:
            try:
                variables = written_variables(tf.function(lambda: traced_call(function, *tensors), autograph=False))
            except Misuse:
                raise
            except Exception:
                function(*tensors)  # mostly fails too, with an error that shows where
                raise
        with preserved(variables):
            return function(*tensors)

    return call


@contextlib.contextmanager
def clean_gradient_registry() -> Iterator[None]:
    """Context manager that removes gradient functions registered within; TensorFlow would keep them, each with its graph."""
    known = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - known:
            del gradient_registry._registry[name]


def variables_as_constants(call: tf.types.experimental.PolymorphicFunction) -> tf.types.experimental.ConcreteFunction:
    """A compiled function with its variables replaced by constants of their present values."""
    return convert_variables_to_constants_v2(call.get_concrete_function())
