"""`Stage`, the training that one call of `Trial.fit` describes, and `StageState`, its progress and results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.errors import Misuse
from common.training import augmentation, graphs

Step = Callable[[keras.Model, tf.Tensor, tf.Tensor, tf.Tensor], tuple]
"""See `Trial.fit`."""


@dataclass(frozen=True)
class Stage:
    """The arguments of one call of `Trial.fit`, checked and adapted.

    Args:
        name: name of the stage, and of its checkpoints.
        optimizers: optimizers by the name of the layer that each trains; None stands for the whole model.
        loss: f(targets, outputs) -> losses [batch]; None if `step` computes the losses and there is no default loss.
        outputs: number of outputs per example.
        epochs: number of epochs; earlier: epochs of previous stages, by which data order, augmentation and noise continue.
        class_weight: factor of the losses of each class, float32 [classes].
        sample_weight: factor of the loss of each train example, float32 [n]; val_weight: of each val example.
        given_weights: the user's weights, of which these are copies.
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
    given_weights: tuple = ()
    augment: tuple[augmentation.Augmentation, ...] = ()
    step: Step | None = None

    def targets(self, labels) -> tf.Tensor:
        """Targets for losses: one-hot [batch, classes] for class labels, else the labels as float32 [batch, outputs]."""
        if self.train.classes is not None:
            return tf.one_hot(labels, self.outputs)
        return tf.reshape(labels, (-1, self.outputs))

    def prepare(self, images, labels, uniforms) -> tuple[tf.Tensor, tf.Tensor]:
        """Convert and augment a batch: images float32 0 … 255 [batch, height, width, channels], and targets."""
        targets = self.targets(labels)
        return augmentation.apply(self.augment, tf.cast(images, tf.float32), targets, uniforms)

    def losses(self, images, targets, seed) -> tuple:
        """Losses [batch], or a dict of them, and outputs. Raises `Misuse` if `step` returns something else."""
        if self.step:
            returned = graphs.traced_call(self.step, self.model, images, targets, seed)
            if not isinstance(returned, tuple | list) or len(returned) != 2:
                raise Misuse(f"a step must return (losses [batch], outputs or None). Received: {type(returned).__name__}")
            outputs = returned[1]
            if outputs is not None and self.train.classes and tuple(outputs.shape[1:]) != (self.outputs,):
                raise Misuse(
                    f"a step's outputs are the logits (batch, {self.outputs}) that train_accuracy is computed from, or None. "
                    f"Received: {tuple(outputs.shape)}"
                )
            return returned
        outputs = tf.cast(self.model(images, training=True), tf.float32)
        return self.loss(targets, outputs), outputs

    def loss_weights(self, targets, sample_weight=None) -> tf.Tensor | None:
        """Factors of the losses, [batch]: class weight · sample weight; None if there are neither."""
        by_class = None if self.class_weight is None else tf.linalg.matvec(targets, tf.constant(self.class_weight))
        return sample_weight if by_class is None else by_class if sample_weight is None else by_class * sample_weight


@dataclass
class StageState:
    """Progress and results of a stage: all of its state that is not in Keras variables."""

    epoch: int = 0
    """Finished epochs."""
    batches: int = 0
    """Batches so far, the position within the stage."""
    steps: int = 0
    """Updates so far: one per batch, except batches whose gradient overflowed under loss scaling (float16)."""
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    """Sums over the current epoch: examples, loss · examples, correct examples, gradient norms, updates."""
    epoch_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    contenders: list[dict] = field(default_factory=list)
    """Epoch, primary metric and NLL on val, and weights of the best validation epoch. If epochs were scored on a part of val:
    of the best ones on that part, and of the last epoch; scoring chooses among them."""
    stopped: bool = False
    finished: bool = False
    first_rate: float | None = None
    """Initial learning rate of the first optimizer, if there are several."""
    norms: list[float] = field(default_factory=list)
    """Gradient norm of each update, before clipping."""
    losses: list[float] = field(default_factory=list)
    """Mean loss of each batch, with penalties, before its update."""

    def count(self, examples: int, update) -> None:
        """Add the results of an update to the counts and sums; see `common.training.update.Update`."""
        self.batches += 1
        self.losses.append(update.loss)
        if update.applied:
            self.steps += 1
            self.norms.append(update.gradient_norm)
        norm = update.gradient_norm if update.applied else 0.0
        terms = (examples, update.loss * examples, round(update.accuracy * examples), norm, update.applied)
        self.sums = [a + b for a, b in zip(self.sums, terms, strict=True)]

    def end_epoch(self) -> None:
        """Count the epoch and reset the sums."""
        self.epoch += 1
        self.sums, self.epoch_seconds = [0.0] * 5, 0.0
