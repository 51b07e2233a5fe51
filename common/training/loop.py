"""The one training loop.

It is ours because `keras.Model.fit` shuffles alike in every epoch, clips before replicas are summed and cannot be resumed
exactly. Models, optimizers, losses and callbacks are ordinary Keras.
"""

import time

import keras
import numpy as np
import tensorflow as tf

from common.errors import Misuse
from common.training import (
    adapters,
    arguments,
    augmentation,
    checkpoint,
    draws,
    graphs,
    prediction,
    probes,
    purity,
    seeding,
    update,
)
from common.training.stage import Fit, Stage

SAMPLES = 8
"""Training images kept for the sample sheet, drawn from all classes, as they are in the first epoch."""
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
        self._build()
        self.players = update.players(stage)
        sees = prediction.sees_images(self.model, trial.input_shape)
        self.judged = sees and self.output_shape == (None, stage.outputs)  # else it is no predictor: a generator, say
        self.classifies = self.judged and bool(stage.train.classes)
        arguments.check_output_shape(stage, self.output_shape)
        arguments.check_monitors(stage.callbacks, self._measured() if stage.callbacks else ())
        self.callbacks = adapters.prepared(stage.callbacks, trial.task)
        self.agree = adapters.agreement(trial.strategy, trial.workers)
        self.outside: list[graphs.Outside] = []
        self.validation_loss = graphs.putting_back(stage.loss) if stage.step else stage.loss  # else it is part of the update
        self.called = set()  # compiled functions that have run once
        self.reported = 0.0
        self.scheduled = adapters.scheduled_rate(self.players[0].optimizer) is not None
        self.rate = None

    def run(self) -> None:
        """Train until the budget is spent, or a callback stops it. Raises `Diverged`."""
        fit = self.fit
        self._prepare()
        if self._load(f"{self.stage.name}-finished"):
            return
        self.callbacks.on_train_begin()
        for callback in self.callbacks.callbacks:
            checkpoint.callback_state(callback)  # raises for one that could not be saved, before anything is trained
        if self.judged:
            self._compile_forward()
        self._compile()
        self._load(self.stage.name)
        adapters.start_at(self.model, fit.epoch)
        self._check_rates()
        while fit.epoch < self.stage.epochs and not fit.stopped:
            self._epoch()
        for player in self.players:
            player.optimizer.finalize_variable_values(player.variables)  # an exponential moving average becomes the weights
        self.callbacks.on_train_end(self._logs())
        fit.finished = True
        self._save()

    def _build(self):
        """Make the weights of a model that has none yet, and know its output shape."""
        shape = self.trial.input_shape
        if not self.model.built:
            if isinstance(self.model, keras.Sequential):
                self.model.build((None, *shape))
            else:
                self.model(keras.Input(shape))
        try:
            self.output_shape = prediction.output_shape(self.model, shape)
        except Exception:
            if self.stage.step is None:
                raise
            self.output_shape = None  # a step may call it with something else than images

    def _measured(self):
        """What an epoch hands to callbacks, by name."""
        names = ["loss", "learning_rate"]
        if self.judged:
            task, labels = self.trial.task, self.stage.val.labels
            scores = task.scores(task.constant(labels, self.stage.outputs, len(labels)), labels)
            names += [f"val_{score}" for score in scores] + (["accuracy"] if self.classifies else [])
            names += ["val_loss"] if self.stage.loss else []
        return names

    def _check_rates(self):
        """Raises `Misuse` where a callback has changed a learning rate that is one of several, as it knows the first alone."""
        if len(self.players) == 1 or self.scheduled:
            return
        rate = self._rate()
        if self.fit.first_rate is None:
            self.fit.first_rate = rate
        if rate != self.fit.first_rate:
            raise Misuse(
                "a callback changes the rate of one optimizer of several: give each a "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {self.fit.first_rate:g}, then {rate:g}"
            )

    def _rate(self):
        return adapters.learning_rate(self.players[0].optimizer)

    def _prepare(self):
        for player in self.players:
            player.optimizer.build(player.variables)
            adapters.refuse_optimizer(player.optimizer)
        adapters.refuse_hidden_variables(self.model)
        self.model.compile(optimizer=self.players[0].optimizer, loss=None, jit_compile=False, auto_scale_loss=False)
        seeding.seed_noise(self.model, self.trial.streams, self.stage.earlier)
        self.callbacks.set_model(self.model)
        self.callbacks.set_params({"epochs": self.stage.epochs, "steps": self.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False

    def _compile_forward(self):
        """Trace the forward pass. Raises `Misuse` where its outputs are probabilities, before the update, which takes longer."""
        with self.trial.clock("compile"):
            with purity.unchanged(self.stage), draws.global_noise_refused():
                self.forward = prediction.compiled(self.model, self.trial.input_shape)
            self.moved = graphs.written_outside(self.forward)  # such as the states of generators
            if self.trial.task.logits:
                with graphs.put_back(self.moved):
                    probes.check_head(self.model, probes.examples(self.stage.train)[0], self.forward)

    def _compile(self):
        """Trace the update, and look for what could not be had again after a kill."""
        with self.trial.clock("compile"), purity.unchanged(self.stage), draws.global_noise_refused():
            self.update = update.compiled(self.trial, self.stage, self.players)
            graphs.refuse_chance(self.update)
        self.outside = graphs.written_outside(self.update, [v for group in self._variables().values() for v in group])

    def samples(self) -> np.ndarray:
        """Some training images as the model sees them in the first epoch: uint8 [n, height, width, channels]."""
        train = self.stage.train
        positions = train.drawn(SAMPLES, self.trial.streams, "samples")
        images, targets = tf.cast(train.batch(positions), tf.float32), self.stage.targets(train.labels[positions])
        augmentations = [augmentation.apart(one) for one in self.stage.augment]
        images, _ = augmentation.apply(augmentations, images, targets, self._uniforms(0)[positions])
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
            self._check_rates()
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
            batched = (train.batch(batch), train.labels[batch], uniforms[batch], count, np.int32(fit.batches), bounds)
            if self.stage.sample_weight is not None:
                batched += (self.stage.sample_weight[batch],)
        first = self._first("update")
        with trial.clock("compile") if first else trial.clock("train", images=len(batch)):
            self.callbacks.on_train_batch_begin(i)
            loss, accuracy, norm, updated, finite = update.results(self.update, batched)
        fit.count(len(batch), float(loss), float(accuracy), float(norm), bool(updated))
        if not self.scheduled:
            self.rate = self._rate()  # the one used, which a callback may change at once
        self.callbacks.on_train_batch_end(i, {"loss": float(loss)})
        if not (np.isfinite(loss) and finite):
            what = "the weights are" if np.isfinite(loss) else "the loss is"
            raise Diverged(f"{what} not finite at epoch {fit.epoch + 1}, step {fit.batches}")
        if not updated and all(adapters.scale_is_spent(player.optimizer) for player in self.players):
            raise Diverged(f"the gradient is not finite under any loss scale at epoch {fit.epoch + 1}, step {fit.batches}")

    def _end_epoch(self):
        with adapters.averages_in([player.optimizer for player in self.players]):
            self._judge()
        self._check_rates()
        (self.fit.stopped,) = map(bool, self.agree(self.model.stop_training))
        if self.fit.epoch < self.stage.epochs and not self.fit.stopped:  # else the end of the stage follows at once
            self._save()

    def _judge(self):
        """Measure the epoch with the weights that training would end with, and tell the callbacks."""
        trial, fit = self.trial, self.fit
        examples, loss, correct, norm, updates = fit.sums
        rate = adapters.scheduled_rate(self.players[0].optimizer) if self.scheduled else self.rate
        row = {
            "epoch": fit.epoch + 1,
            "train_loss": loss / examples,
            "train_accuracy": correct / examples if self.classifies else None,
            **self._validate(),
            "learning_rate": rate,
            "gradient_norm": norm / updates if updates else None,
            "steps": fit.steps,
            "seconds": fit.epoch_seconds,
        }
        fit.history.append(row)
        with trial.clock("eval"):
            if self.judged and self._rank(row) > (self._rank(fit.best) if fit.best else (-np.inf, -np.inf)):
                names = ("epoch", f"val_{self.metric}", "val_nll")
                fit.best = {**{name: row.get(name) for name in names}, "weights": self.model.get_weights()}
            fit.end_epoch()
            self.callbacks.on_epoch_end(fit.epoch - 1, self._logs())

    def _validate(self):
        """Validation loss and scores; none for a model that is no predictor.

        Scores of outputs that are not finite are NaN: the highest of them would be taken for a class.
        """
        if not self.judged:
            return {}
        self.callbacks.on_test_begin()
        val = self.stage.val
        with graphs.put_back([*self.moved, *self.outside]):
            with self.trial.clock("compile" if self._first("forward") else "eval"):
                outputs = prediction.predict(self.forward, val)
            found = {} if self.stage.loss is None else {"loss": self._val_loss(val, outputs)}
        scores = self.trial.task.scores(outputs, val.labels)
        found |= scores if np.isfinite(outputs).all() else dict.fromkeys(scores, np.nan)
        agreed = dict(zip(found, self.agree(*found.values()), strict=True))
        self.callbacks.on_test_end({name: agreed[name] for name in ("loss", self.metric) if name in agreed})
        return {f"val_{name}": value for name, value in agreed.items()}

    def _val_loss(self, val, outputs):
        """The loss as trained: with the weights of classes and examples, and penalties."""
        stage, weighted = self.stage, self.model.trainable_variables
        targets = stage.targets(val.labels)
        losses, factors = self.validation_loss(targets, tf.constant(outputs)), stage.factors(targets, stage.val_weight)
        loss = float(tf.reduce_mean(losses if factors is None else factors * losses))
        penalties = [v.regularizer(v) for v in weighted if v.regularizer is not None]
        if len(self.model.losses) > len(penalties):  # add_loss, or penalties on activities
            return loss + prediction.added_losses(self.model, val, self.trial.batch_size)
        return loss + float(sum(keras.ops.convert_to_numpy(penalty) for penalty in penalties))

    def _logs(self):
        """What callbacks are told: in place of NaN, which compares with nothing, the worst there is."""
        logs, lower = adapters.logs(self.fit.history), self.trial.task.lower_is_better
        worst = {"accuracy": -np.inf, f"val_{self.metric}": np.inf if lower else -np.inf}
        return {name: worst.get(name, np.inf) if np.isnan(value) else value for name, value in logs.items()}

    def _rank(self, row):
        """The better epoch has the better primary metric, then the lower NLL; of equals the earlier one stays. NaN is last."""
        rank = self.trial.task.better(row[f"val_{self.metric}"]), -(row.get("val_nll") or 0)
        return tuple(-np.inf if np.isnan(value) else value for value in rank)

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
            "generators": draws.generators(),
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
        draws.restore_generators(state["generators"])
        self.trial.resume(state["trial"])
        self.model.stop_training = self.fit.stopped
        return True
