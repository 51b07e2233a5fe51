"""What is known of losses, augmentations and models by running them on a probe, before anything is trained.

A probe is some drawn training examples, prepared as in training, and drawn outputs. Where a loss or an augmentation declares
what it needs (`hard_labels`, `changes`), that counts.
"""

import functools
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.data.streams import Streams
from common.errors import Misuse
from common.training import augmentation, graphs
from common.training.stage import Stage

PROBE = 32
"""Examples of a probe."""
HARD_LABELS = (
    *(keras.losses.Hinge, keras.losses.SquaredHinge, keras.losses.CategoricalHinge, keras.losses.BinaryFocalCrossentropy),
    *(keras.losses.SparseCategoricalCrossentropy, keras.losses.Circle),
    *(keras.losses.hinge, keras.losses.squared_hinge, keras.losses.categorical_hinge, keras.losses.binary_focal_crossentropy),
    *(keras.losses.sparse_categorical_crossentropy, keras.losses.circle),
)
"""Losses of Keras that take targets of 0 and 1 alone, which they cannot declare."""
SHARES_OUT = {"softmax", "sigmoid", "hard_sigmoid"}
"""Activations and operations, in lower case, that turn logits into probabilities."""
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
"""Layers that put out logits where they have no activation."""


# --- targets ---------------------------------------------------------------------------------------------------------


def examples(train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a few drawn examples."""
    positions = train.drawn(PROBE, Streams(0), "probe")
    return train.batch(positions), train.labels[positions]


def check_targets(stage: Stage, loss, orientation: bool) -> None:
    """Raises `Misuse` for augmentations and a loss that do not go with the labels, or with each other.

    Args:
        loss: as given; `stage` holds it per example.
        orientation: whether the labels say how an image is turned.
    """
    plain = not stage.augment and not orientation
    if plain and type(loss) in (type(None), keras.losses.CategoricalCrossentropy) and stage.train.classes:
        return  # most often
    images, labels = examples(stage.train)
    hard = stage.targets(labels)
    prepared, mixes = _augmented(stage, tf.cast(images, tf.float32), hard, orientation)
    if stage.sample_weight is not None and mixes:
        raise Misuse(
            "sample_weight belongs to an example, not to a mixture of two: leave out one of the two. Received: sample_weight and "
            f"{', '.join(_named(one) for one in stage.augment)}"
        )
    if not stage.step or loss is not None:
        _check_loss(stage, loss, hard, prepared, soft=mixes or _is_soft(prepared))


def _augmented(stage: Stage, images, hard, orientation: bool) -> tuple[tf.Tensor, bool]:
    """Targets as losses see them, and whether an augmentation changes them."""
    uniforms = augmentation.draws(Streams(0), 0, stage.augment, PROBE)[: len(images)]
    prepared, mixes = hard, False
    for i, one in enumerate(stage.augment):
        before = prepared
        images, prepared = augmentation.apart(one)(images, prepared, uniforms[:, i])
        if images.shape[0] != hard.shape[0] or prepared.shape != hard.shape:
            raise Misuse(
                f"an augmentation keeps the shapes of a batch. Received: {images.shape}, {prepared.shape} of {_named(one)}"
            )
        changes = getattr(one, "changes", None)
        moved = "targets" in (changes or ()) or not np.array_equal(before, prepared)
        mixes |= moved
        if orientation and changes is None:
            raise Misuse(
                "here the label says how an image is turned: declare what an augmentation changes, "
                f"@common.augment.changes(…) with some of {', '.join(augmentation.CHANGES)}. Received: {_named(one)}"
            )
        if orientation and moved != ("orientation" in changes):
            raise Misuse(
                "here the label says how an image is turned: an augmentation must change both or neither. Received: "
                f"{_named(one)}, which changes {', '.join(sorted(changes))}"
            )
    return prepared, mixes


def _is_soft(given: tf.Tensor) -> bool:
    values = np.asarray(given)
    return bool(((values != 0) & (values != 1)).any())


def _check_loss(stage: Stage, loss, hard, prepared, *, soft: bool) -> None:
    """Raises `Misuse` for a loss that these targets have no meaning for."""
    name = _named(loss)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and stage.train.classes is None:
        raise Misuse(f"{name} needs one class per image: take a loss of the task's own labels. Received: {name}")
    outputs = tf.constant(2 * Streams(0).generator("noise", "probe").standard_normal(hard.shape), tf.float32)
    call = graphs.putting_back(stage.loss)
    try:
        far = np.asarray(call(prepared, 1e3 * outputs), np.float64)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            values = call(prepared, outputs)
        gradient = tape.gradient(values, outputs)
    except Misuse:
        raise
    except Exception as error:
        told = " ".join(str(error).split())
        raise Misuse(
            f"the loss must give a number for each example, from targets and outputs {tuple(hard.shape)}. "
            f"Received: {name}, which fails there with {type(error).__name__}: {told}"
        ) from error
    if gradient is None or not np.any(np.asarray(gradient)):
        raise Misuse(f"the loss does not depend on the outputs for these targets, so nothing would be learned. Received: {name}")
    if not np.allclose(tf.reduce_sum(prepared, axis=-1), 1, atol=1e-3) and not _agree(call, prepared, outputs, gradient):
        raise Misuse(
            "the loss has another gradient than its own for targets that do not sum to 1, as softmax cross-entropies have: take "
            f"one of the task's own labels. Received: {name}"
        )
    low, high = float(tf.reduce_min(prepared)), float(tf.reduce_max(prepared))
    if not 0 <= low <= high <= 1 and far.min() < -100:
        raise Misuse(f"the loss falls without end for targets outside 0 … 1. Received: {name}, {low:.3g} … {high:.3g}")
    if soft and needs_hard_labels(loss, call, hard, outputs):
        mixing = [_named(one) for one in stage.augment if "targets" in getattr(one, "changes", ("targets",))]
        raise Misuse(
            "the loss takes targets of 0 and 1 alone: take another, such as CategoricalCrossentropy(from_logits=True)"
            f"{', or no augmentation that mixes them' if mixing else ''}. Received: {', '.join([name, *mixing])}"
        )


def _agree(call: Callable, prepared, outputs, gradient) -> bool:
    """Whether a gradient is that of a loss, by small differences in one direction."""
    direction = tf.constant(Streams(0).generator("noise", "direction").standard_normal(outputs.shape), tf.float32)
    ahead, behind = (np.asarray(call(prepared, outputs + h * direction), np.float64) for h in (0.01, -0.01))
    by_difference, exact = (ahead - behind) / 0.02, np.asarray(tf.reduce_sum(gradient * direction, axis=-1), np.float64)
    return np.abs(by_difference - exact).sum() <= 0.1 * (np.abs(by_difference).sum() + np.abs(exact).sum())


def needs_hard_labels(loss, call: Callable, hard: tf.Tensor, outputs: tf.Tensor) -> bool:
    """Whether a loss has a meaning for targets of 0 and 1 alone: as declared, as known of Keras, or by what it does.

    By what it does: it leaps when a target leaves 0 or 1, or a target of 0.7 is the same to it as one of 1.
    """
    if declares_hard_labels(loss):
        return True
    others = tf.roll(hard, 1, axis=0)
    differ = np.any(np.asarray(hard) != np.asarray(others), axis=-1)

    def value(share):
        return np.asarray(call((1 - share) * hard + share * others, outputs), np.float64)[differ]

    base = value(0.0)
    leaps = np.abs(value(1e-4) - base) > 0.05 * (1 + np.abs(base))
    ignores = np.allclose(value(0.3), base, rtol=1e-5, atol=1e-6) and not np.allclose(value(1.0), base, rtol=1e-5, atol=1e-6)
    return bool(leaps.any() or ignores)


def declares_hard_labels(loss) -> bool:
    """Whether a loss says, or is one of Keras of which it is known, that it takes targets of 0 and 1 alone."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    classes = tuple(one for one in HARD_LABELS if isinstance(one, type))
    return isinstance(loss, classes) or function in HARD_LABELS or getattr(function, "hard_labels", False)


def _named(one) -> str:
    return getattr(one, "__name__", type(one).__name__)


# --- outputs ---------------------------------------------------------------------------------------------------------


def check_head(model: keras.Model, images: np.ndarray, forward: Callable) -> None:
    """Raises `Misuse` for a model whose outputs are probabilities.

    Args:
        images: some, uint8; forward: the model compiled, uint8 images -> outputs.
    """
    last = _last_operation(model)
    name = None if last is None else _ending(last)
    if type(last) in LINEAR and name == "linear":
        return
    if name in SHARES_OUT or _puts_out_shares(model, images, np.asarray(forward(images))):
        raise Misuse(
            "models here emit logits, of which losses and scores take the softmax themselves: end in Dense(classes) without an "
            f"activation. Received: {model.name}, which ends in {name if name in SHARES_OUT else 'probabilities'}"
        )


def _puts_out_shares(model: keras.Model, images: np.ndarray, outputs: np.ndarray) -> bool:
    """Whether outputs are probabilities: those that are, and stay so where logits would grow.

    Logits grow with the images or, after a kernel of zeros, with the biases alone.
    """
    if not are_shares(outputs) and not _between(outputs):
        return False
    others = [other for other in _louder(model, images, outputs.shape[1:]) if np.isfinite(other).all()]
    summed = are_shares(outputs) and all(map(are_shares, others))
    return summed or (_between(outputs) and bool(((outputs > 0) & (outputs < 1)).any()) and all(map(_between, others)))


def _louder(model: keras.Model, images: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Outputs of much brighter images, and those under much larger biases of the outputs' shape, of either sign."""
    biases = [variable for variable in model.trainable_variables if tuple(variable.shape) == shape]
    before = [keras.ops.convert_to_numpy(variable) for variable in biases]
    images = tf.cast(images, tf.float32)
    for factor in (1e3, -1e3):
        yield np.asarray(model(factor * images, training=False), np.float32)
        try:
            for variable, value in zip(biases, before, strict=True):
                variable.assign(factor * value)
            yield np.asarray(model(images, training=False), np.float32)
        finally:
            for variable, value in zip(biases, before, strict=True):
                variable.assign(value)


def _between(outputs: np.ndarray) -> bool:
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def are_shares(outputs: np.ndarray) -> bool:
    """Whether outputs are probabilities of classes: between 0 and 1, and 1 together."""
    there = outputs.ndim == 2 and outputs.shape[1] > 1 and np.isfinite(outputs).all()
    return bool(there and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1, dtype=np.float64), 1, atol=5e-3))


def _last_operation(model: keras.Model) -> keras.Operation | None:
    """The layer or operation that a model ends in; None where that cannot be seen."""
    while isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        last = model.layers[-1] if isinstance(model, keras.Sequential) else model.operations[-1]
        if not isinstance(last, keras.Model):
            return last
        model = last
    return None


def _ending(last: keras.Operation) -> str:
    """Its activation, or what it is itself, in lower case."""
    of_keras = type(last).__module__.split(".")[0] == "keras"
    activation = getattr(last, "activation", None) if of_keras else None
    return (type(last).__name__ if activation is None else getattr(activation, "__name__", type(activation).__name__)).lower()
