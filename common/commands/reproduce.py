"""`make reproduce ROW=5fdad8ed`: trains the trial of a row again and compares the results."""

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
from common.running.fingerprint import provenance
from common.running.local import Devices, LocalEngine
from common.running.plan import Plan, Planner, Variant
from common.running.progress import Display
from common.running.runner import Runner, RunOptions
from common.running.scripts import read_script
from common.running.workers import Workers
from common.setting import Selected, Setting

NOISE = 2.0
"""Largest difference that counts as noise, in standard deviations of the arm's scores over seeds."""
CONTEXT = ("versions", "device", "kind")
"""Columns on which the last bits of a result may depend."""


def find(prefix: str, folders: list[pathlib.Path]) -> tuple[schema.Files, dict]:
    """The row whose fingerprint starts with the given digits, and its files.

    Raises:
        Misuse: there is no such trial, or more than one.
        Failure: there is none, and a file could not be read.
    """
    matches, broken = {}, []
    for folder in folders:
        for path in sorted(folder.rglob("*_*.json")):
            files = schema.Files(path.parent, path.stem)
            try:
                rows = store.read_rows(files)
            except Failure as error:
                broken.append(error)
                continue
            for row in rows:
                if row["fingerprint"].startswith(prefix):
                    matches.setdefault(row["fingerprint"], (files, row))
    if broken and not matches:
        raise broken[0]
    if len(matches) != 1:
        among = " or ".join(map(str, folders))
        count = f"{len(matches)} rows in {among} begin with it" if matches else f"no row in {among} begins with it"
        raise Misuse(f"ROW must be the first digits of one row's fingerprint: {count}. Received: {prefix!r}")
    return next(iter(matches.values()))


def plan_again(row: dict, folder: pathlib.Path, dataset: str | None = None) -> Plan:
    """The plan of a row's trial.

    Args:
        folder: for its files.
        dataset: name or path of the dataset, by default the name in the row, which for an image folder is not its path.

    Raises:
        Failure: the trial cannot be planned with this version of the project.
    """
    path = next((path for path in experiment_scripts() if path.stem == row["experiment"]), None)
    if path is None:
        raise Failure(f"the row's experiment must be in experiments/. Received: {row['experiment']}")
    experiment = read_script(path)
    try:
        setting = Setting(**json.loads(row["setting"]))
    except (TypeError, ValueError) as error:
        raise Failure(f"the row's setting must be one of this version ({error}). Received: {row['setting']}") from error
    if dataset is not None and slug(dataset) == setting.dataset:
        setting = setting.replace(dataset=dataset)
    arm, arguments = row["arm"], json.loads(row["arguments"])
    if arm not in experiment.arms:
        raise Failure(f"DIFFERS: {row['experiment']} no longer has an arm {arm!r}")
    values = {name: value for name, value in arguments.items() if name not in experiment.arguments(arm)}
    searched = {"search": row["search"], "tuning": row["tuning"]}
    variant = Variant(arm, row["rate"], values, int(row["epochs"]), row["point"], **searched)
    experiment.arms = {arm: experiment.arguments(arm)}  # without the arm's fields, which the row's setting has
    planner = Planner(experiment, Selected("full", setting), folder, full_size=int(row.get("full_size") or 0) or None)
    return planner.plan([(variant, int(row["seed"]))])


def check_same(row: dict, plan: Plan) -> None:
    """Raises `Failure` if the planned trial differs from that of the row in data, code or protocol."""
    (trial,) = plan.trials
    if trial.dataset.checksum != row["data_checksum"]:
        checksum = trial.dataset.checksum[:12]
        raise Failure(f"DIFFERS: {trial.dataset.name} has other images or labels on this machine (SHA-256 {checksum})")
    if trial.fingerprint != row["fingerprint"]:
        raise Failure(f"DIFFERS: the experiment's code or the protocol is not that of the row (commit {row['commit'][:12]})")


def run_again(row: dict, folder: pathlib.Path, dataset: str | None = None) -> dict:
    """Train a row's trial again. Returns the new row.

    Args:
        folder, dataset: see `plan_again`.

    Raises:
        Failure: it would not be the same trial, cannot run on this machine, or failed.
    """
    plan = plan_again(row, folder, dataset)
    check_same(row, plan)
    (trial,) = plan.trials
    with LocalEngine(Devices.here(1)) as engine, Workers(engine, 1) as workers, Display() as display:
        if reason := engine.unavailable(trial.setting):
            raise Failure(f"the trial cannot run on this machine: it {reason}")
        display.add_to_total(1)
        with Runner(RunOptions(), workers, display) as runner:
            runner.run(plan, plan.trials)
    (again,) = store.read_rows(plan.files)
    if again["status"] in ("failed", "unavailable"):
        done = "failed" if again["status"] == "failed" else "cannot run here"
        raise Failure(f"the trial {done}: {again['reason']}")
    return again


def compare(row: dict, again: dict, scores: list[float], column: str = ACCURACY.column) -> str:
    """The result of a comparison: `IDENTICAL`, `WITHIN NOISE (z = …)` or `DIFFERS (columns)`.

    Args:
        scores: of the arm's seeds in the column; column: that of the primary metric on test.
    """
    outcomes = [known.name for known in schema.COLUMNS if known.kind == "outcome"]  # settings are in the fingerprint
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
    """Run the command. Returns the exit status: 1 if the results differ."""
    given = parse(["row", "results"], description=__doc__)
    if not given.row:
        raise Misuse("ROW must be the first digits of a row's fingerprint: make reproduce ROW=5fdad8ed. Received: ''")
    files, row = find(given.row, [pathlib.Path(given.results)])
    print(f"{row['experiment']}, {entry_of(row)} seed {row['seed']}, from {files.rows}")
    declaration = store.read_declaration(files)
    origin = provenance(PROJECT / "experiments" / f"{row['experiment']}.py")
    if origin["commit"] != row["commit"] or origin["dirty"]:
        now = origin["commit"][:12] + (" with changes" if origin["dirty"] else "")
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
