"""A killed and resumed training gives the bits of an uninterrupted one, or is refused before it starts."""

import contextlib
import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from gradients import kinds, kinds_of, separate_losses
from keras import layers, losses, optimizers

from common.errors import Misuse
from common.training.loop import Diverged
from common.training.seeding import seeded_weights


class Killed(Exception):
    """Stands for SIGKILL within one process."""


class Kill(keras.callbacks.Callback):
    """Raises `Killed` after the first update of the second epoch, if `kills`."""

    def __init__(self, kills):
        super().__init__()
        self.kills = kills

    def on_train_batch_end(self, batch, logs=None):
        if self.kills and self.epoch == 1:
            raise Killed

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def softmax_regression(trial, *between):
    """Softmax regression, with some layers before it."""
    x = inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(x))
    for layer in between:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


def ends(make_trial, build, make=lambda: optimizers.SGD(0.1, momentum=0.9), killed_first=False, folder="state", **options):
    """Final weights and gradient norms of two epochs, uninterrupted or killed in the second epoch and resumed."""
    for kill in (True, False) if killed_first else (False,):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        trial = make_trial(epochs=2, train_size=32, folder=folder, checkpoint_steps=2)
        with trial.strategy.scope(), seeded_weights(trial.streams), contextlib.suppress(Killed):
            model, made = build(trial), {name: value() for name, value in options.items()}
            watch = [trial.unsaved(Kill(kill)), *made.pop("callbacks", ())]
            trial.fit(model, optimizer=make(), callbacks=watch, **made)
    assert trial.resumes == int(killed_first)
    return model.get_weights(), trial.fits["fit"].norms


def same_ends(make_trial, build, **options):
    whole, norms = ends(make_trial, build, folder="whole", **options)
    resumed, resumed_norms = ends(make_trial, build, folder="killed", killed_first=True, **options)
    assert norms == resumed_norms
    return arrays_equal(whole, resumed)


# --- optimizers ------------------------------------------------------------------------------------------------------


class Signed(optimizers.Optimizer):
    """A custom optimizer whose momentum and counter are variables that Keras does not track."""

    def build(self, variables):
        super().build(variables)
        self.moments = {v.path: tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables}
        self.updates = tf.Variable(0, trainable=False)

    def update_step(self, gradient, variable, learning_rate):
        (moment,) = (
            m for path, m in self.moments.items() if path.rsplit("/", 1)[-1] in variable.name and m.shape == variable.shape
        )
        moment.assign(0.9 * moment + gradient)
        self.updates.assign_add(1)
        rate = tf.cast(learning_rate, tf.float32) / tf.sqrt(tf.cast(self.updates, tf.float32))
        variable.assign_sub(rate * tf.sign(moment))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_every_optimizer_of_keras_resumes_bit_for_bit(make_trial, precision):
    """One model with a head for each optimizer, in float16 wrapped in a `LossScaleOptimizer`."""
    names = list(kinds())

    def build(trial):
        x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs := keras.Input(trial.input_shape)))
        return keras.Model(inputs, [layers.Dense(trial.classes, name=name)(x) for name in names])

    def make():
        made = kinds()
        return made if precision == "mixed_float16" else {name: one.inner_optimizer for name, one in made.items()}

    keras.config.set_dtype_policy(precision)
    try:
        whole, _ = ends(make_trial, build, make, folder="whole", step=lambda: separate_losses)
        resumed, _ = ends(make_trial, build, make, folder="killed", killed_first=True, step=lambda: separate_losses)
    finally:
        keras.config.set_dtype_policy("float32")
    assert kinds_of(build(make_trial())) == names
    different = [name for i, name in enumerate(names) if not arrays_equal(whole[2 * i : 2 * i + 2], resumed[2 * i : 2 * i + 2])]
    assert not different


@pytest.mark.slow
def test_variables_of_a_users_optimizer_are_saved(make_trial):
    assert same_ends(make_trial, softmax_regression, make=lambda: Signed(0.01))


def test_unsupported_options_of_optimizers_are_refused(make_trial):
    class Counting(optimizers.SGD):
        updates = 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.updates = 0

        def update_step(self, gradient, variable, learning_rate):
            self.updates += 1
            super().update_step(gradient, variable, learning_rate / self.updates)

    refused = {
        "gradient_accumulation_steps=2": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2),
        "Received: <function": lambda: optimizers.SGD(lambda: 0.1),
        "`updates` of the optimizer counting, which changed": lambda: Counting(0.1),
    }
    for message, make in refused.items():
        with pytest.raises(Misuse, match=message) as caught:
            ends(make_trial, softmax_regression, make)
        assert "\n" not in str(caught.value)


def test_an_overflow_in_float16_counts_neither_as_update_nor_as_divergence(make_trial):
    """Gradients of the logits are up to 300 / 16, the initial loss scale is 2^15, and the largest float16 is 65504."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trial = make_trial(epochs=4)
        rate = optimizers.schedules.PolynomialDecay(0.01, 100)
        model = softmax_regression(trial)
        before = model.get_weights()
        seen = []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                optimizer = self.model.optimizer
                seen.append(
                    (int(optimizer.iterations), float(optimizer.dynamic_scale), arrays_equal(before, model.get_weights()))
                )

        trial.fit(model, optimizer=optimizers.SGD(rate), loss=large, callbacks=[trial.unsaved(Watch())])
        fit = trial.fits["fit"]
        updates, scales, unchanged = zip(*seen, strict=True)
        assert updates[1] == 0 and scales[1] == 2.0**13 and unchanged[1]
        assert 0 < updates[-1] < 16
        assert (fit.batches, fit.steps, len(fit.norms)) == (16, updates[-1], updates[-1])
        assert np.isfinite(fit.norms).all()
        counted = [0, *updates[3::4]]
        means = [float(np.mean(fit.norms[a:b])) if b > a else None for a, b in itertools.pairwise(counted)]
        assert [row["gradient_norm"] for row in fit.history] == [m if m is None else pytest.approx(m) for m in means]

        endless = make_trial(folder="endless", epochs=20)
        with pytest.raises(Diverged, match=r"not finite under any loss scale at epoch 8, step 30"):
            endless.fit(softmax_regression(endless), optimizer=optimizers.SGD(0.1), loss=poisoned)
    finally:
        keras.config.set_dtype_policy("float32")


def large(targets, logits):
    return 300 * losses.categorical_crossentropy(targets, logits, from_logits=True)


@tf.custom_gradient
def poisoned(targets, logits):
    """A finite loss whose gradient is NaN."""
    return tf.ones_like(logits[:, 0]), lambda _: (None, np.nan * logits)


def test_the_loss_is_scaled_once_if_any_layer_computes_in_float16(make_trial):
    half = layers.Dense(8, dtype="mixed_float16", name="half")
    trial = make_trial(epochs=1)
    model = softmax_regression(trial, half)
    trial.fit(model, optimizer=optimizers.SGD(0.1))
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    again = make_trial(epochs=1, folder="given")
    given = optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
    model = softmax_regression(again, layers.Dense(8, dtype="mixed_float16", name="half"))
    again.fit(model, optimizer=given)
    assert model.optimizer is given


# --- layers ----------------------------------------------------------------------------------------------------------


class Stateful(layers.Layer):
    """Draws noise from generators in containers; a metric and a weight change its outputs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.listed = [keras.random.SeedGenerator(), keras.random.SeedGenerator()]
        self.named = {"one": keras.random.SeedGenerator(), "two": (keras.random.SeedGenerator(),)}
        self.mean = keras.metrics.Mean()

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        self.mean.update_state(keras.ops.mean(inputs) * self.calls)
        generators = [*self.listed, self.named["one"], self.named["two"][0]]
        noise = [keras.random.normal(keras.ops.shape(inputs), seed=generator) for generator in generators]
        return inputs + 0.1 * sum(noise) + self.mean.result()


@pytest.mark.slow
def test_generators_and_metrics_in_a_layer_are_resumed_and_seeded(make_trial):
    build = lambda trial: softmax_regression(trial, Stateful(name="stateful"))  # noqa: E731
    assert same_ends(make_trial, build)
    trial = make_trial(epochs=1, folder="seeded")
    model = build(trial)
    trial.fit(model, optimizer=optimizers.SGD(0.0))
    states = [generator.state for generator in model.get_layer("stateful")._seed_generators]
    assert len(states) == 4
    assert {int(state[0]) for state in states} == {trial.streams.key("noise", 0, "stateful", i) for i in range(4)}


@pytest.mark.slow
def test_variables_that_a_step_writes_are_resumed(make_trial):
    """A teacher that is a moving average of the student, and a counter."""

    def step_of(trial_teacher):
        count = tf.Variable(0.0)

        def step(model, images, targets, seed):
            logits = model(images, training=True)
            count.assign_add(1.0)
            for old, new in zip(trial_teacher.trainable_variables, model.trainable_variables, strict=True):
                old.assign(0.5 * old + 0.5 * new)
            return losses.categorical_crossentropy(targets, logits, from_logits=True) + count * tf.reduce_sum(
                tf.square(logits - tf.stop_gradient(trial_teacher(images))), axis=-1
            ), logits

        return step

    trial = make_trial()
    teacher = lambda: step_of(softmax_regression(trial))  # noqa: E731
    assert same_ends(make_trial, softmax_regression, step=teacher)


def test_a_finished_stage_restores_variables_that_its_step_wrote(make_trial):
    counts = []
    for _ in range(2):
        count = tf.Variable(0.0)

        def step(model, images, targets, seed, count=count):
            count.assign_add(1.0)
            logits = model(images, training=True)
            return losses.categorical_crossentropy(targets, logits, from_logits=True), logits

        trial = make_trial(epochs=2, train_size=32, checkpoint_steps=2)
        trial.fit(softmax_regression(trial), optimizer=optimizers.SGD(0.1), step=step)
        counts.append(count.numpy())
    assert trial.resumes == 1
    assert counts == [4.0, 4.0]


@pytest.mark.slow
def test_variables_that_a_loss_or_an_augmentation_writes_are_resumed(make_trial):
    def running():
        mean = tf.Variable(0.0)

        def loss(targets, logits):
            values = losses.categorical_crossentropy(targets, logits, from_logits=True)
            mean.assign(0.9 * mean + 0.1 * tf.reduce_mean(values))
            return (1 + mean) * values

        return loss

    def brighter():
        count = tf.Variable(0.0)

        def brighten(images, targets, uniforms):
            return images + count.assign_add(1.0), targets

        return [brighten]

    assert same_ends(make_trial, softmax_regression, loss=running, augment=brighter)


@pytest.mark.slow
def test_variables_that_a_callback_writes_and_the_update_reads_are_resumed(make_trial):
    """The weight of a penalty on the logits, which rises after each epoch; a teacher that no stage trained does not change."""

    def build(trial):
        build.weight, build.teacher = tf.Variable(0.0), softmax_regression(trial, layers.Dense(2, name="narrow"))
        build.teacher.trainable = False
        return softmax_regression(trial)

    class Rise(keras.callbacks.Callback):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def on_epoch_end(self, epoch, logs=None):
            self.weight.assign(epoch + 1.0)

    def penalised():
        weight, teacher = build.weight, build.teacher

        def step(model, images, targets, seed):
            logits = model(images, training=True)
            penalty = tf.reduce_mean(tf.square(logits - teacher(images)), axis=-1)
            return losses.categorical_crossentropy(targets, logits, from_logits=True) + weight * penalty, logits

        return step

    assert same_ends(make_trial, build, step=penalised, callbacks=lambda: [Rise(build.weight)])
    assert build.weight.numpy() == 2.0


@pytest.mark.slow
def test_callbacks_may_draw_from_the_global_generators(make_trial):
    class Shake(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            bias = self.model.get_layer("logits").bias
            bias.assign(bias + np.random.normal(size=bias.shape) + random.random())

    assert same_ends(make_trial, softmax_regression, callbacks=lambda: [Shake()])


@pytest.mark.parametrize("container", ["plain", "in a list", "in a dict"])
def test_an_untracked_variable_of_a_layer_is_refused(make_trial, container):
    class Hiding(layers.Layer):
        def build(self, shape):
            variable = tf.Variable(0.0)
            self.count = {"plain": variable, "in a list": [variable], "in a dict": {"a": variable}}[container]

        def call(self, inputs):
            return inputs

    with pytest.raises(Misuse, match="Received: `count` of the layer hiding"):
        ends(make_trial, lambda trial: softmax_regression(trial, Hiding(name="hiding")))


# --- teachers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["as it was trained", "its features", "averaged"])
def test_a_teacher_has_its_scoring_statistics_also_after_a_kill(make_trial, kind):
    """The student's loss is that of the teacher, whose mean is also computed with `trial.predict`."""

    def run(folder, kills):
        for kill in (True, False) if kills else (False,):
            trial = make_trial(epochs=2, train_size=32, folder=folder, checkpoint_steps=2)
            with seeded_weights(trial.streams), contextlib.suppress(Killed):
                average = {"use_ema": True, "ema_momentum": 0.5} if kind == "averaged" else {}
                teacher = softmax_regression(trial, layers.Dense(8, name="hidden"), layers.BatchNormalization(name="norm"))
                trial.fit(teacher, optimizer=optimizers.SGD(0.1, **average), stage="teacher")
                left = teacher.get_weights()
                called = keras.Model(teacher.input, teacher.output) if kind == "its features" else teacher

                def step(model, images, targets, seed, called=called):
                    logits = model(images, training=True)
                    taught = losses.categorical_crossentropy(targets, called(images, training=False), from_logits=True)
                    return taught + 0.0 * tf.reduce_sum(logits, axis=-1), logits

                student = softmax_regression(trial, layers.Dense(2, name="narrow"))
                trial.fit(student, optimizer=optimizers.SGD(0.1), step=step, callbacks=[trial.unsaved(Kill(kill))])
        assert arrays_equal(left, teacher.get_weights())
        logits = trial.predict(teacher, trial.train)
        expected = losses.sparse_categorical_crossentropy(trial.train.labels, logits, from_logits=True)
        return trial, float(np.mean(expected)), [row["train_loss"] for row in trial.fits["fit"].history]

    trial, expected, seen = run("whole", False)
    assert seen == pytest.approx([expected] * 2, rel=1e-5)
    resumed, _, again = run("killed", True)
    assert (trial.resumes, resumed.resumes) == (0, 1)
    assert again == seen


# --- random operations -----------------------------------------------------------------------------------------------


def noisy_layer(draw):
    class Noisy(layers.Layer):
        calls = 0

        def call(self, inputs):
            return inputs + draw(self, inputs)

    return lambda trial: softmax_regression(trial, Noisy(name="noisy"))


def counted(layer, inputs):
    layer.calls = layer.calls + 1
    return layer.calls


generator = np.random.default_rng(0)
RANDOM = {
    "RandomStandardNormal at .*test_resume.py:": lambda _, x: tf.random.normal(tf.shape(x)),
    "RandomUniform at .*test_resume.py:": lambda _, x: tf.nn.dropout(x, 0.5),
    "RandomUniform at": lambda _, x: tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a + tf.random.uniform(())), (0, 0.0))[
        1
    ],
    "TruncatedNormal at": lambda _, x: tf.cond(tf.reduce_sum(x) > 0, lambda: tf.random.truncated_normal(()), lambda: 0.0),
    "RandomShuffle at": lambda _, x: tf.function(lambda a: tf.random.shuffle(a))(x),
    "Multinomial at": lambda _, x: tf.cast(tf.random.categorical(x[:, :3], 1), tf.float32),
    "RandomGamma at": lambda _, x: tf.random.gamma((), 1.0),
    "constant seed.* Received: StatelessRandomNormalV2 at": lambda _, x: x + keras.random.normal((1,), seed=7),
    "Received: StatelessRandomUniformV2 at": lambda _, x: tf.image.stateless_random_brightness(x, 80.0, seed=(1, 2)),
    "Received: StatelessTruncatedNormalV2 at": lambda _, x: tf.random.stateless_truncated_normal((), tf.constant([1, 2]) + 1),
    "Received: StatelessMultinomial at": lambda _, x: tf.cast(tf.random.stateless_categorical(x[:, :3], 1, (1, 2)), tf.float32),
    "Received: StatelessRandomGamma": lambda _, x: tf.random.stateless_gamma((), tf.random.split((1, 2))[1], 1.0),
    "PyFunc at": lambda _, x: x + tf.ensure_shape(tf.numpy_function(lambda: np.float32(0), [], tf.float32), ()),
    "EagerPyFunc at": lambda _, x: x + tf.ensure_shape(tf.py_function(lambda: 1.0, [], tf.float32), ()),
    "a draw from numpy.random": lambda _, x: np.random.normal(),
    "a draw from random": lambda _, x: random.random(),
    "`generator` in .*test_resume, which changed": lambda _, x: generator.normal(),
    "`calls` of the layer noisy, which changed": counted,
}


def drawing(draw):
    """A loss, an augmentation and a step that add a random number."""

    def loss(targets, logits):
        return losses.categorical_crossentropy(targets, logits + draw(), from_logits=True)

    def augmentation(images, targets, uniforms):
        return images + draw(), targets

    def step(model, images, targets, seed):
        return loss(targets, model(images, training=True)), None

    return {"loss": lambda: loss, "augment": lambda: [augmentation], "step": lambda: step}


@pytest.mark.parametrize("message", RANDOM)
def test_random_operations_with_unsaved_state_are_refused(make_trial, message):
    with pytest.raises(Misuse, match=message) as caught:
        ends(make_trial, noisy_layer(RANDOM[message]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["loss", "augment", "step"])
@pytest.mark.parametrize(
    ("message", "draw"),
    [
        ("RandomStandardNormal at", lambda: tf.random.normal(())),
        ("Received: StatelessRandomNormalV2 at", lambda: keras.random.normal((), seed=3)),
        ("a draw from numpy.random", lambda: np.random.normal()),
        ("`generator` in", lambda: generator.normal()),
    ],
)
def test_random_operations_are_found_in_losses_augmentations_and_steps(make_trial, message, draw, where):
    with pytest.raises(Misuse, match=message):
        ends(make_trial, softmax_regression, **{where: drawing(draw)[where]})


def test_draws_from_a_step_s_seed_and_numbers_made_of_it_are_accepted(make_trial):
    fixed = tf.random.stateless_normal((784,), (1, 2))

    def step(model, images, targets, seed):
        seeds = [seed, *tf.unstack(tf.random.split(seed)), tf.random.fold_in((1, 2), seed[1]), seed + tf.constant([1, 2])]
        noise = tf.add_n([tf.random.stateless_normal((784,), one) for one in seeds])
        logits = model(images + tf.reshape(fixed + noise, (28, 28, 1)), training=True)
        return losses.categorical_crossentropy(targets, logits, from_logits=True), logits

    ends(make_trial, softmax_regression, step=lambda: step)


def test_a_random_operation_in_inference_mode_is_found(make_trial):
    class InInference(layers.Layer):
        def call(self, inputs, training=None):
            return inputs if training else inputs + tf.random.normal(tf.shape(inputs))

    with pytest.raises(Misuse, match="RandomStandardNormal at"):
        ends(make_trial, lambda trial: softmax_regression(trial, InInference(name="noisy")))
