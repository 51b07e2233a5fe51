"""Adapts losses, callbacks and optimizers of Keras to the training loop, and sums their results over replicas.

Private attributes of Keras and TensorFlow are used here, in `seeding`, `draws`, `graphs`, `purity` and `loop`.
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
from keras.src.utils.python_utils import is_default

from common.errors import Misuse
from common.tasks import Task
from common.text import did_you_mean
from common.training import graphs
from common.training.seeding import layers_of

# --- losses ----------------------------------------------------------------------------------------------------------

PROBABILITY_LOSSES = (
    *(keras.losses.KLDivergence, keras.losses.Poisson, keras.losses.Dice, keras.losses.Tversky),
    *(keras.losses.kl_divergence, keras.losses.poisson, keras.losses.dice, keras.losses.tversky),
    *(keras.losses.CategoricalGeneralizedCrossEntropy, keras.losses.categorical_generalized_cross_entropy),
)
"""Losses of Keras on probabilities, without an option for logits."""


def per_example(loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Adapt a Keras loss or a function to per-example losses on logits: f(one-hot targets, logits) -> losses [batch].

    Args:
        loss: a `keras.losses.Loss`, a function of (targets, logits), or None for cross-entropy.

    Raises:
        Misuse: a name, a loss on probabilities, or one that is not averaged over the batch.
    """
    if loss is None:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if isinstance(loss, str) or not callable(loss):
        hint = did_you_mean(loss, [name for name in dir(keras.losses) if name[0].isupper()])
        raise Misuse(
            "loss must be a keras.losses.Loss or a function of (targets, logits), not a name, which stands for a loss on "
            f"probabilities. Received: {loss!r}{hint}"
        )
    if loss in PROBABILITY_LOSSES or type(loss) in PROBABILITY_LOSSES or _takes_probabilities(loss):
        raise Misuse(
            "models emit logits, so the loss must take logits: pass from_logits=True, or a function that applies softmax itself. "
            f"Received: {getattr(loss, '__name__', type(loss).__name__)}"
        )
    if isinstance(loss, keras.losses.Loss) and not (type(loss).__call__.__module__ or "").startswith("keras."):
        raise Misuse(
            "of a keras.losses.Loss only `call` is used, with the losses of the examples: move what __call__ does there. "
            f"Received: {type(loss).__name__}.__call__"
        )
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    if config.get("reduction", "sum_over_batch_size") not in ("sum_over_batch_size", "mean"):
        raise Misuse(
            f"the loss is always averaged over the batch: leave reduction out. Received: reduction={config['reduction']!r}"
        )
    call = loss.call if isinstance(loss, keras.losses.Loss) else loss
    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    def losses(targets, outputs):
        values = graphs.traced_call(call, tf.argmax(targets, axis=-1) if sparse else targets, outputs)
        return tf.reduce_mean(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

    return losses


def _takes_probabilities(loss: Callable) -> bool:
    """Whether a loss has an argument `from_logits` that is False."""
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits", True) is False
    try:
        choice = inspect.signature(loss).parameters.get("from_logits")
    except ValueError:  # a callable without a signature
        return False
    return choice is not None and choice.default is False


# --- callbacks -------------------------------------------------------------------------------------------------------

LOGS = {"loss": "train_loss", "accuracy": "train_accuracy", "learning_rate": "learning_rate"}
"""Names of metrics in Keras' logs -> columns of an epoch's row, for those that differ from `val_…`."""


def callback_list(callbacks: Sequence[keras.callbacks.Callback], task: Task) -> keras.callbacks.CallbackList:
    """Put callbacks into a `CallbackList`, with mode "auto" replaced by "max" for the primary metric or "min".

    Keras would read the mode from the model's compiled metrics, but models are compiled without metrics.
    """
    for callback in callbacks:
        if getattr(callback, "mode", None) == "auto":
            rises = getattr(callback, "monitor", "").endswith(task.metric) and not task.lower_is_better
            callback.mode = "max" if rises else "min"
    return keras.callbacks.CallbackList(list(callbacks))


def acts_on_batches(callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    """Whether a callback has a method that is called before or after each batch."""
    names = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    return not all(is_default(getattr(callback, name)) for callback in callbacks for name in names)


def logs(history: Sequence[dict]) -> dict[str, float]:
    """The logs that Keras' `fit` passes to callbacks at the end of an epoch, from the rows of the epochs so far."""
    if not history:
        return {}
    row = history[-1]
    names = LOGS | {name: name for name in row if name.startswith("val_")}
    return {log: row[name] for log, name in names.items() if row[name] is not None}


def set_initial_epoch(model: keras.Model, epoch: int) -> None:
    """Tell callbacks at which epoch the training of a model starts or resumes."""
    model._initial_epoch = epoch


# --- optimizers ------------------------------------------------------------------------------------------------------


def scheduled_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Learning rate of the last update if it follows a schedule, else None; `optimizer.learning_rate` is that of the next one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    schedule = optimizer._learning_rate
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(schedule(keras.ops.maximum(optimizer._iterations - 1, 0)))


@contextlib.contextmanager
def averaged_weights(optimizers: Sequence[keras.optimizers.Optimizer]) -> Iterator[None]:
    """Context manager that sets weights to their moving averages (`use_ema`), which replace them at the end of training.

    Raises:
        Misuse: a callback changed the weights within, which would be lost.
    """
    every = [inner for outer in optimizers for inner in optimizers_in(outer)]
    averaged = [one for one in every if one.use_ema and one.built]  # a part of `MultiOptimizer` without variables is not built
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
            raise Misuse(
                "with use_ema=True no callback may change weights at the end of an epoch: change them in on_epoch_begin. "
                f"Received: a change of {variable.path}"
            )
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)


def optimizers_in(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer, followed by all optimizers that it wraps, at any depth."""
    result = [optimizer]
    for one in result:  # grows during the loop
        for value in vars(one).values():
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
            wrapped = [v for v in inside if isinstance(v, keras.optimizers.Optimizer)]
            result += [v for i, v in enumerate(wrapped) if not any(v is other for other in (*result, *wrapped[:i]))]
    return result


def refuse_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raise `Misuse` for options that the training loop does not support. The optimizer must be built."""
    for one in optimizers_in(optimizer):
        if one.gradient_accumulation_steps:
            raise Misuse(
                "each batch makes one update: leave gradient_accumulation_steps out and multiply batch_size by it. "
                f"Received: gradient_accumulation_steps={one.gradient_accumulation_steps}"
            )
        rate = one._learning_rate
        if callable(rate) and not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            raise Misuse(
                "a function as learning rate would be called only once, when the update is compiled: pass a number or a "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {rate!r}"
            )


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Current learning rate of an optimizer; of a `MultiOptimizer` that of the first."""
    while not hasattr(optimizer, "learning_rate"):
        optimizer = optimizers_in(optimizer)[1]
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def with_loss_scaling(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer, wrapped in a `LossScaleOptimizer` if a layer computes in float16, whose gradients could underflow."""
    half = any(layer.compute_dtype == "float16" for layer in layers_of(model))
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or not half:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def loss_scale_exhausted(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a dynamic loss scale fell below the smallest float16 number: gradients overflow at any scale."""
    smallest = np.finfo(np.float16).tiny
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and float(optimizer.dynamic_scale) < smallest


# --- replicas --------------------------------------------------------------------------------------------------------


def split_batch(size: int, replicas: int) -> tuple[np.ndarray, np.float32]:
    """Split a batch evenly over replicas.

    Returns:
        First and last position (exclusive) of each replica's part, int32 [2, replicas], and the number that sums of losses are
        divided by.
    """
    if size < replicas:  # each replica takes the whole batch, with a weight of 1 / replicas
        return np.tile(np.int32([[0], [size]]), replicas), np.float32(size * replicas)
    edges = np.cumsum([0] + [size // replicas + (i < size % replicas) for i in range(replicas)])
    return np.int32([edges[:-1], edges[1:]]), np.float32(size)


def all_reduce_sums(tensors: list[tf.Tensor | None], replicas: int) -> list[tf.Tensor | None]:
    """Sums of tensors over all replicas; None stays None. Called in the context of each replica."""
    if replicas == 1:
        return tensors
    present = [tensor for tensor in tensors if tensor is not None]
    summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if tensor is None else next(summed) for tensor in tensors]


def disable_gradient_sums(optimizer: keras.optimizers.Optimizer) -> None:
    """Keep an optimizer from summing gradients over replicas, since they are summed before they are clipped.

    Also lets each replica overwrite its weights by their moving average, which Keras cannot do inside `tf.cond`.
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


def replica_variables(variable: keras.Variable) -> list:
    """The variables to save for a Keras variable: one for each replica if they differ (as in metrics), else itself."""
    if variable.value.__class__.__name__ == "SyncOnReadVariable":
        return [graphs.CapturedVariable(part.handle) for part in variable.value.values]
    return [variable]


def broadcast_from_chief(strategy: tf.distribute.Strategy, workers: int) -> Callable[..., tuple]:
    """Make a function f(*numbers) that returns the chief's numbers in every worker, so that all take the same decisions.

    Workers may get different numbers, since their processors may round differently. It takes at most 3 numbers.
    """
    if workers == 1:
        return lambda *numbers: numbers

    def share(numbers):
        context = tf.distribute.get_replica_context()
        chiefs = tf.where(tf.equal(context.replica_id_in_sync_group, 0), numbers, tf.zeros_like(numbers))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, chiefs)

    signature = [tf.TensorSpec((3,), tf.float64)]
    shared = tf.function(lambda numbers: strategy.run(share, args=(numbers,)), input_signature=signature)

    def broadcast(*numbers):
        result = shared(np.resize(np.float64(numbers), 3))
        return tuple(strategy.experimental_local_results(result)[0].numpy()[: len(numbers)].tolist())

    return broadcast


def penalty(model: keras.Model, share: tf.Tensor, replicas: int) -> tf.Tensor | float:
    """A replica's part of a model's penalties; the parts of all replicas add up to those of the whole batch.

    Weight penalties are divided by the number of replicas. Losses of `add_loss` and activity penalties are means over the
    replica's examples, so they are multiplied by its share of the batch.

    Args:
        share: fraction of the batch's examples that this replica has.

    Raises:
        Misuse: a layer adds a loss that is not a scalar.
    """
    losses = [tf.cast(loss, tf.float32) for loss in model.losses]
    for loss in losses:
        if loss.shape.rank:
            raise Misuse(f"add_loss takes a scalar: take the mean over the batch. Received: a tensor of shape {loss.shape}")
    if replicas > 1 and losses:
        added = len(losses) - len(model._get_regularization_losses())
        losses = [share * loss for loss in losses[:added]] + [loss / replicas for loss in losses[added:]]
    return tf.add_n(losses) if losses else 0.0


# --- untracked variables ---------------------------------------------------------------------------------------------


def custom_fields(one: keras.layers.Layer | keras.optimizers.Optimizer) -> dict:
    """Attributes of a layer or an optimizer beyond those that every layer and optimizer has."""
    return {name: value for name, value in vars(one).items() if name not in _common_fields() and not name.startswith("_self_")}


@functools.cache
def _common_fields() -> frozenset[str]:
    bare = (keras.layers.Layer(name="bare"), keras.Model(name="bare"), keras.optimizers.Optimizer(0.1, name="bare"))
    return frozenset(name for one in bare for name in vars(one))


def refuse_hidden_variables(model: keras.Model) -> None:
    """Raise `Misuse` if a layer holds a variable that Keras does not track, so that it is neither trained nor saved."""
    tracked = [*model.variables, *model.metrics_variables]
    known = {id(variable) for variable in tracked} | {id(variable.value) for variable in tracked}
    for layer in layers_of(model):
        for name, value in custom_fields(layer).items():
            for one in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, tf.Variable | keras.Variable) and id(one) not in known:
                    raise Misuse(
                        "a layer's variables must be created by self.add_weight, so that Keras trains and saves them. Received: "
                        f"`{name}` of the layer {layer.name}"
                    )


# --- downloads --------------------------------------------------------------------------------------------------------


def keras_folder() -> pathlib.Path:
    """Folder of Keras' downloads: in workers `KERAS_DOWNLOADS`, since their `KERAS_HOME` is another folder."""
    return pathlib.Path(os.environ.get("KERAS_DOWNLOADS") or config.keras_home())
