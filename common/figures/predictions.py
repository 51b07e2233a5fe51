"""What the stored predictions and logits of an experiment come to. Nothing here draws."""

import json

import numpy as np

from common import metrics
from common.data.dataset import cache_dir
from common.figures.mistakes import Mistake
from common.rows.table import Table

RELIABILITY_BINS, LEAST = 10, 10
"""Bins, and the test images that one must hold to be shown."""
MOST_CLASSES = 10
"""That a confusion matrix can show."""
SHOWN_MISTAKES = 8


def confusions(table: Table, arms: list[str]) -> dict[str, np.ndarray]:
    """Confusion counts, over all seeds, of the baseline and of the best other arm; none beyond `MOST_CLASSES`."""
    baseline = table.declaration.get("baseline")
    totals = {}
    for arm, seed in table.by_trial:
        counts = table.confusion(arm, seed) if arm in arms else None
        if counts is not None and len(counts) <= MOST_CLASSES:
            totals[arm] = totals.get(arm, 0) + counts
    if baseline not in totals or len(totals) < 2 or len({counts.shape for counts in totals.values()}) > 1:
        return {}
    hits = {arm: counts.trace() / counts.sum() for arm, counts in totals.items()}
    other = max((arm for arm in arms if arm in totals and arm != baseline), key=lambda arm: hits[arm])
    return {baseline: totals[baseline], other: totals[other]}


def shares(table: Table, arm: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Predicted probabilities [seeds, n, classes] and labels [seeds, n] of the trials whose logits are on this machine."""
    found = []
    for seed in sorted(seed for name, seed in table.by_trial if name == arm):
        path, labels = table.files.local("logits", arm, seed, ".npy"), table.labels(arm, seed)
        if labels is None or not path.exists():
            continue
        logits = np.load(path)
        if logits.ndim == 2 and len(logits) == len(labels) and labels.max() < logits.shape[1] and np.isfinite(logits).all():
            found.append((np.exp(metrics.log_softmax(logits)), labels))
    if not found or len({q.shape for q, _ in found}) > 1:
        return None
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def reliability(table: Table, arms: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per arm the mean confidence and the accuracy of each bin, over all seeds and images; none for an arm without logits."""
    bins = {}
    for arm in arms:
        found = shares(table, arm)
        if found is None:
            continue
        confidence, hit = found[0].max(axis=2).ravel(), (found[0].argmax(axis=2) == found[1]).ravel()
        place = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        filled = [b for b in range(RELIABILITY_BINS) if (place == b).sum() >= LEAST]
        bins[arm] = tuple(np.array([values[place == b].mean() for b in filled]) for values in (confidence, hit))
    return bins


def mistakes(table: Table, arms: list[str]) -> dict[str, list[Mistake]]:
    """Of the baseline and the best other arm the test images on which their seeds, taken together, are surest and wrong.

    The probabilities are the means over seeds. None where logits or images are not on this machine.
    """
    scores = table.rows[table.rows["arm"].isin(arms)].groupby("arm")["test_accuracy"].mean()
    baseline = table.declaration.get("baseline")
    ranked = [arm for arm in scores.sort_values(ascending=False, kind="stable").index if arm != baseline]
    chosen = [baseline, *ranked[:1]] if baseline in scores.index else ranked[:2]
    found = {}
    for arm in chosen:
        own = shares(table, arm)
        if own is None or (own[1] != own[1][0]).any():
            continue
        seed = min(seed for name, seed in table.by_trial if name == arm)
        images = test_images(str(table.of(arm, seed)["data_checksum"]), own[1][0])
        if images is None:
            continue
        mean, labels = own[0].mean(axis=0), own[1][0]
        predicted, confidence = mean.argmax(axis=1), mean.max(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
        pictures, names = images
        if len(order):
            found[arm] = [
                Mistake(np.asarray(pictures[i]), names[labels[i]], names[predicted[i]], float(confidence[i])) for i in order
            ]
    return found


def test_images(checksum: str, labels: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
    """The test images that rows were scored on, and the names of the classes; None where this machine has no such cache.

    Nothing is decoded or downloaded: a cache is known by the checksum of its images and labels.
    """
    for path in sorted(cache_dir().glob("*/meta.json")):
        try:
            about = json.loads(path.read_text())
            if about["checksum"] == checksum and np.array_equal(np.load(path.with_name("test_labels.npy")), labels):
                return np.load(path.with_name("test_images.npy"), mmap_mode="r"), about["class_names"]
        except (OSError, ValueError, KeyError):
            continue  # another process is writing it
    return None
