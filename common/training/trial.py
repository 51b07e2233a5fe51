"""`Trial`: what an experiment's `train` is handed, and `Trial.fit`, the only way to train."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from common.data.split import Split, folds
from common.data.streams import Streams
from common.errors import Misuse
from common.tasks import Task, classification
from common.training import adapters, arguments, checkpoint, prediction, probes, seeding
from common.training.adapters import per_example
from common.training.augmentation import Augmentation
from common.training.loop import Loop
from common.training.stage import Stage, StageState, Step


@dataclass(frozen=True)
class Examples:
    """What a trial learns from.

    Args:
        classes: how many are kept.
        official_size: examples in the dataset's train split, by their positions in which all are named.
        others: the train examples of classes that are not kept.
        full_size: examples there are for training, of which `train` may be a part.
    """

    train: Split
    val: Split
    classes: int
    official_size: int
    others: Split | None = None
    full_size: int | None = None


@dataclass(frozen=True)
class Host:
    """The process that a trial runs in, as far as the trial knows it.

    Args:
        folder: of the trial's checkpoints, saved after each epoch.
        strategy: devices; by default the first CPU.
        checkpoint_steps: updates between checkpoints within an epoch.
        writes: whether it saves checkpoints, or reads those of the chief alone.
        report: takes progress as keywords.
    """

    folder: pathlib.Path
    strategy: tf.distribute.Strategy | None = None
    checkpoint_steps: int | None = None
    writes: bool = True
    report: Callable[..., None] = lambda **_: None


class Trial:
    """One training: what `train` may know and use. It holds no test image.

    Attributes:
        seed: of every stream that varies between trials.
        epochs, batch_size: the setting's, overrides included.
        steps_per_epoch, steps: updates in an epoch and in the whole budget.
        input_shape: (height, width, channels); classes: the number of a model's outputs.
        train, val: `Split`; others, full_size, official_size: see `Examples`.
        task: what is learned.
        host: see `Host`; strategy: its devices.
        replicas: devices that share a batch; workers: machines that they are on.
        streams: for an experiment that draws something itself.
        distinct_devices: whether each replica has a device of its own.
        xla: whether updates are compiled by XLA.
        fits, models, trains: what each stage has left behind, its model, and the examples it was trained on.
        measures: what was recorded; samples: training images as a model sees them.
        clocks: seconds of compilation, input, training, evaluation and all; timed_images: those trained on in `train` seconds.
        resumes: times it went on after a kill.
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
        xla: bool = False,
    ):
        self.seed, self.streams, self.task, self.xla, self.host = streams.seed, streams, task, xla, host
        self.train, self.val, self.others = examples.train, examples.val, examples.others
        self.full_size, self.official_size = examples.full_size or len(self.train), examples.official_size
        self.input_shape, self.classes = self.train.batch(np.arange(1)).shape[1:], task.outputs(examples.classes)
        self.epochs, self.batch_size = epochs, batch_size
        self.steps_per_epoch = -(-len(self.train) // batch_size)
        self.steps = self.steps_per_epoch * epochs
        self.strategy = host.strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
        self.replicas = self.strategy.num_replicas_in_sync
        resolver = self.strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = max(1, sum(map(len, jobs.values())))
        self.distinct_devices = self.replicas <= max(len(tf.config.list_physical_devices("GPU")), 1) * self.workers
        self.fits: dict[str, StageState] = {}
        self.models: dict[str, keras.Model] = {}
        self.train_splits: dict[str, Split] = {}
        self.measures: list[tuple[str, float, str]] = []
        self.samples: np.ndarray | None = None
        self.clocks = dict.fromkeys(("compile", "input", "train", "eval", "total"), 0.0)
        self.timed_images = 0
        self.resumes = 0
        self._compiled: dict[int, tuple[Callable, keras.Model]] = {}
        self._statistics_cache: dict[int, tuple[keras.Model, Split, str, list[np.ndarray]]] = {}
        self._since = time.perf_counter()

    @staticmethod
    def unsaved(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
        """Declare that a callback holds nothing that must survive a kill. Returns it."""
        return checkpoint.unsaved(callback)

    def folds(self, count: int, repeat: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions in `train` to fit on and to hold out, one pair per fold, in one of several partitions. See `split.folds`."""
        return folds(len(self.train), count, self.streams, repeat)

    def record(self, name: str, value: float, unit: str = "") -> None:
        """Keep a number that the rows do not have, in `…_measures.csv`."""
        self.measures.append((name, float(value), unit))

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
        """Train a model on `train`, validating on `val` after each epoch. Returns it.

        The gradient of each update is that of (mean loss over the examples in the batch) + (the model's penalties); what a
        layer adds by `add_loss` is one number, the mean over the examples that it sees.

        Args:
            model: emits logits, [batch, classes]; neither compiled nor with a training step of its own.
            optimizer: made afresh. A dict of several where `step` plays several losses against each other.
            loss: a `keras.losses.Loss` on logits, or f(targets, logits) -> losses [batch], with one-hot targets [batch,
                classes]; integer labels for `SparseCategoricalCrossentropy`. By default cross-entropy. Where the task is no
                classification, targets are its labels, and a loss must be given.
            callbacks: whose fields are plain values, or `trial.unsaved(callback)`.
            class_weight: factor of each class' losses; a list, or a dict in which classes may be missing, whose factor is 1.
            sample_weight: factor of each example's loss: numbers [n], finite and at least 0, aligned with the examples that are
                trained on; or f(split) that returns them, which weighs `val_loss` too. The gradient is that of
                Σ weight · class weight · loss / (examples in the batch): weights of mean 1 leave the rate as it is.
            augment: augmentations (see `common.augment`), applied in order.
            stage: names the call; a second call needs a name of its own. A finished stage is loaded after a kill.
            epochs: by default the setting's.
            step: f(model, images, targets, seed) -> (losses [batch], outputs or None), in place of loss(targets, model(images));
                seed int32 [2] is for `tf.random.stateless_*` and `keras.random`, another one in each update. What was trained
                before and has no weight in common with the model, a teacher, has the batch-norm statistics it is scored with.
                Where `optimizer` is a dict, losses is a dict with the same names; each trains the layer of that name.
                `val_loss` is then that of `loss`.
            on, validate: other examples in the place of `train` and `val`.

        Raises:
            Misuse: an argument of another kind, or that would be ignored (see `arguments`), what would train wrongly (see
                `probes`), a callback that cannot be saved, layers that share a name.
            Diverged: loss or weights became infinite or NaN.
        """
        if stage in self.fits:
            raise Misuse(f"each fit of a trial needs a stage name of its own. Received: stage={stage!r} twice")
        if loss is None and step is None and self.task is not classification:
            raise Misuse(f"the task {self.task.name} needs a loss of its own. Received: loss=None")
        train, val = arguments.splits(self, on, validate)
        arguments.check_model(model, train, images=step is None)
        arguments.check_keras_training(model, list(self.models.values()))
        players = arguments.optimizers(optimizer, step)
        arguments.check_callbacks(callbacks, len(players))
        arguments.check_augmentations(augment)
        outputs = self.task.outputs(train.classes) if train.classes else self.classes
        what = Stage(
            name=stage,
            model=model,
            optimizers={name: adapters.with_loss_scaling(one, model) for name, one in players.items()},
            loss=None if loss is None and self.task is not classification else per_example(loss),
            train=train,
            val=val,
            outputs=outputs,
            epochs=self.epochs if epochs is None else arguments.epochs(epochs),
            # The stage `fit` sees what it would see without others, so that arms with and without another one stay paired.
            earlier=0 if stage == "fit" else sum(fit.epoch for fit in self.fits.values()),
            callbacks=callbacks,
            class_weight=arguments.class_weights(class_weight, train, outputs),
            sample_weight=arguments.sample_weights(sample_weight, train, "train"),
            val_weight=arguments.sample_weights(sample_weight if callable(sample_weight) else None, val, "val"),
            augment=tuple(augment),
            step=step,
        )
        probes.check_targets(what, loss, self.task.orientation)
        loop = Loop(self, what)
        seeding.refuse_shared_names(model, self.models.values())
        ours = {id(variable) for variable in model.variables}
        earlier = {id(one): one for one in self.models.values() if prediction.takes_images(one, self.input_shape)} if step else {}
        apart = [one for one in earlier.values() if not ours & {id(variable) for variable in one.variables}]
        self.models[stage], self.fits[stage], self.train_splits[stage] = model, loop.state, train
        if self.samples is None:
            self.samples = loop.samples()
        with contextlib.ExitStack() as teachers:
            for one in apart:
                teachers.enter_context(self.scoring_statistics(one))
            loop.run()
        return model

    def predict(self, model: keras.Model, images: np.ndarray | Split) -> np.ndarray:
        """Outputs float32 [n, outputs] in inference mode, for images uint8 [n, height, width, channels] or a split.

        Batch-norm statistics are re-estimated for it, as they are when the trial is scored.

        Raises:
            Misuse: no images, or of a shape that the model does not take.
        """
        split = images if isinstance(images, Split) else Split.of(images, np.zeros(len(images), np.int64), None)
        arguments.check_images(model, split, self.input_shape)
        if id(model) not in self._compiled:
            self._compiled[id(model)] = (
                prediction.forward(model, self.input_shape),
                model,
            )  # kept, so that no other takes its number
        with self.scoring_statistics(model):
            return prediction.predict(self._compiled[id(model)][0], split)

    @contextlib.contextmanager
    def scoring_statistics(self, model: keras.Model) -> Iterator[None]:
        """Within: a model's batch-norm statistics are re-estimated on what it was trained on, as they are when it is scored."""
        if not self.reestimates_statistics(model):
            yield
            return
        statistics = prediction.batch_norm_statistics(model)
        before = [np.array(variable) for variable in statistics]
        try:
            self.set_scoring_statistics(model)
            yield
        finally:
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)

    def set_scoring_statistics(self, model: keras.Model) -> None:
        """Re-estimate a model's batch-norm statistics on what it was trained on, once for the same weights.

        Raises:
            Misuse: it does not take images of that shape.
        """
        statistics, train = prediction.batch_norm_statistics(model), self.trained_on(model)
        if not statistics:
            return
        key = prediction.statistics_key(model)
        kept = self._statistics_cache.get(id(model))
        if kept and kept[1] is train and kept[2] == key:
            for variable, value in zip(statistics, kept[3], strict=True):
                variable.assign(value)
            return
        arguments.check_model(model, train, images=True)
        prediction.reestimate_batch_norm(model, train, self.scoring_order(train), self.batch_size)
        self._statistics_cache[id(model)] = model, train, key, [np.array(variable) for variable in statistics]

    def reestimates_statistics(self, model: keras.Model) -> bool:
        """Whether a model's batch-norm statistics are re-estimated: something of it was trained here, or it is like one that was.

        The latter, with weights of the same shapes, is an average of trained models, say. A pretrained one keeps its statistics.
        """
        fitted = {id(variable) for one in self.models.values() for variable in one.variables}
        alike = any(_shapes(one) == _shapes(model) for one in self.models.values())
        return alike or bool(fitted & {id(variable) for variable in model.variables})

    def trained_on(self, model: keras.Model) -> Split:
        """The examples of a model's last stage; `train` for one that was not trained as it is."""
        stages = [stage for stage, one in self.models.items() if one is model]
        return self.train_splits[stages[-1]] if stages else self.train

    def scoring_order(self, train: Split) -> np.ndarray:
        """In which examples are batched to re-estimate batch-norm statistics: int [n]."""
        return self.streams.generator("order", "scoring").permutation(len(train))

    @contextlib.contextmanager
    def clock(self, name: str, images: int = 0) -> Iterator[None]:
        """Add what is done within to one of the clocks, and images to those that were timed."""
        start = time.perf_counter()
        yield
        self.clocks[name] += time.perf_counter() - start
        self.timed_images += images

    def seconds(self) -> float:
        """Seconds spent on this trial so far, over all its resumes."""
        return self.clocks["total"] + time.perf_counter() - self._since

    def lap(self) -> None:
        """Bring the clock `total` up to now."""
        self.clocks["total"] = self.seconds()
        self._since = time.perf_counter()

    def state(self) -> dict:
        """What must survive a kill, besides its stages: plain values."""
        self.lap()
        return {name: getattr(self, name) for name in ("clocks", "timed_images", "resumes", "measures")}

    def resume(self, state: dict) -> None:
        """Go on from what `state` gave before a kill."""
        vars(self).update(state)
        self.resumes += 1


def _shapes(model: keras.Model) -> list[tuple]:
    return [tuple(weight.shape) for weight in model.weights]
