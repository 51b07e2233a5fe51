"""A stage: what one call of `Trial.fit` trains, and what it leaves behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.training import augmentation

Step = Callable[[keras.Model, tf.Tensor, tf.Tensor, tf.Tensor], tuple]
"""See `Trial.fit`."""


@dataclass(frozen=True)
class Stage:
    """What to fit, and how.

    Args:
        name: of the stage, and of its checkpoints.
        optimizers: by the layer that each trains; None stands for the whole model.
        loss: f(targets, outputs) -> losses [batch]; None where `step` has its own and no other can be meant.
        outputs: how many numbers the model puts out per example.
        epochs: its budget; earlier: epochs before it, so that it does not repeat their order, augmentation or masks.
        class_weight: factor of each class' losses, float32 [classes].
        sample_weight: factor of each train example's loss, float32 [n]; val_weight: of each val example's.
    """

    name: str
    model: keras.Model
    optimizers: dict[str | None, keras.optimizers.Optimizer]
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None
    train: Split
    val: Split
    outputs: int
    epochs: int
    earlier: int = 0
    callbacks: Sequence[keras.callbacks.Callback] = ()
    class_weight: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    val_weight: np.ndarray | None = None
    augment: tuple[augmentation.Augmentation, ...] = ()
    step: Step | None = None

    def targets(self, labels) -> tf.Tensor:
        """Labels as losses take them: one-hot [batch, classes] where they are classes, else float32 [batch, outputs]."""
        if self.train.classes is not None:
            return tf.one_hot(labels, self.outputs)
        return tf.reshape(labels, (-1, self.outputs))

    def prepare(self, images, labels, uniforms) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch as the model sees it: float32 images 0 … 255, and targets."""
        targets = self.targets(labels)
        return augmentation.apply(self.augment, tf.cast(images, tf.float32), targets, uniforms)

    def losses(self, images, targets, seed) -> tuple:
        """Losses [batch] (or a dict of them) and outputs. Raises `Misuse` for a step that returns something else."""
        if self.step:
            returned = self.step(self.model, images, targets, seed)
            if not isinstance(returned, tuple | list) or len(returned) != 2:
                raise Misuse(f"a step returns (losses [batch], outputs or None). Received: {type(returned).__name__}")
            return returned
        outputs = tf.cast(self.model(images, training=True), tf.float32)
        return self.loss(targets, outputs), outputs

    def factors(self, targets, own=None) -> tf.Tensor | None:
        """By what losses are multiplied, [batch]: the weights of the classes and the examples' own; None without any."""
        by_class = None if self.class_weight is None else tf.linalg.matvec(targets, tf.constant(self.class_weight))
        return own if by_class is None else by_class if own is None else by_class * own


@dataclass
class Fit:
    """What a stage leaves behind, and all of its state that is not a Keras variable."""

    epoch: int = 0
    """Epochs finished."""
    batches: int = 0
    """Batches seen: how far the training is."""
    steps: int = 0
    """Updates of the weights: one for each batch, but for those whose gradient overflowed under a loss scale (float16 alone)."""
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    """Within the epoch: examples, loss · examples, correct examples, gradient norm · updates, updates."""
    epoch_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    best: dict | None = None
    """Epoch, primary metric and NLL on val, and weights of the best validation epoch."""
    stopped: bool = False
    finished: bool = False
    first_rate: float | None = None
    """The learning rate at the start, of the first optimizer of several."""
    norms: list[float] = field(default_factory=list)
    """Norm of the gradient of each update, before any clipping."""

    def count(self, examples: int, loss: float, accuracy: float, norm: float, updated: bool) -> None:
        """Add a batch."""
        self.batches += 1
        if updated:
            self.steps += 1
            self.norms.append(norm)
        terms = (examples, loss * examples, round(accuracy * examples), norm if updated else 0.0, updated)
        self.sums = [a + b for a, b in zip(self.sums, terms, strict=True)]

    def end_epoch(self) -> None:
        """Begin to count anew."""
        self.epoch += 1
        self.sums, self.epoch_seconds = [0.0] * 5, 0.0
