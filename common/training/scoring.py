"""Scores the predictor that `train` returned, on train, val and test."""

import pathlib

import keras
import numpy as np

from common import metrics, tasks
from common.data.corruptions import LEVELS, SHIFTS, shifted
from common.data.split import Split
from common.errors import Misuse
from common.rows.schema import SHIFTED
from common.training import prediction, probes, saving
from common.training.stage import StageState
from common.training.trial import Trial


def score(
    trial: Trial, predictor, fit: StageState | None, *, test: Split | None, keep: pathlib.Path | None = None, shifts: bool = False
) -> tuple[dict, dict]:
    """Score a predictor with clean train and test labels.

    Args:
        predictor: None for a trial that diverged, which is scored with the best constant prediction. A predictor with outputs
            that are not finite counts as diverged, too.
        fit: state of the stage that trained the predictor, whose best validation epoch is scored as well.
        test: None in trials of a search, so that nothing is chosen on the test split.
        keep: path to save the model to, with the batch-norm statistics that it is scored with.
        shifts: whether to record scores on shifted test images as measures.

    Returns:
        Columns of the row, with `status` and `reason` if the outputs are not finite, and the outputs of each split.
    """
    task = trial.task
    splits = {"train": trial.train, "val": trial.val} | ({"test": test} if test else {})
    labels = {name: split.clean_labels if name == "train" else split.labels for name, split in splits.items()}
    constant = {name: task.constant(trial.train.labels, trial.classes, len(split)) for name, split in splits.items()}
    call, final = None, None
    if predictor is not None:
        call = _call(trial, predictor)
        final = predictor.get_weights() if isinstance(predictor, keras.Model) else None
    outputs, status = constant if predictor is None else _outputs(trial, predictor, call, splits), {}
    if predictor is not None:
        not_finite = [name for name, values in outputs.items() if not np.isfinite(values).all()]
        if not_finite:
            status = {"status": "diverged", "reason": f"the outputs on {not_finite[0]} are not finite"}
            predictor, outputs = None, constant
        elif task.logits:
            _refuse_probabilities(trial, predictor, call, outputs["train"])
    if keep and isinstance(predictor, keras.Model):
        _keep(trial, predictor, keep)
    # A trial that diverged has no generalisation gap, hence no train scores.
    scored = [name for name in splits if predictor is not None or name != "train"]
    row = {f"{name}_{score}": value for name in scored for score, value in task.scores(outputs[name], labels[name]).items()}
    constant_scores = {name: task.scores(constant[name], labels[name])[task.metric] for name in ("train", "val")}
    row["trained"] = predictor is not None and task.trained(row[f"train_{task.metric}"], constant_scores["train"])
    row["val_constant"] = constant_scores["val"]
    if test and task is tasks.classification:
        row |= _class_scores(outputs["test"], test.labels, trial.classes)
    if predictor is not None:
        _measure_memorised(trial, outputs["train"])
    if predictor is not None and test:
        _measure_estimate(trial, row[f"test_{task.metric}"])
        if shifts:
            _measure_shifted(trial, test, call)
    if test:
        if predictor is None:
            row |= _best_columns(trial, splits, constant)
        elif final is not None and fit and fit.contenders and _alike(fit.contenders[0]["weights"], final):
            row |= _best_scores(trial, predictor, call, fit, splits, outputs, final)
    return row | status, outputs


def _keep(trial: Trial, model: keras.Model, path: pathlib.Path) -> None:
    """Save a model, or report in one line that Keras cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with saving.plain_names_in_files():
            model.save(path)
    except (NotImplementedError, TypeError, ValueError) as error:
        path.unlink(missing_ok=True)
        why = str(error).strip().partition("\n")[0]
        trial.host.report(warning=f"the model cannot be kept, as Keras cannot save it: {why}")


def _refuse_probabilities(trial: Trial, predictor, call, outputs: np.ndarray) -> None:
    """Raise `Misuse` for outputs that are probabilities.

    A model trained to emit one-hot vectors, and that gives all images nearly the same outputs, emits logits with sum 1. So of a
    Keras model the head decides, and outputs of other predictors must depend on the images.
    """
    summed = probes.are_probabilities(outputs)
    if not summed and not probes.in_unit_interval(outputs):
        return
    if isinstance(predictor, keras.Model):
        probes.check_head(predictor, probes.examples(trial.train)[0], call)
    elif not np.allclose(outputs, outputs[0], atol=probes.SUM_TOLERANCE):
        remedy = "the logarithm of probabilities" if summed else "log p/(1-p) of separate probabilities p"
        what = f"probabilities, which {'sum to 1' if summed else 'are all between 0 and 1'}"
        raise Misuse(f"predictions must be logits: return {remedy}. Received: {what}")


def _class_scores(logits: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    precision, recall, f1 = metrics.macro_scores(logits.argmax(axis=1), labels, classes)
    return {"test_precision": precision, "test_recall": recall, "test_f1": f1, "test_ece": metrics.ece(logits, labels)}


def _best_scores(trial: Trial, model: keras.Model, call, fit: StageState, splits: dict, outputs: dict, final: list) -> dict:
    """Scores with the weights of the best validation epoch, which is chosen on all of val. Changes the model's weights.

    Args:
        outputs: those with the `final` weights.
    """
    of_epoch: dict[int, dict] = {}

    def with_weights(contender: dict, name: str) -> np.ndarray:
        known = of_epoch.setdefault(contender["epoch"], dict(outputs) if _equal(contender["weights"], final) else {})
        if name not in known:
            model.set_weights(contender["weights"])
            known |= _outputs(trial, model, call, {name: splits[name]})
        return known[name]

    def rank(contender: dict) -> tuple[float, float]:
        values = with_weights(contender, "val")
        if not np.isfinite(values).all():
            return -np.inf, -np.inf
        scores = trial.task.scores(values, splits["val"].labels)
        return trial.task.better(scores[trial.task.metric]), -scores.get("nll", 0.0)

    contenders = sorted(fit.contenders, key=lambda contender: contender["epoch"])  # of equals `max` takes the first
    best = max(contenders, key=rank) if len(contenders) > 1 else contenders[0]
    chosen = {name: with_weights(best, name) for name in ("val", "test")}
    if not all(np.isfinite(values).all() for values in chosen.values()):
        chosen = {name: trial.task.constant(trial.train.labels, trial.classes, len(splits[name])) for name in chosen}
    return {"best_epoch": best["epoch"]} | _best_columns(trial, splits, chosen)


def _best_columns(trial: Trial, splits: dict[str, Split], outputs: dict) -> dict:
    """The columns of the best epoch's scores on val and test."""
    task, row = trial.task, {}
    for name in ("val", "test"):
        scores = task.scores(outputs[name], splits[name].labels)
        row[f"best_{name}_{task.metric}"] = scores[task.metric]
        if name == "val" and task is tasks.classification:
            row["best_val_nll"] = scores["nll"]
    return row


def _alike(weights: list[np.ndarray], others: list[np.ndarray]) -> bool:
    """Whether weights have the same shapes: not if the model was quantised, say, after the training."""
    return [one.shape for one in weights] == [one.shape for one in others]


def _equal(weights: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other, equal_nan=True) for one, other in zip(weights, others, strict=True))


# --- measures --------------------------------------------------------------------------------------------------------


def _measure_memorised(trial: Trial, outputs: np.ndarray) -> None:
    """Record the fraction of wrong training labels that are predicted, if there are wrong labels."""
    wrong = trial.train.labels != trial.train.clean_labels
    if wrong.any() and trial.task is tasks.classification:
        trial.measure("memorised", float((outputs.argmax(axis=1) == trial.train.labels)[wrong].mean()), "of wrong labels")


def _measure_estimate(trial: Trial, truth: float) -> None:
    """Record the error of each measure `estimated_<metric>` that `train` has recorded without knowing the test score.

    `estimate_bias` is the estimate minus the test score, `estimate_error` its absolute value.
    """
    for estimate in [value for name, value, _ in trial.measures if name == f"estimated_{trial.task.metric}"]:
        trial.measure("estimate_bias", estimate - truth)
        trial.measure("estimate_error", abs(estimate - truth))


def _measure_shifted(trial: Trial, test: Split, call) -> None:
    """Record `<shift>_accuracy <level>`, the mean over levels `<shift>_accuracy`, and the mean over shifts `shifted_accuracy`.

    Rotation is left out where labels depend on the orientation. In classification the means are also kept for each image.
    """
    metric, means, of_images = trial.task.metric, [], []
    for shift in (name for name in SHIFTS if not (name == "rotation" and trial.task.orientation)):
        scores, right = [], []
        for level in LEVELS:
            outputs = prediction.predict(call, shifted(test, shift, level))
            scores.append(trial.task.scores(outputs, test.labels)[metric])
            trial.measure(f"{shift}_{metric} {level}", scores[-1])
            right.append(outputs.argmax(axis=1) == test.labels if trial.task is tasks.classification else 0)
        means.append(float(np.mean(scores)))
        of_images.append(np.mean(right, axis=0))
        trial.measure(f"{shift}_{metric}", means[-1])
    trial.measure(f"shifted_{metric}", float(np.mean(means)))
    if trial.task is tasks.classification:
        of_images.append(np.mean(of_images, axis=0))
        trial.of_images |= {name: values.astype(np.float32) for name, values in zip(SHIFTED, of_images, strict=True)}


def calibration_of_images(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """NLL in nats and top probability of each test image, float16 [n] each, from which `test_nll` and `test_ece` follow."""
    log_q = metrics.log_softmax(logits)
    nll, confidence = -log_q[np.arange(len(labels)), labels], np.exp(log_q.max(axis=1))
    return {"test_nll": nll.astype(np.float16), "confidence": confidence.astype(np.float16)}


# --- outputs ---------------------------------------------------------------------------------------------------------


def _outputs(trial: Trial, predictor, call, splits: dict[str, Split]) -> dict[str, np.ndarray]:
    """Outputs for each split, after the batch-norm statistics of the predictor's models are re-estimated.

    Args:
        call: the predictor as a function, see `_call`.

    Raises:
        Misuse: the outputs have another number of columns than there are classes.
    """
    for model in _models_in(trial, predictor):
        if prediction.takes_images(model, trial.input_shape) and trial.reestimates_statistics(model):
            trial.set_scoring_statistics(model)
    outputs = {}
    for name, split in splits.items():
        known = prediction.known_outputs(trial.validated, predictor, split)
        outputs[name] = prediction.predict(call, split) if known is None else known
        columns = outputs[name].shape[1]
        if columns != trial.classes:
            raise Misuse(
                f"a predictor must return scores of shape (images, {trial.classes}), a column for each of trial.classes. "
                f"Received: {columns} columns"
            )
    return outputs


def _models_in(trial: Trial, predictor) -> list[keras.Model]:
    """A predictor that is a Keras model; of another one the models that the trial trained, and those in its attributes."""
    if isinstance(predictor, keras.Model):
        return [predictor]
    held = [
        one
        for value in getattr(predictor, "__dict__", {}).values()
        for one in (value if isinstance(value, list | tuple) else [value])
    ]
    models = [*trial.models.values(), *(one for one in held if isinstance(one, keras.Model))]
    return list({id(model): model for model in models}.values())


def _call(trial: Trial, predictor):
    """The predictor as a function: images uint8 [n, h, w, c] -> outputs [n, …]."""
    if isinstance(predictor, keras.Model):
        return prediction.forward(predictor, trial.input_shape)
    return lambda images: np.asarray(predictor.predict(images))
