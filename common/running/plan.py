"""Which trials a run consists of, which of them are done, and what the rest will cost."""

import dataclasses
import glob
import hashlib
import json
import pathlib
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from common import tasks
from common.data.dataset import Dataset, slug
from common.errors import Failure, Misuse
from common.experiment import Experiment
from common.rows import schema, store
from common.running.code_hash import code_hash
from common.running.fingerprint import PROTOCOL, code_in_use, fingerprint, provenance
from common.running.resolve import check, resolve
from common.setting import Selected, Setting
from common.text import file_name

GUESSED_SECONDS_PER_PIXEL = 5e-7
"""Of one trained image, for the estimate of a first run: a CNN of 100,000 parameters on one core of 2023."""
START_SECONDS = 6
"""From the start of a worker to its first trial: the import of TensorFlow."""
GUESSED_COMPILE_SECONDS = 1.5
"""Of one trial, for the estimate of a first run."""
LOGIT_BYTES = 4


@dataclass(frozen=True)
class Variant:
    """An arm as it is trained: as it stands, or with values that a search tries or has chosen."""

    arm: str
    rate: str = schema.OWN
    """Column of the rows: `own`, or `common` for the learning rate that suits all arms best."""
    values: dict = field(default_factory=dict)
    """Arguments of `train` beside the arm's."""
    epochs: int | None = None
    """Where a search trains for fewer."""
    point: str = ""
    """Column of the rows: what a search tries, as JSON."""
    search: str = ""
    tuning: str = ""

    @classmethod
    def tried(cls, arm: str, values: dict, epochs: int | None = None, *, given: dict | None = None) -> "Variant":
        """A point of a search; `given` are values that it does not vary."""
        point = json.dumps(values | ({"epochs": epochs} if epochs else {}))
        return cls(arm, values={**(given or {}), **values}, epochs=epochs, point=point)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its rows apart from those of other variants."""
        return self.arm, self.rate, self.point

    @property
    def entry(self) -> str:
        """Its display name."""
        return schema.entry_name(self.arm, self.rate, self.point)


@dataclass(frozen=True)
class Planned:
    """One trial to be: everything its worker needs to know."""

    variant: Variant
    seed: int | None
    setting: Setting
    dataset: Dataset
    arguments: dict
    fingerprint: str
    kind: str
    """Of processor or GPU it would be trained on; see `machine.kind`."""
    lack: str
    """Why it cannot run on these data; blank where it can."""

    @property
    def entry(self) -> str:
        """Display name of its arm."""
        return self.variant.entry

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
    def state_hash(self) -> str:
        """What its checkpoints depend on: a trial begun on one kind of processor does not go on on another."""
        return hashlib.sha256(f"{self.fingerprint} {self.kind}".encode()).hexdigest()[:12]

    @property
    def folder_name(self) -> str:
        """Of its checkpoints."""
        return f"{file_name(self.entry)}-{self.seed}-{self.state_hash}"


class Planner:
    """One experiment under one setting: its arms are resolved once, for all plans of a call. Raises `Misuse`: see `resolve`.

    Attributes:
        experiment, selected: as given.
        setting: the selected one as far as the data allow.
        files: of the experiment's rows.
        resolved: what each arm is trained under.
        origin: columns of the rows that say where they come from.
        code_files: a hash of each file that a trial may import, as it is when the call begins.
        bases: of each arm a hash of the code, setting and data, on which what a search finds rests.
    """

    def __init__(self, experiment: Experiment, selected: Selected, results: pathlib.Path):
        self.experiment, self.selected = experiment, selected
        self.origin, self.code_files = provenance(experiment.path), code_in_use(experiment.path)
        self.code = code_hash(experiment.path.read_text(encoding="utf-8"), experiment.train.__name__)
        if experiment.task is not tasks.classification:
            self.code += experiment.task.name
        self.setting, self.resolved = resolve(experiment, selected)
        folder = selected.folder_name(experiment.arms.values(), slug(selected.setting.dataset))
        self.files = schema.Files(results / folder, experiment.name)
        self.bases = {arm: self.planned(Variant(arm), None).fingerprint for arm in self.resolved}

    @property
    def kind(self) -> str:
        """Of processor or GPU that trials run on here; see `machine.kind`."""
        return self.origin["kind"]

    def declaration(self) -> dict:
        """What stands beside the rows, for whoever reads them alone."""
        names = {}
        for arm in self.resolved.values():
            own, kept = arm.dataset.class_names, arm.setting.classes
            names[schema.labels_key(arm.dataset.checksum, kept)] = [own[c] for c in kept] if kept else list(own)
        about = {"setting": dataclasses.asdict(self.setting), "class_names": names, "protocol": PROTOCOL}
        return {**self.experiment.declare(self.selected), **about}

    def plan(self, trials: Sequence[tuple[Variant, int]], *, searching: bool = False, shared: dict | None = None) -> "Plan":
        """The plan of some trials, variant and seed of each, in the order in which they shall run. For the rest see `Plan`.

        Raises:
            Misuse: see `check`; or arms whose names would share a file.
        """
        for arm in dict.fromkeys(variant.arm for variant, _ in trials):
            check(self.resolved[arm])
        variants = {variant.key: variant for variant, _ in trials}
        names: dict[str, str] = {}
        for entry in (variant.entry for variant in variants.values()):
            other = names.setdefault(file_name(entry), entry)
            if other is not entry:
                raise Misuse(f"{self.experiment.name}: arms must differ in more than punctuation: {other!r}. Received: {entry!r}")
        planned = [self.planned(variant, seed) for variant, seed in trials]
        files = self.files.trials if searching else self.files
        return Plan(self, files, planned, {} if searching else variants, searching, shared or {})

    def planned(self, variant: Variant, seed: int | None) -> Planned:
        """One trial as it would be under the code, setting and data of now; without a seed, what its seeds share."""
        arm = self.resolved[variant.arm]
        setting = arm.setting.replace(epochs=variant.epochs or arm.setting.epochs)
        arguments = self.experiment.arguments(variant.arm) | variant.values
        hashed = fingerprint(variant.arm, variant.rate, arguments, seed, setting, arm.dataset, self.code)
        return Planned(variant, seed, setting, arm.dataset, arguments, hashed, self.kind, arm.lack)


@dataclass
class Plan:
    """Some trials of one experiment, seed by seed with the arms interleaved, and the files they go to."""

    planner: Planner
    files: schema.Files
    trials: list[Planned]
    variants: dict[tuple, Variant]
    """Those of a result, by key."""
    searching: bool
    """Whether these are a search's trials, which see no test image."""
    shared: dict = field(default_factory=dict)
    """Values that all arms share, as a search has found them: rows at others are of no use any more."""

    @property
    def experiment(self) -> Experiment:
        return self.planner.experiment

    def rows(self) -> list[dict]:
        """The final rows that its trials have, each of its own fingerprint."""
        wanted = {trial.fingerprint for trial in self.trials}
        return [row for row in store.read_rows(self.files) if row["status"] in schema.FINAL and row["fingerprint"] in wanted]

    def missing(self) -> list[Planned]:
        """Trials without a final row of their own fingerprint that stays."""
        final = {row["fingerprint"] for row in self.rows()} - {row["fingerprint"] for row in self.of_another_kind()}
        return [trial for trial in self.trials if trial.fingerprint not in final]

    def of_another_kind(self) -> list[dict]:
        """Final rows of seeds that are unfinished, or mixed, and of another kind of processor than this one.

        Such a seed is trained whole again, arms included that are not planned now: differences between arms are paired by seed.
        A trial that has failed, or could not run, leaves its seed as it is until it is done.
        """
        tried, planned = store.read_rows(self.files), self.rows()
        rows = planned if self.searching else [row for row in tried if row["status"] in schema.FINAL]
        known = {row["fingerprint"] for row in tried}
        kinds: dict[int, set[str]] = {trial.seed: set() for trial in self.trials}
        for trial in self.trials:
            if trial.fingerprint not in known:
                kinds[trial.seed].add(trial.kind)
        for row in rows:
            kinds.get(int(row["seed"]), set()).add(row["kind"])
        return [row for row in rows if row["kind"] != self.planner.kind and len(kinds.get(int(row["seed"]), ())) > 1]

    def stale(self) -> list[dict]:
        """Rows of an earlier code, setting or data, or of an arm that is gone, whether or not they are planned now."""
        return [
            row
            for row in store.read_rows(self.files)
            if row["arm"] not in self.experiment.arms or self._current(row) != row["fingerprint"]
        ]

    def _current(self, row: dict) -> str:
        """A row's fingerprint as it would be now; what a search gave its arm counts as planned or shared, else as it is."""
        variant = self.variants.get((row["arm"], row["rate"], row["point"]))
        if variant is None:
            arm, arguments = row["arm"], json.loads(row["arguments"])
            values = {name: arguments[name] for name in self.experiment.searched_by(arm) if name in arguments}
            values |= {name: self.shared[name] for name in self.experiment.shared_by(arm) if name in self.shared}
            variant = Variant(arm, row["rate"], values, int(row["epochs"]) if self.searching else None, row["point"])
        return self.planner.planned(variant, int(row["seed"])).fingerprint

    def clear_stale_state(self) -> None:
        """Delete checkpoints of planned trials whose fingerprint or kind of processor is another now."""
        for trial in self.trials:
            prefix = trial.folder_name.removesuffix(trial.state_hash)
            for folder in self.files.state.glob(f"{glob.escape(prefix)}*"):
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
        here = self.planner.files
        published = here._replace(folder=schema.REFERENCE / here.folder.name)
        for files, basis in ((here, "from rows here"), (published, "from published rows")):
            try:
                rows = [row for one in (files, files.trials) for row in store.read_rows(one) if row["status"] == "done"]
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


def known_columns(planned: Planned, experiment: str, origin: dict) -> dict:
    """The columns of a trial's row that are known before it runs."""
    setting = planned.setting
    trained_on = setting.train_size or planned.dataset.split_sizes()[0]
    return {
        "experiment": experiment,
        "arm": planned.variant.arm,
        "rate": planned.variant.rate,
        "point": planned.variant.point,
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
