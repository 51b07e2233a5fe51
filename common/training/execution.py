"""Runs one trial in a worker: from its data to its scores and the columns of its row."""

import contextlib
import gc
import hashlib
import importlib.util
import os
import pathlib
import platform
import resource
import sys
from datetime import UTC, datetime

import keras
import numpy as np
import tensorflow as tf

from common import tasks
from common.data.dataset import Dataset
from common.data.streams import Streams
from common.errors import Failure
from common.machine import LIBRARIES
from common.rows import store
from common.rows.schema import KEY
from common.training import draws, graphs, model_checks, seeding
from common.training.job import Job
from common.training.loop import Diverged
from common.training.scoring import calibration_of_images, score
from common.training.trial import Examples, Host, Trial

CONFIGURATION = {name: getattr(keras.config, name)() for name in ("image_data_format", "floatx", "epsilon")}
"""Keras' global configuration when the worker starts, which each trial starts with."""


def load_script(path: str | pathlib.Path):
    """Import an experiment's script by its path. Returns its `experiment`."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.experiment


def run_trial(job: Job, strategy: tf.distribute.Strategy, report) -> store.Outcome:
    """Train and score one trial.

    Args:
        strategy: see `start`.
        report: f(**progress), called during training.

    Raises:
        Exception: whatever `train` raises, except `Diverged`, which gives an outcome.
    """
    with graphs.clean_gradient_registry():
        return _run_trial(job, strategy, report)


def _run_trial(job: Job, strategy: tf.distribute.Strategy, report) -> store.Outcome:
    _reset_peak_memory()
    keras.utils.clear_session(free_memory=True)
    gc.collect()
    setting = job.setting
    for name, value in CONFIGURATION.items():
        getattr(keras.config, f"set_{name}")(value)
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy(setting.precision)
    dataset = job.dataset
    streams = Streams(job.seed + setting.seed_offset, setting.vary)
    keras.utils.set_random_seed(streams.key("init", "global"))
    job.check_code()
    experiment = load_script(job.script)
    job.check_code()  # again, in case the code changed while it was imported
    task = experiment.task
    fields = {name: getattr(setting, name) for name in ("classes", "train_size", "imbalance", "label_noise")}
    train, val, others = tasks.examples(dataset, task, streams, **fields)
    classes = len(setting.classes or dataset.class_names)
    trial = Trial(
        Examples(train, val, classes, dataset.train_size, others, job.full_size),
        Host(job.folder, strategy, job.checkpoint_steps, job.writes, report),
        streams=streams,
        epochs=setting.epochs,
        batch_size=setting.batch_size or len(train),
        task=task,
        val_per_epoch=setting.val_per_epoch,
        xla=setting.xla,
    )
    predictor, diverged = None, None
    with strategy.scope(), seeding.seeded_weights(streams), draws.seeded_draws(streams), model_checks.forbid_custom_loops():
        try:
            predictor = experiment.train(trial, **job.arguments)
        except Diverged as error:
            diverged = str(error)
    if diverged is None:
        model_checks.check_predictor(trial, predictor)
    report(stage="scoring", done=1.0)
    return _outcome(job, trial, dataset, predictor, diverged, {claim.metric for claim in experiment.claims})


def start(threads: int, replicas: int, workers: int, deterministic: bool) -> tf.distribute.Strategy:
    """Configure TensorFlow, once per process. Returns the distribution strategy for all trials of the process.

    There is one strategy per process, since a second one would reuse the collective keys of the first.

    Args:
        threads: threads within an operation.
        workers: processes in the cluster of `TF_CONFIG`; with several, the call waits for the others.

    Raises:
        Failure: TensorFlow does not see the GPUs of `CUDA_VISIBLE_DEVICES`, and would train on the CPU.
    """
    # Each trial compiles new functions, so a worker's later trials would log warnings about retracing.
    tf.get_logger().addFilter(lambda record: "tf.function retracing" not in record.getMessage())
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "-1")
    if visible not in ("", "-1") and not gpus:
        raise Failure(f"TensorFlow sees no GPU: make setup GPU=1, or hide them (CUDA_VISIBLE_DEVICES=-1). Received: {visible}")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    kind = "gpu" if gpus else "cpu"
    if workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas == 1:
        return tf.distribute.OneDeviceStrategy(f"/{kind}:0")
    if not gpus:
        devices = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    return tf.distribute.MirroredStrategy([f"/{kind}:{i}" for i in range(replicas)])


def _outcome(
    job: Job, trial: Trial, dataset: Dataset, predictor, diverged: str | None, claimed: set[str | None]
) -> store.Outcome:
    """Score a trial. Returns its outcome.

    Args:
        predictor: None for a trial that diverged, for the given reason; claimed: the metrics of the experiment's claims.
    """
    last = next(reversed(trial.models), None) if predictor is None else _last_stage(trial, predictor)
    model = predictor if isinstance(predictor, keras.Model) else trial.models.get(last)
    row = {**job.row, "status": "diverged" if diverged else "done", "reason": diverged or "", "seed": job.seed}
    row |= _trained_columns(trial, model)
    with trial.clock("eval"):
        test = tasks.test(dataset, job.setting.classes, trial.task) if job.scores_test else None
        fit, shifts = trial.fits.get(last), job.setting.shifted
        scores, outputs = score(trial, predictor, fit, test=test, keep=job.keep, shifts=shifts)
    if test:
        row["test_size"] = len(test)
        if claimed & {"test_nll", "test_ece"} and trial.task is tasks.classification:
            trial.of_images |= calibration_of_images(outputs["test"], test.labels)
    row |= scores | _measured_columns(trial)
    identity = {name: row[name] for name in KEY}
    epochs = [{**identity, "stage": stage, **epoch} for stage, state in trial.fits.items() for epoch in state.history]
    measures = [{**identity, "name": name, "value": value, "unit": unit} for name, value, unit in trial.measures]
    return store.Outcome(
        row=row,
        epochs=epochs,
        measures=measures,
        predicted=trial.task.predicted(outputs["test"]) if test else None,
        logits=outputs["test"].astype(np.float32) if test else None,
        of_images=trial.of_images,
        samples=trial.samples if job.seed == 0 else None,
    )


def _trained_columns(trial: Trial, model: keras.Model | None) -> dict:
    """Columns about the trained model and the amount of training. To be called before scoring, which changes the model."""
    columns = {"train_size": len(trial.train), "val_size": len(trial.val)}
    if model is not None:
        columns |= {"parameters": model.count_params(), "weights": _weights_hash(model)}
    if trial.fits:
        columns["steps"] = sum(fit.steps for fit in trial.fits.values())
        columns["final_epoch"] = sum(fit.epoch for fit in trial.fits.values())
        columns["stage"] = _last_stage(trial, model) or list(trial.fits)[-1]  # for a predictor that is not a Keras model
    return columns


def _last_stage(trial: Trial, predictor) -> str | None:
    """The last stage that trained a predictor; None if none did, or a later one trained weights of it in another model."""
    mine = {id(variable) for variable in getattr(predictor, "variables", ())}
    shared = [stage for stage, trained in trial.trained.items() if mine & trained]
    stages = [stage for stage, one in trial.models.items() if one is predictor]
    return stages[-1] if stages and shared[-1:] in ([], stages[-1:]) else None


def _measured_columns(trial: Trial) -> dict:
    """Columns that may differ when a trial is run again: seconds, memory, versions and date."""
    trial.lap()
    seconds = trial.clocks["input"] + trial.clocks["train"]
    return {f"{name}_seconds": round(value, 3) for name, value in trial.clocks.items()} | {
        "images_per_second": round(trial.timed_images / seconds, 1) if trial.timed_images else "",
        "peak_memory_mb": round(_peak_memory() / 1e6),
        "resumes": trial.resumes,
        "versions": _versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _weights_hash(model: keras.Model) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


# --- provenance ------------------------------------------------------------------------------------------------------


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):  # on other systems than Linux the peak is that since the worker's start
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _peak_memory() -> float:
    """Peak resident memory of the process since the last reset, in bytes."""
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _versions() -> str:
    """Versions of Python and the packages, and `LD_LIBRARY_PATH` if it is set, as text."""
    libraries = os.environ.get(LIBRARIES)
    return (
        f"python {platform.python_version()}, tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}"
        f"{f', {LIBRARIES} {libraries}' if libraries else ''}"
    )
