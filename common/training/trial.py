"""`Trial`, the argument of an experiment's `train`, and `Trial.fit`, the only way to train."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from common.data.corruptions import SHIFTS
from common.data.split import Split, folds
from common.data.streams import Streams
from common.errors import Misuse
from common.rows.metric import DERIVED
from common.rows.schema import NAMES
from common.tasks import Task, classification
from common.training import adapters, arguments, callback_checks, checkpoint, model_checks, prediction, probes, purity, seeding
from common.training.adapters import per_example
from common.training.augmentation import Augmentation
from common.training.loop import Loop
from common.training.prediction import Validated
from common.training.stage import Stage, StageState, Step

RESERVED = frozenset((*NAMES, *DERIVED, "memorised", "estimate_bias", "estimate_error"))
"""Names of columns, of metrics computed from rows, and of measures that scoring records."""


@dataclass(frozen=True)
class Examples:
    """The examples of a trial.

    Args:
        classes: number of classes that are kept.
        official_size: number of examples in the dataset's train split; an example's id is its position in it.
        others: train examples of the classes that are not kept.
        full_size: number of the setting's training examples, of which `train` has a part in an arm that sets its size.
    """

    train: Split
    val: Split
    classes: int
    official_size: int
    others: Split | None = None
    full_size: int | None = None


@dataclass(frozen=True)
class Host:
    """Settings of the process that runs a trial.

    Args:
        folder: folder of the trial's checkpoints, which are saved after epochs, at most one a second.
        strategy: distribution strategy; by default the first CPU.
        checkpoint_steps: updates between further checkpoints within an epoch; None for no others.
        writes: whether the process saves checkpoints; if not, it only reads those of the chief.
        report: f(**progress), called during training.
    """

    folder: pathlib.Path
    strategy: tf.distribute.Strategy | None = None
    checkpoint_steps: int | None = None
    writes: bool = True
    report: Callable[..., None] = lambda **_: None


class Trial:
    """One training with one arm and one seed: data, settings and methods for `train`. It holds no test images.

    Attributes:
        seed: seed of all random streams that vary between trials.
        epochs, batch_size, val_per_epoch: as in the setting, with the user's overrides.
        steps_per_epoch, steps: number of updates in an epoch, and in all epochs.
        input_shape: (height, width, channels); classes: number of outputs of a model.
        train, val: `Split`; others, full_size, official_size: see `Examples`.
        task: the learning task, see `common.tasks`.
        host: see `Host`; strategy: its distribution strategy.
        replicas: devices that share each batch; workers: processes with these devices, one per machine.
        streams: source of random generators, for experiments that draw random numbers themselves.
        distinct_devices: whether each replica has a separate device, rather than sharing the CPU or a GPU.
        xla: whether updates are compiled by XLA.
        fits, models, train_splits: state, model and training examples of each stage, by its name.
        trained: ids of the variables that each stage trained.
        measures: recorded (name, value, unit); samples: augmented training images, uint8 [n, height, width, channels].
        of_images: numbers for each test image, from scoring; see `Outcome`.
        validated: the last outputs on all of a val split, which scoring need not compute again.
        clocks: seconds of compilation, input, training, evaluation and in total.
        timed_images: number of images that were trained on in the seconds of the clock `train`.
        resumes: number of times the trial was resumed after a kill.
    """

    def __init__(
        self,
        examples: Examples,
        host: Host,
        *,
        streams: Streams,
        epochs: int,
        batch_size: int,
        task: Task = classification,
        val_per_epoch: int | None = None,
        xla: bool = False,
    ):
        self.seed, self.streams, self.task, self.xla, self.host = streams.seed, streams, task, xla, host
        self.train, self.val, self.others = examples.train, examples.val, examples.others
        self.full_size, self.official_size = examples.full_size or len(self.train), examples.official_size
        self.input_shape, self.classes = self.train.batch(np.arange(1)).shape[1:], task.outputs(examples.classes)
        self.epochs, self.batch_size, self.val_per_epoch = epochs, batch_size, val_per_epoch
        self.steps_per_epoch = -(-len(self.train) // batch_size)
        self.steps = self.steps_per_epoch * epochs
        self.strategy = host.strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
        self.replicas = self.strategy.num_replicas_in_sync
        resolver = self.strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = max(1, sum(map(len, jobs.values())))
        self.distinct_devices = self.replicas <= max(len(tf.config.list_physical_devices("GPU")), 1) * self.workers
        self.fits: dict[str, StageState] = {}
        self.trained: dict[str, set[int]] = {}
        self.models: dict[str, keras.Model] = {}
        self.train_splits: dict[str, Split] = {}
        self.measures: list[tuple[str, float, str]] = []
        self.of_images: dict[str, np.ndarray] = {}
        self.samples: np.ndarray | None = None
        self.validated: Validated | None = None
        self.clocks = dict.fromkeys(("compile", "input", "train", "eval", "total"), 0.0)
        self.timed_images = 0
        self.resumes = 0
        self._compiled: dict[tuple[Callable, int], tuple[keras.Model, dict, object]] = {}
        self._statistics_cache: dict[int, tuple[list[keras.layers.BatchNormalization], Split, str, list[np.ndarray]]] = {}
        self._since = time.perf_counter()

    @staticmethod
    def unsaved(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
        """Declare that a callback's attributes need not be saved in checkpoints. Returns the callback."""
        return checkpoint.unsaved(callback)

    def folds(self, count: int, repeat: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions in `train` to train on and to hold out, a pair for each of `count` folds; `repeat` numbers the partition."""
        return folds(len(self.train), count, self.streams, repeat)

    def record(self, name: str, value: float, unit: str = "") -> None:
        """Record a number that is not a column of the rows; it is written to `…_measures.csv`.

        Raises:
            Misuse: the value is no number, or the name is that of another number, of a column, or of what is computed from rows.
        """
        shifts = tuple(f"{shift}_{self.task.metric}" for shift in (*SHIFTS, "shifted"))
        if name in RESERVED or name in shifts or name.startswith(tuple(f"{one} " for one in shifts)):
            raise Misuse(f"rows hold another number of this name: call it otherwise. Received: {name!r}")
        self.measure(name, value, unit)

    def measure(self, name: str, value: float, unit: str = "") -> None:
        """Like `record`, also under names that only scoring uses. Raises `Misuse`."""
        if any(name == known for known, _, _ in self.measures):
            raise Misuse(f"a trial records one number of a name: call the second one otherwise. Received twice: {name!r}")
        try:
            number = float(value) if np.ndim(value) == 0 and not isinstance(value, str) else None
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise Misuse(f"a trial records single numbers. Received: {name!r}: {value!r}")
        self.measures.append((name, number, unit))

    def fit(
        self,
        model: keras.Model,
        *,
        optimizer: keras.optimizers.Optimizer | dict[str, keras.optimizers.Optimizer],
        loss: keras.losses.Loss | Callable | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        class_weight: dict[int, float] | Sequence[float] | None = None,
        sample_weight: np.ndarray | Callable[[Split], np.ndarray] | None = None,
        augment: Sequence[Augmentation] = (),
        stage: str = "fit",
        epochs: int | None = None,
        step: Step | None = None,
        on: Split | None = None,
        validate: Split | None = None,
    ) -> keras.Model:
        """Train a model on `train`, validating on `val` after each epoch. Returns the model.

        Each update minimises the mean loss over the examples in the batch plus the model's penalties. A loss that a layer adds by
        `add_loss` must be a scalar, the mean over its inputs.

        Args:
            model: an uncompiled Keras model with outputs logits [batch, classes], without a custom `train_step`.
            optimizer: a new optimizer; with a `step` that returns several losses, a dict of optimizers by layer name.
            loss: a `keras.losses.Loss` on logits, or f(targets, logits) -> losses [batch]. Targets are one-hot [batch, classes];
                `SparseCategoricalCrossentropy` gets integer labels. By default cross-entropy; other tasks than classification
                have their labels as targets and need a loss.
            callbacks: Keras callbacks; their state is in attributes that are plain values or arrays, or in variables of the
                update, or they are wrapped in `trial.unsaved(…)`.
            class_weight: factor of the losses of each class: a list, or a dict in which missing classes have factor 1.
            sample_weight: factor of the loss of each example: numbers [n], finite and at least 0, in the order of the training
                examples; or f(split) that returns them, which weights `val_loss` as well. The batch's loss is
                Σ sample weight · class weight · loss / (examples in the batch): with mean weight 1 the learning rate need not
                change.
            augment: augmentations (see `common.augment`), applied in order.
            stage: name of this call, different for each call. After a kill a finished stage is loaded, not repeated.
            epochs: number of epochs; by default the setting's.
            step: f(model, images, targets, seed) -> (losses [batch], outputs or None), replaces loss(targets, model(images)).
                `seed`, int32 [2], is for `tf.random.stateless_*`, and different in each update. Models of earlier stages
                that share no weights with `model`, such as a teacher, have re-estimated batch-norm statistics.
                If `optimizer` is a dict, losses are a dict with the same names, each for the layer of that name. `val_loss` is
                computed from `loss`.
            on, validate: splits to train and validate on instead of `train` and `val`.

        Raises:
            Misuse: an argument is invalid or would be ignored (see `arguments`), a loss or augmentation does not fit the task
                (see `probes`), a callback cannot be saved, or layers share a name.
            Diverged: the loss, the weights or the gradients became infinite or NaN.
        """
        if not isinstance(stage, str) or not stage:
            raise Misuse(f'a stage is called by a text: stage="pretrain". Received: {stage!r}')
        if stage in self.fits:
            raise Misuse(f"each call of trial.fit needs a different stage name: stage=…. Received: stage={stage!r} twice")
        if stage.endswith("-finished"):
            raise Misuse(f"checkpoints of finished stages are named -finished: choose another stage name. Received: {stage!r}")
        if loss is None and step is None and self.task is not classification:
            raise Misuse(f"the task {self.task.name} needs a loss: loss=…. Received: loss=None")
        train, val = arguments.splits(self, on, validate)
        model_checks.check_model(model, train, images=step is None)
        if step is None:  # a step may change labels too
            model_checks.check_layers(model, self.task.orientation)
        model_checks.check_keras_training(model, list(self.models.values()))
        players = arguments.optimizers(optimizer, step)
        callback_checks.check_callbacks(callbacks, list(players.values()))
        arguments.check_augmentations(augment)
        outputs = self.task.outputs(train.classes) if train.classes else self.classes
        checked = Stage(
            name=stage,
            model=model,
            optimizers={name: adapters.with_loss_scaling(one, model) for name, one in players.items()},
            loss=None if loss is None and self.task is not classification else per_example(loss),
            train=train,
            val=val,
            outputs=outputs,
            epochs=self.epochs if epochs is None else arguments.epochs(epochs),
            # Data order and augmentation of the stage "fit" do not depend on earlier stages, so that arms with and without
            # pretraining stay paired.
            earlier=0 if stage == "fit" else sum(state.epoch for state in self.fits.values()),
            callbacks=callbacks,
            class_weight=arguments.class_weights(class_weight, train, outputs),
            sample_weight=arguments.sample_weights(sample_weight, train, "train"),
            given_weights=(class_weight, sample_weight),
            val_weight=arguments.sample_weights(sample_weight if callable(sample_weight) else None, val, "val"),
            augment=tuple(augment),
            step=step,
        )
        probes.check_targets(checked, loss, self.task.orientation)
        loop = Loop(self, checked)
        seeding.refuse_shared_names(model, self.models.values())
        trained = {id(variable) for variable in model.variables}
        earlier = {id(one): one for one in self.models.values() if prediction.takes_images(one, self.input_shape)} if step else {}
        teachers = [one for one in earlier.values() if not trained & {id(variable) for variable in one.variables}]
        self.models[stage], self.fits[stage], self.train_splits[stage] = model, loop.state, train
        self.trained[stage] = {id(variable) for player in loop.players for variable in player.variables}
        if self.samples is None:
            self.samples = loop.samples()
        with contextlib.ExitStack() as stack:
            for teacher in teachers:
                stack.enter_context(self.scoring_statistics(teacher))
            loop.run()
        return model

    def predict(self, model: keras.Model, images: np.ndarray | Split) -> np.ndarray:
        """Outputs float32 [n, outputs] of a model in inference mode, with re-estimated batch-norm statistics as in scoring.

        Args:
            images: uint8 [n, height, width, channels], or a split.

        Raises:
            Misuse: there are no images, or their shape is not the model's input shape.
        """
        split = images if isinstance(images, Split) else Split.of(images, np.zeros(len(images), np.int64), None)
        model_checks.check_images(model, split, self.input_shape)
        call = self._traced(prediction.forward, model)
        with self.scoring_statistics(model):
            return prediction.predict(call, split)

    def _traced(self, make: Callable, model: keras.Model):
        """`make(model, input_shape)`, which traces the model; made again if Python state of the model has changed."""
        state = purity.model_state(model)
        known = self._compiled.get((make, id(model)))
        if known is None or known[1] != state:  # the model is kept too, so that no other model gets its id
            known = self._compiled[make, id(model)] = model, state, make(model, self.input_shape)
        return known[2]

    @contextlib.contextmanager
    def scoring_statistics(self, model: keras.Model) -> Iterator[None]:
        """Context manager in which a model has its batch-norm statistics for scoring, re-estimated on its train split."""
        if not self.reestimates_statistics(model):
            yield
            return
        statistics = prediction.statistics_of(self._traced(prediction.updated_norms, model))
        before = [np.array(variable) for variable in statistics]
        try:
            self.set_scoring_statistics(model)
            yield
        finally:
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)

    def set_scoring_statistics(self, model: keras.Model) -> None:
        """Re-estimate a model's batch-norm statistics on its train split; cached for the same weights and Python state.

        Raises:
            Misuse: the model does not take images of that shape.
        """
        norms, train = self._traced(prediction.updated_norms, model), self.trained_on(model)
        if not norms:
            return
        statistics, key = prediction.statistics_of(norms), prediction.statistics_key(model, norms)
        cached = self._statistics_cache.get(id(model))
        if cached and cached[0] is norms and cached[1] is train and cached[2] == key:
            for variable, value in zip(statistics, cached[3], strict=True):
                variable.assign(value)
            return
        model_checks.check_model(model, train, images=True)
        prediction.reestimate_batch_norm(model, norms, train, self.scoring_order(train), self.batch_size)
        self._statistics_cache[id(model)] = norms, train, key, [np.array(variable) for variable in statistics]

    def reestimates_statistics(self, model: keras.Model) -> bool:
        """Whether a model's batch-norm statistics are re-estimated for scoring.

        They are if the trial trained one of its weights, or a model with weights of the same shapes: it may be an average of
        trained models. Other models are pretrained, and keep their statistics.
        """
        fitted = {id(variable) for one in self.models.values() for variable in one.variables}
        alike = any(_shapes(one) == _shapes(model) for one in self.models.values())
        return alike or bool(fitted & {id(variable) for variable in model.variables})

    def trained_on(self, model: keras.Model) -> Split:
        """The train split of the last stage that trained a model; `train` for a model that no stage trained."""
        stages = [stage for stage, one in self.models.items() if one is model]
        return self.train_splits[stages[-1]] if stages else self.train

    def scoring_order(self, train: Split) -> np.ndarray:
        """Order of the examples for re-estimating batch-norm statistics, int [n]."""
        return self.streams.generator("order", "scoring").permutation(len(train))

    @contextlib.contextmanager
    def clock(self, name: str, images: int = 0) -> Iterator[None]:
        """Context manager that adds its duration to a clock, and `images` to `timed_images`."""
        start = time.perf_counter()
        yield
        self.clocks[name] += time.perf_counter() - start
        self.timed_images += images

    def seconds(self) -> float:
        """Seconds spent on this trial so far, over all its resumes."""
        return self.clocks["total"] + time.perf_counter() - self._since

    def lap(self) -> None:
        """Update the clock `total`."""
        self.clocks["total"] = self.seconds()
        self._since = time.perf_counter()

    def state(self) -> dict:
        """The part of the trial's state that checkpoints save, besides that of its stages, as plain values."""
        self.lap()
        return {name: getattr(self, name) for name in ("clocks", "timed_images", "resumes", "measures")}

    def resume(self, state: dict) -> None:
        """Restore a state that `state` returned, and count a resume."""
        vars(self).update(state)
        self.resumes += 1


def _shapes(model: keras.Model) -> list[tuple]:
    return [tuple(weight.shape) for weight in model.weights]
