"""The one training loop.

It is ours because `keras.Model.fit` shuffles alike in every epoch, clips before replicas are summed and cannot be resumed
exactly. Models, optimizers, losses and callbacks are ordinary Keras.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from common.training import adapters, augmentation, checkpoint, prediction

SAMPLES = 8
"""Training images kept for the sample sheet: the first of the train split, as drawn in the first epoch."""

Step = Callable[[keras.Model, tf.Tensor, tf.Tensor, tf.Tensor], tuple]


class Diverged(Exception):
    """Loss or weights are not finite."""


@dataclass
class Fit:
    """What one call of `Trial.fit` leaves behind, and all of a loop's state that is not a Keras variable."""

    epoch: int = 0
    """Epochs finished."""
    steps: int = 0
    """Updates made."""
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    """Within the epoch: examples, loss · examples, correct examples, gradient norm · updates."""
    epoch_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    best: dict | None = None
    """Epoch, val_accuracy, val_nll and weights of the best validation epoch."""
    stopped: bool = False
    finished: bool = False
    norms: list[float] = field(default_factory=list)
    """Norm of the gradient of each update, before any clipping."""


class Loop:
    """One call of `Trial.fit`."""

    def __init__(self, trial, model, optimizer, per_example, callbacks, class_weight, augment, stage, epochs, step, train, val):
        self.trial, self.model, self.stage, self.epochs = trial, model, stage, epochs
        self.train, self.val = train, val
        self.steps_per_epoch = -(-len(train) // trial.batch_size)
        self.outputs = trial.task.outputs(train.classes or trial.classes)
        self.metric = trial.task.metric
        self.per_example = per_example
        self.augment = tuple(augment)
        if not model.built:
            model.build((None, *trial.input_shape))
        self.custom = step
        if isinstance(optimizer, dict):
            self.players = [(opt, model.get_layer(name).trainable_variables, name) for name, opt in optimizer.items()]
        else:
            self.players = [(optimizer, model.trainable_variables, None)]
        self.class_weight = None
        if class_weight is not None:
            weights = class_weight if isinstance(class_weight, dict) else dict(enumerate(class_weight))
            self.class_weight = tf.constant([weights.get(c, 1.0) for c in range(self.outputs)], tf.float32)
        self.fit = Fit()
        # Epochs of earlier stages: no stage repeats another's order, augmentation or masks. But the stage `fit` sees what it
        # would see without them, so that arms with and without another stage stay paired.
        self.earlier = 0 if stage == "fit" else sum(fit.epoch for fit in trial.fits.values())
        self.callbacks = adapters.prepared(callbacks)
        self.reported = 0.0
        self.agree = adapters.agreement(trial.strategy, trial.workers)

    # --- the graph ---

    def step(self, images, targets, seed):
        """Losses [batch] (or a dict of them) and outputs."""
        if self.custom:
            return self.custom(self.model, images, targets, seed)
        outputs = tf.cast(self.model(images, training=True), tf.float32)
        return self.per_example(targets, outputs), outputs

    def targets(self, labels):
        """Labels as losses take them: one-hot [batch, classes] where they are classes, else float32 [batch, outputs]."""
        if self.train.classes is not None:
            return tf.one_hot(labels, self.outputs)
        return tf.reshape(labels, (-1, self.outputs))

    def prepare(self, images, labels, uniforms):
        """A batch as the model sees it: float32 images 0 … 255, and targets."""
        targets = self.targets(labels)
        return augmentation.apply(self.augment, tf.cast(images, tf.float32), targets, uniforms)

    def compile(self):
        """The compiled update: images, labels, uniforms, count, number, bounds -> loss, accuracy, norm, whether all is finite.

        Each replica takes its part, between two bounds, of the whole batch; count is by what its losses are divided, number
        that of the update. The replicas' gradients are summed, then clipped, then applied once.
        """
        trial = self.trial
        noise = trial.streams.key("noise", self.earlier, "step")

        def update(images, labels, uniforms, count, number, bounds):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            if trial.replicas > 1:
                first, last = bounds[0, replica], bounds[1, replica]
                images, labels, uniforms = images[first:last], labels[first:last], uniforms[first:last]
            images, targets = self.prepare(images, labels, uniforms)
            seed = tf.stack([noise, number * trial.replicas + replica])
            with tf.GradientTape(persistent=len(self.players) > 1) as tape:
                losses, outputs = self.step(images, targets, seed)
                penalty = tf.add_n(self.model.losses) / trial.replicas if self.model.losses else 0.0
                totals = []
                for optimizer, _, name in self.players:
                    values = tf.cast(losses if name is None else losses[name], tf.float32)
                    if self.class_weight is not None:
                        values *= tf.linalg.matvec(targets, self.class_weight)
                    total = tf.reduce_sum(values) / count + penalty
                    totals.append((total, optimizer.scale_loss(total)))
            squares = []
            for (total, scaled), (optimizer, variables, _) in zip(totals, self.players, strict=True):
                gradients = adapters.sums(tape.gradient(scaled, variables), trial.replicas)
                scale = 1.0 if scaled is total else optimizer.scale_loss(tf.constant(1.0))
                squares += [tf.reduce_sum(tf.square(tf.cast(g, tf.float32) / scale)) for g in gradients if g is not None]
                optimizer.apply(gradients, variables)
            correct = tf.constant(0.0)
            if outputs is not None and self.train.classes is not None:
                hits = tf.argmax(outputs, axis=-1) == tf.argmax(targets, axis=-1)
                correct = tf.reduce_sum(tf.cast(hits, tf.float32)) / count
            loss, correct = adapters.sums([tf.add_n([total for total, _ in totals]), correct], trial.replicas)
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(v.value)) for v in self.model.trainable_variables])
            return loss, correct, tf.sqrt(tf.add_n(squares)), finite

        for optimizer, _, _ in self.players if trial.replicas > 1 else ():
            adapters.expect_sums(optimizer)
        signature = [
            tf.TensorSpec((None, *trial.input_shape), tf.uint8),
            tf.TensorSpec((None, *self.train.labels.shape[1:]), self.train.labels.dtype),
            tf.TensorSpec((None, len(self.augment), augmentation.UNIFORMS), tf.float32),
            tf.TensorSpec((), tf.float32),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((2, trial.replicas), tf.int32),
        ]
        # One signature: machines that traced at different updates would number their collectives differently.
        run = tf.function(update, jit_compile=True) if trial.xla else update
        compiled = tf.function(lambda *batch: trial.strategy.run(run, args=batch), input_signature=signature)

        def call(*batch):
            return [trial.strategy.experimental_local_results(result)[0] for result in compiled(*batch)]

        return call

    # --- the run ---

    def run(self):
        fit = self.fit
        for optimizer, variables, _ in self.players:
            optimizer.build(variables)
        self.model.compile(optimizer=self.players[0][0], loss=None, jit_compile=False, auto_scale_loss=False)
        adapters.seed_noise(self.model, self.trial.streams, self.earlier)
        self.callbacks.set_model(self.model)
        self.callbacks.set_params({"epochs": self.epochs, "steps": self.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False
        self._keep_samples()
        if self._load(f"{self.stage}-finished"):
            return
        self.callbacks.on_train_begin()
        for callback in self.callbacks.callbacks:
            checkpoint.callback_state(callback)  # raises for one that could not be saved, before anything is trained
        self._load(self.stage)
        adapters.start_at(self.model, fit.epoch)
        self.judged = self.model.output_shape == (None, self.outputs)  # else it is no predictor: a generator, say
        self.update = self.compile()
        self.classifies = self.judged and bool(self.train.classes)
        self.forward = prediction.forward(self.model) if self.judged else None
        self.timed = set()  # compiled functions that have run once
        while fit.epoch < self.epochs and not fit.stopped:
            self._epoch()
        for optimizer, variables, _ in self.players:
            optimizer.finalize_variable_values(variables)  # an exponential moving average becomes the weights
        self.callbacks.on_train_end(adapters.logs(fit.history))
        fit.finished = True
        self._save()

    def _epoch(self):
        trial, fit = self.trial, self.fit
        n, size = len(self.train), trial.batch_size
        began, before = time.perf_counter(), fit.epoch_seconds
        order = trial.streams.generator("order", self.earlier + fit.epoch).permutation(n)
        uniforms = np.zeros((n, 0, augmentation.UNIFORMS), np.float32)
        if self.augment:
            uniforms = augmentation.draws(trial.streams, self.earlier + fit.epoch, self.augment, self._names())
            uniforms = uniforms[self.train.ids]
        trial.clocks["input"] += time.perf_counter() - began
        first = fit.steps - fit.epoch * self.steps_per_epoch
        if first == 0:
            self.callbacks.on_epoch_begin(fit.epoch)
        for i in range(first, self.steps_per_epoch):
            start = time.perf_counter()
            batch = order[i * size : (i + 1) * size]
            bounds, count = adapters.shares(len(batch), trial.replicas)
            arguments = (self.train.batch(batch), self.train.labels[batch], uniforms[batch], count, np.int32(fit.steps), bounds)
            gathered = time.perf_counter()
            self.callbacks.on_train_batch_begin(i)
            loss, accuracy, norm, finite = (value.numpy() for value in self.update(*arguments))
            done = time.perf_counter()
            fit.steps += 1
            terms = (len(batch), float(loss) * len(batch), round(float(accuracy) * len(batch)), float(norm))
            fit.norms.append(float(norm))
            fit.sums = [a + b for a, b in zip(fit.sums, terms, strict=True)]
            trial.clocks["input"] += gathered - start
            if self._first("update"):
                adapters.refuse_global_noise()
                trial.clocks["compile"] += done - gathered
            else:
                trial.clocks["train"] += done - gathered
                trial.timed_images += len(batch)
            self.callbacks.on_train_batch_end(i, {"loss": float(loss)})
            if not (np.isfinite(loss) and finite):
                what = "the weights are" if np.isfinite(loss) else "the loss is"
                raise Diverged(f"{what} not finite at epoch {fit.epoch + 1}, step {fit.steps}")
            self._progress(done)
            if self.model.stop_training:
                break
            last = i == self.steps_per_epoch - 1
            if not last and trial._checkpoint_steps and fit.steps % trial._checkpoint_steps == 0:
                fit.epoch_seconds = before + time.perf_counter() - began
                self._save()
        self._end_epoch(before + time.perf_counter() - began)

    def _end_epoch(self, seconds):
        trial, fit = self.trial, self.fit
        examples, loss, correct, norm = fit.sums
        row = {
            "epoch": fit.epoch + 1,
            "train_loss": loss / examples,
            "train_accuracy": correct / examples if self.classifies else None,
            **self._validate(),
            "learning_rate": float(keras.ops.convert_to_numpy(self.players[0][0].learning_rate)),
            "gradient_norm": norm / (fit.steps - fit.epoch * self.steps_per_epoch),
            "seconds": seconds,
        }
        fit.history.append(row)
        start = time.perf_counter()
        if self.judged and (fit.best is None or self._rank(row) > self._rank(fit.best)):
            names = ("epoch", f"val_{self.metric}", "val_nll")
            fit.best = {**{name: row.get(name) for name in names}, "weights": self.model.get_weights()}
        fit.epoch += 1
        fit.sums, fit.epoch_seconds = [0.0] * 4, 0.0
        self.callbacks.on_epoch_end(fit.epoch - 1, adapters.logs(fit.history))
        (fit.stopped,) = map(bool, self.agree(self.model.stop_training))
        trial.clocks["eval"] += time.perf_counter() - start
        if fit.epoch < self.epochs and not fit.stopped:  # else the end of the stage follows at once
            self._save()

    def _validate(self):
        """Validation loss (as trained, weight penalties included) and scores; none for a model that is no predictor."""
        if not self.judged:
            return {}
        self.callbacks.on_test_begin()
        trial, start = self.trial, time.perf_counter()
        outputs = prediction.predict(self.forward, self.val)
        trial.clocks["compile" if self._first("forward") else "eval"] += time.perf_counter() - start
        losses = float(tf.reduce_mean(self.per_example(self.targets(self.val.labels), tf.constant(outputs))))
        penalties = [v.regularizer(v) for v in self.model.trainable_variables if v.regularizer is not None]
        loss = losses + float(sum(keras.ops.convert_to_numpy(penalty) for penalty in penalties))
        found = trial.task.scores(outputs, self.val.labels)
        scores = self.agree(loss, *found.values())
        self.callbacks.on_test_end({"loss": scores[0], self.metric: scores[1]})
        return dict(zip(("val_loss", *(f"val_{name}" for name in found)), scores, strict=True))

    def _rank(self, row):
        """The better epoch has the better primary metric, then the lower NLL; of equals the earlier one stays."""
        return self.trial.task.better(row[f"val_{self.metric}"]), -(row.get("val_nll") or 0)

    def _names(self):
        """One more than the highest name of an example, those of the official split included."""
        return max(self.trial._official_size, int(self.train.ids.max()) + 1)

    def _progress(self, now):
        trial, fit = self.trial, self.fit
        if now - self.reported < 0.25:
            return
        self.reported = now
        examples, loss, correct, _ = fit.sums
        seconds = trial.clocks["train"] + trial.clocks["input"]
        trial._report(
            stage=self.stage,
            epoch=fit.epoch + 1,
            epochs=self.epochs,
            done=fit.steps / (self.epochs * self.steps_per_epoch),
            loss=loss / examples,
            accuracy=correct / examples if self.classifies else None,
            images_per_second=trial.timed_images / seconds if seconds else None,
            seconds=trial.seconds(),
        )

    def _first(self, name):
        """Whether a compiled function has just run for the first time."""
        new = name not in self.timed
        self.timed.add(name)
        return new

    def _keep_samples(self):
        trial = self.trial
        if trial.samples is not None:
            return
        positions = np.arange(min(SAMPLES, len(self.train)))
        uniforms = np.zeros((len(positions), 0, augmentation.UNIFORMS), np.float32)
        if self.augment:
            drawn = augmentation.draws(trial.streams, 0, self.augment, self._names())
            uniforms = drawn[self.train.ids[positions]]
        images, _ = self.prepare(self.train.batch(positions), self.train.labels[positions], uniforms)
        trial.samples = np.clip(np.round(images.numpy()), 0, 255).astype(np.uint8)

    # --- the state ---

    def _variables(self):
        optimizers = [v for optimizer, _, _ in self.players for v in optimizer.variables]
        return {"model": list(self.model.variables), "optimizer": optimizers}

    def _save(self):
        trial = self.trial
        trial.lap()
        state = {
            "fit": {**vars(self.fit)},
            "callbacks": [checkpoint.callback_state(c) for c in self.callbacks.callbacks],
            "trial": {name: getattr(trial, name) for name in ("clocks", "timed_images", "resumes", "measures")},
        }
        name = f"{self.stage}-finished" if self.fit.finished else self.stage
        if trial._writes:
            checkpoint.save(trial._folder, name, self.fit.steps, state, self._variables())

    def _load(self, name):
        trial, variables = self.trial, self._variables()
        state = None
        if trial._writes:
            state = checkpoint.restore(trial._folder, name, variables, lambda text: trial._report(warning=text))
        (position,) = map(int, self.agree(-1 if state is None else state["fit"]["steps"]))
        if position < 0:
            return False
        if not trial._writes:
            state = checkpoint.restore_at(trial._folder, name, position, variables)
        vars(self.fit).update(state["fit"])
        for callback, saved in zip(self.callbacks.callbacks, state["callbacks"], strict=True):
            vars(callback).update(saved or {})
        for key, value in state["trial"].items():
            setattr(trial, key, value)
        trial.resumes += 1
        self.model.stop_training = self.fit.stopped
        return True
