"""The training loop, for ordinary models, optimizers, losses and callbacks of Keras.

It replaces `keras.Model.fit`, which shuffles alike in every epoch, clips gradients before they are summed over replicas, and
cannot be resumed exactly.
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
    callback_checks,
    checkpoint,
    draws,
    graphs,
    model_checks,
    noise,
    prediction,
    purity,
    update,
)
from common.training.feed import Feed
from common.training.stage import Stage, StageState
from common.training.validation import Validation

SAMPLES = 8
"""Size of the stratified sample of training images that is saved, augmented as in the first epoch."""
CONTENDERS = 3
"""Epochs whose weights are kept where epochs are scored on a part of val, besides those of the last one."""
PROGRESS_SECONDS = 0.25
"""Least time between two reports of progress, and the time that a call with many updates should take."""
CHECKPOINT_SECONDS = 1.0
"""Least time between the checkpoints of two epochs: with epochs of a few updates, one for each would take as long as training."""


class Diverged(Exception):
    """The loss, the weights or the gradients became infinite or NaN."""


class Loop:
    """Trains one stage of a trial, resuming from its last checkpoint if there is one."""

    def __init__(self, trial, stage: Stage):
        self.trial, self.stage, self.model = trial, stage, stage.model
        self.state = StageState()
        self.steps_per_epoch = -(-len(stage.train) // trial.batch_size)
        self.metric = trial.task.metric
        self._build()
        self.players = update.players(stage)
        takes_images = prediction.takes_images(self.model, trial.input_shape)
        self.is_predictor = takes_images and self.output_shape == (None, stage.outputs)  # False for a generator, for example
        self.classifies = self.is_predictor and bool(stage.train.classes)
        model_checks.check_output_shape(stage, self.output_shape)
        arguments.check_schedules(stage, stage.epochs * self.steps_per_epoch)
        callback_checks.check_monitors(stage.callbacks, self._log_names() if stage.callbacks else ())
        self.callbacks = adapters.callback_list(stage.callbacks, trial.task)
        self.broadcast = adapters.broadcast_from_chief(trial.strategy, trial.workers)
        self.captured: list[graphs.CapturedVariable] = []  # other variables of the update, which it or a callback writes
        self.validation = Validation(trial, stage)
        self.feed = Feed(trial, stage)
        self.acts_on_batches = adapters.acts_on_batches(stage.callbacks)
        self.update_seconds = PROGRESS_SECONDS  # of the last updates, each
        self.updated = False
        self.reported, self.saved = 0.0, time.perf_counter()
        self.scheduled = adapters.scheduled_rate(self.players[0].optimizer) is not None
        self.rate = None

    def run(self) -> None:
        """Train for all epochs, or until a callback stops the training. Raises `Diverged`."""
        state = self.state
        self._prepare()
        if self._load(f"{self.stage.name}-finished"):
            return
        self.callbacks.on_train_begin()
        if self.is_predictor:
            self.validation.compile()
        self._compile()
        self.compiled = purity.compiled_state(self.stage) if self.stage.callbacks else None
        self._callback_states()  # raises for callbacks that cannot be saved, before training starts
        self._load(self.stage.name)
        adapters.set_initial_epoch(self.model, state.epoch)
        self._check_rates()
        while state.epoch < self.stage.epochs and not state.stopped:
            self._epoch()
        for player in self.players:
            player.optimizer.finalize_variable_values(player.variables)  # with use_ema the averages become the weights
        self.callbacks.on_train_end(self._logs())
        state.finished = True
        self._save()

    def _build(self):
        """Build a model that is not built yet, and determine its output shape."""
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
            self.output_shape = None  # a step may call the model with other inputs than images

    def _log_names(self):
        """Names of the metrics that callbacks get at the end of an epoch."""
        names = ["loss", "learning_rate"]
        if self.is_predictor:
            task, labels = self.trial.task, self.stage.val.labels
            scores = task.scores(task.constant(labels, self.stage.outputs, len(labels)), labels)
            names += [f"val_{score}" for score in scores] + (["accuracy"] if self.classifies else [])
            names += ["val_loss"] if self.stage.loss else []
        return names

    def _check_rates(self):
        """Raise `Misuse` if a callback changed the learning rate of one of several optimizers; it can access only the first."""
        if len(self.players) == 1 or self.scheduled:
            return
        rate = self._rate()
        if self.state.first_rate is None:
            self.state.first_rate = rate
        if rate != self.state.first_rate:
            raise Misuse(
                "with several optimizers no callback may change a learning rate: give each optimizer a "
                f"keras.optimizers.schedules.LearningRateSchedule. Received: {self.state.first_rate:g}, then {rate:g}"
            )

    def _rate(self):
        return adapters.learning_rate(self.players[0].optimizer)

    def _prepare(self):
        for player in self.players:
            player.optimizer.build(player.variables)
            adapters.refuse_optimizer(player.optimizer)
        adapters.refuse_hidden_variables(self.model)
        self.model.compile(optimizer=self.players[0].optimizer, loss=None, jit_compile=False, auto_scale_loss=False)
        noise.seed_noise(self.model, self.trial.streams, self.stage.earlier)
        self.callbacks.set_model(self.model)
        self.callbacks.set_params({"epochs": self.stage.epochs, "steps": self.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False

    def _compile(self):
        """Compile the update. Raises `Misuse` if it has state that a checkpoint could not restore."""
        if self.stage.step:
            self.model._clear_losses()  # of the forward pass, which a step that does not call their layers would keep
        with self.trial.clock("compile"), purity.check_purity(self.stage), draws.forbid_global_noise():
            self.update = update.compiled(self.trial, self.stage, self.players)
            graphs.refuse_unseeded_randomness(self.update)
        known = [variable for group in self._variables().values() for variable in group]
        earlier = [variable for model in self.trial.models.values() for variable in model.variables]
        self.captured = graphs.captured_variables(self.update, known, constant=earlier)
        written = graphs.written_variables(self.update)
        outside, changed = purity.referred_to(self.stage), graphs.handles(written)
        model_checks.check_teachers(self.trial, [one for one in outside.values() if isinstance(one, keras.Model)], written)
        read = [variable for variable in self.captured if graphs.handles([variable]).isdisjoint(changed)]
        purity.refuse_untrained(self.stage, outside, read)

    def samples(self) -> np.ndarray:
        """A sample of training images, augmented as in the first epoch: uint8 [n, height, width, channels]."""
        train = self.stage.train
        positions = train.drawn(SAMPLES, self.trial.streams, "samples")
        images, targets = tf.cast(train.batch(positions), tf.float32), self.stage.targets(train.labels[positions])
        augmentations = [augmentation.for_probing(one) for one in self.stage.augment]
        images, _ = augmentation.apply(augmentations, images, targets, self.feed.draws(0)[positions])
        return np.clip(np.round(images.numpy()), 0, 255).astype(np.uint8)

    # --- an epoch ---

    def _epoch(self):
        trial, state, n = self.trial, self.state, self.steps_per_epoch
        start = trial.seconds() - state.epoch_seconds
        with trial.clock("input"):
            self.feed.start_epoch(self.stage.earlier + state.epoch)
        i = state.batches - state.epoch * n
        if i == 0:
            self.callbacks.on_epoch_begin(state.epoch)
            self._check_rates()
            if self.stage.callbacks:
                purity.check_compiled_state(self.stage, self.compiled)
        while i < n:
            i += self._update(i, i + self._updates_at_once(n - i))
            self._progress()
            if self.model.stop_training:
                break
            if i < n and trial.host.checkpoint_steps and state.batches % trial.host.checkpoint_steps == 0:
                state.epoch_seconds = trial.seconds() - start
                self._save()
        state.epoch_seconds = trial.seconds() - start
        if self.acts_on_batches:
            purity.check_compiled_state(self.stage, self.compiled)
        self._end_epoch()

    def _updates_at_once(self, remaining: int) -> int:
        """Number of updates in the next call: up to the next checkpoint or report, and one if a callback acts on batches.

        It depends on the speed, and all workers must make the same calls; so with several there is one, too.
        """
        if self.acts_on_batches or self.trial.workers > 1:
            return 1
        if self.trial.host.checkpoint_steps:
            remaining = min(remaining, self.trial.host.checkpoint_steps - self.state.batches % self.trial.host.checkpoint_steps)
        return min(max(int(PROGRESS_SECONDS / self.update_seconds), 1), remaining)

    def _update(self, first, last):
        """Train on the batches `first` to `last` (exclusive) of the epoch, or fewer. Returns their number."""
        trial, state = self.trial, self.state
        with trial.clock("input"):
            inputs, sizes = self.feed.inputs(first, last, state.batches), np.diff(self.feed.edges(first, last)).tolist()
        compiles, self.updated = not self.updated, True  # the first call takes longer
        with trial.clock("compile") if compiles else trial.clock("train", images=sum(sizes)):
            start = time.perf_counter()
            if self.acts_on_batches:
                self.callbacks.on_train_batch_begin(first)
            done = update.results(self.update, inputs)
            if not compiles:
                self.update_seconds = (time.perf_counter() - start) / len(done)
        for size, one in zip(sizes, done, strict=False):  # fewer if the last one was not finite
            state.count(size, one)
        if not self.scheduled:
            self.rate = self._rate()  # of this update, before a callback changes it
        if self.acts_on_batches:
            self.callbacks.on_train_batch_end(first, {"loss": one.loss})
        if not one.finite:
            what = "the weights are" if np.isfinite(one.loss) else "the loss is"
            raise Diverged(f"{what} not finite at epoch {state.epoch + 1}, step {state.batches}")
        if not one.applied and all(adapters.loss_scale_exhausted(player.optimizer) for player in self.players):
            raise Diverged(f"the gradient is not finite under any loss scale at epoch {state.epoch + 1}, step {state.batches}")
        return len(done)

    def _end_epoch(self):
        with adapters.averaged_weights([player.optimizer for player in self.players]):
            self._evaluate()
        self._check_rates()
        (self.state.stopped,) = map(bool, self.broadcast(self.model.stop_training))
        ended = self.state.epoch == self.stage.epochs or self.state.stopped  # then `run` saves
        if not ended and (self.trial.host.checkpoint_steps or time.perf_counter() - self.saved >= CHECKPOINT_SECONDS):
            self._save()

    def _evaluate(self):
        """Add the epoch's row to the history, update the best epoch, and call `on_epoch_end`."""
        trial, state = self.trial, self.state
        examples, loss, correct, norm, updates = state.sums
        rate = adapters.scheduled_rate(self.players[0].optimizer) if self.scheduled else self.rate
        row = {
            "epoch": state.epoch + 1,
            "train_loss": loss / examples,
            "train_accuracy": correct / examples if self.classifies else None,
            **self._validate(),
            "learning_rate": rate,
            "gradient_norm": norm / updates if updates else None,
            "steps": state.steps,
            "seconds": state.epoch_seconds,
        }
        state.history.append(row)
        with trial.clock("eval"):
            if self.is_predictor:
                self._keep_best(row)
            state.end_epoch()
            self.callbacks.on_epoch_end(state.epoch - 1, self._logs())

    def _is_last(self):
        return self.state.epoch + 1 == self.stage.epochs

    def _keep_best(self, row):
        """Keep the weights of the finished epoch if it is one of the best so far, or the last after scores on a part of val."""
        kept, rank = self.state.contenders, self._rank(row)
        if rank == (-np.inf, -np.inf):
            return
        as_last = self.validation.scores_part and self._is_last()
        most = CONTENDERS if self.validation.scores_part else 1
        if as_last or len(kept) < most or rank > self._rank(kept[-1]):
            names = ("epoch", f"val_{self.metric}", "val_nll")
            new = {**{name: row.get(name) for name in names}, "weights": self.model.get_weights()}
            ranked = sorted([*kept, *([] if as_last else [new])], key=self._rank, reverse=True)  # of equals the earliest first
            self.state.contenders = ranked[:most] + ([new] if as_last else [])

    def _validate(self):
        """Validation loss and scores by name; empty for a model that is not a predictor."""
        if not self.is_predictor:
            return {}
        self.callbacks.on_test_begin()
        metrics = self.validation.metrics(self.captured, last=self._is_last())
        metrics = dict(zip(metrics, self.broadcast(*metrics.values()), strict=True))
        self.callbacks.on_test_end({name: metrics[name] for name in ("loss", self.metric) if name in metrics})
        return {f"val_{name}": value for name, value in metrics.items()}

    def _logs(self):
        """The logs for callbacks, with NaN replaced by the worst value, since comparisons with NaN are always false."""
        logs, lower = adapters.logs(self.state.history), self.trial.task.lower_is_better
        worst = {"accuracy": -np.inf, f"val_{self.metric}": np.inf if lower else -np.inf}
        return {name: worst.get(name, np.inf) if np.isnan(value) else value for name, value in logs.items()}

    def _rank(self, row):
        """Sort key of epochs, higher is better: the primary metric, then the lower NLL. NaN counts as −∞."""
        rank = self.trial.task.better(row[f"val_{self.metric}"]), -(row.get("val_nll") or 0)
        return tuple(-np.inf if np.isnan(value) else value for value in rank)

    def _progress(self):
        now = time.perf_counter()
        if now - self.reported < PROGRESS_SECONDS:
            return
        self.reported = now
        trial, state = self.trial, self.state
        examples, loss, correct, *_ = state.sums
        seconds = trial.clocks["train"] + trial.clocks["input"]
        trial.host.report(
            stage=self.stage.name,
            epoch=state.epoch + 1,
            epochs=self.stage.epochs,
            done=state.batches / (self.stage.epochs * self.steps_per_epoch),
            loss=loss / examples,
            accuracy=correct / examples if self.classifies else None,
            images_per_second=trial.timed_images / seconds if seconds else None,
            seconds=trial.seconds(),
        )

    # --- checkpoints ---

    def _variables(self):
        optimizers = [v for player in self.players for v in player.optimizer.variables]
        variables = {"model": [*self.model.variables, *self.model.metrics_variables], "optimizer": optimizers}
        saved = {name: [part for v in group for part in adapters.replica_variables(v)] for name, group in variables.items()}
        return {**saved, "outside": self.captured}

    def _callback_states(self):
        saved = graphs.handles([variable for group in self._variables().values() for variable in group])
        return [checkpoint.callback_state(callback, saved) for callback in self.callbacks.callbacks]

    def _save(self):
        host = self.trial.host
        state = {
            "fit": {**vars(self.state)},
            "callbacks": self._callback_states(),
            "trial": self.trial.state(),
            "generators": draws.generator_states(),
            "outside": len(self.captured),
        }
        name = f"{self.stage.name}-finished" if self.state.finished else self.stage.name
        if host.writes:
            checkpoint.save(host.folder, name, self.state.batches, state, self._variables())
        self.saved = time.perf_counter()

    def _load(self, name):
        """Restore the newest checkpoint of this name. Returns whether there is one."""
        host, variables, state = self.trial.host, self._variables(), None
        if host.writes:
            state = checkpoint.restore(host.folder, name, variables, lambda text: host.report(warning=text))
        (position,) = map(int, self.broadcast(-1 if state is None else state["fit"]["batches"]))
        if position < 0:
            return False
        if not host.writes:
            state = checkpoint.restore_at(host.folder, name, position, variables)
        if state["outside"] > len(self.captured):  # a finished stage: its update is compiled to find the captured variables
            self._compile()
            checkpoint.restore_at(host.folder, name, position, self._variables())
        vars(self.state).update(state["fit"])
        for callback, saved in zip(self.callbacks.callbacks, state["callbacks"], strict=True):
            vars(callback).update(saved or {})
        draws.restore_generator_states(state["generators"])
        self.trial.resume(state["trial"])
        self.model.stop_training = self.state.stopped
        return True
