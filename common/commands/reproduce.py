"""Receipts: `make reproduce ROW=5fdad8ed`, which trains the trial of a row again and compares."""

import json
import pathlib
import statistics
import tempfile

from common.commands.parsing import end, parse
from common.data.dataset import slug
from common.errors import Failure, Misuse
from common.files import PROJECT, experiment_scripts
from common.rows import schema, store
from common.rows.metric import ACCURACY, Primary
from common.rows.schema import entry_of
from common.running.devices import Devices
from common.running.fingerprint import provenance
from common.running.plan import Plan, Planner, Variant
from common.running.progress import Display
from common.running.runner import Runner, RunOptions
from common.running.scripts import declared
from common.setting import Selected, Setting

NOISE = 2.0
"""A test accuracy so many standard deviations of its arm's seeds away is no longer noise."""
CONTEXT = ("versions", "device", "kind")
"""What may change the last bits of a result."""


def find(prefix: str, folders: list[pathlib.Path]) -> tuple[schema.Files, dict]:
    """The row whose fingerprint begins so.

    Raises:
        Misuse: there is none, or more than one trial. Failure: there is none, and a file that cannot be read.
    """
    found, broken = {}, []
    for folder in folders:
        for path in sorted(folder.rglob("*_*.json")):
            files = schema.Files(path.parent, path.stem)
            try:
                own = store.read_rows(files)
            except Failure as error:
                broken.append(error)
                continue
            for row in own:
                if row["fingerprint"].startswith(prefix):
                    found.setdefault(row["fingerprint"], (files, row))
    if broken and not found:
        raise broken[0]
    if len(found) != 1:
        among = " or ".join(map(str, folders))
        how = f"{len(found)} rows in {among} begin with it" if found else f"no row in {among} does"
        raise Misuse(f"ROW must be the first digits of one row's fingerprint: {how}. Received: {prefix!r}")
    return next(iter(found.values()))


def plan_again(row: dict, folder: pathlib.Path, dataset: str | None = None) -> Plan:
    """The plan of a row's trial, its files in a folder. Raises `Failure` if it cannot be the same trial.

    `dataset` is what the experiment was run with, by default the row's: of own images the row has the name, not the place.
    """
    path = next((path for path in experiment_scripts() if path.stem == row["experiment"]), None)
    if path is None:
        raise Failure(f"the experiment is not here any more. Received: {row['experiment']}")
    experiment = declared(path)
    try:
        setting = Setting(**json.loads(row["setting"]))
    except (TypeError, ValueError) as error:
        raise Failure(f"the row's setting is not one of this version ({error}). Received: {row['setting']}") from error
    if dataset is not None and slug(dataset) == setting.dataset:
        setting = setting.replace(dataset=dataset)
    arm, arguments = row["arm"], json.loads(row["arguments"])
    if arm not in experiment.arms:
        raise Failure(f"DIFFERS: {row['experiment']} has no arm {arm!r} any more")
    values = {name: value for name, value in arguments.items() if name not in experiment.arguments(arm)}
    searched = {"search": row["search"], "tuning": row["tuning"]}
    variant = Variant(arm, row["rate"], values, int(row["epochs"]), row["point"], **searched)
    experiment.arms = {arm: experiment.arguments(arm)}  # the row's setting has the arm's fields, with all shares worked out
    return Planner(experiment, Selected("full", setting), folder).plan([(variant, int(row["seed"]))])


def check_same(row: dict, plan: Plan) -> None:
    """Raises `Failure` if the trial planned again is not that of the row."""
    (trial,) = plan.trials
    if trial.dataset.checksum != row["data_checksum"]:
        raise Failure(f"DIFFERS: {trial.dataset.name} holds other images or labels here (SHA-256 {trial.dataset.checksum[:12]})")
    if trial.fingerprint != row["fingerprint"]:
        raise Failure(f"DIFFERS: the experiment's code, or the protocol, is not that of the row (commit {row['commit'][:12]})")


def run_again(row: dict, folder: pathlib.Path, dataset: str | None = None) -> dict:
    """Train a row's trial anew, see `plan_again`. Returns the new row. Raises `Failure` if it cannot be the same trial."""
    plan = plan_again(row, folder, dataset)
    check_same(row, plan)
    (trial,) = plan.trials
    devices = Devices.here(1)
    reason = devices.unavailable(trial.setting.replicas, trial.setting.workers)
    if reason:
        raise Failure(f"cannot run here: {reason}")
    with Display() as display, Runner(RunOptions(devices, jobs=1), display) as runner:
        display.add_to_total(1)
        runner.run(plan, plan.trials)
    (again,) = store.read_rows(plan.files)
    if again["status"] == "failed":
        raise Failure(f"it failed: {again['reason']}")
    return again


def compare(row: dict, again: dict, scores: list[float], column: str = ACCURACY.column) -> str:
    """IDENTICAL, WITHIN NOISE (z = …) or DIFFERS (where). `scores` are those of the arm's seeds in the primary column."""
    outcomes = [known.name for known in schema.COLUMNS if known.kind == "outcome"]  # the settings have one fingerprint
    different = [name for name in outcomes if row[name] != again[name]]
    if not different:
        return "IDENTICAL"
    where = ", ".join(different)
    if row["status"] == again["status"] == "done" and len(scores) > 1 and statistics.stdev(scores) > 0:
        z = (float(again[column]) - float(row[column])) / statistics.stdev(scores)
        if abs(z) <= NOISE:
            return f"WITHIN NOISE (z = {z:+.2f}; {where} differ)"
    return f"DIFFERS ({where})"


def main() -> int:
    """Reproduce the row that the options name. Returns the exit status: 1 if it differs."""
    given = parse(["row", "results"], description=__doc__)
    if not given.row:
        raise Misuse("ROW must be the first digits of a row's fingerprint: make reproduce ROW=5fdad8ed. Received: ''")
    files, row = find(given.row, [pathlib.Path(given.results)])
    print(f"{row['experiment']}, {entry_of(row)} seed {row['seed']}, from {files.rows}")
    declaration = store.read_declaration(files)
    origin = provenance(PROJECT / "experiments" / f"{row['experiment']}.py")
    if origin["commit"] != row["commit"] or origin["dirty"]:
        now = origin["commit"][:12] + (" and changes" if origin["dirty"] else "")
        print(f"commit: {row['commit'][:12] or 'none'} then, {now or 'none'} now")
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        again = run_again(row, pathlib.Path(folder), declaration["setting"]["dataset"])
    for name in CONTEXT:
        if row[name] != again[name]:
            print(f"{name}: {row[name]} then, {again[name]} now")
    same = [r for r in store.read_rows(files) if entry_of(r) == entry_of(row) and r["status"] == "done"]
    column = Primary.of(declaration).column
    result = compare(row, again, [float(r[column]) for r in same if r[column]], column)
    print(result)
    return Failure.status if result.startswith("DIFFERS") else 0


if __name__ == "__main__":
    end(main)
