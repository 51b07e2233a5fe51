"""What adapts Keras and TensorFlow to the training loop, and the only place that touches their private parts.

Losses per example, callbacks without `fit`, batches shared by replicas, and weights and noise that depend on the seed and the
layer alone.
"""

import collections
import contextlib
import inspect
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.utils.file_utils import config
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.ops import gradient_registry

from common.data.streams import Streams
from common.errors import Misuse
from common.tasks import Task

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
        raise Misuse(
            "loss must be a keras.losses.Loss or a function of (targets, logits): a name stands for probabilities, and models "
            f"here emit logits. Received: {loss!r}"
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
    """Keep an optimizer from summing gradients over replicas, which it would do after clipping: what it gets are sums already."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


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


# --- weights and noise -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seeded_weights(streams: Streams) -> Iterator[None]:
    """Within: a layer's initial weights depend on (seed, layer path, weight name, shape) alone.

    Keras draws the seeds of its initialisers in construction order, so one more layer changes the weights of all
    later ones. An initialiser whose seed the caller chose is left alone. Layers want names of their own: an automatic
    name such as `dense_1` counts the layers before it.
    """
    original = keras.layers.Layer.add_weight
    alike: collections.Counter = collections.Counter()  # weights of one layer that share name and shape are told apart

    def add_weight(layer, *args, shape=None, initializer=None, dtype=None, name=None, **kwargs):
        names = ("shape", "initializer", "dtype")
        given = {"shape": shape, "initializer": initializer, "dtype": dtype, **dict(zip(names, args, strict=False))}
        wanted = keras.initializers.get(given["initializer"])
        if wanted is None and str(given["dtype"] or "float").startswith("float"):
            wanted = keras.initializers.GlorotUniform()  # what Keras takes when none is named
        config = wanted.get_config() if isinstance(wanted, keras.Initializer) else {}
        if "seed" in config and config["seed"] is None:
            weight = (layer.path or layer.name, name or "", str(tuple(given["shape"] or ())))
            seed = streams.key("init", *weight, alike[layer, weight])
            alike[layer, weight] += 1
            wanted = type(wanted).from_config({**config, "seed": seed})
        given["initializer"] = wanted
        return original(layer, *args[len(names) :], **given, name=name, **kwargs)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = original


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The model and all layers within it, at any depth."""
    return model._flatten_layers()


def seed_noise(model: keras.Model, streams: Streams, epochs: int) -> None:
    """Give every dropout and other random layer a state that depends on the seed, the layer and the epochs before alone."""
    for layer in layers_of(model):
        for i, generator in enumerate(getattr(layer, "_seed_generators", ())):
            generator.state.assign([streams.key("noise", epochs, layer.path or layer.name, i), 0])


def refuse_global_noise() -> None:
    """Raises `Misuse` where something has drawn from Keras' global generator, whose state no checkpoint holds."""
    if get_global_attribute("global_seed_generator") is not None:
        raise Misuse(
            "a model or step draws from Keras' global random generator, which a killed trial could not go on from: draw "
            "from the step's seed, or in a layer from a keras.random.SeedGenerator of its own"
        )


# --- the rest ---------------------------------------------------------------------------------------------------------


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


def keras_folder() -> pathlib.Path:
    """Where Keras keeps what it has downloaded."""
    return pathlib.Path(config.keras_home())
