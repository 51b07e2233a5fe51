"""What decides a trial's outcome, hashed; which commit of the code it ran under; and whether the code is still that."""

import dataclasses
import hashlib
import json
import os
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
CODE_SUFFIXES = (".py", ".lock")
"""Of files that count as code also where git ignores them."""


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

    The code is the script and what of the project decides a row; a file of it that no commit holds is a difference too, also one
    that git is told to ignore. Commit and `dirty` are blank outside a checkout of the project itself: an archive that lies in
    another repository has none.
    """
    top = _git("rev-parse", "--show-toplevel")
    inside = script.resolve().is_relative_to(PROJECT)
    code = [*DECIDING, *([str(script.resolve())] if inside else [])]
    own = top is not None and pathlib.Path(top).resolve() == PROJECT.resolve()
    commit = _git("rev-parse", "--verify", "HEAD") if own else None
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *code) if commit else None
    unknown = _git("ls-files", "--others", "--", *code) if commit else None
    dirty = bool(changed) or not inside or any(name.strip('"').endswith(CODE_SUFFIXES) for name in (unknown or "").splitlines())
    return {
        "commit": commit or "",
        "dirty": "" if changed is None or unknown is None else dirty,
        "device": machine.device(),
        "kind": machine.kind(),
    }


def _git(*arguments: str) -> str | None:
    """What git answers about the repository that the project's folder lies in; None where there is none.

    Neither variables of another repository's hooks count (GIT_DIR, …), nor whose the folder is.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={PROJECT}", "-c", "core.fsmonitor=false", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_in_use(script: pathlib.Path) -> dict[str, str]:
    """A hash of each file that a trial of a script may import of this project, by path."""
    rooms = [path for path in (PROJECT / "common").glob("*/*.py") if path.parent.name not in NOT_OF_TRIALS]
    paths = sorted([script.resolve(), *(PROJECT / "common").glob("*.py"), *rooms])
    return {str(path): file_hash(path) for path in paths}
