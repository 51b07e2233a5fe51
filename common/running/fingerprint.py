"""What decides a trial's outcome, hashed; which commit of the code it ran under; and whether the code is still that."""

import dataclasses
import hashlib
import json
import pathlib
import subprocess

from common import machine
from common.data.dataset import Dataset
from common.files import PROJECT, file_hash
from common.rows.schema import OWN
from common.setting import Setting

PROTOCOL = 3
"""Raised by hand whenever a change in `common/` may change a result; part of every fingerprint. `tests/golden` says when."""
NOT_OF_TRIALS = ("commands", "figures", "report", "search", "verdicts")
"""Rooms of `common/` that no worker imports."""

DECIDING = ("common", "experiments", "requirements.lock", "requirements-gpu.lock")
"""What of the project decides a row."""


def fingerprint(arm: str, rate: str, arguments: dict, seed: int | None, setting: Setting, dataset: Dataset, code: str) -> str:
    """What decides a trial's outcome, hashed. A dataset counts by its content, not by its path.

    A field of the setting counts where it differs from its default, so that a field of tomorrow leaves today's rows valid.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Setting)}
    fields = {name: value for name, value in vars(setting).items() if value != defaults[name]}
    decides = {
        "arm": arm,
        **({"rate": rate} if rate != OWN else {}),
        "arguments": arguments,
        "seed": seed,
        "setting": {**fields, "dataset": dataset.name},
        "data": dataset.checksum,
        "code": code,
        "protocol": PROTOCOL,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def provenance(script: pathlib.Path) -> dict:
    """The columns that say where a row comes from: git commit, whether the code differs from it, and the device.

    The code is the script and what of the project decides a row; a file of it that no commit holds is a difference too. Commit
    and `dirty` are blank outside a checkout.
    """

    def git(*arguments):
        try:
            done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    inside = script.resolve().is_relative_to(PROJECT)
    code = [*DECIDING, *([str(script.resolve())] if inside else [])]
    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=all", "--", *code)
    return {
        "commit": commit or "",
        "dirty": "" if changed is None else bool(changed) or not inside,
        "device": machine.device(),
        "kind": machine.kind(),
    }


def code_in_use(script: pathlib.Path) -> dict[str, str]:
    """A hash of each file that a trial of a script may import of this project, by path."""
    rooms = [path for path in (PROJECT / "common").glob("*/*.py") if path.parent.name not in NOT_OF_TRIALS]
    paths = sorted([script.resolve(), *(PROJECT / "common").glob("*.py"), *rooms])
    return {str(path): file_hash(path) for path in paths}
