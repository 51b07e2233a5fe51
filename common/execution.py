"""One trial from its data to its outcome: split, strategy, model, training, scores, provenance."""

import contextlib
import gc
import hashlib
import importlib.util
import pathlib
import platform
import resource
import sys
import time
from datetime import UTC, datetime

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from common import data, metrics, results, scoring
from common.errors import Misuse
from common.loop import Diverged, Fit
from common.streams import Streams, seeded_weights
from common.training import Trial


def load_script(path: str):
    """Import an experiment's script by its path."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.experiment


def run_trial(job: dict, strategy: tf.distribute.Strategy, report) -> results.Outcome:
    """Train and score one trial. Raises what `train` raises, except divergence, which is an outcome."""
    known = set(gradient_registry.list())
    try:
        return _run_trial(job, strategy, report)
    finally:
        for name in set(gradient_registry.list()) - known:
            del gradient_registry._registry[name]  # TensorFlow never does, and each of them keeps a trial's whole graph


def _run_trial(job: dict, strategy: tf.distribute.Strategy, report) -> results.Outcome:
    _reset_peak_memory()
    keras.utils.clear_session(free_memory=True)
    gc.collect()
    setting = job["setting"]
    keras.config.set_dtype_policy(setting["precision"])
    dataset = data.reopen(data.Dataset.from_json(job["dataset"]))
    streams = Streams(job["seed"], tuple(setting["vary"]))
    keras.utils.set_random_seed(streams.key("init", "global"))
    train, val = dataset.split(streams, setting["train_size"])
    trial = Trial(
        streams=streams,
        train=train,
        val=val,
        input_shape=dataset.shape,
        classes=dataset.classes,
        epochs=setting["epochs"],
        batch_size=setting["batch_size"] or len(train),
        official_size=dataset.train_size,
        folder=pathlib.Path(job["folder"]),
        strategy=strategy,
        checkpoint_steps=job["checkpoint_steps"],
        writes=job["writes"],
        report=report,
    )
    predictor, diverged = None, None
    experiment = load_script(job["script"])
    with strategy.scope(), seeded_weights(streams):
        try:
            predictor = experiment.train(trial, **job["arguments"])
        except Diverged as error:
            diverged = str(error)
    if diverged is None and not (isinstance(predictor, keras.Model) or hasattr(predictor, "predict")):
        raise Misuse(f"train must return a model or something with predict(images) -> scores. Received: {predictor!r}")
    report(stage="scoring", done=1.0)
    return _outcome(job, trial, dataset, predictor, diverged)


def start(threads: int, replicas: int, workers: int) -> tf.distribute.Strategy:
    """Set TensorFlow up, once in a process. Returns the strategy of all its trials.

    With several workers it waits until those that `TF_CONFIG` names have come.

    A second strategy would reuse the collectives' keys of the first.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
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


def _outcome(job: dict, trial: Trial, dataset: data.Dataset, predictor, diverged: str | None) -> results.Outcome:
    stages = [stage for stage, model in trial.models.items() if predictor in (model, None)]  # None: it diverged
    fit = trial.fits[stages[-1]] if stages else None
    model = predictor if isinstance(predictor, keras.Model) else trial.models[stages[-1]] if stages else None
    row = {**job["row"], "status": "diverged" if diverged else "done", "reason": diverged or "", "seed": job["seed"]}
    row |= {"train_size": len(trial.train), "val_size": len(trial.val), "test_size": dataset.test_size}
    if model is not None:
        row["parameters"] = model.count_params()
        row["weights"] = _weights_hash(model)
    if trial.fits:
        row["steps"] = sum(f.steps for f in trial.fits.values())
        row["final_epoch"] = sum(f.epoch for f in trial.fits.values())
    started = time.perf_counter()
    test = dataset.test() if job["scores_test"] else None
    scored, logits = _scores(trial, test, predictor, fit, job["keep"])
    trial.clocks["eval"] += time.perf_counter() - started
    trial.lap()
    row |= scored
    seconds = trial.clocks["input"] + trial.clocks["train"]
    row |= {f"{name}_seconds": round(value, 3) for name, value in trial.clocks.items()}
    row["images_per_second"] = round(trial.timed_images / seconds, 1) if trial.timed_images else ""
    row |= {
        "peak_memory_mb": round(_peak_memory() / 1e6),
        "device": _device(),
        "resumes": trial.resumes,
        "versions": _versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    identity = {name: row[name] for name in ("experiment", "arm", "seed")}
    epochs = [{**identity, "stage": stage, **epoch} for stage, f in trial.fits.items() for epoch in f.history]
    measures = [{**identity, "name": name, "value": value, "unit": unit} for name, value, unit in trial.measures]
    return results.Outcome(
        row=row,
        epochs=epochs,
        measures=measures,
        predicted=None if logits is None else logits.argmax(axis=1).astype(np.min_scalar_type(dataset.classes - 1)),
        logits=None if logits is None else logits.astype(np.float32),
        samples=trial.samples if job["seed"] == 0 else None,
    )


def _scores(
    trial: Trial, test: data.Split | None, predictor, fit: Fit | None, keep: str | None
) -> tuple[dict, np.ndarray | None]:
    """All scores of a row, and the test logits. Without a predictor (diverged) those of the best constant prediction.

    A search's trial has no test split, so that nothing can be chosen on it.

    The model is saved to `keep` as it was scored, batch-norm statistics included.
    """
    splits = {"train": trial.train, "val": trial.val} | ({"test": test} if test else {})
    if predictor is None:
        logits = {name: metrics.constant_logits(trial.train.labels, trial.classes, len(split)) for name, split in splits.items()}
    else:
        logits = _predictions(trial, predictor, splits)
    if keep and isinstance(predictor, keras.Model):
        pathlib.Path(keep).parent.mkdir(parents=True, exist_ok=True)
        predictor.save(keep)
    row = {}
    for name, split in splits.items():
        if predictor is None and name == "train":
            continue  # a trial that diverged has no gap between train and test
        row[f"{name}_accuracy"] = metrics.accuracy(logits[name], split.labels)
        row[f"{name}_nll"] = metrics.nll(logits[name], split.labels)
    judged, labels = ("test", test.labels) if test else ("val", trial.val.labels)
    row["untrained"] = bool(row[f"{judged}_accuracy"] <= np.bincount(labels).max() / len(labels))
    if test:
        names = ("test_precision", "test_recall", "test_f1")
        row |= zip(names, metrics.macro_scores(logits["test"].argmax(axis=1), test.labels, trial.classes), strict=True)
        row["test_ece"] = metrics.ece(logits["test"], test.labels)
    if predictor is None:
        best = logits
    elif isinstance(predictor, keras.Model) and fit and fit.best:
        predictor.set_weights(fit.best["weights"])
        best = _predictions(trial, predictor, {name: split for name, split in splits.items() if name != "train"})
        row["best_epoch"] = fit.best["epoch"]
    else:
        return row, logits.get("test")
    row["best_val_accuracy"] = metrics.accuracy(best["val"], trial.val.labels)
    row["best_val_nll"] = metrics.nll(best["val"], trial.val.labels)
    if test:
        row["best_test_accuracy"] = metrics.accuracy(best["test"], test.labels)
    return row, logits.get("test")


def _predictions(trial: Trial, predictor, splits: dict[str, data.Split]) -> dict[str, np.ndarray]:
    """Scores of each split, after the batch-norm statistics of the models at work have been re-estimated."""
    models = [predictor] if isinstance(predictor, keras.Model) else trial.models.values()
    order = trial.streams.generator("order", "scoring").permutation(len(trial.train))
    for model in models:
        scoring.reestimate_batch_norm(model, trial.train, order, trial.batch_size)
    if isinstance(predictor, keras.Model):
        call = scoring.forward(predictor)
    else:

        def call(images):
            return np.asarray(predictor.predict(images))

    return {name: scoring.predict(call, split) for name, split in splits.items()}


def _weights_hash(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


# --- provenance ------------------------------------------------------------------------------------------------------


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):  # not Linux: the peak is then that of the worker's life
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> float:
    """Bytes."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        vectors = "AVX-512" if "avx512f" in next(line for line in lines if line.startswith("flags")) else "AVX2"
        return f"{model}, {vectors}"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions() -> str:
    return f"python {platform.python_version()}, tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}"
