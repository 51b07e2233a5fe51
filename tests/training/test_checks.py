"""What `Trial.fit` is given is done, or refused in one line before anything is trained."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import callbacks, layers, losses, optimizers

from common import augment, tasks
from common import losses as ours
from common.data.split import Split
from common.errors import Misuse
from common.training.seeding import seeded_weights


def network(trial, activation=None, **options):
    inputs = keras.Input(trial.input_shape, **options)
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(inputs))
    return keras.Model(inputs, layers.Dense(trial.classes, activation, name="logits")(x))


class Subclass(keras.Model):
    """A model that is a class of its own."""

    def __init__(self, classes, activation=None):
        super().__init__(name="subclass")
        self.flatten, self.logits = layers.Flatten(), layers.Dense(classes, activation, name="logits")

    def call(self, images, training=None):
        return self.logits(self.flatten(images) / 255)


class Stepping(Subclass):
    def train_step(self, data):
        return {}


def as_task(trial, task):
    """The trial, with another task."""
    generator = np.random.default_rng(0)
    trial.task, trial.classes = task, task.outputs(trial.classes)
    trial.train, trial.val = (task.change(split, generator) for split in (trial.train, trial.val))
    trial.input_shape = trial.train.batch(np.arange(1)).shape[1:]
    return trial


def refused(trial, said, build=network, **options):
    """Whether a fit is refused with these words, before any update."""
    began = []
    options = {"optimizer": optimizers.SGD(0.1), "loss": losses.CategoricalCrossentropy(from_logits=True), **options}
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: began.append(epoch))
    options["callbacks"] = [*options.get("callbacks", []), trial.unsaved(watch)]
    with pytest.raises(Misuse, match=said) as caught:
        trial.fit(build(trial), **options)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not began
    trial.fits.clear()


BINARY = losses.BinaryCrossentropy(from_logits=True)
SPARSE = losses.SparseCategoricalCrossentropy(from_logits=True)


def test_class_weights_that_name_no_class_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    for given, said in (
        ({"3": 2.0}, "names a class that is not there: write a list of 10 weights.* Received: '3'"),
        ({10: 2.0}, "Received: 10"),
        ({True: 2.0}, "Received: True"),
        ([1.0] * 9, r"one weight for each class.* Received: shape \(9,\)"),
        ([[1.0] * 10], r"shape \(1, 10\)"),
        ([1.0] * 9 + [-1.0], "at least 0.* Received: -1.0"),
        ({0: float("nan")}, "finite.* Received: nan"),
        ([0.0] * 10, "not all 0. Received: 0"),
        (["a"] * 10, "must be numbers"),
    ):
        refused(trial, said, class_weight=given)
    for task, loss in ((tasks.tiles, BINARY), (tasks.rotated, losses.MeanSquaredError())):
        refused(as_task(make_trial(train_size=32), task), "needs one class per image", class_weight=[1.0] * 10, loss=loss)


def test_sample_weights_that_fit_no_example_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    for given, said in (
        (np.ones(31), r"each of the 32 examples of train. Received: \(31,\)"),
        (lambda split: np.ones(3), r"Received: \(3,\)"),
        (-np.ones(32), "Received: -1.0"),
        (np.full(32, np.inf), "Received: inf"),
        (np.zeros(32), "not all 0"),
    ):
        refused(trial, said, sample_weight=given)
    refused(trial, "not to a mixture of two.* mixup", sample_weight=np.ones(32), augment=[augment.mixup()])


@augment.changes("orientation", "targets")
def turned_over(images, targets, uniforms):
    return images[:, ::-1, ::-1], targets


def blended(images, targets, uniforms):
    """An augmentation of a user's own that declares nothing."""
    return images, 0.9 * targets + 0.1 * tf.roll(targets, 1, axis=0)


def own_hinge(targets, logits):
    """A user's own, for targets of 0 and 1."""
    signs = tf.where(targets == 1.0, 1.0, -1.0)
    return tf.reduce_mean(tf.nn.relu(1 - signs * logits), axis=-1)


def test_losses_of_hard_labels_are_refused_where_labels_are_mixed(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    hard = [losses.Hinge(), losses.SquaredHinge(), losses.CategoricalHinge(), losses.squared_hinge, SPARSE]
    hard += [losses.BinaryFocalCrossentropy(from_logits=True), ours.pairwise_softmax, ours.symmetric_cross_entropy(), own_hinge]
    hard += [ours.combined((1.0, BINARY), (0.1, losses.Hinge())), lambda y, z: SPARSE.call(tf.argmax(y, axis=-1), z)]
    for loss in hard:
        refused(trial, "targets of 0 and 1 alone.* mixup", loss=loss, augment=[augment.mixup()])
    for mixing in (augment.cutmix(), blended):
        refused(trial, "targets of 0 and 1 alone", loss=losses.SquaredHinge(), augment=[augment.flip(), mixing])


def test_losses_of_soft_labels_and_hard_ones_train(make_trial):
    soft = [None, losses.MeanSquaredError(), losses.CategoricalFocalCrossentropy(from_logits=True)]
    soft += [ours.generalized_cross_entropy(), ours.combined((1.0, BINARY), (0.1, BINARY))]
    trial = make_trial(train_size=16, epochs=1)
    for i, loss in enumerate(soft):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.01), loss=loss, augment=[augment.mixup()], stage=f"soft {i}")
    for i, loss in enumerate((losses.SquaredHinge(), own_hinge)):
        trial.fit(network(trial), optimizer=optimizers.SGD(0.01), loss=loss, augment=[augment.flip()], stage=f"hard {i}")
    assert all(0 < fit.history[0]["train_loss"] < 10 for fit in trial.fits.values())


def test_losses_without_a_meaning_for_a_task_are_refused(make_trial):
    mine = lambda **options: as_task(make_trial(train_size=32, epochs=1), **options)  # noqa: E731
    for loss in (SPARSE, losses.sparse_categorical_crossentropy):
        refused(mine(task=tasks.tiles), "one class per image|emit logits", loss=loss)
    angles = mine(task=tasks.rotated)
    refused(angles, "one class per image", loss=SPARSE)
    for loss in (losses.CategoricalCrossentropy(from_logits=True), tf.nn.softmax_cross_entropy_with_logits):
        refused(angles, "another gradient than its own", loss=loss)
        refused(mine(task=tasks.tiles), "another gradient than its own", loss=loss)
    refused(angles, "does not depend on the outputs", loss=losses.CategoricalFocalCrossentropy(from_logits=True))
    refused(angles, "falls without end for targets outside 0 … 1", loss=BINARY)
    refused(angles, "targets of 0 and 1 alone", loss=losses.Hinge())
    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "does not depend on the outputs", loss=lambda targets, logits: tf.reduce_sum(targets, axis=-1))
    refused(trial, "a number for each example", loss=lambda targets, logits: tf.reduce_mean(tf.square(targets - logits)))
    for loss in (losses.Dice(), losses.Tversky(), losses.CategoricalGeneralizedCrossEntropy()):
        refused(trial, "emit logits", loss=loss)


def test_an_augmentation_changes_label_and_image_or_neither_where_the_label_is_the_angle(make_trial):
    angles = as_task(make_trial(train_size=32, epochs=1), tasks.rotated)
    loss = losses.MeanSquaredError()
    turning = [augment.flip(), augment.rotation(), augment.rand_augment(), augment.mixup(), augment.cutmix()]
    for one in turning:
        refused(angles, f"must change both or neither. Received: {one.__name__}", loss=loss, augment=[one])
    refused(angles, "declare what an augmentation changes", loss=loss, augment=[blended])
    fine = [augment.translation(), augment.crop(), augment.cutout(), turned_over]
    angles.fit(network(angles), optimizer=optimizers.SGD(0.01), loss=loss, augment=fine)
    with pytest.raises(Misuse, match="some of pixels, orientation, targets. Received: 'labels'"):
        augment.changes("labels")


def test_a_model_that_wants_to_be_trained_in_its_own_way_is_refused(make_trial):
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

    refused(trial, "own train_step would be ignored.* Received: Stepping", lambda trial: Stepping(10))
    refused(trial, "own compute_loss would be ignored", patched)
    refused(trial, r"leave compile\(\) out.*: loss, metrics", compiled(optimizer="adam", loss="mse", metrics=["accuracy"]))
    refused(trial, r"leave compile\(\) out", compiled(optimizer="adam"))
    refused(trial, "leave batch_size out.* Received: batch_size=16", lambda trial: network(trial, batch_size=16))
    nine = types.SimpleNamespace(input_shape=trial.input_shape, classes=9)
    refused(trial, r"put out 10 numbers per image.* Received: \(None, 9\)", lambda _: network(nine))


def test_optimizers_are_made_anew_for_each_fit(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    used = optimizers.SGD(0.1)
    trial.fit(network(trial), optimizer=used, stage="first")
    for given, said in (
        ("adam", "Received: 'adam'"),
        (optimizers.Adam, "an object made in train"),
        (used, "made anew for each fit"),
        ({"logits": optimizers.SGD(0.1)}, "needs a step"),
    ):
        refused(trial, said, optimizer=given)
    one = optimizers.SGD(0.1)
    step = lambda model, images, targets, seed: None  # noqa: E731
    refused(trial, "an optimizer of its own", optimizer={"logits": one, "flatten": one}, step=step)
    for count in (0, 1.5, True):
        refused(trial, "epochs must be a whole number", epochs=count)


def test_callbacks_that_could_do_nothing_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    refused(trial, "watches what no epoch measures.*val_accuracy.*'val_acc'", callbacks=[callbacks.EarlyStopping("val_acc")])
    averaged = optimizers.SGD(0.1, use_ema=True)
    refused(trial, "leave SwapEMAWeights out", optimizer=averaged, callbacks=[callbacks.SwapEMAWeights()])
    players = {name: optimizers.SGD(0.1) for name in ("up", "down")}
    rates = callbacks.LearningRateScheduler(lambda epoch: 0.1)
    refused(trial, "one optimizer of several", two_players, optimizer=players, step=against, callbacks=[rates], loss=None)


def two_players(trial, **options):
    inputs = keras.Input(trial.input_shape)
    x = layers.Flatten(name="flatten")(inputs)
    return keras.Model(inputs, [layers.Dense(1, name=name, **options)(x) for name in ("up", "down")])


def against(model, images, targets, seed):
    total = keras.ops.sum(sum(model(images, training=True)), axis=-1)
    return {"up": -total, "down": total}, None


def test_a_callback_of_ones_own_cannot_move_one_rate_of_two(make_trial):
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.05

    trial = make_trial(train_size=32, epochs=2)
    players = {name: optimizers.SGD(0.1) for name in ("up", "down")}
    with pytest.raises(Misuse, match="rate of one optimizer of several.* Received: 0.1, then 0.05"):
        trial.fit(two_players(trial), optimizer=players, step=against, callbacks=[Halve()])


def test_outputs_that_are_probabilities_are_refused(make_trial):
    trial = make_trial(train_size=32, epochs=1)

    def behind(layer):
        def build(trial):
            model = network(trial)
            return keras.Model(model.input, layer(model.output))

        return build

    for build in (
        lambda trial: network(trial, "softmax"),
        lambda trial: network(trial, "sigmoid"),
        behind(layers.Softmax()),
        behind(keras.ops.sigmoid),
        behind(lambda x: layers.Activation("linear")(keras.ops.softmax(x))),
        lambda _: Subclass(10, "softmax"),
        lambda _: Subclass(10, "sigmoid"),
        lambda trial: keras.Sequential([layers.Flatten(), layers.Dense(10, "softmax")]),
    ):
        with seeded_weights(trial.streams):
            refused(trial, "models here emit logits", build)
    tiled = as_task(make_trial(train_size=32, epochs=1), tasks.tiles)
    refused(tiled, "models here emit logits", lambda trial: network(trial, "sigmoid"), loss=BINARY)
    angles = as_task(make_trial(train_size=32, epochs=1), tasks.rotated)
    angles.fit(network(angles, "tanh"), optimizer=optimizers.SGD(0.01), loss=losses.MeanSquaredError())
    for i, build in enumerate((behind(layers.Activation("log_softmax")), lambda _: Subclass(10), zeros)):
        with seeded_weights(trial.streams):
            trial.fit(build(trial), optimizer=optimizers.SGD(0.01), stage=f"logits {i}")
    assert all(fit.history[0]["val_nll"] > 0 for fit in trial.fits.values())


def zeros(trial):
    """All of its outputs are 0 at first."""
    inputs = keras.Input(trial.input_shape)
    return keras.Model(inputs, layers.Dense(10, kernel_initializer="zeros")(layers.Flatten()(inputs)))


def test_images_and_labels_of_ones_own_are_checked():
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4)
    assert Split.of(images, labels.astype(np.int32), 4).labels.dtype == np.int64
    assert Split.of(images, labels, None).labels.dtype == np.float32
    for wrong, said in (
        ((images / 255.0, labels, 4), r"np.round\(255 \* images\).* Received: float64"),
        ((images[..., 0], labels, 4), r"\[n, height, width, channels\].* Received: uint8 \(4, 8, 8\)"),
        ((images, labels, 3), "of 3 classes are 0 … 2. Received: 3"),
        ((images, labels - 1, 4), "Received: -1"),
        ((images, np.eye(4), 4), r"whole numbers \[n\]. Received: float64 \(4, 4\)"),
        ((images, labels[:3], 4), "4 images and 3 labels"),
        ((images, np.array([0, 1, 2, np.nan]), None), "finite numbers"),
    ):
        with pytest.raises(Misuse, match=said):
            Split.of(*wrong)
    split = Split.of(images, labels, 4)
    with pytest.raises(Misuse, match="Received: float64"):
        split.join(images / 255.0, labels)
    with pytest.raises(Misuse, match="Received: 4"):
        split.relabelled(labels + 1)
    with pytest.raises(Misuse, match="4 images and 3 labels"):
        split.relabelled(labels[:3])


def test_other_examples_must_fit_the_trial(make_trial):
    trial = make_trial(train_size=32, epochs=1)
    wide = Split.of(np.zeros((4, 8, 9, 1), np.uint8), np.arange(4), 10)
    refused(trial, r"of the trial's shape .* Received: \(8, 9, 1\) to train on", on=wide)
    few = trial.train.relabelled(trial.train.labels % 5, classes=5)
    refused(trial, "the same classes. Received: 5 and 10", on=few)
    refused(trial, "no example to val on", validate=trial.val.take(np.arange(0)))
    with pytest.raises(Misuse, match="Received: float64"):
        trial.predict(network(trial), trial.val.images / 255.0)


def test_what_is_drawn_of_a_sorted_folder_is_of_all_classes(make_trial):
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
