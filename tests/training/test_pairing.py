"""Initial weights and noise depend only on the seed and the layer, or are refused."""

import inspect
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from keras import initializers, layers, optimizers

from common.data.streams import Streams
from common.errors import Misuse
from common.training import noise, seeding
from common.training.seeding import seeded_weights

KNOWN = {
    "Activation": ("relu",),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(2, name="inner"), name="made"),
    "CategoryEncoding": (3,),
    "CenterCrop": (2, 2),
    "Discretization": ([0.0, 1.0],),
    "Dot": (1,),
    "EinsumDense": ("ab,bc->ac", 3),
    "Embedding": (5, 3),
    "GroupNormalization": (2,),
    "GroupQueryAttention": (4, 2, 1),
    "HashedCrossing": (3,),
    "Hashing": (3,),
    "InputLayer": ((3,),),
    "Lambda": (lambda x: x,),
    "MaxNumBoundingBoxes": (3,),
    "MultiHeadAttention": (2, 3),
    "Permute": ((2, 1),),
    "Pipeline": ([],),
    "RNN": lambda: layers.RNN(layers.GRUCell(2, name="inner"), name="made"),
    "RepeatVector": (2,),
    "Reshape": ((2, 2),),
    "Resizing": (2, 2),
    "ReversibleEmbedding": (5, 3, False),
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Dense(2, name="inner"), name="made"),
    "StackedRNNCells": lambda: layers.StackedRNNCells([layers.LSTMCell(2, name="inner")], name="made"),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2, name="inner"), name="made"),
    "Wrapper": lambda: layers.Wrapper(layers.Dense(2, name="inner"), name="made"),
}
"""Arguments of those Keras layers that cannot be made with one or two numbers."""
FOREIGN = {"TFSMLayer", "FlaxLayer", "JaxLayer", "TorchModuleWrapper", "Layer"}
SHAPES = [(2, 4), (2, 5, 4), (2, 8, 8, 4), (2, 8, 8, 8, 4), (2, 3, 8, 4), (2, 3, 8, 8, 4), (2, 3, 8, 8, 8, 4)]
KINDS = sorted(
    name
    for name, kind in vars(layers).items()
    if inspect.isclass(kind) and issubclass(kind, layers.Layer) and name not in FOREIGN
)


def made(name):
    """A Keras layer that is not built."""
    kind, known = getattr(layers, name), KNOWN.get(name)
    if callable(known):
        return known()
    for arguments in [known] if known else [(), (2,), (2, 2), (0.5,), (0.5, 0.5)]:
        try:
            return kind(*arguments, name="made")
        except (TypeError, ValueError) as error:
            reason = error
    raise AssertionError(f"{name}: {reason}")


def built(layer):
    """Paths and values of a layer's weights after building it with the first shape in `SHAPES` that it accepts."""
    for shape in SHAPES:
        for given in ([shape], [shape, shape], [[shape, shape]]):
            try:
                layer.build(*given)
            except Exception:  # another shape
                continue
            return [(weight.path, keras.ops.convert_to_numpy(weight)) for weight in layer.weights]
    raise AssertionError(type(layer).__name__)


def initial(name, before):
    """Initial weights of a Keras layer that is built after `before` random layers."""
    random.seed(0)
    with seeded_weights(Streams(4)):
        for _ in range(before):
            layers.Dropout(0.5)
            layers.Dense(1).build((None, 1))
        return built(made(name))


def test_initial_weights_of_keras_layers_do_not_depend_on_earlier_layers():
    weighty = 0
    for name in KINDS:
        one, other = initial(name, 0), initial(name, 2)
        assert [path for path, _ in one] == [path for path, _ in other]
        for (path, first), (_, second) in zip(one, other, strict=True):
            assert np.array_equal(first, second), (name, path)
            weighty += "kernel" in path and first.std() > 0
    assert weighty > 30  # aliases counted


def kernel(initializer, before, *, layer=layers.Dense, name="hidden", which=0):
    """A weight that an initializer makes after `before` random layers."""
    random.seed(0)
    with seeded_weights(Streams(4)):
        for _ in range(before):
            layers.Dropout(0.5)
        made = layer(3, kernel_initializer=initializer() if inspect.isfunction(initializer) else initializer, name=name)
        made.build(*([(None, 4)] if layer is layers.Dense else [(None, 5, 4)] * 2))
    return made.get_weights()[which]


class Plain(initializers.Initializer):
    """Draws from NumPy's global generator."""

    def __call__(self, shape, dtype=None):
        return np.random.normal(size=shape).astype(dtype)


class Halved(initializers.HeNormal):
    """An initializer without seed, also in its config."""

    def __init__(self):
        super().__init__()

    def get_config(self):
        return {}


AT_IMPORT = initializers.HeNormal()
INITIALIZERS = {
    "a name": "orthogonal",
    "a class": initializers.LecunNormal,
    "an instance": AT_IMPORT,
    "a subclass without a seed": Halved,
    "of the caller": Plain(),
    "calls another": lambda: lambda shape, dtype=None: 0.5 * AT_IMPORT(shape, dtype=dtype),
    "draws from TensorFlow": lambda: lambda shape, dtype=None: tf.random.normal(shape, dtype=dtype),
    "draws from Keras": lambda: lambda shape, dtype=None: keras.random.normal(shape, dtype=dtype),
    "draws from Python": lambda: lambda shape, dtype=None: np.full(shape, random.random()),
    "a generator without a seed": lambda: initializers.RandomNormal(seed=keras.random.SeedGenerator()),
}


@pytest.mark.parametrize("initializer", INITIALIZERS.values(), ids=INITIALIZERS)
def test_initial_weights_depend_only_on_the_layer_for_every_kind_of_initializer(initializer):
    generator = seeding.get_global_attribute("global_seed_generator")
    first = kernel(initializer, 0)
    assert np.array_equal(first, kernel(initializer, 2))
    assert not np.array_equal(first, kernel(initializer, 0, name="other"))
    assert seeding.get_global_attribute("global_seed_generator") is generator


def halves(shape, dtype=None):
    half = (shape[0], shape[1] // 2)
    return keras.ops.concatenate([initializers.GlorotUniform()(half, dtype), initializers.GlorotUniform()(half, dtype)], axis=1)


def test_an_initializer_that_draws_twice_draws_different_numbers():
    def drawn(seed, name="hidden"):
        with seeded_weights(Streams(seed)):
            layer = layers.Dense(4, kernel_initializer=halves, name=name)
            layer.build((None, 3))
            return np.array(layer.kernel)

    first = drawn(4)
    assert not np.array_equal(first[:, :2], first[:, 2:])
    assert np.array_equal(first, drawn(4))
    assert not np.array_equal(first, drawn(5))
    assert not np.array_equal(first, drawn(4, "other"))


def test_an_initializer_shared_by_two_layers_gives_them_different_weights():
    shared = initializers.HeNormal()
    with seeded_weights(Streams(4)):
        both = [layers.Dense(4, kernel_initializer=shared, name=name) for name in ("first", "second")]
        for layer in both:
            layer.build((None, 4))
    assert not np.array_equal(both[0].get_weights()[0], both[1].get_weights()[0])


def test_an_explicit_seed_is_used_also_in_copies_that_keras_makes():
    def made(before):
        return kernel(initializers.GlorotUniform(seed=11), before, layer=lambda n, **o: layers.MultiHeadAttention(n, 2, **o))

    assert np.array_equal(made(0), made(1))
    with seeded_weights(Streams(5)):
        other = layers.MultiHeadAttention(3, 2, kernel_initializer=initializers.GlorotUniform(seed=11), name="elsewhere")
        other.build((None, 5, 4), (None, 5, 4))
    assert np.array_equal(made(0), other.get_weights()[0])


def test_an_initializer_with_a_seeded_generator_is_refused():
    with pytest.raises(Misuse, match=r"must be an integer or None, .* Received: RandomNormal\(seed=SeedGenerator\(7\)\)"):
        kernel(initializers.RandomNormal(seed=keras.random.SeedGenerator(7)), 0)


def test_a_random_bias_of_an_lstm_depends_only_on_the_layer():
    def bias(before):
        random.seed(0)
        with seeded_weights(Streams(4)):
            for _ in range(before):
                layers.Dropout(0.5)
            layer = layers.LSTM(2, bias_initializer="random_normal", name="lstm")
            layer.build((None, 5, 4))
        return layer.get_weights()[2]

    assert np.array_equal(bias(0), bias(3))
    assert len(np.unique(bias(0))) > 3


# --- variables that are not made by add_weight -----------------------------------------------------------------------


class Table(layers.Layer):
    """Adds a variable made by make(layer); `kept` is created before the layer is built."""

    def __init__(self, make, kept=None, **options):
        super().__init__(**options)
        self.make, self.kept = make, kept and kept()

    def build(self, shape):
        self.table = self.make(self)

    def call(self, inputs):
        return inputs + self.table


def variable(*args, **options):
    return lambda layer: keras.Variable(*args, shape=(4,), name="table", **options)


NORMAL = initializers.RandomNormal()
BY_INITIALIZER = {
    "a name": (variable("random_normal"), None),
    "an instance": (variable(NORMAL), None),
    "made before": (lambda layer: keras.Variable(layer.kept, shape=(4,), name="table"), initializers.RandomNormal),
}
BY_ARRAY = {
    "of an initializer": lambda layer: keras.Variable(initializers.RandomNormal()((4,))),
    "of one made before": lambda layer: keras.Variable(NORMAL((4,))),
    "of Keras": lambda layer: keras.Variable(keras.random.normal((4,))),
    "of NumPy": lambda layer: keras.Variable(np.random.normal(size=4).astype(np.float32)),
    "of Python": lambda layer: keras.Variable(np.float32([random.random() for _ in range(4)])),
    "of TensorFlow": lambda layer: keras.Variable(tf.random.normal((4,))),
    "of add_weight": lambda layer: layer.add_weight(shape=(4,), initializer=lambda shape, dtype=None: np.random.rand(*shape)),
}


def table(make, kept=None, before=0, name="made", seed=4):
    """The variable of a layer that is built after `before` random layers."""
    with seeded_weights(Streams(seed)):
        for i in range(before):
            layers.Dropout(0.5)
            Table(BY_ARRAY["of Keras"], initializers.RandomNormal, name=f"before{i}").build((None, 4))
        layer = Table(make, kept, name=name)
        layer.build((None, 4))
    return layer.get_weights()[0]


@pytest.mark.parametrize(("make", "kept"), BY_INITIALIZER.values(), ids=BY_INITIALIZER)
def test_a_variable_made_from_an_initializer_has_the_values_of_add_weight(make, kept):
    def added(layer):
        return layer.add_weight(shape=(4,), initializer=initializers.RandomNormal(), name="table")

    assert np.array_equal(table(make, kept), table(added))
    assert np.array_equal(table(make, kept), table(make, kept, before=2))


@pytest.mark.parametrize("make", BY_ARRAY.values(), ids=BY_ARRAY)
def test_an_array_drawn_in_build_depends_only_on_the_layer(make):
    first = table(make)
    assert np.array_equal(first, table(make, before=2))
    assert not np.array_equal(first, table(make, name="other"))
    assert not np.array_equal(first, table(make, seed=5))
    assert first.std() > 0


def test_two_variables_of_one_layer_differ_and_constants_stay():
    def two(layer):
        layer.second = keras.Variable(NORMAL, shape=(4,))
        layer.zeros = keras.Variable("zeros", shape=(4,))
        layer.third = keras.Variable(NORMAL((4,)))
        layer.fourth = keras.Variable(NORMAL((4,)))
        return keras.Variable(NORMAL, shape=(4,))

    with seeded_weights(Streams(4)):
        layer = Table(two, name="made")
        layer.build((None, 4))
    drawn = [variable.numpy() for variable in (layer.table, layer.second, layer.third, layer.fourth)]
    assert len({one.tobytes() for one in drawn}) == 4
    assert not layer.zeros.numpy().any()


def test_a_random_variable_outside_of_a_build_is_refused():
    class Early(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.table = keras.Variable("glorot_uniform", shape=(3, 3))

    with (
        seeded_weights(Streams(4)),
        pytest.raises(Misuse, match=r"in its build, by self.add_weight, .* keras.Variable of GlorotUniform, shape \(3, 3\)$"),
    ):
        Early(name="early")
    with seeded_weights(Streams(4)):
        keras.Variable("zeros", shape=(3,)), keras.Variable(initializers.GlorotUniform(seed=3), shape=(3,))


def test_a_layer_that_draws_in_its_build_needs_a_name_after_another_model(make_trial):
    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams):
        make = lambda layer: keras.Variable(np.random.normal(size=784).astype(np.float32))  # noqa: E731
        small(trial, Table(make))
        with pytest.raises(Misuse, match=r"needs a name \(name=…\), .*Received: table_1 \(Table\)"):
            fit(trial, small(trial, Table(make)))


# --- a layer's name --------------------------------------------------------------------------------------------------


def small(trial, *middle, **options):
    """A model with some layers between its flattened images and its logits."""
    inputs = x = keras.Input(trial.input_shape)
    for layer in (layers.Rescaling(1 / 255, name="rescale"), layers.Flatten(name="flatten"), *middle):
        x = layer(x)
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x), **options)


class Block(layers.Layer):
    """Contains a random layer and a dense layer, with the same names in every block."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.drop = layers.Dense(8, name="dense"), layers.Dropout(0.5, name="drop")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.drop(self.dense(x), training=training)


def states(model):
    """The state of each random layer."""
    generators_of = [layer._seed_generators for layer in model._flatten_layers()]
    return [int(generator.state.numpy()[0]) for generators in generators_of for generator in generators]


def fit(trial, model, **options):
    return trial.fit(model, optimizer=optimizers.SGD(0.0), **options)


def test_blocks_with_equal_inner_names_have_different_weights_and_masks(make_trial):
    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams):
        model = small(trial, Block(name="first"), Block(name="second"))
        noise.seed_noise(model, trial.streams, 0)
    assert len(set(states(model))) == 2
    first, second = (model.get_layer(name).dense for name in ("first", "second"))
    assert not np.array_equal(first.get_weights()[0][:8], second.get_weights()[0])
    fit(trial, model)


def member(trial, name):
    """A model for an ensemble; its layers have the same names in every member."""
    inputs = keras.Input(trial.input_shape)
    x = layers.Dense(4, name="hidden")(layers.Flatten(name="flatten")(inputs))
    return keras.Model(inputs, layers.Dropout(0.5, name="drop")(x), name=name)


def stacked(trial, name):
    kinds = layers.Flatten(name="flatten"), layers.Dense(4, name="hidden"), layers.Dropout(0.5, name="drop")
    return keras.Sequential([keras.Input(trial.input_shape), *kinds], name=name)


def ensemble(trial, members):
    inputs = keras.Input(trial.input_shape)
    x = layers.Average(name="mean")([one(inputs) for one in members])
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


@pytest.mark.parametrize("build", [member, stacked])
def test_an_ensemble_of_equal_networks_is_refused_unless_built_in_name_scopes(make_trial, build):
    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams):
        model = ensemble(trial, [build(trial, name) for name in ("a", "b")])
        with pytest.raises(Misuse, match="within a keras.name_scope. Received: a/hidden and b/hidden$"):
            fit(trial, model)
        members = []
        for name in ("a", "b"):
            with keras.name_scope(name):
                members.append(build(trial, name))
        fit(trial, ensemble(trial, members))
    assert not arrays_equal(*(one.get_layer("hidden").get_weights() for one in members))
    assert len({tuple(states(one)) for one in members}) == 2


def test_layers_with_noise_that_share_a_name_are_refused(make_trial):
    class Twice(keras.Model):
        def __init__(self, classes):
            super().__init__()
            self.noises = [layers.Dropout(0.5, name="drop") for _ in range(2)]
            self.flatten, self.logits = layers.Flatten(name="flatten"), layers.Dense(classes, name="logits")

        def call(self, x, training=None):
            for layer in (self.flatten, *self.noises, self.logits):
                x = layer(x)
            return x

    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams), pytest.raises(Misuse, match="the same noise.*Received: drop and drop"):
        model = Twice(trial.classes)
        model(np.zeros((1, *trial.input_shape), np.float32))
        fit(trial, model)


@pytest.mark.parametrize("build", ["sequential", "subclass"])
def test_the_name_of_the_model_is_not_part_of_a_layers_path(build):
    class Net(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.hidden = layers.Dense(4, name="hidden")

        def call(self, x):
            return self.hidden(x)

    def weights(name, before):
        with seeded_weights(Streams(1)):
            for _ in range(before):
                keras.Sequential([keras.Input((3,)), layers.Dense(4, name="hidden")])
            model = Net(name=name) if build == "subclass" else keras.Sequential([layers.Dense(4, name="hidden")], name=name)
            model(np.zeros((1, 3), np.float32))
            return model.get_weights()

    with seeded_weights(Streams(1)):
        alone = layers.Dense(4, name="hidden")
        alone.build((None, 3))
    for name, before in ((None, 0), (None, 2), ("student", 1)):
        assert arrays_equal(weights(name, before), alone.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["weights", "noise", "cells"])
def test_an_automatic_name_after_another_model_is_refused(make_trial, kind):
    def build(trial):
        middle = {
            "weights": lambda: [layers.Dense(4)],
            "noise": lambda: [layers.Dropout(0.5)],
            "cells": lambda: [layers.Reshape((-1, 4)), layers.Bidirectional(layers.SimpleRNN(2), name="both")],
        }
        return small(trial, *middle[kind]())

    alone, after = make_trial(train_size=16, epochs=1, folder="alone"), make_trial(train_size=16, epochs=1)
    with seeded_weights(alone.streams):
        only = fit(alone, build(alone))
    with seeded_weights(after.streams):
        teacher = build(after)
        student = build(after)
        assert arrays_equal(teacher.get_weights(), only.get_weights())
        fit(after, teacher, stage="teacher")
        named = {"weights": r"dense_1 \(Dense\)", "noise": r"dropout_1 \(Dropout\)", "cells": r"both/forward_simple_rnn_1"}
        with pytest.raises(Misuse, match=rf"needs a name \(name=…\), .*Received: {named[kind]}"):
            fit(after, student)


@pytest.mark.slow
def test_automatic_names_without_effect_and_layers_of_earlier_stages_are_accepted(make_trial):
    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams):
        teacher = fit(
            trial, small(trial, layers.Dense(4), layers.BatchNormalization(), layers.Activation("relu")), stage="teacher"
        )
        student = small(trial, layers.Dense(4, name="hidden"), layers.BatchNormalization(), layers.Activation("relu"))
        fit(trial, student, stage="student")
        trunk = teacher.layers[-2].output
        before = teacher.get_weights()
        fit(trial, keras.Model(teacher.input, layers.Dense(trial.classes, name="fresh")(trunk)))
    assert arrays_equal(before[:2], teacher.get_weights()[:2])


def test_noise_in_a_composite_layer_does_not_depend_on_earlier_layers(make_trial):
    def masks(before):
        trial = make_trial(train_size=16, epochs=1)
        with seeded_weights(trial.streams):
            middle = [layers.Dropout(0.1, name="before")] * before
            inputs = x = keras.Input((5, 4))
            for layer in middle:
                x = layer(x)
            [layers.Dropout(0.1) for _ in range(before)]
            model = keras.Model(inputs, layers.MultiHeadAttention(2, 3, dropout=0.5, name="attention")(x, x))
        seeding.refuse_shared_names(model, [])
        noise.seed_noise(model, trial.streams, 0)
        return states(model.get_layer("attention"))

    assert masks(0) == masks(1)
    assert len(masks(0)) == 1


def test_a_random_layer_outside_the_model_is_refused(make_trial):
    trial = make_trial(train_size=16, epochs=1)
    noise = layers.Dropout(0.5, name="outside")

    def step(model, images, targets, seed):
        logits = model(noise(images, training=True), training=True)
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True), logits

    with seeded_weights(trial.streams):
        model = small(trial)
    with pytest.raises(Misuse, match=r"^random layers must be part of the model[^\n]*Received: a draw from seed_generator"):
        fit(trial, model, step=step)


def test_an_added_loss_that_is_not_a_scalar_is_refused(make_trial):
    class Adds(layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.sum(x, axis=-1))
            return x

    trial = make_trial(train_size=16, epochs=1)
    with seeded_weights(trial.streams):
        model = small(trial, Adds(name="adds"))
    with pytest.raises(Misuse, match=r"^add_loss takes a scalar: take the mean over the batch. Received: [^\n]*$"):
        fit(trial, model)
