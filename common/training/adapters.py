"""What adapts Keras to the training loop: losses per example, callbacks without `fit`, optimizers, batches shared by replicas.

With `seeding`, `draws` and `graphs` the only place that touches private parts of Keras and TensorFlow.
"""

import contextlib
import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.file_utils import config

from common.errors import Misuse
from common.tasks import Task
from common.text import did_you_mean
from common.training.graphs import Outside
from common.training.seeding import layers_of

# --- losses ----------------------------------------------------------------------------------------------------------

WANT_PROBABILITIES = (
    *(keras.losses.KLDivergence, keras.losses.Poisson, keras.losses.Dice, keras.losses.Tversky),
    *(keras.losses.kl_divergence, keras.losses.poisson, keras.losses.dice, keras.losses.tversky),
    *(keras.losses.CategoricalGeneralizedCrossEntropy, keras.losses.categorical_generalized_cross_entropy),
)
"""Losses of Keras that cannot be told to take logits."""


def per_example(loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The losses [batch] of a Keras loss or function, from one-hot targets. Raises `Misuse` for what would train wrongly."""
    if loss is None:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if isinstance(loss, str) or not callable(loss):
        hint = did_you_mean(loss, [name for name in dir(keras.losses) if name[0].isupper()])
        raise Misuse(
            "loss must be a keras.losses.Loss or a function of (targets, logits): a name stands for probabilities, and models "
            f"here emit logits. Received: {loss!r}{hint}"
        )
    if loss in WANT_PROBABILITIES or type(loss) in WANT_PROBABILITIES or _takes_probabilities(loss):
        raise Misuse(
            "models here emit logits: the loss must take them (from_logits=True), or be a function that applies softmax itself. "
            f"Received: {getattr(loss, '__name__', type(loss).__name__)}"
        )
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    if config.get("reduction", "sum_over_batch_size") not in ("sum_over_batch_size", "mean"):
        raise Misuse(f"the loss is always averaged over the batch. Received: reduction={config['reduction']!r}")
    call = loss.call if isinstance(loss, keras.losses.Loss) else loss
    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    def losses(targets, outputs):
        values = call(tf.argmax(targets, axis=-1) if sparse else targets, outputs)
        return tf.reduce_mean(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

    return losses


def _takes_probabilities(loss: Callable) -> bool:
    """Whether a loss has a choice, `from_logits`, and has not made it."""
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits", True) is False
    try:
        choice = inspect.signature(loss).parameters.get("from_logits")
    except ValueError:  # a callable without a signature
        return False
    return choice is not None and choice.default is False


# --- callbacks -------------------------------------------------------------------------------------------------------

LOGS = {"loss": "train_loss", "accuracy": "train_accuracy", "learning_rate": "learning_rate"}
"""How `fit` calls what an epoch's row calls otherwise; validation scores have the same names in both."""


def prepared(callbacks: Sequence[keras.callbacks.Callback], task: Task) -> keras.callbacks.CallbackList:
    """A list that knows which way its metrics are better: the task's primary one, and losses.

    Keras would read that off the model's compiled metrics, of which there are none here.
    """
    for callback in callbacks:
        if getattr(callback, "mode", None) == "auto":
            rises = getattr(callback, "monitor", "").endswith(task.metric) and not task.lower_is_better
            callback.mode = "max" if rises else "min"
    return keras.callbacks.CallbackList(list(callbacks))


def logs(history: Sequence[dict]) -> dict[str, float]:
    """What Keras' `fit` hands over at the end of an epoch, from the epochs' rows so far."""
    if not history:
        return {}
    row = history[-1]
    names = LOGS | {name: name for name in row if name.startswith("val_")}
    return {log: row[name] for log, name in names.items() if row[name] is not None}


def start_at(model: keras.Model, epoch: int) -> None:
    """Let callbacks know that the training of a model goes on from an epoch."""
    model._initial_epoch = epoch


# --- optimizers ------------------------------------------------------------------------------------------------------


def scheduled_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The learning rate of the last update where a schedule sets it: the optimizer itself says that of the next one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    schedule = optimizer._learning_rate
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(schedule(keras.ops.maximum(optimizer._iterations - 1, 0)))


@contextlib.contextmanager
def averages_in(optimizers: Sequence[keras.optimizers.Optimizer]) -> Iterator[None]:
    """Within: the weights are their moving averages, where an optimizer keeps some, as they are when training ends.

    Raises:
        Misuse: the weights were changed meanwhile, as a callback may do, which would be lost.
    """
    inner = [getattr(optimizer, "inner_optimizer", optimizer) for optimizer in optimizers]
    averaged = [optimizer for optimizer in inner if optimizer.use_ema]
    pairs = [
        (variable, average)
        for optimizer in averaged
        for variable, average in zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
        if average is not None
    ]
    variables, averages = [variable for variable, _ in pairs], [np.array(average) for _, average in pairs]
    before = [np.array(variable) for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(average)
    yield
    for variable, average in zip(variables, averages, strict=True):
        if not np.array_equal(variable, average, equal_nan=True):
            raise Misuse(f"with use_ema=True no callback may change weights as an epoch ends. Received: {variable.path}")
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)


def optimizers_in(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and all that it wraps, at any depth, itself first."""
    found = [optimizer]
    for one in found:  # which grows
        for value in vars(one).values():
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
            wrapped = [v for v in inside if isinstance(v, keras.optimizers.Optimizer)]
            found += [v for i, v in enumerate(wrapped) if not any(v is other for other in (*found, *wrapped[:i]))]
    return found


def refuse_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises `Misuse` for what an optimizer is asked for and would not do. Called once it is built."""
    for one in optimizers_in(optimizer):
        if one.gradient_accumulation_steps:
            raise Misuse(
                "an update is made of one batch, by which steps and schedules count: leave gradient_accumulation_steps out and "
                f"make the batch so many times larger. Received: gradient_accumulation_steps={one.gradient_accumulation_steps}"
            )
        rate = one._learning_rate
        if callable(rate) and not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            raise Misuse(
                "a function as learning rate would be called once, when the update is compiled: give a number or a "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {rate!r}"
            )


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """An optimizer's rate of now; that of the first where it stands for several."""
    while not hasattr(optimizer, "learning_rate"):
        optimizer = optimizers_in(optimizer)[1]
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def scaled(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> keras.optimizers.Optimizer:
    """An optimizer that scales the loss where the model computes in float16, whose gradients would come to 0 otherwise."""
    half = any(layer.compute_dtype == "float16" for layer in layers_of(model))
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or not half:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def scale_is_spent(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a loss scale has been halved below all numbers of float16, so that the gradient itself is not finite."""
    smallest = np.finfo(np.float16).tiny
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and float(optimizer.dynamic_scale) < smallest


# --- replicas --------------------------------------------------------------------------------------------------------


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


def expect_sums(optimizer: keras.optimizers.Optimizer) -> None:
    """Keep an optimizer from summing gradients over replicas, which it would do after clipping: what it gets are sums already.

    Where it overwrites weights by their moving average, each replica does so by itself, which Keras cannot under a condition.
    """
    for one in optimizers_in(optimizer):
        one._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
        original = one._overwrite_model_variables_with_average_value
        one._overwrite_model_variables_with_average_value = functools.partial(_overwrite, one, original)


def _overwrite(optimizer: keras.optimizers.Optimizer, original: Callable[[list], None], variables: list) -> None:
    """Set weights to their moving averages."""
    if tf.distribute.in_cross_replica_context():
        original(variables)
        return
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        if average is not None:
            variable.value._get().assign(average.value._get())


def parts(variable: keras.Variable) -> list:
    """What must be saved of a variable: where replicas each count for themselves (metrics do), what each of them has."""
    if variable.value.__class__.__name__ == "SyncOnReadVariable":
        return [Outside(part.handle) for part in variable.value.values]
    return [variable]


def agreement(strategy: tf.distribute.Strategy, workers: int) -> Callable[..., tuple]:
    """A function of at most 3 numbers that returns the chief's on every machine, so that all decide alike.

    Their processors may round differently.
    """
    if workers == 1:
        return lambda *numbers: numbers

    def share(numbers):
        context = tf.distribute.get_replica_context()
        chiefs = tf.where(tf.equal(context.replica_id_in_sync_group, 0), numbers, tf.zeros_like(numbers))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, chiefs)

    signature = [tf.TensorSpec((3,), tf.float64)]
    shared = tf.function(lambda numbers: strategy.run(share, args=(numbers,)), input_signature=signature)

    def agree(*numbers):
        result = shared(np.resize(np.float64(numbers), 3))
        return tuple(strategy.experimental_local_results(result)[0].numpy()[: len(numbers)].tolist())

    return agree


def penalty(model: keras.Model, share: tf.Tensor, replicas: int) -> tf.Tensor | float:
    """A replica's part of the penalties: those on weights are divided evenly, those that layers add by the share of its examples.

    What a layer adds is a mean over the examples that it has seen, as Keras' activity penalties are: over all replicas the
    parts come to the mean over the whole batch.

    Raises:
        Misuse: a layer adds more than one number.
    """
    losses = [tf.cast(loss, tf.float32) for loss in model.losses]
    for loss in losses:
        if loss.shape.rank:
            raise Misuse(f"add_loss takes one number, the mean over the batch. Received: a tensor of shape {loss.shape}")
    if replicas > 1 and losses:
        added = len(losses) - len(model._get_regularization_losses())
        losses = [share * loss for loss in losses[:added]] + [loss / replicas for loss in losses[added:]]
    return tf.add_n(losses) if losses else 0.0


# --- variables that nobody lists -------------------------------------------------------------------------------------


def own_fields(one: keras.layers.Layer | keras.optimizers.Optimizer) -> dict:
    """The fields of a layer or an optimizer that Keras does not give to all of them."""
    return {name: value for name, value in vars(one).items() if name not in _common_fields() and not name.startswith("_self_")}


@functools.cache
def _common_fields() -> frozenset[str]:
    bare = (keras.layers.Layer(name="bare"), keras.Model(name="bare"), keras.optimizers.Optimizer(0.1, name="bare"))
    return frozenset(name for one in bare for name in vars(one))


def refuse_hidden_variables(model: keras.Model) -> None:
    """Raises `Misuse` where a layer holds a variable that Keras neither trains nor saves."""
    listed = [*model.variables, *model.metrics_variables]
    known = {id(variable) for variable in listed} | {id(variable.value) for variable in listed}
    for layer in layers_of(model):
        for name, value in own_fields(layer).items():
            for one in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, tf.Variable | keras.Variable) and id(one) not in known:
                    raise Misuse(
                        "Keras neither trains nor saves this variable of a layer: make it by self.add_weight. Received: "
                        f"`{name}` of the layer {layer.name}"
                    )


# --- the rest ---------------------------------------------------------------------------------------------------------


def keras_folder() -> pathlib.Path:
    """Where Keras keeps what it has downloaded; a worker's Keras has its settings elsewhere."""
    return pathlib.Path(os.environ.get("KERAS_DOWNLOADS") or config.keras_home())
