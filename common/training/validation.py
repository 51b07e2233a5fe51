"""`Validation`: the loss and the scores on val of the model that a stage trains."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split
from common.training import draws, graphs, prediction, probes, purity
from common.training.stage import Stage


class Validation:
    """Validates a stage's model after each epoch, on all of val or, until the last epoch, on a part.

    Attributes:
        scores_part: whether epochs are scored on a part of val (`val_per_epoch`).
    """

    def __init__(self, trial, stage: Stage):
        self.trial, self.stage, self.model = trial, stage, stage.model
        # With a step, the update does not call the loss, so it does not capture the variables that the loss writes.
        self.loss = graphs.without_side_effects(stage.loss) if stage.step else stage.loss
        size = trial.val_per_epoch
        self.scores_part = bool(size and size < len(stage.val) and not stage.callbacks)
        if self.scores_part:
            self.part = np.sort(stage.val.drawn(size, trial.streams, "val_per_epoch"))
        self.called = False

    def compile(self) -> None:
        """Compile the forward pass. Raises `Misuse` if its outputs are probabilities, before the update is compiled."""
        with self.trial.clock("compile"):
            with purity.check_purity(self.stage), draws.forbid_global_noise():
                self.forward = prediction.compiled(self.model, self.trial.input_shape)
            self.forward_writes = graphs.written_variables(self.forward)  # such as states of random generators
            penalised = [variable for variable in self.model.trainable_variables if variable.regularizer is not None]
            self.adds_losses = len(self.model.losses) > len(penalised)  # by add_loss, or penalties on activities
            if self.trial.task.logits:
                with graphs.preserved(self.forward_writes):
                    probes.check_head(self.model, probes.examples(self.stage.train)[0], self.forward)

    def metrics(self, captured: Sequence[graphs.CapturedVariable], *, last: bool) -> dict[str, float]:
        """Loss and scores by name. Scores are NaN if an output is not finite, since argmax would still return a class.

        Args:
            captured: variables of the update that keep their values; last: whether the epoch is the last one.
        """
        stage, whole = self.stage, not self.scores_part or last
        val = stage.val if whole else stage.val.take(self.part)
        with graphs.preserved([*self.forward_writes, *captured]):
            with self.trial.clock("eval" if self.called else "compile"):  # the first call takes longer
                outputs = prediction.predict(self.forward, val)
            self.called = True
            if whole and not self.forward_writes and (last or stage.callbacks):  # which may stop the training
                self.trial.validated = prediction.validated(self.model, val, outputs)
            metrics = {} if stage.loss is None else {"loss": self._loss(val, outputs)}
        scores = self.trial.task.scores(outputs, val.labels)
        return metrics | (scores if np.isfinite(outputs).all() else dict.fromkeys(scores, np.nan))

    def _loss(self, val: Split, outputs: np.ndarray) -> float:
        """Validation loss, with class weights, sample weights and penalties, as in training."""
        stage, variables = self.stage, self.model.trainable_variables
        targets = stage.targets(val.labels)
        weights = stage.val_weight if val is stage.val or stage.val_weight is None else stage.val_weight[self.part]
        losses, factors = self.loss(targets, tf.constant(outputs)), stage.loss_weights(targets, weights)
        loss = float(tf.reduce_mean(losses if factors is None else factors * losses))
        penalties = [v.regularizer(v) for v in variables if v.regularizer is not None]
        if self.adds_losses:
            return loss + prediction.added_losses(self.model, val, self.trial.batch_size)
        return loss + float(sum(keras.ops.convert_to_numpy(penalty) for penalty in penalties))
