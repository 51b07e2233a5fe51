"""Which trials a run consists of, which of them are done, and what the rest will cost."""

import dataclasses
import json
import pathlib
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common import space, tasks
from common.data.corruptions import kept, subset
from common.data.dataset import Dataset, load, slug
from common.data.streams import Streams
from common.errors import Failure, Misuse
from common.experiment import COMMON, TRIED, Experiment, Setting
from common.rows import schema, store
from common.running.fingerprint import PROTOCOL, code_hash
from common.running.fingerprint import fingerprint as fingerprint_of
from common.text import file_name

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
class Variant:
    """An arm as it is trained: as it stands, or with what a search tries or has found."""

    arm: str
    label: str
    """Its name in the rows."""
    values: dict = field(default_factory=dict)
    """Arguments of `train` beside the arm's own."""
    epochs: int | None = None
    """Where a search trains for fewer."""
    search: str = ""
    tuning: str = ""

    @classmethod
    def tried(cls, arm: str, values: dict, epochs: int | None = None) -> "Variant":
        """A point of a search."""
        shown = space.label(values | ({"epochs": epochs} if epochs else {}))
        return cls(arm, f"{arm}{TRIED}{shown}", values, epochs)


@dataclass(frozen=True)
class Planned:
    """One trial to be: everything its worker needs to know."""

    arm: str
    """Its name in the rows."""
    variant: Variant
    seed: int
    setting: Setting
    dataset: Dataset
    arguments: dict
    fingerprint: str

    @property
    def images(self) -> int:
        """Images trained on over all epochs."""
        return self.setting.epochs * (self.setting.train_size or self.dataset.split_sizes()[0])

    @property
    def fits(self) -> tuple[int, int, int, bool]:
        """What a worker must have been started with."""
        setting = self.setting
        return setting.threads, setting.replicas, setting.workers, setting.deterministic

    @property
    def folder_name(self) -> str:
        """Of its checkpoints."""
        return f"{file_name(self.arm)}-{self.seed}-{self.fingerprint[:12]}"


@dataclass
class Plan:
    """The trials of one call, seed by seed with the arms interleaved, and the files they go to."""

    experiment: Experiment
    setting: Setting
    files: schema.Files
    trials: list[Planned]
    searching: bool
    """Whether these are a search's trials, which see no test image."""
    settings: dict[str, Setting]
    """Of each arm."""
    bases: dict[str, str]
    """Of each arm: a hash of the code, setting and data, on which what a search finds rests."""
    fingerprint: Callable[[dict], str]
    """What a row's fingerprint would be under the code, setting and data of now, its searched values being what they are."""

    def rows(self) -> list[dict]:
        """The final rows that its trials have, each of its own fingerprint."""
        wanted = {trial.fingerprint for trial in self.trials}
        return [row for row in store.read_rows(self.files) if row["status"] in schema.FINAL and row["fingerprint"] in wanted]

    def missing(self) -> list[Planned]:
        """Trials without a final row of their own fingerprint."""
        final = {row["fingerprint"] for row in self.rows()}
        return [trial for trial in self.trials if trial.fingerprint not in final]

    def stale(self) -> list[dict]:
        """Rows of an earlier code, setting or data, or of an arm that is gone, whether or not they are planned now."""
        return [
            row
            for row in store.read_rows(self.files)
            if base_arm(row["arm"]) not in self.experiment.arms or self.fingerprint(row) != row["fingerprint"]
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
            known = per_image.get(trial.variant.arm) or per_image.get(None)
            height, width, channels = trial.dataset.shape
            guess = GUESSED_COMPILE_SECONDS + trial.images * height * width * channels * GUESSED_SECONDS_PER_PIXEL
            seconds += trial.images * known if known else guess
        size = sum(t.dataset.test_size * t.dataset.classes * LOGIT_BYTES for t in trials)
        return START_SECONDS + seconds / max(min(jobs, len(trials)), 1), size, basis

    def _seconds_per_image(self) -> tuple[dict, str]:
        """Median seconds of one trained image per arm (None: over all arms), from the nearest rows there are."""
        names = [self.experiment.name, search_name(self.experiment.name)]
        for folder, basis in (
            (self.files.folder, "from rows here"),
            (schema.REFERENCE / self.files.folder.name, "from published rows"),
        ):
            try:
                rows = [row for name in names for row in store.read_rows(schema.Files(folder, name)) if row["status"] == "done"]
            except Failure:
                continue
            speeds: dict[str | None, list[float]] = {}
            for row in rows:
                images = int(row["train_size"]) * int(row["final_epoch"] or 0)
                if images:
                    for key in (base_arm(row["arm"]), None):
                        speeds.setdefault(key, []).append(float(row["total_seconds"]) / images)
            if speeds:
                return {key: statistics.median(values) for key, values in speeds.items()}, basis
        return {}, "a guess, no rows yet"


def base_arm(label: str) -> str:
    """The arm whose variant a row is."""
    return label.partition(TRIED)[0].removesuffix(COMMON)


def search_name(experiment: str) -> str:
    """What the files of an experiment's search trials are called."""
    return f"{experiment.replace('exp_', 'sweep_', 1)}_trials"


def make_plan(
    experiment: Experiment,
    setting: Setting,
    results_folder: pathlib.Path,
    *,
    trials: Sequence[tuple[Variant, int]],
    overridden: Sequence[str] = (),
    smoke: bool = False,
    searching: bool = False,
) -> Plan:
    """Load the data (preparing its cache if need be), check that every trial can be, and name its fingerprint.

    Args:
        trials: variant and seed of each, in the order in which they shall run.

    Raises:
        Misuse: a batch or subset larger than the data, or what `data.load` raises.
    """
    code = code_hash(experiment.path.read_text(), experiment.train.__name__)
    if experiment.task is not tasks.classification:
        code += experiment.task.name
    datasets: dict[tuple, Dataset] = {}
    of_arm: dict[str, tuple[Setting, Dataset]] = {}
    wanted = {variant.arm for variant, _ in trials}
    for arm in experiment.arms:
        chosen = experiment.arm_setting(arm, setting, overridden)
        key = (chosen.dataset, chosen.image_size, chosen.colour)
        if key not in datasets:
            datasets[key] = load(*key)
        _check_classes(chosen, datasets[key])
        available = datasets[key].split_sizes()[0]
        if chosen.classes:
            available = len(kept(datasets[key].split(Streams(0))[0], chosen.classes))
        if isinstance(chosen.train_size, float):
            chosen = chosen.replace(train_size=max(round(chosen.train_size * available), 1))
        if smoke:
            chosen = chosen.replace(epochs=setting.epochs)
        if smoke and chosen.train_size is not None:
            images = min(chosen.train_size, available)
            chosen = chosen.replace(train_size=images, batch_size=chosen.batch_size and min(chosen.batch_size, images))
        if arm in wanted:
            _check_sizes(chosen, available)
            if chosen.imbalance != 1:  # raises where a class has too few
                train, _ = datasets[key].split(Streams(0))
                subset(kept(train, chosen.classes), chosen.train_size, chosen.imbalance, Streams(0))
        of_arm[arm] = (chosen, datasets[key])

    def planned(variant, seed):
        chosen, dataset = of_arm[variant.arm]
        chosen = chosen.replace(epochs=variant.epochs or chosen.epochs)
        arguments = experiment.arguments(variant.arm) | variant.values
        fingerprint = fingerprint_of(variant.label, arguments, seed, chosen, dataset, code)
        return Planned(variant.label, variant, seed, chosen, dataset, arguments, fingerprint)

    variants = {variant.label: variant for variant, _ in trials}
    if not experiment.search:
        variants |= {arm: Variant(arm, arm) for arm in experiment.arms}

    def fingerprint(row):
        variant, arm = variants.get(row["arm"]), base_arm(row["arm"])
        if variant is None or searching:  # with the values that a search gave it
            tried = json.loads(row["arguments"])
            values = {name: tried[name] for name in experiment.search.get(arm, ()) if name in tried}
            variant = Variant(arm, row["arm"], values, int(row["epochs"]) if searching else None)
        return planned(variant, int(row["seed"])).fingerprint

    name = experiment.folder_name(setting, overridden, slug(setting.dataset), SMOKE if smoke else {})
    files = schema.Files(results_folder / name, search_name(experiment.name) if searching else experiment.name)
    settings = {arm: chosen for arm, (chosen, _) in of_arm.items()}
    bases = {arm: fingerprint_of(arm, experiment.arguments(arm), None, *of_arm[arm], code) for arm in of_arm}
    return Plan(experiment, setting, files, [planned(*trial) for trial in trials], searching, settings, bases, fingerprint)


def _check_classes(setting: Setting, dataset: Dataset) -> None:
    unknown = [c for c in setting.classes or () if not 0 <= c < dataset.classes]
    if unknown:
        raise Misuse(f"classes must lie between 0 and {dataset.classes - 1} of {setting.dataset}. Received: {unknown[0]}")


def _check_sizes(setting: Setting, available: int) -> None:
    if setting.train_size is not None and setting.train_size > available:
        raise Misuse(
            f"train_size must be at most {available}, what {setting.dataset} has beside validation: TRAIN={available}. "
            f"Received: {setting.train_size}"
        )
    most = setting.train_size or available
    if setting.batch_size is not None and setting.batch_size > most:
        raise Misuse(f"batch_size must be at most the {most} training images: BATCH={most}. Received: {setting.batch_size}")


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def known_columns(planned: Planned, experiment: str, origin: dict) -> dict:
    """The columns of a trial's row that are known before it runs."""
    setting = planned.setting
    trained_on = setting.train_size or planned.dataset.split_sizes()[0]
    return {
        "experiment": experiment,
        "arm": planned.arm,
        "rate": schema.OWN,
        "point": "",
        "seed": planned.seed,
        "fingerprint": planned.fingerprint,
        "protocol": PROTOCOL,
        "arguments": json.dumps(planned.arguments),
        "search": planned.variant.search,
        "tuning": planned.variant.tuning,
        "setting": json.dumps({**dataclasses.asdict(setting), "dataset": planned.dataset.name}),
        "dataset": planned.dataset.name,
        "data_checksum": planned.dataset.checksum,
        "train_size": trained_on,
        "val_size": planned.dataset.split_sizes()[1],
        "test_size": planned.dataset.test_size,
        "epochs": setting.epochs,
        "batch_size": setting.batch_size or trained_on,
        "precision": setting.precision,
        "replicas": setting.replicas,
        "workers": setting.workers,
        "threads": setting.threads,
        "deterministic": setting.deterministic,
        **origin,
    }
