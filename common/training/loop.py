"""The one training loop.

It is ours because `keras.Model.fit` shuffles alike in every epoch, clips before replicas are summed and cannot be resumed
exactly. Models, optimizers, losses and callbacks are ordinary Keras.
"""

import time

import keras
import numpy as np
import tensorflow as tf

from common.training import adapters, augmentation, checkpoint, prediction, purity, update
from common.training.stage import Fit, Stage

SAMPLES = 8
"""Training images kept for the sample sheet: the first of the train split, as drawn in the first epoch."""
PROGRESS_SECONDS = 0.25
"""Between two reports."""


class Diverged(Exception):
    """Loss or weights are not finite."""


class Loop:
    """Runs a stage of a trial, from its last checkpoint on where there is one."""

    def __init__(self, trial, stage: Stage):
        self.trial, self.stage, self.model = trial, stage, stage.model
        self.fit = Fit()
        self.steps_per_epoch = -(-len(stage.train) // trial.batch_size)
        self.metric = trial.task.metric
        if not self.model.built:
            self.model.build((None, *trial.input_shape))
        self.players = update.players(stage)
        self.callbacks = adapters.prepared(stage.callbacks, trial.task)
        self.agree = adapters.agreement(trial.strategy, trial.workers)
        self.outside: list[adapters.Outside] = []
        self.called = set()  # compiled functions that have run once
        self.reported = 0.0

    def run(self) -> None:
        """Train until the budget is spent, or a callback stops it. Raises `Diverged`."""
        fit = self.fit
        self._prepare()
        if self._load(f"{self.stage.name}-finished"):
            return
        self.callbacks.on_train_begin()
        for callback in self.callbacks.callbacks:
            checkpoint.callback_state(callback)  # raises for one that could not be saved, before anything is trained
        self._compile()
        self._load(self.stage.name)
        adapters.start_at(self.model, fit.epoch)
        while fit.epoch < self.stage.epochs and not fit.stopped:
            self._epoch()
        for player in self.players:
            player.optimizer.finalize_variable_values(player.variables)  # an exponential moving average becomes the weights
        self.callbacks.on_train_end(adapters.logs(fit.history))
        fit.finished = True
        self._save()

    def _prepare(self):
        for player in self.players:
            player.optimizer.build(player.variables)
            adapters.refuse_optimizer(player.optimizer)
        adapters.refuse_hidden_variables(self.model)
        self.model.compile(optimizer=self.players[0].optimizer, loss=None, jit_compile=False, auto_scale_loss=False)
        adapters.seed_noise(self.model, self.trial.streams, self.stage.earlier)
        self.callbacks.set_model(self.model)
        self.callbacks.set_params({"epochs": self.stage.epochs, "steps": self.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False

    def _compile(self):
        """Trace the update and the forward pass, and look for what could not be had again after a kill."""
        self.judged = self.model.output_shape == (None, self.stage.outputs)  # else it is no predictor: a generator, say
        self.classifies = self.judged and bool(self.stage.train.classes)
        with self.trial.clock("compile"), purity.unchanged(self.stage):
            self.update = update.compiled(self.trial, self.stage, self.players)
            adapters.refuse_chance(self.update)
            self.forward = prediction.forward(self.model) if self.judged else None
        adapters.refuse_global_noise()
        self.outside = adapters.written_outside(self.update, [v for group in self._variables().values() for v in group])

    def samples(self) -> np.ndarray:
        """The first training images as the model sees them in the first epoch: uint8 [n, height, width, channels]."""
        train = self.stage.train
        positions = np.arange(min(SAMPLES, len(train)))
        images, _ = self.stage.prepare(train.batch(positions), train.labels[positions], self._uniforms(0)[positions])
        return np.clip(np.round(images.numpy()), 0, 255).astype(np.uint8)

    def _uniforms(self, epoch):
        """An epoch's draws for each training example. As many are drawn as there are names of examples."""
        ids = self.stage.train.ids
        names = max(self.trial.official_size, int(ids.max()) + 1)
        return augmentation.draws(self.trial.streams, epoch, self.stage.augment, names)[ids]

    # --- an epoch ---

    def _epoch(self):
        trial, fit, n = self.trial, self.fit, self.steps_per_epoch
        began = trial.seconds() - fit.epoch_seconds
        with trial.clock("input"):
            epoch = self.stage.earlier + fit.epoch
            order = trial.streams.generator("order", epoch).permutation(len(self.stage.train))
            uniforms = self._uniforms(epoch)
        first = fit.batches - fit.epoch * n
        if first == 0:
            self.callbacks.on_epoch_begin(fit.epoch)
        for i in range(first, n):
            self._update(i, order[i * trial.batch_size : (i + 1) * trial.batch_size], uniforms)
            self._progress()
            if self.model.stop_training:
                break
            if i < n - 1 and trial.host.checkpoint_steps and fit.batches % trial.host.checkpoint_steps == 0:
                fit.epoch_seconds = trial.seconds() - began
                self._save()
        fit.epoch_seconds = trial.seconds() - began
        self._end_epoch()

    def _update(self, i, batch, uniforms):
        trial, fit, train = self.trial, self.fit, self.stage.train
        with trial.clock("input"):
            bounds, count = adapters.shares(len(batch), trial.replicas)
            arguments = (train.batch(batch), train.labels[batch], uniforms[batch], count, np.int32(fit.batches), bounds)
        first = self._first("update")
        with trial.clock("compile") if first else trial.clock("train", images=len(batch)):
            self.callbacks.on_train_batch_begin(i)
            loss, accuracy, norm, updated, finite = (value.numpy() for value in self.update(*arguments))
        fit.count(len(batch), float(loss), float(accuracy), float(norm), bool(updated))
        self.callbacks.on_train_batch_end(i, {"loss": float(loss)})
        if not (np.isfinite(loss) and finite):
            what = "the weights are" if np.isfinite(loss) else "the loss is"
            raise Diverged(f"{what} not finite at epoch {fit.epoch + 1}, step {fit.batches}")
        if not updated and all(adapters.scale_is_spent(player.optimizer) for player in self.players):
            raise Diverged(f"the gradient is not finite under any loss scale at epoch {fit.epoch + 1}, step {fit.batches}")

    def _end_epoch(self):
        trial, fit = self.trial, self.fit
        examples, loss, correct, norm, updates = fit.sums
        row = {
            "epoch": fit.epoch + 1,
            "train_loss": loss / examples,
            "train_accuracy": correct / examples if self.classifies else None,
            **self._validate(),
            "learning_rate": adapters.learning_rate(self.players[0].optimizer),
            "gradient_norm": norm / updates if updates else None,
            "seconds": fit.epoch_seconds,
        }
        fit.history.append(row)
        with trial.clock("eval"):
            if self.judged and (fit.best is None or self._rank(row) > self._rank(fit.best)):
                names = ("epoch", f"val_{self.metric}", "val_nll")
                fit.best = {**{name: row.get(name) for name in names}, "weights": self.model.get_weights()}
            fit.end_epoch()
            self.callbacks.on_epoch_end(fit.epoch - 1, adapters.logs(fit.history))
            (fit.stopped,) = map(bool, self.agree(self.model.stop_training))
        if fit.epoch < self.stage.epochs and not fit.stopped:  # else the end of the stage follows at once
            self._save()

    def _validate(self):
        """Validation loss (as trained, weight penalties included) and scores; none for a model that is no predictor."""
        if not self.judged:
            return {}
        self.callbacks.on_test_begin()
        val = self.stage.val
        with self.trial.clock("compile" if self._first("forward") else "eval"):
            outputs = prediction.predict(self.forward, val)
        losses = float(tf.reduce_mean(self.stage.loss(self.stage.targets(val.labels), tf.constant(outputs))))
        penalties = [v.regularizer(v) for v in self.model.trainable_variables if v.regularizer is not None]
        loss = losses + float(sum(keras.ops.convert_to_numpy(penalty) for penalty in penalties))
        scores = self.trial.task.scores(outputs, val.labels)
        agreed = self.agree(loss, *scores.values())
        self.callbacks.on_test_end({"loss": agreed[0], self.metric: agreed[1]})
        return dict(zip(("val_loss", *(f"val_{name}" for name in scores)), agreed, strict=True))

    def _rank(self, row):
        """The better epoch has the better primary metric, then the lower NLL; of equals the earlier one stays."""
        return self.trial.task.better(row[f"val_{self.metric}"]), -(row.get("val_nll") or 0)

    def _first(self, name):
        """Whether a compiled function is about to run for the first time, which compiles it."""
        new = name not in self.called
        self.called.add(name)
        return new

    def _progress(self):
        now = time.perf_counter()
        if now - self.reported < PROGRESS_SECONDS:
            return
        self.reported = now
        trial, fit = self.trial, self.fit
        examples, loss, correct, *_ = fit.sums
        seconds = trial.clocks["train"] + trial.clocks["input"]
        trial.host.report(
            stage=self.stage.name,
            epoch=fit.epoch + 1,
            epochs=self.stage.epochs,
            done=fit.batches / (self.stage.epochs * self.steps_per_epoch),
            loss=loss / examples,
            accuracy=correct / examples if self.classifies else None,
            images_per_second=trial.timed_images / seconds if seconds else None,
            seconds=trial.seconds(),
        )

    # --- the state ---

    def _variables(self):
        optimizers = [v for player in self.players for v in player.optimizer.variables]
        variables = {"model": [*self.model.variables, *self.model.metrics_variables], "optimizer": optimizers}
        saved = {name: [part for v in group for part in adapters.parts(v)] for name, group in variables.items()}
        return {**saved, "outside": self.outside}

    def _save(self):
        host = self.trial.host
        state = {
            "fit": {**vars(self.fit)},
            "callbacks": [checkpoint.callback_state(c) for c in self.callbacks.callbacks],
            "trial": self.trial.state(),
            "generators": purity.generators(),
            "outside": len(self.outside),
        }
        name = f"{self.stage.name}-finished" if self.fit.finished else self.stage.name
        if host.writes:
            checkpoint.save(host.folder, name, self.fit.batches, state, self._variables())

    def _load(self, name):
        host, variables, state = self.trial.host, self._variables(), None
        if host.writes:
            state = checkpoint.restore(host.folder, name, variables, lambda text: host.report(warning=text))
        (position,) = map(int, self.agree(-1 if state is None else state["fit"]["batches"]))
        if position < 0:
            return False
        if not host.writes:
            state = checkpoint.restore_at(host.folder, name, position, variables)
        if state["outside"] > len(self.outside):  # a finished stage, whose update is compiled to find them
            self._compile()
            checkpoint.restore_at(host.folder, name, position, self._variables())
        vars(self.fit).update(state["fit"])
        for callback, saved in zip(self.callbacks.callbacks, state["callbacks"], strict=True):
            vars(callback).update(saved or {})
        purity.restore_generators(state["generators"])
        self.trial.resume(state["trial"])
        self.model.stop_training = self.fit.stopped
        return True
