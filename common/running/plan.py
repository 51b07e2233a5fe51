"""The trials of a run: their fingerprints, and which of them have rows."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from common import tasks
from common.data.dataset import Dataset, slug
from common.errors import Misuse
from common.experiment import Experiment
from common.rows import schema
from common.rows.live import LiveRows
from common.running.code_hash import code_hash
from common.running.fingerprint import PROTOCOL, code_in_use, fingerprint, provenance
from common.running.resolve import Resolved, check, resolve
from common.setting import FIELDS, Selected, Setting
from common.text import file_name


@dataclass(frozen=True)
class Variant:
    """An arm with the values of its searched arguments, if any."""

    arm: str
    rate: str = schema.OWN
    """Column of the rows: `own` for the arm's learning rate, `common` for the one that is best over all arms."""
    values: dict = field(default_factory=dict)
    """Arguments of `train` and, in a sweep, fields of `Setting`, in addition to the arm's."""
    epochs: int | None = None
    """Number of epochs, in a search that trains for fewer than the setting."""
    point: str = ""
    """Column of the rows: the values of a search trial, as JSON."""
    search: str = ""
    """Column of the rows: hash of the searched space."""
    tuning: str = ""
    """Column of the rows: how the values were chosen."""
    one_seed: bool = False
    """Whether other seeds have other values, each from a search of its own."""

    @classmethod
    def search_point(cls, arm: str, values: dict, epochs: int | None = None, *, fixed: dict | None = None) -> "Variant":
        """A point of a search.

        Args:
            values: of the searched arguments; fixed: of further arguments, which the search does not vary.
            epochs: number of epochs, if fewer than in the setting.
        """
        point = json.dumps(values | ({"epochs": epochs} if epochs else {}))
        return cls(arm, values={**(fixed or {}), **values}, epochs=epochs, point=point)

    @property
    def key(self) -> tuple[str, str, str]:
        """The columns that identify the variant in rows: arm, rate and point."""
        return self.arm, self.rate, self.point

    @property
    def entry(self) -> str:
        """Display name."""
        return schema.entry_name(self.arm, self.rate, self.point)


@dataclass(frozen=True)
class Planned:
    """A planned trial."""

    variant: Variant
    seed: int | None
    setting: Setting
    dataset: Dataset
    arguments: dict
    fingerprint: str
    kind: str
    """Kind of processor or GPU on which it would be trained; see `machine.kind`."""
    unavailable: str
    """Reason why it cannot run on these data; empty if it can."""
    full_size: int
    """Number of the setting's training images, of which the arm may take a part."""

    @property
    def entry(self) -> str:
        """Display name of its arm."""
        return self.variant.entry

    @property
    def images(self) -> int:
        """Number of images trained on, over all epochs."""
        return self.setting.epochs * (self.setting.train_size or self.dataset.split_sizes()[0])

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """The columns that identify its row, as in `schema.identity`."""
        return *self.variant.key, self.seed

    @property
    def training(self) -> tuple:
        """What it trains: equal for an arm at its own learning rate and at a common one that is the same."""
        return self.variant.arm, self.variant.point, self.seed, self.setting, json.dumps(self.arguments)

    def is_repeated_by(self, other: "Planned") -> bool:
        """Whether another trial would train the same: its arm at a common learning rate that is the arm's own, or the reverse."""
        return self.training == other.training and self.variant.rate != other.variant.rate

    @property
    def state_hash(self) -> str:
        """Hash of fingerprint and kind of processor, since checkpoints are not resumed on another kind."""
        return hashlib.sha256(f"{self.fingerprint} {self.kind}".encode()).hexdigest()[:12]

    @property
    def folder_name(self) -> str:
        """Name of the folder of its checkpoints."""
        return f"{file_name(self.entry)}-{self.seed}-{self.state_hash}"


def files_of(experiment: Experiment, selected: Selected, results: pathlib.Path) -> schema.Files:
    """Paths of an experiment's rows under a setting."""
    datasets = "+".join(map(slug, experiment.datasets(selected)))
    return schema.Files(results / selected.folder_name(datasets), experiment.name)


class Planner:
    """Makes the plans of one experiment under one setting. Raises `Misuse` like `resolve`.

    Args:
        results: the results folder.
        machine: columns `device` and `kind` of the rows, by default those of this machine.
        one_kind: whether all arms of a seed are trained on one kind of processor.
        full_size: that of a row which is planned again.

    Attributes:
        experiment, selected, one_kind, full_size: the arguments.
        setting: the selected setting, with sizes limited to the data.
        files: paths of the experiment's rows.
        resolved: arm -> its setting and data, see `Resolved`.
        origin: columns of the rows, see `provenance`.
        code_files: path -> hash of each file that a trial may import, at the start of the run.
        bases: arm -> hash of code, setting and data, on which the result of a search depends.
    """

    def __init__(
        self,
        experiment: Experiment,
        selected: Selected,
        results: pathlib.Path,
        *,
        machine: dict[str, str] | None = None,
        one_kind: bool = True,
        full_size: int | None = None,
    ):
        self.experiment, self.selected, self.one_kind, self.full_size = experiment, selected, one_kind, full_size
        self.origin, self.code_files = provenance(experiment.path, machine), code_in_use(experiment.path)
        self.code = code_hash(experiment.path.read_text(encoding="utf-8"), experiment.train.__name__)
        if experiment.task is not tasks.classification:
            self.code += experiment.task.name
        self.setting, self.resolved = resolve(experiment, selected)
        self.files = files_of(experiment, selected, results)
        self.live: dict[schema.Files, LiveRows] = {}
        self.settings: dict[tuple, Setting] = {}
        self.bases = {arm: self.planned(Variant(arm), None).fingerprint for arm in self.resolved}

    @property
    def kind(self) -> str:
        """Kind of processor or GPU that trains; see `machine.kind`."""
        return self.origin["kind"]

    @property
    def basis(self) -> str:
        """Hash of code, settings and data of all arms."""
        return hashlib.sha256(json.dumps(self.bases, sort_keys=True).encode()).hexdigest()[:12]

    def live_rows(self, files: schema.Files) -> LiveRows:
        """The rows in some files, of which later calls only read what is new."""
        return self.live.setdefault(files, LiveRows(files))

    def declaration(self) -> dict:
        """The experiment's declaration with the setting and the names of classes, which is written beside the rows."""
        names = {}
        for arm in self.resolved.values():
            all_names, classes = arm.dataset.class_names, arm.setting.classes
            key = schema.labels_key(arm.dataset.checksum, classes)
            names[key] = [all_names[c] for c in classes] if classes else list(all_names)
        about = {"setting": dataclasses.asdict(self.setting), "class_names": names, "protocol": PROTOCOL}
        datasets = {name: arm.setting.dataset for name, arm in self.resolved.items()}
        several = {"datasets": datasets} if len(set(datasets.values())) > 1 else {}
        return {**self.experiment.declare(self.selected), **about, **several}

    def plan(
        self,
        trials: Sequence[tuple[Variant, int]],
        *,
        searching: bool = False,
        shared: dict | None = None,
        without_common: bool = False,
    ) -> "Plan":
        """The plan of the given trials.

        Args:
            trials: variant and seed of each, in the order in which they run.
            searching, shared, without_common: see `Plan`.

        Raises:
            Misuse: see `check`; or names of arms that give the same file name.
        """
        for arm in dict.fromkeys(variant.arm for variant, _ in trials):
            check(self.resolved[arm])
        variants = {variant.key: variant for variant, _ in trials}
        names: dict[str, str] = {}
        for entry in (variant.entry for variant in variants.values()):
            other = names.setdefault(file_name(entry), entry)
            if other is not entry:
                raise Misuse(
                    f"{self.experiment.name}: arm names must differ in more than punctuation. Received: {other!r} and {entry!r}"
                )
        planned = [self.planned(variant, seed) for variant, seed in trials]
        files = self.files.trials if searching else self.files
        fixed = {key: variant for key, variant in variants.items() if not (searching or variant.one_seed)}
        return Plan(self, files, planned, fixed, searching, shared or {}, without_common)

    def planned(self, variant: Variant, seed: int | None) -> Planned:
        """A trial with the present code, setting and data; without a seed its fingerprint is that of all seeds together."""
        arm = self.resolved[variant.arm]
        fields = {name: value for name, value in variant.values.items() if name in FIELDS}
        fields |= {"epochs": variant.epochs} if variant.epochs else {}
        setting = self.settings.get((variant.arm, *fields.items()))
        if setting is None:
            setting = self.settings[variant.arm, *fields.items()] = arm.setting.replace(**fields)
        arguments = self.experiment.arguments(variant.arm)
        arguments |= {name: value for name, value in variant.values.items() if name not in FIELDS}
        full_size = self.full_size or self._full_size(arm, setting)
        of = full_size if full_size != (setting.train_size or arm.available) else None
        hashed = fingerprint(variant.arm, variant.rate, arguments, seed, setting, arm.dataset, self.code, of)
        return Planned(variant, seed, setting, arm.dataset, arguments, hashed, self.kind, arm.unavailable, full_size)

    def _full_size(self, arm: Resolved, setting: Setting) -> int:
        """Number of the setting's training images, of which an arm that sets their number takes a part."""
        size = self.setting.train_size if "train_size" in arm.arm_fields else setting.train_size
        return size or arm.available


@dataclass
class Plan:
    """Trials of one experiment, in the order in which they run, and the files of their rows."""

    planner: Planner
    files: schema.Files
    trials: list[Planned]
    variants: dict[tuple, Variant]
    """Key -> variant, of those with the same values for all seeds; empty for a search."""
    searching: bool
    """Whether these are trials of a search, which are not scored on test."""
    shared: dict = field(default_factory=dict)
    """Values of the shared search: rows with other values are stale."""
    without_common: bool = False
    """Whether no common learning rate was chosen though all arms were searched: rows of an earlier one are stale."""

    @property
    def experiment(self) -> Experiment:
        return self.planner.experiment

    @property
    def live(self) -> LiveRows:
        """All rows in the plan's files."""
        return self.planner.live_rows(self.files)

    def rows(self) -> list[dict]:
        """The final rows of the trials, with the present fingerprints."""
        wanted = {trial.fingerprint for trial in self.trials}
        return [row for row in self.live.all() if row["status"] in schema.FINAL and row["fingerprint"] in wanted]

    def missing(self) -> list[Planned]:
        """Trials to train: those without a final row, or whose row is of another kind of processor, see `of_another_kind`."""
        final = {row["fingerprint"] for row in self.rows()} - {row["fingerprint"] for row in self.of_another_kind()}
        return [trial for trial in self.trials if trial.fingerprint not in final]

    def of_another_kind(self) -> list[dict]:
        """Final rows from another kind of processor, of seeds that are unfinished or mix kinds.

        Differences between arms are paired by seed, so all arms of such a seed are trained again, also those that are not in the
        plan. Failed and unavailable trials do not count as unfinished.
        """
        all_rows = self.live.all()
        rows = self.rows() if self.searching else [row for row in all_rows if row["status"] in schema.FINAL]
        others = [row for row in rows if row["kind"] != self.planner.kind] if self.planner.one_kind else []
        if not others:
            return []
        known = {row["fingerprint"] for row in all_rows}
        kinds: dict[int, set[str]] = {trial.seed: set() for trial in self.trials}
        for trial in self.trials:
            if trial.fingerprint not in known:
                kinds[trial.seed].add(trial.kind)
        for row in rows:
            kinds.get(int(row["seed"]), set()).add(row["kind"])
        return [row for row in others if len(kinds.get(int(row["seed"]), ())) > 1]

    def stale(self) -> list[dict]:
        """Rows of earlier code, settings, data or searches, or of arms that no longer exist; also of trials not in the plan."""
        planned = {} if self.searching else {trial.identity: trial.fingerprint for trial in self.trials}

        def is_stale(row: dict) -> bool:
            if row["arm"] not in self.experiment.all_arms or (self.without_common and row["rate"] == schema.COMMON):
                return True
            return row["fingerprint"] != (planned.get(schema.identity(row)) or self._current(row))

        return [row for row in self.live.all() if is_stale(row)]

    def _current(self, row: dict) -> str:
        """The fingerprint of a row's trial with the present code, setting and data.

        Searched arguments have the values of the plan or of the shared search, else those of the row; if these were searched in
        another space than the present one, the fingerprint is empty.
        """
        variant = self.variants.get((row["arm"], row["rate"], row["point"]))
        if variant is None:
            arm, known = row["arm"], json.loads(row["setting"]) | json.loads(row["arguments"])
            values = {name: known[name] for name in self.experiment.searched_by(arm) if name in known}
            searched = self.experiment.search.get(arm, {}) if row["rate"] == schema.COMMON else values
            names = [name for name in searched if name != "learning_rate" or self.planner.selected.rate is None]
            if row["search"] not in ("", self.experiment.search_hash(arm, names)):
                return ""
            values |= {name: self.shared[name] for name in self.experiment.shared_by(arm) if name in self.shared}
            variant = Variant(arm, row["rate"], values, int(row["epochs"]) if self.searching else None, row["point"])
        return self.planner.planned(variant, int(row["seed"])).fingerprint

    def clear_stale_state(self) -> None:
        """Delete checkpoints of the planned trials from another fingerprint or kind of processor."""
        folders = self.state_folders()
        current = {trial.folder_name.removesuffix(trial.state_hash): trial.folder_name for trial in self.trials if folders}
        for name in folders:
            start, hyphen, hashed = name.rpartition("-")
            if hashed.isalnum() and current.get(start + hyphen, name) != name:
                shutil.rmtree(self.files.state / name, ignore_errors=True)

    def state_folders(self) -> set[str]:
        """Names of the folders of checkpoints and outcomes, also of other plans, and of the locks beside them."""
        try:
            return set(os.listdir(self.files.state))
        except FileNotFoundError:
            return set()


def known_columns(planned: Planned, experiment: str, origin: dict) -> dict:
    """The columns of a trial's row that are known before training.

    Args:
        experiment: its name; origin: columns of `provenance`.
    """
    setting = planned.setting
    train_size = setting.train_size or planned.dataset.split_sizes()[0]
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
        "train_size": train_size,
        "full_size": planned.full_size,
        "val_size": planned.dataset.split_sizes()[1],
        "test_size": planned.dataset.test_size,
        "epochs": setting.epochs,
        "batch_size": setting.batch_size or train_size,
        "precision": setting.precision,
        "replicas": setting.replicas,
        "workers": setting.workers,
        "threads": setting.threads,
        "deterministic": setting.deterministic,
        **origin,
    }
