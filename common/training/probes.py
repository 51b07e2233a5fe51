"""Checks of losses, augmentations and models by a test run on a few examples, before training starts.

The probe is a sample of training examples, augmented as in training, and random outputs. Declarations of losses and
augmentations (`hard_labels`, `changes`) take precedence over what the probe shows.
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
"""Number of examples in a probe."""
SUM_TOLERANCE = 5e-3
"""Difference from 1 up to which a sum of outputs, in any precision, may be that of probabilities."""
SMALLER = 100
"""Factor by which no augmentation may reduce the largest pixel: images / 255 are of another range."""
HARD_LABELS = (
    *(keras.losses.Hinge, keras.losses.SquaredHinge, keras.losses.CategoricalHinge, keras.losses.BinaryFocalCrossentropy),
    *(keras.losses.SparseCategoricalCrossentropy, keras.losses.Circle),
    *(keras.losses.hinge, keras.losses.squared_hinge, keras.losses.categorical_hinge, keras.losses.binary_focal_crossentropy),
    *(keras.losses.sparse_categorical_crossentropy, keras.losses.circle),
)
"""Losses of Keras that need targets of 0 and 1."""
PROBABILITY_ACTIVATIONS = {"softmax", "sigmoid", "hard_sigmoid"}
"""Names, in lower case, of activations and layers that turn logits into probabilities."""
LINEAR_LAYERS = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
"""Layers whose outputs are logits if they have no activation."""


# --- targets ---------------------------------------------------------------------------------------------------------


def examples(train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a stratified sample of `PROBE` examples."""
    positions = train.drawn(PROBE, Streams(0), "probe")
    return train.batch(positions), train.labels[positions]


def check_targets(stage: Stage, loss, orientation: bool) -> None:
    """Raise `Misuse` for a loss or augmentations that do not fit the labels, or each other.

    Args:
        loss: as passed to `Trial.fit`; `stage.loss` is its per-example adapter.
        orientation: whether the labels depend on the orientation of an image.
    """
    plain = not stage.augment and not orientation
    if plain and type(loss) in (type(None), keras.losses.CategoricalCrossentropy) and stage.train.classes:
        return  # the usual case needs no probe
    images, labels = examples(stage.train)
    hard = stage.targets(labels)
    prepared, mixes = _augmented(stage, tf.cast(images, tf.float32), hard, orientation)
    if stage.sample_weight is not None and mixes:
        raise Misuse(
            "sample_weight cannot be combined with an augmentation that mixes examples: leave one of them out. Received: "
            f"sample_weight and {', '.join(_name(one) for one in stage.augment)}"
        )
    if not stage.step or loss is not None:
        _check_loss(stage, loss, hard, prepared, soft=mixes or _is_soft(prepared))


def _augmented(stage: Stage, images, hard, orientation: bool) -> tuple[tf.Tensor, bool]:
    """The targets after all augmentations, and whether one of these changes them."""
    uniforms = augmentation.draws(Streams(0), 0, stage.augment, PROBE)[: len(images)]
    prepared, mixes = hard, False
    for i, one in enumerate(stage.augment):
        before, largest = prepared, _largest(images)
        images, prepared = augmentation.for_probing(one)(images, prepared, uniforms[:, i])
        if images.shape[0] != hard.shape[0] or prepared.shape != hard.shape:
            raise Misuse(
                f"an augmentation must keep the shapes of images and targets. "
                f"Received: {images.shape}, {prepared.shape} of {_name(one)}"
            )
        if largest > SMALLER * _largest(images):
            raise Misuse(
                "an augmentation must return images of 0 … 255, as models are scored with: scale them in the model. "
                f"Received: {_name(one)}, which returns pixels of at most {_largest(images):.3g} for those of {largest:.3g}"
            )
        changes = getattr(one, "changes", None)
        moved = "targets" in (changes or ()) or not np.array_equal(before, prepared)
        mixes |= moved
        if orientation and changes is None:
            raise Misuse(
                "labels of this task depend on the image's orientation, so an augmentation must declare what it changes: "
                f"@common.augment.changes(…) with some of {', '.join(augmentation.CHANGES)}. Received: {_name(one)}"
            )
        if orientation and moved != ("orientation" in changes):
            raise Misuse(
                "labels of this task depend on the image's orientation: an augmentation must change both or neither. Received: "
                f"{_name(one)}, which changes {', '.join(sorted(changes))}"
            )
    return prepared, mixes


def _largest(images) -> float:
    return float(np.abs(np.asarray(images, np.float32)).max())


def _is_soft(targets: tf.Tensor) -> bool:
    values = np.asarray(targets)
    return bool(((values != 0) & (values != 1)).any())


def _check_loss(stage: Stage, loss, hard, prepared, *, soft: bool) -> None:
    """Raise `Misuse` for a loss that is not defined for these targets, or cannot be minimised."""
    name = _name(loss)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and stage.train.classes is None:
        raise Misuse(f"a sparse loss needs one class per image: use a loss for the labels of this task. Received: {name}")
    outputs = tf.constant(2 * Streams(0).generator("noise", "probe").standard_normal(hard.shape), tf.float32)
    call = graphs.without_side_effects(stage.loss)
    try:
        far = np.asarray(call(prepared, 1e3 * outputs), np.float64)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            values = call(prepared, outputs)
        gradient = tape.gradient(values, outputs)
    except Misuse:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise Misuse(
            f"the loss must return one number for each example, from targets and outputs of shape {tuple(hard.shape)}. "
            f"Received: {name}, which fails there with {type(error).__name__}: {message}"
        ) from error
    if gradient is None or not np.any(np.asarray(gradient)):
        raise Misuse(f"the loss must depend on the outputs, but its gradient is 0 for these targets. Received: {name}")
    if not np.allclose(tf.reduce_sum(prepared, axis=-1), 1, atol=1e-3) and not _gradient_is_exact(
        call, prepared, outputs, gradient
    ):
        raise Misuse(
            "the loss has a wrong gradient for targets that do not sum to 1, as softmax cross-entropies have: use a loss for the "
            f"labels of this task. Received: {name}"
        )
    low, high = float(tf.reduce_min(prepared)), float(tf.reduce_max(prepared))
    if not 0 <= low <= high <= 1 and far.min() < -100:
        raise Misuse(
            "the loss has no lower bound for targets outside 0 … 1: use a loss for the labels of this task. "
            f"Received: {name}, targets {low:.3g} … {high:.3g}"
        )
    if soft and needs_hard_labels(loss, call, hard, outputs):
        mixing = [_name(one) for one in stage.augment if "targets" in getattr(one, "changes", ("targets",))]
        raise Misuse(
            "the loss needs targets of 0 and 1: use another, such as CategoricalCrossentropy(from_logits=True)"
            f"{', or no augmentation that mixes targets' if mixing else ''}. Received: {', '.join([name, *mixing])}"
        )


def _gradient_is_exact(call: Callable, prepared, outputs, gradient) -> bool:
    """Whether a gradient agrees with central differences of the loss in a random direction."""
    direction = tf.constant(Streams(0).generator("noise", "direction").standard_normal(outputs.shape), tf.float32)
    ahead, behind = (np.asarray(call(prepared, outputs + h * direction), np.float64) for h in (0.01, -0.01))
    by_difference, exact = (ahead - behind) / 0.02, np.asarray(tf.reduce_sum(gradient * direction, axis=-1), np.float64)
    return np.abs(by_difference - exact).sum() <= 0.1 * (np.abs(by_difference).sum() + np.abs(exact).sum())


def needs_hard_labels(loss, call: Callable, hard: tf.Tensor, outputs: tf.Tensor) -> bool:
    """Whether a loss needs targets of 0 and 1, as it declares or as its values show.

    They show it if the loss is discontinuous at 0 or 1, or has the same value for a target of 0.7 as for 1.

    Args:
        call: the loss per example, (targets, outputs) -> losses [batch].
        hard: targets of 0 and 1 [batch, outputs]; outputs: [batch, outputs].
    """
    if declares_hard_labels(loss):
        return True
    others = tf.roll(hard, 1, axis=0)
    differ = np.any(np.asarray(hard) != np.asarray(others), axis=-1)

    def value(share):
        return np.asarray(call((1 - share) * hard + share * others, outputs), np.float64)[differ]

    base = value(0.0)
    jumps = np.abs(value(1e-4) - base) > 0.05 * (1 + np.abs(base))
    rounds = np.allclose(value(0.3), base, rtol=1e-5, atol=1e-6) and not np.allclose(value(1.0), base, rtol=1e-5, atol=1e-6)
    return bool(jumps.any() or rounds)


def declares_hard_labels(loss) -> bool:
    """Whether a loss has `hard_labels = True`, or is one of `HARD_LABELS`."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    classes = tuple(one for one in HARD_LABELS if isinstance(one, type))
    return isinstance(loss, classes) or function in HARD_LABELS or getattr(function, "hard_labels", False)


def _name(one) -> str:
    return getattr(one, "__name__", type(one).__name__)


# --- outputs ---------------------------------------------------------------------------------------------------------


def check_head(model: keras.Model, images: np.ndarray, forward: Callable) -> None:
    """Raise `Misuse` for a model whose outputs are probabilities.

    Args:
        images: a sample, uint8 [n, height, width, channels]; forward: the compiled model, uint8 images -> outputs.
    """
    last = _last_operation(model)
    name = None if last is None else _ending(last)
    if type(last) in LINEAR_LAYERS and name == "linear":
        return
    if name in PROBABILITY_ACTIVATIONS or _outputs_probabilities(model, images, np.asarray(forward(images))):
        raise Misuse(
            "models must emit logits, since losses and scores apply the softmax: end with Dense(classes) without an activation. "
            f"Received: {model.name}, which ends in {name if name in PROBABILITY_ACTIVATIONS else 'probabilities'}"
        )


def _outputs_probabilities(model: keras.Model, images: np.ndarray, outputs: np.ndarray) -> bool:
    """Whether outputs look like probabilities, also for inputs or biases that are scaled so that logits would grow.

    A kernel of zeros makes the logits depend on the biases only.
    """
    if not are_probabilities(outputs) and not in_unit_interval(outputs):
        return False
    others = [other for other in _scaled_outputs(model, images, outputs.shape[1:]) if np.isfinite(other).all()]
    summed = are_probabilities(outputs) and all(map(are_probabilities, others))
    return summed or (
        in_unit_interval(outputs) and bool(((outputs > 0) & (outputs < 1)).any()) and all(map(in_unit_interval, others))
    )


def _scaled_outputs(model: keras.Model, images: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Outputs for images scaled by ±1000, and outputs with the biases of the head scaled by ±1000."""
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


def in_unit_interval(outputs: np.ndarray) -> bool:
    """Whether all outputs are between 0 and 1."""
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether outputs [n, classes] are class probabilities: at least 0, with sum 1."""
    finite = outputs.ndim == 2 and outputs.shape[1] > 1 and np.isfinite(outputs).all()
    return bool(finite and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1, dtype=np.float64), 1, atol=SUM_TOLERANCE))


def _last_operation(model: keras.Model) -> keras.Operation | None:
    """The last layer or operation of a model; None for a subclassed model, which does not show it."""
    while isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        last = model.layers[-1] if isinstance(model, keras.Sequential) else model.operations[-1]
        if not isinstance(last, keras.Model):
            return last
        model = last
    return None


def _ending(last: keras.Operation) -> str:
    """Name of an operation's activation, or of the operation itself, in lower case."""
    of_keras = type(last).__module__.split(".")[0] == "keras"
    activation = getattr(last, "activation", None) if of_keras else None
    return (type(last).__name__ if activation is None else getattr(activation, "__name__", type(activation).__name__)).lower()
