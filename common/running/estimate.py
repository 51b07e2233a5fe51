"""Estimates of the time and disk that trials will take, from rows."""

import itertools
import math
import statistics
from collections.abc import Sequence

from common.errors import Failure
from common.rows import schema, store
from common.running.plan import Plan, Planned, Planner

GUESSED_SECONDS_PER_PIXEL = 1.5e-7
"""Training time per pixel of an image, for the estimate without rows: `small_cnn` takes 0.8e-7 s on one core with AVX-512."""
UPDATE_IN_IMAGES = 6
"""An update takes as long as training on its batch and on so many images more: `small_cnn` takes about 6 on one core."""
START_SECONDS = 6
"""Time from the start of a worker to its first trial, mostly the import of TensorFlow."""
GUESSED_COMPILE_SECONDS = 1.5
"""Compile time of a trial, for the estimate without rows."""
LOGIT_BYTES = 4


def estimate(plan: Plan, trials: Sequence[Planned], jobs: int, *, once: bool = False) -> tuple[float, float, str]:
    """Estimated seconds and bytes of disk for trials of a plan, and the source of the estimate as text.

    Args:
        jobs: number of trials at a time.
        once: whether a common learning rate that is an arm's own is trained once for both.
    """
    speeds, basis = _seconds_per_image(plan.planner)
    seconds = 0.0
    for trial in {trial.training: trial for trial in trials}.values() if once else trials:
        known = speeds.get(trial.variant.arm) or speeds.get(None)
        images = _with_updates(trial.images, trial.setting.batch_size)
        guess = GUESSED_COMPILE_SECONDS + images * math.prod(trial.dataset.shape) * GUESSED_SECONDS_PER_PIXEL
        seconds += images * known if known else guess
    size = sum(t.dataset.test_size * t.dataset.classes * LOGIT_BYTES for t in trials)
    return START_SECONDS + seconds / max(min(jobs, len(trials)), 1), size, basis


def _with_updates(images: int, batch_size: int | None) -> float:
    """Number of images trained on in all epochs, increased by the time of the updates; None is a full batch."""
    return images * (1 + UPDATE_IN_IMAGES / batch_size) if batch_size else images


def _seconds_per_image(planner: Planner) -> tuple[dict, str]:
    """Arm -> median seconds per image of `_with_updates` (None -> that of all arms), and their source.

    The source is the rows of this results folder, else the published ones, else those of all experiments in the same setting;
    without any the dict is empty.
    """
    here = planner.files
    folders = here.folder, schema.REFERENCE / here.folder.name
    same = [[here._replace(folder=folder)] for folder in folders]
    others = [store.experiments(folder) for folder in folders]
    bases = "from rows here", "from published rows", *("from rows of other experiments",) * 2
    for files, basis in zip(same + others, bases, strict=True):
        speeds: dict[str | None, list[float]] = {}
        for row in itertools.chain.from_iterable(_done(planner, one) for one in files):
            images = int(row["train_size"]) * int(row["epochs"])  # the setting's, whatever `train` makes of them
            images = _with_updates(images, int(row["batch_size"]))
            for key in (row["arm"], None) if files in same else (None,):
                speeds.setdefault(key, []).append(float(row["total_seconds"]) / images)
        if speeds:
            return {key: statistics.median(values) for key, values in speeds.items()}, basis
    return {}, "a guess, no rows yet"


def _done(planner: Planner, files: schema.Files) -> list[dict]:
    """The rows of finished trials of an experiment, those of searches too; none if they cannot be read."""
    try:
        all_rows = planner.live_rows(files).all() + planner.live_rows(files.trials).all()
    except Failure:
        return []
    return [row for row in all_rows if row["status"] == "done"]
