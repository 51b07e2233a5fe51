"""Invalid arguments of `Trial.fit` are refused in one line, before training starts."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from fits import BINARY, Subclass, against, as_task, network, refused, two_players
from keras import callbacks, layers, losses, optimizers

from common import augment, tasks
from common.data.split import Split
from common.errors import Misuse
from common.models import small_cnn
from common.training import callback_checks, seeding


class Net(keras.Model):
    """A subclassed model."""

    def __init__(self):
        super().__init__()
        self.flatten, self.logits = layers.Flatten(), layers.Dense(10)

    def call(self, images):
        return self.logits(self.flatten(images))


def two_inputs():
    first, second = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    return keras.Model([first, second], layers.Dense(10)(layers.Flatten()(layers.Add()([first, second]))))


def two_outputs():
    images = keras.Input((28, 28, 1))
    flat = layers.Flatten()(images)
    return keras.Model(images, [layers.Dense(10)(flat), layers.Dense(4)(flat)])


def for_colours():
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])


def named(images, targets, uniforms):
    return images, targets


class Unnamed:
    def __call__(self, images, targets, uniforms):
        return images, targets


WRONG = {
    "two inputs": (lambda _: {"model": two_inputs()}, "Received: 2 inputs and 1 outputs"),
    "two outputs": (lambda _: {"model": two_outputs()}, "Received: 1 inputs and 2 outputs"),
    "other images": (
        lambda _: {"model": for_colours()},
        r"of the images, \(28, 28, 1\): .*Input\(trial.input_shape\). Received: \(32, 32, 3\)",
    ),
    "no model": (lambda _: {"model": small_cnn}, "model must be a keras.Model. Received: function small_cnn"),
    "a name of an optimizer": (lambda _: {"optimizer": "adam"}, "created in train.* Received: 'adam'"),
    "a class of optimizers": (lambda _: {"optimizer": optimizers.SGD}, "created in train.* Received: <class"),
    "a Keras layer": (
        lambda _: {"augment": [layers.RandomFlip(name="flip")]},
        "put it into the model instead. Received: RandomFlip 'flip'",
    ),
    "a Keras layer that mixes": (
        lambda _: {"augment": [layers.MixUp(name="mix")]},
        r"mixes images but not their labels: use augment=\[mixup\(\)\] .* common.augment. Received: MixUp 'mix'",
    ),
    "a model that mixes": (
        lambda trial: {"model": keras.Sequential([keras.Input(trial.input_shape), layers.CutMix(name="mix"), Net()])},
        "mixes images but not their labels.* Received: CutMix 'mix'",
    ),
    "an augmentation alone": (lambda _: {"augment": augment.flip()}, r"augment=\[flip\(\)\] .* Received: function flip"),
    "no augmentation": (lambda _: {"augment": None}, "augment must be a list: .* Received: None"),
    "one not called": (lambda _: {"augment": [augment.flip]}, r"augment=\[flip\(\)\]. Received: flip itself"),
    "one of images alone": (lambda _: {"augment": [lambda images: images]}, "Received: function <lambda>"),
    "one without a name": (lambda _: {"augment": [Unnamed()]}, "a named function .* Received: .* Unnamed"),
    "a callback alone": (lambda _: {"callbacks": callbacks.EarlyStopping()}, "must be a list: .* Received: keras EarlyStopping"),
    "a function alone": (lambda _: {"callbacks": print}, "must be a list: .* Received: function print"),
    "a generator of callbacks": (
        lambda _: {"callbacks": (one for one in [callbacks.TerminateOnNaN()])},
        "must be a list: .* Received: function <genexpr>",
    ),
    "a function as a callback": (lambda _: {"callbacks": [print]}, r"LambdaCallback\(on_epoch_end=.* Received: function print"),
    "a class of callbacks": (lambda _: {"callbacks": [callbacks.EarlyStopping]}, "Received: class EarlyStopping"),
    "a tf.data.Dataset": (
        lambda trial: {"on": tf.data.Dataset.from_tensors((trial.train.images, trial.train.labels))},
        "on must be a Split.* Received: tensorflow _TensorDataset",
    ),
    "arrays": (lambda trial: {"validate": (trial.val.images, trial.val.labels)}, "validate must be a Split.* Received: tuple"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG.keys())
def test_invalid_arguments_of_fit_are_refused_by_name(make_trial, options, message):
    trial = make_trial()
    right = {"model": small_cnn(trial, widths=(4,)), "optimizer": optimizers.SGD(0.1)}
    with pytest.raises(Misuse, match=message) as refused:
        trial.fit(**right | options(trial))
    assert "\n" not in str(refused.value)
    assert trial.fits == {}


def test_the_remedies_of_error_messages_work(make_trial):
    trial = make_trial(epochs=1)
    inputs = keras.Input(trial.input_shape)
    wrapped = keras.Model(inputs, Net()(layers.RandomFlip(name="flip")(inputs)))
    options = {"callbacks": [trial.unsaved(callbacks.LambdaCallback())], "augment": [augment.flip(), named]}
    split = Split.of(trial.val.images, trial.val.labels, trial.classes)
    assert trial.fit(wrapped, optimizer=optimizers.SGD(0.1), on=trial.train.take([*range(32)]), validate=split, **options)
    assert trial.fits["fit"].steps == 2


def test_invalid_class_weights_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    for given, message in (
        ({"3": 2.0}, "has an unknown class: write a list of 10 weights.* Received: '3'"),
        ({10: 2.0}, "Received: 10"),
        ({True: 2.0}, "Received: True"),
        ([1.0] * 9, r"one weight for each class.* Received: shape \(9,\)"),
        ([[1.0] * 10], r"shape \(1, 10\)"),
        ([1.0] * 9 + [-1.0], "at least 0.* Received: -1.0"),
        ({0: float("nan")}, "finite.* Received: nan"),
        ([0.0] * 10, "not all 0. Received: 0"),
        (["a"] * 10, "must be numbers"),
    ):
        refused(trial, message, class_weight=given)
    for task, loss in ((tasks.tiles, BINARY), (tasks.rotated, losses.MeanSquaredError())):
        refused(as_task(make_trial(train_size=32), task), "one class per image", class_weight=[1.0] * 10, loss=loss)


def test_invalid_sample_weights_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    for given, message in (
        (np.ones(31), r"each of the 32 examples of train. Received: \(31,\)"),
        (lambda split: np.ones(3), r"Received: \(3,\)"),
        (-np.ones(32), "Received: -1.0"),
        (np.full(32, np.inf), "Received: inf"),
        (np.zeros(32), "sample_weight of train .* not all 0. Received: 0"),
        (lambda split: np.full(len(split), float(len(split) == 32)), "sample_weight of val .* not all 0. Received: 0"),
        (lambda split: np.full(len(split), 1.0 if len(split) == 32 else np.nan), "sample_weight of val .* Received: nan"),
        (lambda split: np.ones(32) if len(split) == 32 else None, "sample_weight of val must be numbers. Received: None"),
        (lambda split: np.ones(32), r"examples of val. Received: \(32,\)"),
    ):
        refused(trial, message, sample_weight=given)


class Stepping(Subclass):
    def train_step(self, data):
        return {}


def test_custom_training_methods_and_compiled_models_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)

    def compiled(*, named=None, **options):
        def build(trial):
            model = network(trial)
            model.compile(**options)
            return model

        return build

    def patched(trial):
        model = network(trial)
        model.compute_loss = lambda **_: 0.0
        return model

    refused(trial, "train_step of a model would be ignored.* Received: Stepping", lambda trial: Stepping(10))
    refused(trial, "compute_loss of a model would be ignored", patched)
    refused(trial, r"leave compile\(\) out.*: loss, metrics", compiled(optimizer="adam", loss="mse", metrics=["accuracy"]))
    refused(trial, r"leave compile\(\) out", compiled(optimizer="adam"))
    refused(trial, "leave batch_size out.* Received: batch_size=16", lambda trial: network(trial, batch_size=16))
    nine = types.SimpleNamespace(input_shape=trial.input_shape, classes=9)
    refused(trial, r"output shape must be \(None, 10\).* Received: \(None, 9\)", lambda _: network(nine))


def test_optimizers_must_be_new_for_each_fit(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    used = optimizers.SGD(0.1)
    trial.fit(network(trial), optimizer=used, stage="first")
    built, wrapped = optimizers.SGD(0.1), optimizers.SGD(0.1)
    for one in (built, wrapped):
        one.build(network(trial).trainable_variables)
    for given, message in (
        ("adam", "Received: 'adam'"),
        (optimizers.Adam, "an instance created in train"),
        (used, "needs a new optimizer, but this one is already built. Received: sgd"),
        (built, "this one is already built"),
        (optimizers.LossScaleOptimizer(wrapped), "this one is already built"),
        ({"logits": optimizers.SGD(0.1)}, "needs a step"),
    ):
        refused(trial, message, optimizer=given)
    one = optimizers.SGD(0.1)
    step = lambda model, images, targets, seed: None  # noqa: E731
    refused(trial, "a separate optimizer", optimizer={"logits": one, "flatten": one}, step=step)
    for count in (0, 1.5, True):
        refused(trial, "epochs must be a whole number", epochs=count)


class Predicting(callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        pass

    def on_predict_begin(self, logs=None):
        pass


class Sets(callbacks.Callback):
    """Calls f(model, epoch) at the start of each epoch but the first."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.change(self.model, epoch)


def schedule(model, epoch):
    model.optimizer.learning_rate = optimizers.schedules.CosineDecay(10.0, 100)


def kernel_of(model):
    return model.get_layer("logits").kernel


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("`rate` of the layer drop", lambda model, epoch: setattr(model.get_layer("drop"), "rate", 0.9)),
        ("`trainable` of the layer logits", lambda model, epoch: setattr(model.get_layer("logits"), "trainable", False)),
        ("`momentum` of the optimizer SGD", lambda model, epoch: setattr(model.optimizer, "momentum", 0.99)),
        ("`learning_rate` of the optimizer SGD", schedule),
        ("`activation` of the layer logits", lambda model, epoch: setattr(model.get_layer("logits"), "activation", tf.nn.relu)),
        ("`trainable` of the variable logits/kernel", lambda model, epoch: setattr(kernel_of(model), "trainable", False)),
        (
            "`constraint` of the variable logits/kernel",
            lambda model, epoch: setattr(kernel_of(model), "constraint", keras.constraints.MaxNorm(1e-3)),
        ),
        (
            "`kernel_regularizer` of the layer logits",
            lambda model, epoch: setattr(model.get_layer("logits").kernel_regularizer, "l2", 9.0),
        ),
    ],
)
def test_what_a_callback_changes_in_python_is_refused_as_it_has_no_effect(make_trial, name, change):
    """The update is compiled once."""
    trial = make_trial(train_size=32, epochs=3)
    inputs = keras.Input(trial.input_shape)
    x = layers.Dropout(0.1, name="drop")(layers.Flatten(name="flatten")(inputs))
    model = keras.Model(inputs, layers.Dense(trial.classes, name="logits", kernel_regularizer=keras.regularizers.L2(0.0))(x))
    with pytest.raises(Misuse, match=f"has no effect on training: .* Received: {name}.*, which changed"):
        trial.fit(model, optimizer=optimizers.SGD(0.1, name="SGD"), callbacks=[Sets(change)])


class Weight:
    """An object that a step or an augmentation reads, and a loss that is no function."""

    weight = 0.0

    def __call__(self, targets, logits):
        return self.scaled(tf.nn.softmax_cross_entropy_with_logits(targets, logits))

    def scaled(self, losses):
        return losses * (1 + self.weight)


class Warm(callbacks.Callback):
    """Sets the weight of an object in each epoch, by default its own."""

    def __init__(self, changed=None, value=None):
        super().__init__()
        self.weight, self.changed, self.value = 0.0, changed, value

    def on_epoch_begin(self, epoch, logs=None):
        (self.changed or self).weight = float(epoch) if self.value is None or not epoch else self.value


class OneRate(optimizers.schedules.LearningRateSchedule):
    weight = 0.1

    def __init__(self):
        self.weight = 0.1

    def __call__(self, step):
        return self.weight


def function_with_weight(targets, logits):
    return function_with_weight.weight * tf.nn.softmax_cross_entropy_with_logits(targets, logits)


function_with_weight.weight = 1.0


def reading(holder):
    """A step that reads the weight of an object."""

    def step(model, images, targets, seed):
        logits = model(images, training=True)
        return (1 + holder.weight) * tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits

    return step


def brighter(holder):
    @augment.changes("pixels")
    def apply(images, targets, uniforms):
        return images * (1 - 0.1 * holder.weight), targets

    return apply


def scaled_by(holder):
    def loss(targets, logits):
        weight = holder.weight
        factor = weight if isinstance(weight, float) else 1.0
        return (1 + factor) * tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    return loss


def mapped(holder):
    def loss(targets, logits):
        return tf.map_fn(lambda value: value * (1 + holder.weight), tf.nn.softmax_cross_entropy_with_logits(targets, logits))

    return loss


def with_default(holder):
    def loss(targets, logits, *, of=holder):
        return (1 + of.weight) * tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    return loss


class Weighted(losses.Loss):
    weight = 0.0

    def call(self, targets, logits):
        return (1 + self.weight) * tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def lambda_network(trial, holder):
    inputs = keras.Input(trial.input_shape)
    x = layers.Lambda(lambda x: x * (1 + holder.weight) / 255, name="scaled")(layers.Flatten(name="flatten")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, name="logits")(x))


def objects_that_change():
    """Arguments of fit in which a callback changes what the compiled update reads."""
    warm, loss, space, rate = Warm(), Weight(), types.SimpleNamespace(weight=0.0), OneRate()
    return {
        "the callback": {"step": reading(warm), "callbacks": [warm]},
        "a loss object": {"loss": loss, "callbacks": [Warm(loss)]},
        "a class": {"step": reading(Weight), "callbacks": [Warm(Weight)]},
        "a namespace": {"augment": [brighter(space)], "callbacks": [Warm(space)]},
        "a function's attribute": {"loss": function_with_weight, "callbacks": [Warm(function_with_weight)]},
        "a schedule": {"optimizer": optimizers.SGD(rate), "callbacks": [Warm(rate)]},
        "a function in a function": {"loss": mapped(space), "callbacks": [Warm(space)]},
        "a compiled function": {"loss": tf.function(scaled_by(space)), "callbacks": [Warm(space)]},
        "the first of two alike": {"augment": [brighter(space), brighter(Weight())], "callbacks": [Warm(space)]},
        "a default": {"loss": with_default(space), "callbacks": [Warm(space)]},
        "an attribute of a loss's class": {"loss": (weighted := Weighted()), "callbacks": [Warm(weighted)]},
        "a layer's function": {"build": lambda trial: lambda_network(trial, space), "callbacks": [Warm(space)]},
        "a text": {"loss": scaled_by(space), "callbacks": [Warm(space, "on")]},
        "an exchanged function": {"loss": scaled_by(space), "callbacks": [Warm(space, abs)]},
    }


@pytest.mark.parametrize("name", objects_that_change())
def test_objects_that_a_callback_changes_are_refused_as_they_have_no_effect(make_trial, monkeypatch, name):
    monkeypatch.setattr(Weight, "weight", 0.0)
    monkeypatch.setattr(function_with_weight, "weight", 1.0)
    trial = make_trial(train_size=32, epochs=3)
    arguments = {"optimizer": optimizers.SGD(0.1), **objects_that_change()[name]}
    arguments["callbacks"] = [trial.unsaved(one) for one in arguments["callbacks"]]
    build = arguments.pop("build", network)
    with pytest.raises(Misuse, match="has no effect on training: .* Received: .*`?weight`? .*, which changed"):
        trial.fit(build(trial), **arguments)


def test_objects_may_hold_what_no_function_reads(make_trial):
    """The update reads the variable of the callback, not its number."""

    class Watch(callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.scale, self.seen_epochs = tf.Variable(1.0), 0

        def on_epoch_begin(self, epoch, logs=None):
            self.seen_epochs += 1
            self.scale.assign(2.0)

    watch = Watch()

    def step(model, images, targets, seed):
        logits = model(images, training=True)
        return watch.scale * tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits

    trial = make_trial(train_size=32, epochs=2)
    trial.fit(network(trial), optimizer=optimizers.SGD(0.1), step=step, callbacks=[watch])
    assert watch.seen_epochs == 2


class Annealed(keras.regularizers.Regularizer):
    def __init__(self):
        self.strength = keras.Variable(0.0, trainable=False, name="strength")

    def __call__(self, weights):
        return self.strength.value * tf.reduce_sum(weights**2)


class Watching(callbacks.Callback):
    """Numbers under names that functions use of modules, and variables that the update reads."""

    def __init__(self, *annealed):
        super().__init__()
        self.scale, self.losses, self.mean, self.annealed = tf.Variable(1.0), 0.0, 0.0, annealed

    def on_epoch_begin(self, epoch, logs=None):
        for variable in self.annealed:
            variable.assign(min(1.0, epoch / 10))

    def on_epoch_end(self, epoch, logs=None):
        self.losses += logs["loss"]
        self.mean = logs["loss"]


def test_callbacks_may_change_variables_and_what_updates_do_not_read(make_trial):
    """Also to the value that they have, as in the only epoch of SMOKE=1."""
    trial, penalty, weight = make_trial(train_size=32, epochs=1), Annealed(), tf.Variable(0.0)
    watch = Watching(penalty.strength, weight)

    def step(model, images, targets, seed):
        logits = model(images, training=True)
        entropy = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
        return watch.scale * entropy + weight * keras.ops.mean(logits**2, axis=-1), logits

    inputs = keras.Input(trial.input_shape)
    x = layers.Dense(trial.classes, kernel_regularizer=penalty, name="logits")(layers.Flatten(name="flatten")(inputs))
    callback = trial.unsaved(watch)
    trial.fit(keras.Model(inputs, x), optimizer=optimizers.SGD(0.001), step=step, callbacks=[callback])
    assert watch.mean > 0


def test_models_of_later_stages_may_wait_beside_those_that_a_step_reads(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    with seeding.seeded_weights(trial.streams):
        members = [named_network(trial, name) for name in ("first", "second")]

        def learning_from(count):
            def step(model, images, targets, seed):
                logits = model(images, training=True)
                apart = sum((tf.reduce_mean(tf.abs(logits - one(images)), axis=-1) for one in members[:count]), 0.0)
                return tf.nn.softmax_cross_entropy_with_logits(targets, logits) + apart, logits

            return step

        for i, member in enumerate(members):
            trial.fit(member, optimizer=optimizers.SGD(0.1), step=learning_from(i), stage=f"member {i}")


def named_network(trial, name):
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name=f"{name}_flatten")(layers.Rescaling(1 / 255, name=f"{name}_rescale")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, name=f"{name}_logits")(x))


def test_a_loss_object_that_counts_its_calls_is_refused(make_trial):
    class Counting(Weight):
        def __call__(self, targets, logits):
            self.weight = self.weight + 1
            return super().__call__(targets, logits)

    trial = make_trial(train_size=32, epochs=1)
    with pytest.raises(Misuse, match="Python state that it changes .* Received: `weight` of Counting"):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.1), loss=Counting())


class Uncertain(losses.Loss):
    """A loss with a learned scale (Kendall & Gal 2017)."""

    def __init__(self, trainable=True):
        super().__init__()
        self.log_sigma = keras.Variable(0.0, name="log_sigma", trainable=trainable)

    def call(self, targets, logits):
        entropy = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return entropy * tf.exp(-self.log_sigma.value) + self.log_sigma.value


class Hiding(layers.Layer):
    """A layer that keeps another one where Keras does not find it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = types.SimpleNamespace(dense=layers.Dense(10, name="inner"))

    def call(self, images):
        return self.hidden.dense(images)


@pytest.mark.slow
def test_weights_outside_of_the_model_are_refused_as_nothing_trains_them(make_trial):
    trial = make_trial(train_size=32, epochs=1)

    def beside(projector):
        def step(model, images, targets, seed):
            logits = model(images, training=True)
            return tf.nn.softmax_cross_entropy_with_logits(targets, logits) + tf.reduce_mean(projector(logits) ** 2, -1), logits

        return step

    def fit(model=None, stage="fit", **options):
        return trial.fit(model or network(trial), optimizer=optimizers.SGD(0.1), stage=stage, **options)

    def hiding():
        parts = [layers.Flatten(name="flat"), Hiding(name="hiding"), layers.Dense(trial.classes, name="logits")]
        return keras.Sequential([keras.Input(trial.input_shape), *parts])

    message = "weights outside of the model are not trained: .*Received: "
    with seeding.seeded_weights(trial.streams), pytest.raises(Misuse, match=f"{message}`projector` in .*beside"):
        fit(step=beside(layers.Dense(3, name="p")))
    with pytest.raises(Misuse, match=f"{message}.*log_sigma"):
        fit(loss=Uncertain(), stage="scale")
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    with pytest.raises(Misuse, match=f"{message}.*log_sigma"):
        fit(loss=Uncertain(), stage="watched", callbacks=[trial.unsaved(watch)])
    loss = Uncertain()
    anneal = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: loss.log_sigma.assign(0.5))
    fit(loss=loss, stage="annealed", callbacks=[trial.unsaved(anneal)])
    with seeding.seeded_weights(trial.streams), pytest.raises(Misuse, match=f"{message}`dense` of SimpleNamespace"):
        fit(hiding(), stage="hiding")
    with seeding.seeded_weights(trial.streams):
        fit(step=beside(layers.Dense(3, name="p", trainable=False)), stage="fixed")
    fit(loss=Uncertain(trainable=False), stage="constant")


def test_callbacks_without_effect_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "EarlyStopping must monitor one of .*val_accuracy.*'val_acc'", callbacks=[callbacks.EarlyStopping("val_acc")])
    averaged = optimizers.SGD(0.1, use_ema=True)
    refused(trial, "leave SwapEMAWeights out", optimizer=averaged, callbacks=[callbacks.SwapEMAWeights()])
    players = {name: optimizers.SGD(0.1) for name in ("up", "down")}
    message = "move .* Received: on_test_batch_end, on_predict_begin of Predicting"
    refused(trial, message, callbacks=[Predicting()])
    called_by_none = callbacks.LambdaCallback(on_predict_batch_begin=print)
    refused(trial, "Received: on_predict_batch_begin of LambdaCallback", callbacks=[called_by_none])
    callback_checks.check_callbacks(
        [callbacks.TensorBoard("logs"), callbacks.ProgbarLogger()], [optimizers.SGD(0.1)]
    )  # which have such methods too
    rates = callbacks.LearningRateScheduler(lambda epoch: 0.1)
    refused(trial, "one optimizer of several", two_players, optimizer=players, step=against, callbacks=[rates], loss=None)


def test_callbacks_that_write_models_to_files_are_refused(make_trial, tmp_path):
    """Trials would start from the weights of others, and two jobs would write to one file."""
    trial = make_trial(train_size=32, epochs=1)
    files = (
        callbacks.BackupAndRestore(str(tmp_path)),
        callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), monitor="val_accuracy"),
    )
    for one in files:
        message = rf"restore_best_weights=True.*KEEP=1.* Received: {type(one).__name__}"
        refused(trial, message, callbacks=[one])
        refused(trial, message, callbacks=[trial.unsaved(one)])


def test_images_and_labels_of_a_user_are_checked():
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4)
    assert Split.of(images, labels.astype(np.int32), 4).labels.dtype == np.int64
    assert Split.of(images, labels, None).labels.dtype == np.float32
    for wrong, message in (
        ((images / 255.0, labels, 4), r"np.round\(255 \* images\).* Received: float64"),
        ((images[..., 0], labels, 4), r"\[n, height, width, channels\].* Received: uint8 \(4, 8, 8\)"),
        ((images, labels, 3), "of 3 classes must be in 0 … 2. Received: 3"),
        ((images, labels - 1, 4), "Received: -1"),
        ((images, np.eye(4), 4), r"integers \[n\]. Received: float64 \(4, 4\)"),
        ((images, labels[:3], 4), "4 images and 3 labels"),
        ((images, np.array([0, 1, 2, np.nan]), None), "finite numbers"),
    ):
        with pytest.raises(Misuse, match=message):
            Split.of(*wrong)
    split = Split.of(images, labels, 4)
    with pytest.raises(Misuse, match="Received: float64"):
        split.join(images / 255.0, labels)
    with pytest.raises(Misuse, match="Received: 4"):
        split.relabelled(labels + 1)
    with pytest.raises(Misuse, match="4 images and 3 labels"):
        split.relabelled(labels[:3])


def test_other_splits_must_fit_the_trial(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    wide = Split.of(np.zeros((4, 8, 9, 1), np.uint8), np.arange(4), 10)
    refused(trial, r"the trial's shape .* Received: \(8, 9, 1\) in the train split", on=wide)
    few = trial.train.relabelled(trial.train.labels % 5, classes=5)
    refused(trial, "the same classes. Received: 5 and 10", on=few)
    refused(trial, "the val split must not be empty", validate=trial.val.take(np.arange(0)))
    with pytest.raises(Misuse, match="Received: float64"):
        trial.predict(network(trial), trial.val.images / 255.0)


def test_samples_of_a_sorted_split_are_stratified(make_trial):
    trial = make_trial(train_size=100)
    by_class = trial.train.take(np.argsort(trial.train.labels, kind="stable"))
    drawn = by_class.drawn(20, trial.streams, "x")
    assert np.bincount(by_class.labels[drawn]).tolist() == [2] * 10
    assert np.array_equal(drawn, by_class.drawn(20, trial.streams, "x"))
    assert len(set(by_class.drawn(1000, trial.streams, "x"))) == 100
    angles = Split.of(np.zeros((9, 4, 4, 1), np.uint8), np.linspace(0, 1, 9), None)
    assert sorted(angles.drawn(9, trial.streams)) == list(range(9))
    trial.train = by_class
    trial.fit(network(trial), optimizer=optimizers.SGD(0.1))
    shown = [np.flatnonzero((by_class.images == sample).all(axis=(1, 2, 3)))[0] for sample in trial.samples]
    assert len(set(by_class.labels[shown])) == 8


class Doubled(losses.CategoricalCrossentropy):
    def __call__(self, targets, logits, sample_weight=None):
        return 2 * super().__call__(targets, logits)


def test_what_keras_would_call_but_a_trial_does_not_is_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "only `call` is used.* Received: Doubled.__call__", loss=Doubled(from_logits=True))
    falling = optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10))
    rates = callbacks.ReduceLROnPlateau("val_loss"), callbacks.LearningRateScheduler(lambda epoch: 0.1)
    for callback in rates:
        message = f"cannot change a learning rate that follows a schedule.* Received: {type(callback).__name__}"
        refused(trial, message, optimizer=falling, callbacks=[callback])
    refused(trial, "a stage is called by a text.* Received: 1", stage=1)

    def narrow(model, images, targets, seed):
        logits = model(images, training=True)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits[:, :4]

    refused(trial, r"logits \(batch, 10\) that train_accuracy .* Received: \(None, 4\)", step=narrow)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_that_a_callback_changes_are_refused(make_trial, dtype):
    trial = make_trial(train_size=32, epochs=2)
    weights = np.ones(32, dtype)

    def change(model, epoch):
        weights[:16] = 0

    with pytest.raises(Misuse, match="has no effect on training: .* Received: class_weight and sample_weight.* which changed"):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.1), sample_weight=weights, callbacks=[trial.unsaved(Sets(change))])


def test_labels_cannot_be_changed_in_place(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    for array in (trial.train.labels, trial.train.clean_labels, trial.train.ids, trial.val.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    labels = np.zeros(4, np.int64)
    Split.of(np.zeros((4, 2, 2, 1), np.uint8), labels, 2)
    labels[0] = 1  # that of the user is


def test_a_step_need_not_call_a_layer_with_an_activity_penalty(make_trial):
    def step(model, images, targets, seed):
        logits = model.get_layer("logits")(model.get_layer("flatten")(images / 255))
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits

    trial = make_trial(train_size=32, epochs=1)
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(inputs)
    penalised = layers.ActivityRegularization(l2=0.1, name="penalised")(layers.Dense(trial.classes, name="logits")(x))
    trial.fit(keras.Model(inputs, penalised), optimizer=optimizers.SGD(0.1), step=step)
