"""Which trials a run consists of, which of them are done, and what the rest will cost."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import data, results
from common.declaration import code_hash
from common.errors import Failure, Misuse
from common.experiment import Experiment, Setting

PROJECT = pathlib.Path(__file__).resolve().parent.parent
GUESSED_SECONDS_PER_PIXEL = 5e-7
"""Of one trained image, for the estimate of a first run: a CNN of 100,000 parameters on one core of 2023."""
START_SECONDS = 6
"""From the start of a worker to its first trial: the import of TensorFlow."""
GUESSED_COMPILE_SECONDS = 1.5
"""Of one trial, for the estimate of a first run."""
LOGIT_BYTES = 4
SMOKE = {"epochs": 1, "train_size": 256}
"""What SMOKE=1 overrides."""


@dataclass(frozen=True)
class Planned:
    """One trial to be: everything its worker needs to know."""

    arm: str
    seed: int
    setting: Setting
    dataset: data.Dataset
    arguments: dict
    fingerprint: str

    @property
    def images(self) -> int:
        """Images trained on over all epochs."""
        return self.setting.epochs * (self.setting.train_size or self.dataset.split_sizes()[0])

    @property
    def folder_name(self) -> str:
        """Of its checkpoints."""
        return f"{results.file_name(self.arm)}-{self.seed}-{self.fingerprint[:12]}"


@dataclass
class Plan:
    """The trials of one call, seed by seed with the arms interleaved, and the files they go to."""

    experiment: Experiment
    setting: Setting
    files: results.Files
    trials: list[Planned]
    fingerprint: Callable[[str, int], str]
    """Of any arm and seed under the code, setting and data of now."""

    def missing(self) -> list[Planned]:
        """Trials without a final row of their own fingerprint."""
        final = {
            (row["arm"], int(row["seed"])): row["fingerprint"]
            for row in results.read_rows(self.files)
            if row["status"] in results.FINAL
        }
        return [t for t in self.trials if final.get((t.arm, t.seed)) != t.fingerprint]

    def stale(self) -> list[dict]:
        """Rows of an earlier code, setting or data, or of an arm that is gone, whether or not they are planned now."""
        return [
            row
            for row in results.read_rows(self.files)
            if row["arm"] not in self.experiment.arms or row["fingerprint"] != self.fingerprint(row["arm"], int(row["seed"]))
        ]

    def clear_stale_state(self) -> None:
        """Delete checkpoints of planned trials whose fingerprint is another now."""
        for trial in self.trials:
            prefix = trial.folder_name.removesuffix(trial.fingerprint[:12])
            for folder in self.files.state.glob(f"{_escaped(prefix)}*"):
                if folder.name.removeprefix(prefix).isalnum() and folder.name != trial.folder_name:
                    shutil.rmtree(folder, ignore_errors=True)

    def estimate(self, trials: Sequence[Planned], jobs: int) -> tuple[float, float, str]:
        """Seconds and bytes that the trials will take, and what the seconds rest on."""
        per_image, basis = self._seconds_per_image()
        seconds = 0.0
        for trial in trials:
            known = per_image.get(trial.arm) or per_image.get(None)
            height, width, channels = trial.dataset.shape
            guess = GUESSED_COMPILE_SECONDS + trial.images * height * width * channels * GUESSED_SECONDS_PER_PIXEL
            seconds += trial.images * known if known else guess
        size = sum(t.dataset.test_size * t.dataset.classes * LOGIT_BYTES for t in trials)
        return START_SECONDS + seconds / max(min(jobs, len(trials)), 1), size, basis

    def _seconds_per_image(self) -> tuple[dict, str]:
        """Median seconds of one trained image per arm (None: over all arms), from the nearest rows there are."""
        reference = results.Files(results.REFERENCE / self.files.folder.name, self.files.experiment)
        for files, basis in ((self.files, "from rows here"), (reference, "from published rows")):
            try:
                rows = [row for row in results.read_rows(files) if row["status"] == "done"]
            except Failure:
                continue
            speeds: dict[str | None, list[float]] = {}
            for row in rows:
                images = int(row["train_size"]) * int(row["final_epoch"] or 0)
                if images:
                    for key in (row["arm"], None):
                        speeds.setdefault(key, []).append(float(row["total_seconds"]) / images)
            if speeds:
                return {key: statistics.median(values) for key, values in speeds.items()}, basis
        return {}, "a guess, no rows yet"


def make_plan(
    experiment: Experiment,
    setting: Setting,
    results_folder: pathlib.Path,
    *,
    arms: Sequence[str],
    seeds: Sequence[int],
    overridden: Sequence[str] = (),
    smoke: bool = False,
) -> Plan:
    """Load the data (preparing its cache if need be), check that every trial can be, and name its fingerprint.

    Raises:
        Misuse: a batch or subset larger than the data, or what `data.load` raises.
    """
    code = code_hash(experiment.path.read_text(), experiment.train.__name__)
    datasets: dict[tuple, data.Dataset] = {}
    of_arm: dict[str, tuple[Setting, data.Dataset]] = {}
    for arm in experiment.arms:
        chosen = experiment.arm_setting(arm, setting, overridden)
        key = (chosen.dataset, chosen.image_size, chosen.colour)
        if key not in datasets:
            datasets[key] = data.load(*key)
        available = datasets[key].split_sizes()[0]
        if smoke and chosen.train_size is not None:
            chosen = chosen.replace(train_size=min(chosen.train_size, available))
        if arm in arms:
            _check_sizes(chosen, available)
        of_arm[arm] = (chosen, datasets[key])

    def fingerprint(arm, seed):
        return _fingerprint(experiment, arm, seed, *of_arm[arm], code)

    trials = [
        Planned(arm, seed, *of_arm[arm], arguments=experiment.arguments(arm), fingerprint=fingerprint(arm, seed))
        for seed in seeds
        for arm in arms
    ]
    name = experiment.folder_name(setting, overridden, data.slug(setting.dataset), SMOKE if smoke else {})
    return Plan(experiment, setting, results.Files(results_folder / name, experiment.name), trials, fingerprint)


def _check_sizes(setting: Setting, available: int) -> None:
    if setting.train_size is not None and setting.train_size > available:
        raise Misuse(
            f"train_size must be at most {available}, what {setting.dataset} has beside validation: TRAIN={available}. "
            f"Received: {setting.train_size}"
        )
    most = setting.train_size or available
    if setting.batch_size > most:
        raise Misuse(f"batch_size must be at most the {most} training images: BATCH={most}. Received: {setting.batch_size}")


def _fingerprint(experiment: Experiment, arm: str, seed: int, setting: Setting, dataset: data.Dataset, code: str) -> str:
    """What decides a trial's outcome, hashed. A dataset counts by its content, not by its path.

    A field of the setting counts where it differs from its default, so that a field of tomorrow leaves today's rows valid.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Setting)}
    fields = {name: value for name, value in vars(setting).items() if value != defaults[name]}
    decides = {
        "arm": arm,
        "arguments": experiment.arguments(arm),
        "seed": seed,
        "setting": {**fields, "dataset": dataset.name},
        "data": dataset.checksum,
        "code": code,
        "protocol": results.PROTOCOL,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def provenance() -> dict:
    """Git commit and whether tracked files differ from it; blank outside a checkout."""

    def git(*arguments):
        try:
            done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or "", "dirty": "" if changed is None else bool(changed)}


def known_columns(planned: Planned, experiment: str, origin: dict) -> dict:
    """The columns of a trial's row that are known before it runs."""
    setting = planned.setting
    return {
        "experiment": experiment,
        "arm": planned.arm,
        "seed": planned.seed,
        "fingerprint": planned.fingerprint,
        "protocol": results.PROTOCOL,
        "arguments": json.dumps(planned.arguments),
        "setting": json.dumps({**dataclasses.asdict(setting), "dataset": planned.dataset.name}),
        "dataset": planned.dataset.name,
        "data_checksum": planned.dataset.checksum,
        "train_size": setting.train_size or planned.dataset.split_sizes()[0],
        "val_size": planned.dataset.split_sizes()[1],
        "test_size": planned.dataset.test_size,
        "epochs": setting.epochs,
        "batch_size": setting.batch_size,
        "precision": setting.precision,
        "replicas": setting.replicas,
        "threads": setting.threads,
        "deterministic": True,
        **origin,
    }
