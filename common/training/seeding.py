"""Initial weights and noise that depend on the seed and the layer alone, also where replicas share a batch."""

import collections
import contextlib
import copy
import functools
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.backend.common.name_scope import current_path
from keras.src.backend.common.variables import Variable
from keras.src.backend.tensorflow import random as tensorflow_random
from keras.src.initializers.random_initializers import RandomInitializer
from keras.src.ops import operation as operations
from keras.src.random import seed_generator
from keras.src.utils import naming
from keras.src.utils.python_utils import is_default

from common.data.streams import Streams
from common.errors import Misuse
from common.training import draws


class _AutomaticSeed(int):
    """A seed that Keras has drawn for an initialiser. Whoever copies the seed copies also that the caller did not choose it."""


class _AutomaticName(str):
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

    The same holds for a `keras.Variable` that a layer's `build` makes, of an initialiser or of an array drawn there. An
    initialiser that is called elsewhere draws as `keras.random` does, see `draws`.

    Raises:
        Misuse: an initialiser that draws from a `SeedGenerator` with a seed, or for a variable outside of a `build`.
    """
    original, made, initialised = keras.layers.Layer.add_weight, keras.layers.Layer.__new__, Variable.__init__
    alike: collections.Counter = collections.Counter()  # weights of one layer that share name and shape are told apart
    paths: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def seeded(layer, wanted, shape, name):
        """An initialiser that draws by a layer's seed where it draws, and by what the weight is known, None for a constant."""
        path = paths.setdefault(layer, _path_when_built(layer))
        weight = (path, name or "", str(tuple(shape or ())))
        seed = streams.key("init", *weight, alike[layer, weight])
        initializer, draws_one = _seeded(wanted, seed, shape or ())
        if not draws_one:
            return initializer, None
        alike[layer, weight] += 1
        return initializer, (*weight, alike[layer, weight] - 1)

    def add_weight(layer, *args, shape=None, initializer=None, dtype=None, name=None, **kwargs):
        names = ("shape", "initializer", "dtype")
        given = {"shape": shape, "initializer": initializer, "dtype": dtype, **dict(zip(names, args, strict=False))}
        wanted = keras.initializers.get(given["initializer"])
        if wanted is None and "float" in keras.backend.standardize_dtype(given["dtype"] or layer.variable_dtype):
            wanted = keras.initializers.GlorotUniform()  # what Keras takes when none is named
        given["initializer"], weight_key = seeded(layer, wanted, given["shape"], name)
        adding.append(layer)
        try:
            variable = original(layer, *args[len(names) :], **given, name=name, **kwargs)
        finally:
            adding.pop()
        if weight_key:
            variable._weight_key, variable._seeded_initializer = weight_key, given["initializer"]
        return variable

    adding: list[keras.layers.Layer] = []

    def initialise(variable, initializer, shape=None, *args, name=None, **kwargs):
        weight_key = None
        if not adding and (
            isinstance(initializer, str | keras.Initializer) or (callable(initializer) and not _of_keras(initializer))
        ):
            wanted = keras.initializers.get(initializer)
            scopes = get_global_attribute("name_scope_stack") or []
            layer = scopes[-1].caller if scopes else None
            if isinstance(layer, keras.Layer):
                initializer, weight_key = seeded(layer, wanted, shape, name)
            elif _seeded(wanted, 0, shape or ())[1]:
                raise Misuse(
                    "random variables of a layer are made in its build, by self.add_weight, where they do not depend on the "
                    "layers before; elsewhere give the initializer a seed. Received: a keras.Variable of "
                    f"{getattr(wanted, '__name__', type(wanted).__name__)}, shape {tuple(shape or ())}"
                )
        initialised(variable, initializer, shape, *args, name=name, **kwargs)
        if weight_key:
            variable._weight_key, variable._seeded_initializer = weight_key, initializer

    def make(cls, *args, **kwargs):
        layer = made(cls, *args, **kwargs)
        if not _of_keras(cls) and not is_default(layer.build):
            layer.build = _built_by_path(layer, layer.build, streams)
        return layer

    def draw_seed(seed):
        return seed_generator.draw_seed(None if isinstance(seed, _AutomaticSeed) and not _seed_override else seed)

    def automatic_name(prefix):
        name = _AutomaticName(naming.auto_name(prefix))
        name.base = naming.to_snake_case(prefix)
        name.number = int(name.removeprefix(name.base)[1:] or 0)
        return name

    counted = get_global_attribute("object_name_uids")
    set_global_attribute("object_name_uids", _automatic_names.setdefault(streams, collections.defaultdict(int)))
    keras.layers.Layer.add_weight, keras.layers.Layer.__new__, Variable.__init__ = add_weight, make, initialise
    tensorflow_random.draw_seed = draw_seed
    operations.auto_name = automatic_name
    RandomInitializer.seed = property(_seed_of, lambda initializer, seed: vars(initializer).update(seed=seed))
    try:
        yield
    finally:
        del RandomInitializer.seed
        operations.auto_name = naming.auto_name
        tensorflow_random.draw_seed = seed_generator.draw_seed
        keras.layers.Layer.add_weight, keras.layers.Layer.__new__, Variable.__init__ = original, made, initialised
        set_global_attribute("object_name_uids", counted)


def has_initial_values(variable: keras.Variable) -> bool:
    """Whether a variable still has the random values that it was made with."""
    draw = getattr(variable, "_seeded_initializer", None)
    return draw is not None and np.array_equal(variable, draw(variable.shape, dtype=variable.dtype))


_seed_override: list[int] = []
"""The seed that is taken instead of drawn ones while an initialiser runs that calls others."""


def _seed_of(initializer: RandomInitializer):
    """The seed of an initialiser, marked where Keras has drawn it."""
    seed = vars(initializer)["seed"]
    return _AutomaticSeed(_seed_override[-1] if _seed_override else seed) if initializer._init_seed is None else seed


def _of_keras(one: type | Callable) -> bool:
    """Whether a class, a function or an object is Keras' own."""
    return (getattr(one, "__module__", None) or "").split(".")[0] == "keras"


def _built_by_path(layer: keras.layers.Layer, build: Callable, streams: Streams) -> Callable:
    """A layer's `build`, within which the global generators draw by the layer's path alone."""

    @functools.wraps(build)
    def call(*args, **kwargs):
        path = _path_when_built(layer, f"{current_path()}/{layer.name}".lstrip("/"))
        with draws.temporary_global_seed(streams.key("init", path, "build")):
            before = draws.generator_states()  # that of Keras is not there yet
            build(*args, **kwargs)
            drew = tf.executing_eagerly() and repr(draws.generator_states()) != repr(before)
        for i, variable in enumerate([*layer._trainable_variables, *layer._non_trainable_variables] if drew else ()):
            if not hasattr(variable, "_weight_key"):
                variable._weight_key = (path, i, "drawn")

    return call


def _path_when_built(layer: keras.layers.Layer, path: str | None = None) -> str:
    """A layer's path below the model that is being built, without automatic names of models."""
    models = [scope.caller for scope in get_global_attribute("name_scope_stack") or [] if isinstance(scope.caller, keras.Model)]
    parts = (path or layer.path or ("" if isinstance(layer, keras.Model) else layer.name)).split("/")
    for model in models:
        if model.name in parts and (model is models[0] or isinstance(model.name, _AutomaticName)):
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
        elif not isinstance(chosen, _AutomaticSeed):
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
        _seed_override.append(seed)
        try:
            with draws.temporary_global_seed(seed):
                return initializer(shape, dtype=dtype)
        finally:
            _seed_override.pop()

    with tf.init_scope():
        first, second = (keras.ops.convert_to_numpy(draw(shape, "float32", seed=s)) for s in (seed, seed ^ 1))
    return draw, not np.array_equal(first, second)


class _PlacedLayer(NamedTuple):
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
        if isinstance(name, _AutomaticName):
            return name.base, name.number
        base = naming.to_snake_case(type(self.layer).__name__)
        copied = re.fullmatch(rf"(?:forward|backward)_{base}(?:_(\d+))?", name)
        return (base, int(copied[1] or 0)) if copied and isinstance(self.holder, keras.layers.Bidirectional) else None


def _placed_layers(model: keras.Model) -> list[_PlacedLayer]:
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
            if isinstance(name, _AutomaticName) and isinstance(layer, keras.Model):
                name = ""
            elif isinstance(name, _AutomaticName) and not isinstance(place.layer, keras.Model):
                name = f"{layer.name.base}#{held[layer.name.base]}"
                held[layer.name.base] += 1
            if id(layer) not in found:
                path, whole = ("/".join(filter(None, parts)) for parts in ((place.path, name), (place.whole, layer.name)))
                add(_PlacedLayer(layer, path, whole, place.layer))

    add(_PlacedLayer(model, "", "", None))
    return places


def refuse_shared_names(model: keras.Model, earlier: Iterable[keras.Model]) -> None:
    """Raises `Misuse` for layers of a model that would have equal weights or masks, or such as depend on another model.

    Two layers that are known by the same path start with the same weights and drop the same units. An automatic name counts
    the layers before it, those of other models as well; layers of models that were trained earlier are as they are.
    """
    places = _placed_layers(model)
    weights, noises = {}, {}
    for place in places:
        for weight in place.weights:
            other, twin = weights.setdefault(getattr(weight, "_weight_key", id(weight)), (place, weight))
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
    settled = {id(place.layer) for other in earlier for place in _placed_layers(other)}
    for place in places:
        name = place.automatic()
        if not name or isinstance(place.layer, keras.Model) or id(place.layer) in settled:
            continue
        if numbers[name[0]] != set(range(len(numbers[name[0]]))) and _depends_on_its_name(place):
            raise Misuse(
                "a layer with weights or noise that comes after another model needs a name of its own: an automatic one counts "
                f"the layers of both, and weights and noise depend on it. Received: {place.whole} ({type(place.layer).__name__})"
            )


def _depends_on_its_name(place: _PlacedLayer) -> bool:
    """Whether initial weights, or noise, at or below a place depend on the layer's name."""
    if any(hasattr(weight, "_weight_key") for weight in place.layer.weights):
        return True
    noisy = any(layer._seed_generators for layer in place.layer._flatten_layers())
    return noisy and isinstance(place.holder, keras.Model)


def use_plain_names(model: keras.Model) -> None:
    """Make automatic names of a model and its layers plain strings, as which alone HDF5 takes them."""
    for layer in layers_of(model):
        layer.name = str(layer.name)


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The model and all layers within it, at any depth."""
    return model._flatten_layers()


def seed_noise(model: keras.Model, streams: Streams, epochs: int) -> None:
    """Give every dropout and other random layer a state that depends on the seed, the layer and the epochs before alone."""
    for place in _placed_layers(model):
        for i, generator in enumerate(place.layer._seed_generators):
            generator.state.assign([streams.key("noise", epochs, place.path, i), 0])


@contextlib.contextmanager
def separate_replicas(model: keras.Model, streams: Streams, replicas: int) -> Iterator[None]:
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
            return seed  # see `draws.forbid_global_noise`
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
