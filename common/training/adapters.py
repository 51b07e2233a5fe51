"""What adapts Keras and TensorFlow to the training loop, and the only place that touches their private parts.

Losses per example, callbacks without `fit`, batches shared by replicas, and weights and noise that depend on the seed and the
layer alone.
"""

import collections
import contextlib
import copy
import functools
import inspect
import pathlib
import random
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.initializers.random_initializers import RandomInitializer
from keras.src.ops import operation as operations
from keras.src.random import seed_generator
from keras.src.utils import naming
from keras.src.utils.file_utils import config
from tensorflow.python.eager import context
from tensorflow.python.framework import auto_control_deps_utils
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


# --- weights and noise -----------------------------------------------------------------------------------------------


class _Drawn(int):
    """A seed that Keras has drawn for an initialiser. Whoever copies the seed copies also that the caller did not choose it."""


class _Automatic(str):
    """A name that Keras has made of a class, and of the number of such names before it in the trial."""

    base: str
    number: int


_automatic_names: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""How many automatic names there are so far of each class, by the streams of a trial."""


@contextlib.contextmanager
def seeded_weights(streams: Streams) -> Iterator[None]:
    """Within: a layer's initial weights depend on (seed, layer path, weight name, shape) alone.

    Keras draws the seeds of its initialisers in construction order, so one more layer changes the weights of all
    later ones. An initialiser whose seed the caller chose is left alone. The path is that below the model in which the
    layer is built; automatic names of models are left out. `refuse_shared_names` finds the layers that would share a
    path, and those whose automatic name counts the layers of other models.

    Raises:
        Misuse: an initialiser that draws from a `SeedGenerator` with a seed.
    """
    original = keras.layers.Layer.add_weight
    alike: collections.Counter = collections.Counter()  # weights of one layer that share name and shape are told apart
    paths: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def add_weight(layer, *args, shape=None, initializer=None, dtype=None, name=None, **kwargs):
        names = ("shape", "initializer", "dtype")
        given = {"shape": shape, "initializer": initializer, "dtype": dtype, **dict(zip(names, args, strict=False))}
        wanted = keras.initializers.get(given["initializer"])
        if wanted is None and "float" in keras.backend.standardize_dtype(given["dtype"] or layer.variable_dtype):
            wanted = keras.initializers.GlorotUniform()  # what Keras takes when none is named
        path = paths.setdefault(layer, _path_when_built(layer))
        weight = (path, name or "", str(tuple(given["shape"] or ())))
        seed = streams.key("init", *weight, alike[layer, weight])
        given["initializer"], random = _seeded(wanted, seed, given["shape"] or ())
        variable = original(layer, *args[len(names) :], **given, name=name, **kwargs)
        if random:
            variable._known_by = (*weight, alike[layer, weight])
            alike[layer, weight] += 1
        return variable

    def automatic_name(prefix):
        name = _Automatic(naming.auto_name(prefix))
        name.base = naming.to_snake_case(prefix)
        name.number = int(name.removeprefix(name.base)[1:] or 0)
        return name

    counted = get_global_attribute("object_name_uids")
    set_global_attribute("object_name_uids", _automatic_names.setdefault(streams, collections.defaultdict(int)))
    keras.layers.Layer.add_weight = add_weight
    operations.auto_name = automatic_name
    RandomInitializer.seed = property(_seed_of, lambda initializer, seed: vars(initializer).update(seed=seed))
    try:
        yield
    finally:
        del RandomInitializer.seed
        operations.auto_name = naming.auto_name
        keras.layers.Layer.add_weight = original
        set_global_attribute("object_name_uids", counted)


_instead: list[int] = []
"""The seed that is taken instead of drawn ones while an initialiser runs that calls others."""


def _seed_of(initializer: RandomInitializer):
    """The seed of an initialiser, marked where Keras has drawn it."""
    seed = vars(initializer)["seed"]
    return _Drawn(_instead[-1] if _instead else seed) if initializer._init_seed is None else seed


def _path_when_built(layer: keras.layers.Layer) -> str:
    """A layer's path below the model that is being built, without automatic names of models."""
    models = [scope.caller for scope in get_global_attribute("name_scope_stack") or [] if isinstance(scope.caller, keras.Model)]
    parts = (layer.path or ("" if isinstance(layer, keras.Model) else layer.name)).split("/")
    for model in models:
        if model.name in parts and (model is models[0] or isinstance(model.name, _Automatic)):
            parts.remove(model.name)
    return "/".join(parts)


def _seeded(initializer, seed: int, shape) -> tuple[Callable | None, bool]:
    """An initialiser that draws by a seed, unless the caller chose one, and whether it does."""
    if isinstance(initializer, RandomInitializer):
        chosen = initializer.seed
        if isinstance(chosen, keras.random.SeedGenerator):
            chosen = chosen._initial_seed
            if chosen is not None:
                raise Misuse(
                    "an initializer that draws from a SeedGenerator gives weights that depend on the layers built before: take "
                    f"an integer as its seed, or none. Received: {type(initializer).__name__}(seed=SeedGenerator({chosen}))"
                )
        elif not isinstance(chosen, _Drawn):
            return initializer, False
        initializer = copy.copy(initializer)
        initializer.seed = initializer._init_seed = seed
        return initializer, True
    if initializer is None or (isinstance(initializer, keras.Initializer) and type(initializer).__module__.startswith("keras.")):
        return initializer, False  # a constant
    config = initializer.get_config() if isinstance(initializer, keras.Initializer) else {}
    if config.get("seed", seed) is None:
        initializer = type(initializer).from_config({**config, "seed": seed})

    def draw(shape, dtype=None, seed=seed):
        with _global_seeds(seed):
            return initializer(shape, dtype=dtype)

    with tf.init_scope():
        first, second = (keras.ops.convert_to_numpy(draw(shape, "float32", seed=s)) for s in (seed, seed ^ 1))
    return draw, not np.array_equal(first, second)


@contextlib.contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """Within, the global generators of Python, NumPy, TensorFlow and Keras start at a seed, as do initialisers without one.

    Afterwards they go on as before.
    """
    tensorflow = context.context()
    python, numpy, generator = random.getstate(), np.random.get_state(), get_global_attribute("global_seed_generator")
    before, operations = tensorflow._seed, getattr(tensorflow, "_rng", None)
    random.seed(seed)
    np.random.seed(seed)
    tensorflow._set_global_seed(seed)
    set_global_attribute("global_seed_generator", None)
    _instead.append(seed)
    try:
        yield
    finally:
        _instead.pop()
        random.setstate(python)
        np.random.set_state(numpy)
        tensorflow._set_global_seed(before)
        tensorflow._rng = operations
        set_global_attribute("global_seed_generator", generator)


class _Place(NamedTuple):
    """A layer, the path below the model that its noise is known by, the whole path below it, and the layer that holds it."""

    layer: keras.layers.Layer
    path: str
    whole: str
    holder: keras.layers.Layer | None

    @property
    def weights(self) -> list[keras.Variable]:
        """Its own."""
        return [*self.layer._trainable_variables, *self.layer._non_trainable_variables]

    def automatic(self) -> tuple[str, int] | None:
        """Class and number of an automatic name. A layer in `Bidirectional` is called after the one that it is a copy of."""
        name = self.layer.name
        if isinstance(name, _Automatic):
            return name.base, name.number
        base = naming.to_snake_case(type(self.layer).__name__)
        copied = re.fullmatch(rf"(?:forward|backward)_{base}(?:_(\d+))?", name)
        return (base, int(copied[1] or 0)) if copied and isinstance(self.holder, keras.layers.Bidirectional) else None


def _places(model: keras.Model) -> list[_Place]:
    """The model and all layers within it, each once, at the first place where it is held.

    Left out of a path are automatic names of models; such a name of a layer within a layer, which its user may not be able
    to name, is replaced by its class and its number among the layers held there.
    """
    found, places = set(), []

    def add(place):
        found.add(id(place.layer))
        places.append(place)
        held: collections.Counter = collections.Counter()
        for layer in place.layer._layers:
            name = layer.name
            if isinstance(name, _Automatic) and isinstance(layer, keras.Model):
                name = ""
            elif isinstance(name, _Automatic) and not isinstance(place.layer, keras.Model):
                name = f"{layer.name.base}#{held[layer.name.base]}"
                held[layer.name.base] += 1
            if id(layer) not in found:
                path, whole = ("/".join(filter(None, parts)) for parts in ((place.path, name), (place.whole, layer.name)))
                add(_Place(layer, path, whole, place.layer))

    add(_Place(model, "", "", None))
    return places


def refuse_shared_names(model: keras.Model, earlier: Iterable[keras.Model]) -> None:
    """Raises `Misuse` for layers of a model that would have equal weights or masks, or such as depend on another model.

    Two layers that are known by the same path start with the same weights and drop the same units. An automatic name counts
    the layers before it, those of other models as well; layers of models that were trained earlier are as they are.
    """
    places = _places(model)
    weights, noises = {}, {}
    for place in places:
        for weight in place.weights:
            other, twin = weights.setdefault(getattr(weight, "_known_by", id(weight)), (place, weight))
            if twin is not weight and np.array_equal(*map(keras.ops.convert_to_numpy, (weight, twin))):
                raise Misuse(
                    "two layers known by one name start with the same weights: give each a name of its own, or build the models "
                    f"that hold them each within a keras.name_scope. Received: {other.whole} and {place.whole}"
                )
        if place.layer._seed_generators and noises.setdefault(place.path, place) is not place:
            raise Misuse(
                "two layers known by one name draw the same noise: give each, or the layers and models that hold them, a name "
                f"of its own. Received: {noises[place.path].whole} and {place.whole}"
            )
    numbers = collections.defaultdict(set)
    for place in places:
        if place.automatic():
            numbers[place.automatic()[0]].add(place.automatic()[1])
    settled = {id(place.layer) for other in earlier for place in _places(other)}
    for place in places:
        name = place.automatic()
        if not name or isinstance(place.layer, keras.Model) or id(place.layer) in settled:
            continue
        if numbers[name[0]] != set(range(len(numbers[name[0]]))) and _depends_on_its_name(place):
            raise Misuse(
                "a layer with weights or noise that comes after another model needs a name of its own: an automatic one counts "
                f"the layers of both, and weights and noise depend on it. Received: {place.whole} ({type(place.layer).__name__})"
            )


def _depends_on_its_name(place: _Place) -> bool:
    """Whether initial weights, or noise, at or below a place depend on the layer's name."""
    if any(hasattr(weight, "_known_by") for weight in place.layer.weights):
        return True
    noisy = any(layer._seed_generators for layer in place.layer._flatten_layers())
    return noisy and isinstance(place.holder, keras.Model)


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The model and all layers within it, at any depth."""
    return model._flatten_layers()


def seed_noise(model: keras.Model, streams: Streams, epochs: int) -> None:
    """Give every dropout and other random layer a state that depends on the seed, the layer and the epochs before alone."""
    for place in _places(model):
        for i, generator in enumerate(place.layer._seed_generators):
            generator.state.assign([streams.key("noise", epochs, place.path, i), 0])


@contextlib.contextmanager
def replicas_apart(model: keras.Model, streams: Streams, replicas: int) -> Iterator[None]:
    """Within, while an update is traced, each replica draws noise of its own, and has its own list of penalties.

    The replicas' threads take turns, and Keras would keep what their layers add in one list. The first replica draws what
    it would draw alone.

    Raises:
        Misuse: something draws noise that is no part of the model.
    """
    following = keras.random.SeedGenerator.next
    known = {id(generator) for layer in layers_of(model) for generator in layer._seed_generators}
    turns = [0] + [streams.key("noise", "replica", replica) for replica in range(1, replicas)]
    kept, foreign = collections.defaultdict(list), []

    def own(generator, *args, **kwargs):
        seed = following(generator, *args, **kwargs)
        if generator is get_global_attribute("global_seed_generator"):
            return seed  # see `refuse_global_noise`
        if id(generator) not in known:
            foreign.append(generator.state.path)
        replica = tf.distribute.get_replica_context()
        if replicas == 1 or replica is None:
            return seed
        turn = tf.gather(tf.constant(turns, seed.dtype), replica.replica_id_in_sync_group)
        return tf.bitwise.bitwise_xor(seed, tf.stack([turn, tf.zeros_like(turn)]))

    def penalties(layer):
        return kept[id(layer), threading.get_ident()]

    keras.random.SeedGenerator.next = own
    if replicas > 1:
        keras.layers.Layer._losses = property(penalties, lambda layer, value: vars(layer).update(_losses=value))
    try:
        yield
    except Misuse as error:
        raise Misuse(str(error).rsplit("Misuse: ", 1)[-1].strip()) from None  # TensorFlow has put the lines traced before it
    finally:
        keras.random.SeedGenerator.next = following
        if replicas > 1:
            del keras.layers.Layer._losses
    if foreign:
        raise Misuse(
            "a layer that is no part of the model draws noise in its update, which no seed of the trial decides and no "
            f"checkpoint holds: make it a layer of the model. Received: {foreign[0]}"
        )


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


@contextlib.contextmanager
def seeds_drawn_apart() -> Iterator[None]:
    """Within: seeds that Keras draws for layers leave Python's global generator as it is; they are the same as ever."""
    before = random.getstate()
    apart, original = random.Random(), seed_generator.python_random
    apart.setstate(before)
    seed_generator.python_random = apart
    try:
        yield
    finally:
        seed_generator.python_random = original
    if random.getstate() == before:
        random.setstate(apart.getstate())


def refuse_global_noise() -> None:
    """Raises `Misuse` where something has drawn from Keras' global generator, whose state no checkpoint holds."""
    if get_global_attribute("global_seed_generator") is not None:
        raise Misuse(
            "a model or step draws from Keras' global random generator, which a killed trial could not go on from: draw "
            "from the step's seed, or in a layer from a keras.random.SeedGenerator of its own"
        )


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


# --- optimizers ------------------------------------------------------------------------------------------------------


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


# --- compiled functions ----------------------------------------------------------------------------------------------

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
        if operation.type in CHANCE or any(attribute.name in ("seed", "seed2") for attribute in operation.op_def.attr):
            raise Misuse(
                "TensorFlow's own generators are neither seeded by the trial nor saved with it: draw from the step's seed or an "
                "augmentation's uniforms, or in a layer by keras.random from a keras.random.SeedGenerator of its own. "
                f"Received: {operation.type}{_place(operation)}"
            )


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


def written_outside(call: tf.types.experimental.PolymorphicFunction, known: Sequence) -> list[Outside]:
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
