"""A trial's fingerprint (a hash of all that determines its outcome), and the git commit and files of the code."""

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

PROTOCOL = 4
"""Version of the results, part of each fingerprint. Raised by hand with a change in `common/` that changes results, which
`tests/golden` detects."""
NOT_IMPORTED = ("commands", "figures", "report", "search", "verdicts")
"""Rooms of `common/` that workers do not import."""

CODE = ("common", "experiments", "requirements.lock", "requirements-gpu.lock")
"""Paths in the project that determine a row."""
CODE_SUFFIXES = (".py", ".lock")
"""Suffixes of files that count as code even if git ignores them."""
FIELD_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Setting)}


def fingerprint(
    arm: str, rate: str, arguments: dict, seed: int | None, setting: Setting, dataset: Dataset, code: str, of: int | None = None
) -> str:
    """Hash of all that determines a trial's outcome: 32 hexadecimal digits. Of a dataset it covers the content, not the path.

    Fields of the setting are only covered if they differ from their defaults, so that a new field does not invalidate old rows.

    Args:
        rate: column of the rows, see `Variant`; arguments: those of `train`.
        code: hash of the script, see `code_hash`.
        of: number of training images of the setting, where the arm takes only a part of them and not of all images.
    """
    fields = {name: value for name, value in vars(setting).items() if value != FIELD_DEFAULTS[name]}
    inputs = {
        "arm": arm,
        **({"rate": rate} if rate != OWN else {}),
        "arguments": arguments,
        "seed": seed,
        "setting": {**fields, "dataset": dataset.name},
        "data": dataset.checksum,
        "code": code,
        **({"of": of} if of else {}),
        "protocol": PROTOCOL,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def provenance(script: pathlib.Path, hardware: dict[str, str] | None = None) -> dict:
    """Columns of the rows for the origin: git commit, whether the code differs from it (`dirty`), device and its kind.

    The code is the script and the project's paths in `CODE`; uncommitted files count as differences, even if git ignores them.
    Commit and `dirty` are empty outside a checkout of the project, also for a copy of it within another repository.

    Args:
        hardware: the columns `device` and `kind`, by default those of this machine.
    """
    inside = script.resolve().is_relative_to(PROJECT)
    code = [*CODE, *([str(script.resolve())] if inside else [])]
    commit = git_commit()
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *code) if commit else None
    untracked = _git("ls-files", "--others", "--", *code) if commit else None
    dirty = bool(changed) or not inside or any(name.strip('"').endswith(CODE_SUFFIXES) for name in (untracked or "").splitlines())
    return {
        "commit": commit or "",
        "dirty": "" if changed is None or untracked is None else dirty,
        **(hardware or machine.columns()),
    }


def git_commit() -> str | None:
    """The checkout's commit; None if the project's folder is no checkout."""
    top = _git("rev-parse", "--show-toplevel")
    is_checkout = top is not None and pathlib.Path(top).resolve() == PROJECT.resolve()
    return _git("rev-parse", "--verify", "HEAD") if is_checkout else None


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project's folder; None if it fails.

    It ignores the user's GIT_* variables, which hooks of another repository may have set, and the owner of the folder.
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
    """Path -> hash of each file of the project that a trial of the script may import."""
    rooms = [path for path in (PROJECT / "common").glob("*/*.py") if path.parent.name not in NOT_IMPORTED]
    paths = sorted([script.resolve(), *(PROJECT / "common").glob("*.py"), *rooms])
    return {str(path): file_hash(path) for path in paths}
