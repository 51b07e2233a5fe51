"""What `Trial.fit` cannot be given is one line, before anything is trained."""

import keras
import pytest
import tensorflow as tf
from keras import callbacks, layers, optimizers

from common import augment
from common.data.split import Split
from common.errors import Misuse
from common.models import small_cnn


class Net(keras.Model):
    """Subclassed."""

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
        r"there are, \(28, 28, 1\): .*Input\(trial.input_shape\). Received: \(32, 32, 3\)",
    ),
    "no model": (lambda _: {"model": small_cnn}, "model must be a keras.Model. Received: function small_cnn"),
    "a name of an optimizer": (lambda _: {"optimizer": "adam"}, "made in train.* Received: 'adam'"),
    "a class of optimizers": (lambda _: {"optimizer": optimizers.SGD}, "made in train.* Received: <class"),
    "a Keras layer": (
        lambda _: {"augment": [layers.RandomFlip(name="flip")]},
        "put it into the model instead. Received: RandomFlip 'flip'",
    ),
    "an augmentation alone": (lambda _: {"augment": augment.flip()}, r"augment=\[flip\(\)\] .* Received: function flip"),
    "no augmentation": (lambda _: {"augment": None}, "augment must be a list: .* Received: None"),
    "one not called": (lambda _: {"augment": [augment.flip]}, r"augment=\[flip\(\)\]. Received: flip itself"),
    "one of images alone": (lambda _: {"augment": [lambda images: images]}, "Received: function <lambda>"),
    "one without a name": (lambda _: {"augment": [Unnamed()]}, "a function, with a name, .* Received: .* Unnamed"),
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


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_fit_cannot_be_given_is_named(make_trial, given, said):
    trial = make_trial()
    right = {"model": small_cnn(trial, widths=(4,)), "optimizer": optimizers.SGD(0.1)}
    with pytest.raises(Misuse, match=said) as refused:
        trial.fit(**right | given(trial))
    assert "\n" not in str(refused.value)
    assert trial.fits == {}


def test_what_a_refusal_recommends_is_taken(make_trial):
    trial = make_trial(epochs=1)
    inputs = keras.Input(trial.input_shape)
    wrapped = keras.Model(inputs, Net()(layers.RandomFlip(name="flip")(inputs)))
    options = {"callbacks": [trial.unsaved(callbacks.LambdaCallback())], "augment": [augment.flip(), named]}
    split = Split.of(trial.val.images, trial.val.labels, trial.classes)
    assert trial.fit(wrapped, optimizer=optimizers.SGD(0.1), on=trial.train.take([*range(32)]), validate=split, **options)
    assert trial.fits["fit"].steps == 2
