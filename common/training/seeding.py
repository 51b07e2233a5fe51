"""Seeds initial weights and the noise of random layers, so that they depend only on the trial's seed and the layer."""

import collections
import contextlib
import copy
import functools
import hashlib
import re
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
from common.training.saving import plain_names_in_files


class _AutomaticSeed(int):
    """A seed that Keras drew for an initialiser. The type marks it, also in copies, as not chosen by the caller."""


class _AutomaticName(str):
    """A name that Keras made of a class name and the number of such names before it in the trial, such as "dense_1"."""

    base: str
    number: int


_automatic_names: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""Number of automatic names of each class so far, by the `Streams` of the trial."""


@contextlib.contextmanager
def seeded_weights(streams: Streams) -> Iterator[None]:
    """Context manager in which a layer's initial weights depend only on (seed, layer path, weight name, shape).

    Keras draws the seeds of initialisers in construction order, so one more layer would change the weights of all later ones. An
    initialiser with a seed of the caller is left as it is. The path is relative to the model in which the layer is built,
    without automatic names of models. `refuse_shared_names` refuses layers with the same path, and automatic names that count
    layers of other models.

    The same holds for a `keras.Variable` that a layer creates in `build`, from an initialiser or from an array drawn there.
    Initialisers that are called elsewhere draw as `keras.random` does, see `draws`.

    Raises:
        Misuse: an initialiser with a seeded `SeedGenerator`, or a random variable of a layer created outside of `build`.
    """
    original_add_weight, original_new = keras.layers.Layer.add_weight, keras.layers.Layer.__new__
    original_init = Variable.__init__
    repeats: collections.Counter = collections.Counter()  # counts weights of one layer with the same name and shape
    paths: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def seeded(layer, initializer, shape, name):
        """The initialiser with the layer's seed, and the key that identifies the weight; None for constants."""
        path = paths.setdefault(layer, _path_when_built(layer))
        weight = (path, name or "", str(tuple(shape or ())))
        seed = streams.key("init", *weight, repeats[layer, weight])
        initializer, is_random = _seeded(initializer, seed, shape or ())
        if not is_random:
            return initializer, None
        repeats[layer, weight] += 1
        return initializer, (*weight, repeats[layer, weight] - 1)

    def add_weight(layer, *args, shape=None, initializer=None, dtype=None, name=None, **kwargs):
        names = ("shape", "initializer", "dtype")
        options = {"shape": shape, "initializer": initializer, "dtype": dtype, **dict(zip(names, args, strict=False))}
        initializer = keras.initializers.get(options["initializer"])
        if initializer is None and "float" in keras.backend.standardize_dtype(options["dtype"] or layer.variable_dtype):
            initializer = keras.initializers.GlorotUniform()  # Keras' default
        options["initializer"], weight_key = seeded(layer, initializer, options["shape"], name)
        adding.append(layer)
        try:
            variable = original_add_weight(layer, *args[len(names) :], **options, name=name, **kwargs)
        finally:
            adding.pop()
        if weight_key:
            variable._weight_key, variable._seeded_initializer = weight_key, options["initializer"]
        return variable

    adding: list[keras.layers.Layer] = []

    def initialise(variable, initializer, shape=None, *args, name=None, **kwargs):
        weight_key = None
        if not adding and (
            isinstance(initializer, str | keras.Initializer) or (callable(initializer) and not _of_keras(initializer))
        ):
            requested = keras.initializers.get(initializer)
            scopes = get_global_attribute("name_scope_stack") or []
            layer = scopes[-1].caller if scopes else None
            if isinstance(layer, keras.Layer):
                initializer, weight_key = seeded(layer, requested, shape, name)
            elif _seeded(requested, 0, shape or ())[1]:
                raise Misuse(
                    "random variables of a layer must be created in its build, by self.add_weight, so that they do not depend on "
                    "other layers; elsewhere give the initializer a seed. Received: a keras.Variable of "
                    f"{getattr(requested, '__name__', type(requested).__name__)}, shape {tuple(shape or ())}"
                )
        original_init(variable, initializer, shape, *args, name=name, **kwargs)
        if weight_key:
            variable._weight_key, variable._seeded_initializer = weight_key, initializer

    def make(cls, *args, **kwargs):
        layer = original_new(cls, *args, **kwargs)
        if not _of_keras(cls) and not is_default(layer.build):
            layer.build = _built_by_path(layer, layer.build, streams)
        return layer

    def draw_seed(seed):
        if isinstance(seed, _AutomaticSeed):
            seed = _seed_override[-1].next() if _seed_override else None
        return seed_generator.draw_seed(seed)

    def automatic_name(prefix):
        name = _AutomaticName(naming.auto_name(prefix))
        name.base = naming.to_snake_case(prefix)
        name.number = int(name.removeprefix(name.base)[1:] or 0)
        return name

    name_counts = get_global_attribute("object_name_uids")
    set_global_attribute("object_name_uids", _automatic_names.setdefault(streams, collections.defaultdict(int)))
    keras.layers.Layer.add_weight, keras.layers.Layer.__new__, Variable.__init__ = add_weight, make, initialise
    tensorflow_random.draw_seed = draw_seed
    operations.auto_name = automatic_name
    RandomInitializer.seed = property(_seed_of, lambda initializer, seed: vars(initializer).update(seed=seed))
    try:
        with plain_names_in_files():
            yield
    finally:
        del RandomInitializer.seed
        operations.auto_name = naming.auto_name
        tensorflow_random.draw_seed = seed_generator.draw_seed
        keras.layers.Layer.add_weight, keras.layers.Layer.__new__ = original_add_weight, original_new
        Variable.__init__ = original_init
        set_global_attribute("object_name_uids", name_counts)


def has_initial_values(variable: keras.Variable) -> bool:
    """Whether a variable still has its random initial values."""
    draw = getattr(variable, "_seeded_initializer", None)
    return draw is not None and np.array_equal(variable, draw(variable.shape, dtype=variable.dtype))


class _Override:
    """The seeds that replace automatic seeds while an initialiser calls other initialisers: another one for each draw."""

    def __init__(self, seed: int):
        self.seed, self.draws = seed, 0

    def next(self) -> int:
        """The seed of the next draw."""
        self.draws += 1
        if self.draws == 1:
            return self.seed
        return int.from_bytes(hashlib.blake2b(f"{self.seed},{self.draws}".encode(), digest_size=4).digest()) >> 1


_seed_override: list[_Override] = []


def _seed_of(initializer: RandomInitializer):
    """The seed of an initialiser, as `_AutomaticSeed` if Keras drew it."""
    seed = vars(initializer)["seed"]
    return _AutomaticSeed(_seed_override[-1].seed if _seed_override else seed) if initializer._init_seed is None else seed


def _of_keras(one: type | Callable) -> bool:
    """Whether a class, a function or an object is defined in Keras."""
    return (getattr(one, "__module__", None) or "").split(".")[0] == "keras"


def _built_by_path(layer: keras.layers.Layer, build: Callable, streams: Streams) -> Callable:
    """Wrap a layer's `build` so that draws from the global generators within depend only on the seed and the layer's path."""

    @functools.wraps(build)
    def call(*args, **kwargs):
        path = _path_when_built(layer, f"{current_path()}/{layer.name}".lstrip("/"))
        with draws.temporary_global_seed(streams.key("init", path, "build")):
            before = draws.generator_states()  # without that of Keras, which is created when it is used
            build(*args, **kwargs)
            has_drawn = tf.executing_eagerly() and repr(draws.generator_states()) != repr(before)
        for i, variable in enumerate([*layer._trainable_variables, *layer._non_trainable_variables] if has_drawn else ()):
            if not hasattr(variable, "_weight_key"):
                variable._weight_key = (path, i, "drawn")

    return call


def _path_when_built(layer: keras.layers.Layer, path: str | None = None) -> str:
    """A layer's path relative to the model that is being built, without automatic names of models."""
    models = [scope.caller for scope in get_global_attribute("name_scope_stack") or [] if isinstance(scope.caller, keras.Model)]
    parts = (path or layer.path or ("" if isinstance(layer, keras.Model) else layer.name)).split("/")
    for model in models:
        if model.name in parts and (model is models[0] or isinstance(model.name, _AutomaticName)):
            parts.remove(model.name)
    return "/".join(parts)


def _seeded(initializer, seed: int, shape) -> tuple[Callable | None, bool]:
    """An initialiser with this seed, unless the caller chose another one, and whether it is random with this seed."""
    if isinstance(initializer, RandomInitializer):
        chosen = initializer.seed
        if isinstance(chosen, keras.random.SeedGenerator):
            chosen = chosen._initial_seed
            if chosen is not None:
                raise Misuse(
                    "the seed of an initializer must be an integer or None, since draws from a SeedGenerator depend on the "
                    f"layers built before. Received: {type(initializer).__name__}(seed=SeedGenerator({chosen}))"
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
        _seed_override.append(_Override(seed))
        try:
            with draws.temporary_global_seed(seed):
                return initializer(shape, dtype=dtype)
        finally:
            _seed_override.pop()

    with tf.init_scope():
        first, second = (keras.ops.convert_to_numpy(draw(shape, "float32", seed=s)) for s in (seed, seed ^ 1))
    return draw, not np.array_equal(first, second)


class PlacedLayer(NamedTuple):
    """A layer with its place in a model.

    `path` seeds its noise; `full_path` contains automatic names as well; `parent` is the layer or model that contains it.
    """

    layer: keras.layers.Layer
    path: str
    full_path: str
    parent: keras.layers.Layer | None

    @property
    def weights(self) -> list[keras.Variable]:
        """The layer's weights, without those of the layers in it."""
        return [*self.layer._trainable_variables, *self.layer._non_trainable_variables]

    def automatic(self) -> tuple[str, int] | None:
        """Class and number of an automatic name, else None. Layers in `Bidirectional` have the name of the layer they copy."""
        name = self.layer.name
        if isinstance(name, _AutomaticName):
            return name.base, name.number
        base = naming.to_snake_case(type(self.layer).__name__)
        copied = re.fullmatch(rf"(?:forward|backward)_{base}(?:_(\d+))?", name)
        return (base, int(copied[1] or 0)) if copied and isinstance(self.parent, keras.layers.Bidirectional) else None


def placed_layers(model: keras.Model) -> list[PlacedLayer]:
    """The model and all layers in it, at any depth, each once.

    Paths leave out automatic names of models. The automatic name of a layer within a layer, which the user may not be able to
    choose, is replaced by its class and its number among the layers there.
    """
    seen, places = set(), []

    def add(place):
        seen.add(id(place.layer))
        places.append(place)
        counts: collections.Counter = collections.Counter()
        for layer in place.layer._layers:
            name = layer.name
            if isinstance(name, _AutomaticName) and isinstance(layer, keras.Model):
                name = ""
            elif isinstance(name, _AutomaticName) and not isinstance(place.layer, keras.Model):
                name = f"{layer.name.base}#{counts[layer.name.base]}"
                counts[layer.name.base] += 1
            if id(layer) not in seen:
                path, full = ("/".join(filter(None, parts)) for parts in ((place.path, name), (place.full_path, layer.name)))
                add(PlacedLayer(layer, path, full, place.layer))

    add(PlacedLayer(model, "", "", None))
    return places


def refuse_shared_names(model: keras.Model, earlier: Iterable[keras.Model]) -> None:
    """Raise `Misuse` for layers that would share initial weights or noise, or whose seeds depend on other models.

    Layers with the same path have the same initial weights and dropout masks. An automatic name also counts the layers of models
    built before; layers of `earlier` models, which earlier stages trained, are accepted.
    """
    places = placed_layers(model)
    weights, noises = {}, {}
    for place in places:
        for weight in place.weights:
            other, twin = weights.setdefault(getattr(weight, "_weight_key", id(weight)), (place, weight))
            if twin is not weight and np.array_equal(*map(keras.ops.convert_to_numpy, (weight, twin))):
                raise Misuse(
                    "two layers with the same name would have the same initial weights: give them different names, or build the "
                    f"models that contain them each within a keras.name_scope. Received: {other.full_path} and {place.full_path}"
                )
        if place.layer._seed_generators and noises.setdefault(place.path, place) is not place:
            raise Misuse(
                "two layers with the same name would draw the same noise: give them, or the layers and models that contain them, "
                f"different names. Received: {noises[place.path].full_path} and {place.full_path}"
            )
    numbers = collections.defaultdict(set)
    for place in places:
        if place.automatic():
            numbers[place.automatic()[0]].add(place.automatic()[1])
    trained = {id(place.layer) for other in earlier for place in placed_layers(other)}
    for place in places:
        name = place.automatic()
        if not name or isinstance(place.layer, keras.Model) or id(place.layer) in trained:
            continue
        if numbers[name[0]] != set(range(len(numbers[name[0]]))) and _depends_on_its_name(place):
            raise Misuse(
                "a layer of a second model needs a name (name=…), since weights and noise depend on it, and an automatic name "
                f"counts the layers of both models. Received: {place.full_path} ({type(place.layer).__name__})"
            )


def _depends_on_its_name(place: PlacedLayer) -> bool:
    """Whether initial weights, or noise, of a layer or of layers in it depend on its name."""
    if any(hasattr(weight, "_weight_key") for weight in place.layer.weights):
        return True
    noisy = any(layer._seed_generators for layer in place.layer._flatten_layers())
    return noisy and isinstance(place.parent, keras.Model)


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The model and all layers in it, at any depth."""
    return model._flatten_layers()
