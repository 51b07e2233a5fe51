"""Results do not depend on how many updates are made in one call of the compiled function."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import arrays_equal
from fits import against, as_task, two_players
from keras import callbacks, losses, optimizers

from common import augment, models, tasks
from common.data.split import Split
from common.training import feed, loop
from common.training.loop import Diverged, Loop
from common.training.seeding import seeded_weights


def rows_of(history):
    return [{**row, "seconds": 0} for row in history]


def cnn(trial):
    return models.small_cnn(trial, widths=(4,), dropout=0.5, normalization="batch")


def noisy(model, images, targets, seed):
    logits = model(images + tf.random.stateless_normal(tf.shape(images), seed), training=True)
    return losses.categorical_crossentropy(targets, logits, from_logits=True), logits


CASES = {
    "random layers and augmentation": {"build": cnn, "augment": [augment.flip(), augment.mixup()]},
    "a step": {"build": cnn, "step": noisy},
    "schedule, momentum, averages": {
        "build": cnn,
        "optimizer": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9, use_ema=True, clipnorm=1.0),
    },
    "callbacks at epochs": {
        "build": cnn,
        "callbacks": lambda: [callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1.0)],
    },
    "weights of classes and examples": {
        "build": cnn,
        "class_weight": [1.0, 2.0] * 5,
        "sample_weight": lambda split: split.labels % 3 + 0.5,
    },
    "several labels": {"build": cnn, "task": tasks.tiles, "loss": losses.BinaryCrossentropy(from_logits=True)},
    "two optimizers": {
        "build": two_players,
        "step": against,
        "optimizer": lambda: {"up": optimizers.SGD(0.01), "down": optimizers.Adam(0.01)},
    },
    "loss scaling": {"build": cnn, "optimizer": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01))},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_bits_do_not_depend_on_the_number_of_updates_in_a_call(case, make_trial, monkeypatch, tmp_path):
    """Batches of 16, 16, 16 and 10 examples in each of 3 epochs; calls of 1, of 3 and of all 4."""
    ends, calls = [], []
    for most in (1, 3, 4):
        options = dict(CASES[case])
        build = options.pop("build")
        made = {name: value() for name, value in options.items() if name in ("optimizer", "callbacks") and callable(value)}
        task = options.pop("task", tasks.classification)
        trial = as_task(make_trial(folder=tmp_path / str(most), epochs=3, train_size=58), task)
        monkeypatch.setattr(Loop, "_updates_at_once", lambda _, remaining, most=most: min(most, remaining))
        with seeded_weights(trial.streams):
            model = build(trial)
        counted = count_calls(monkeypatch)
        trial.fit(model, **{"optimizer": optimizers.SGD(0.1), **options, **made})
        done = trial.fits["fit"]
        ends.append((model.get_weights(), rows_of(done.history), done.norms, done.steps))
        calls.append(counted[:])
    assert calls == [[1] * 12, [3, 1] * 3, [4] * 3]
    for weights, *others in ends[1:]:
        assert arrays_equal(ends[0][0], weights)
        assert others == list(ends[0][1:])


def count_calls(monkeypatch):
    """A list to which the number of updates in each call will be appended."""
    counted, results = [], loop.update.results
    original = getattr(results, "original", results)

    def counting(updates, inputs):
        done = original(updates, inputs)
        counted.append(len(done))
        return done

    counting.original = original
    monkeypatch.setattr(loop.update, "results", counting)
    return counted


@pytest.mark.parametrize("most", [1, 4])
def test_a_call_ends_with_the_first_update_that_is_not_finite(make_trial, monkeypatch, most):
    """The third loss is infinite: the weights are those after three updates, and the fourth is not made."""

    def loss(targets, outputs):
        third = tf.cast(tf.equal(optimizer.iterations, 2), tf.float32)
        return losses.categorical_crossentropy(targets, outputs, from_logits=True) + third / (1.0 - third)

    optimizer = optimizers.SGD(0.1)
    trial = make_trial(epochs=1)
    monkeypatch.setattr(Loop, "_updates_at_once", lambda _, remaining: min(most, remaining))
    with seeded_weights(trial.streams):
        model = cnn(trial)
    with pytest.raises(Diverged, match="the loss is not finite at epoch 1, step 3"):
        trial.fit(model, optimizer=optimizer, loss=loss)
    assert (trial.fits["fit"].batches, int(optimizer.iterations)) == (3, 3)


def test_calls_end_at_checkpoints_and_take_as_many_updates_as_fit_between_two_reports(make_trial, monkeypatch):
    """Sixteen updates an epoch."""
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 1000.0)
    trial = make_trial(batch_size=4, epochs=1)
    counted = count_calls(monkeypatch)
    with seeded_weights(trial.streams):
        trial.fit(cnn(trial), optimizer=optimizers.SGD(0.1))
    assert counted == [1, 1, 14]  # the first compiles, the second tells how long an update takes
    counted.clear()
    trial = make_trial(batch_size=4, epochs=1, folder="checkpoints", checkpoint_steps=5)
    with seeded_weights(trial.streams):
        trial.fit(cnn(trial), optimizer=optimizers.SGD(0.1))
    assert counted == [1, 1, 3, 5, 5, 1]


@pytest.mark.parametrize("name", ["on_batch_begin", "on_train_batch_begin", "on_batch_end", "on_train_batch_end"])
def test_a_callback_that_acts_on_batches_is_called_for_each(make_trial, monkeypatch, name):
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 1000.0)
    seen = []
    watch = type("Watch", (keras.callbacks.Callback,), {name: lambda self, batch, logs=None: seen.append(batch)})()
    trial = make_trial(epochs=2)
    with seeded_weights(trial.streams):
        trial.fit(cnn(trial), optimizer=optimizers.SGD(0.1), callbacks=[trial.unsaved(watch)])
    assert seen == [0, 1, 2, 3] * 2


@pytest.mark.slow
def test_a_resident_split_gives_the_same_bits_as_one_sent_with_each_call(make_trial, monkeypatch, tmp_path):
    """On a GPU the train split rests in its memory; here the first CPU stands for it."""
    ends, sent, batch = [], [], Split.batch
    monkeypatch.setattr(Split, "batch", lambda split, positions: sent.append(len(positions)) or batch(split, positions))
    for kind in ("sent", "resident"):
        monkeypatch.setattr(feed, "is_gpu", lambda _, kind=kind: kind == "resident")
        trial = make_trial(folder=tmp_path / kind, epochs=2, train_size=58)
        with seeded_weights(trial.streams):
            model = cnn(trial)
        trial.fit(model, optimizer=optimizers.SGD(0.1), augment=[augment.translation()], sample_weight=np.linspace(0.5, 1.5, 58))
        ends.append((model.get_weights(), rows_of(trial.fits["fit"].history)))
    assert arrays_equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_a_split_that_is_too_large_for_a_gpu_is_sent_with_each_call(make_trial, monkeypatch):
    monkeypatch.setattr(feed, "is_gpu", lambda _: True)
    trial = make_trial(epochs=1)
    inside = []
    start = feed.Feed.start_epoch
    monkeypatch.setattr(feed.Feed, "start_epoch", lambda one, epoch: inside.append(one.is_resident) or start(one, epoch))
    for limit in (64 * 28 * 28, 64 * 28 * 28 - 1):
        monkeypatch.setattr(feed, "RESIDENT_BYTES", limit)
        with seeded_weights(trial.streams):
            trial.fit(cnn(trial), optimizer=optimizers.SGD(0.1), stage=str(limit))
    assert inside == [True, False]
