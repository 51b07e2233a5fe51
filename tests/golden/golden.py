"""Golden values: results of short trainings, recorded in `golden.json` by `make golden`.

They show that the bits of a training have changed, so that PROTOCOL, which is part of every row's fingerprint, is raised in
the same commit. The cases are the arms of the scripts beside this file. Bits depend on the kind of processor (see
`common.machine.kind`) and on Python's version, for which the lock file may have another NumPy. So the file has an entry for each
of those on which `make golden` ran under this PROTOCOL; one without an entry is compared with the others up to a tolerance.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from common.errors import Failure, Misuse
from common.files import PROJECT, write_atomic
from common.running.environment import environment
from common.running.fingerprint import PROTOCOL

HERE = pathlib.Path(__file__).resolve().parent
FILE = HERE / "golden.json"
SCRIPTS = tuple(HERE / name for name in ("classification.py", "tiles.py", "rotated.py"))
SHARES = ((1, 0, 2), (1, 1, 2), (2, 0, 1))
"""For each process (replicas of its cases, index of its part, number of parts), to use two cores."""
TOLERANCE = 1e-3
"""Relative tolerance between kinds of processors."""
TOLERANCES = {"bfloat16": 1e-2, "inference.deployed, int8": 1e-2, "features.pixel_regression": 1e-2}
"""Relative tolerances of single cases: bfloat16 and int8 have 8 significant bits; the regression stops at a tolerance."""


def measured(*scripts: pathlib.Path) -> dict:
    """Train all cases of some scripts in separate processes.

    Returns:
        `protocol`, `kind` of processor and Python, `versions` of the packages, and `cases`: name -> values.

    Raises:
        Failure: a case cannot be trained.
    """
    with tempfile.TemporaryDirectory() as name:
        folders = {share: pathlib.Path(name) / "-".join(map(str, share)) for share in SHARES}
        processes = {share: _start(share, scripts, folder) for share, folder in folders.items()}
        try:
            for share, process in processes.items():
                if process.wait() != 0:
                    raise Failure(f"the golden cases cannot be trained:\n{(folders[share] / 'log').read_text(errors='replace')}")
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
        parts = [json.loads((folder / "cases.json").read_text()) for folder in folders.values()]
    cases = dict(sorted((name, values) for part in parts for name, values in part.items()))
    kind, versions = (", ".join({values.pop(name) for values in cases.values()}) for name in ("kind", "versions"))
    python = "Python {}.{}".format(*sys.version_info)
    return {"protocol": PROTOCOL, "kind": f"{kind}, {python}", "versions": versions, "cases": cases}


def _start(share: tuple[int, int, int], scripts: tuple[pathlib.Path, ...], folder: pathlib.Path) -> subprocess.Popen:
    """Start a process that trains a share of the cases in a folder."""
    folder.mkdir()
    arguments = [sys.executable, HERE / "train_cases.py", folder / "cases.json", *map(str, share), *scripts]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            arguments, cwd=PROJECT, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _environment(folder: pathlib.Path) -> dict[str, str]:
    """Environment variables of a worker, with a separate data cache."""
    paths = {"PYTHONPATH": str(PROJECT), "CACHE_DIR": str(folder / "cache")}
    return {**environment((1, 1, 1, True), [], folder), **paths}


def read() -> dict:
    """The golden values: `protocol`, and `kinds`: kind of processor, Python -> `versions` and `cases`. Empty without a file."""
    return json.loads(FILE.read_text()) if FILE.exists() else {"protocol": None, "kinds": {}}


def known(golden: dict) -> set[str]:
    """Names of the cases of all kinds of processors."""
    return {name for entry in golden["kinds"].values() for name in entry["cases"]}


def differences(golden: dict, now: dict) -> dict[str, str]:
    """Describe the cases that differ from the golden values.

    In any bit from those of the same kind of processor; where this kind has no such case, beyond the tolerance from those of any
    other kind.
    """
    changes = {name: _difference(golden["kinds"], now["kind"], name, after) for name, after in now["cases"].items()}
    return {name: what for name, what in changes.items() if what}


def _difference(kinds: dict, kind: str, name: str, after: dict) -> str:
    before = {k: entry["cases"][name] for k, entry in kinds.items() if name in entry["cases"]}
    if kind in before:
        return change(before[kind], after, tolerance=None)
    changes = {k: change(values, after, TOLERANCES.get(name, TOLERANCE)) for k, values in before.items()}
    return "; ".join(f"{what} (of {k})" for k, what in changes.items() if what)


def change(before: dict, after: dict, tolerance: float | None) -> str:
    """Describe the values of a case that differ; empty if none does. With tolerance None, bits and weights are compared."""
    names = ("loss", "norm", "measures", "score", *(["weights"] if tolerance is None else []))
    pairs = {name: (before.get(name, []), after.get(name, [])) for name in names}  # most cases have no measures
    return ", ".join(f"{name} {old} → {new}" for name, (old, new) in pairs.items() if not _equal(old, new, tolerance))


def _equal(before, after, tolerance: float | None) -> bool:
    if tolerance is None:
        return before == after
    return np.shape(before) == np.shape(after) and np.allclose(after, before, rtol=tolerance, atol=0)


def updated(golden: dict, now: dict) -> dict:
    """The golden values with `now` as the entry of its kind of processor.

    Under the same protocol, entries of other kinds are kept, without deleted cases.

    Raises:
        Misuse: values have changed but the protocol has not. New and deleted cases are not changes.
    """
    if golden["protocol"] != now["protocol"]:
        golden = {"kinds": {}}
    changed = differences(golden, now)
    if changed:
        raise Misuse(
            "the bits of training have changed: raise PROTOCOL in common/running/fingerprint.py, then make golden. "
            f"Received: PROTOCOL = {PROTOCOL} and {len(changed)} changed cases, {next(iter(changed))} …"
        )
    kinds = {kind: {**entry, "cases": _without_deleted(entry["cases"], now)} for kind, entry in golden["kinds"].items()}
    kinds[now["kind"]] = {name: now[name] for name in ("versions", "cases")}
    return {"protocol": now["protocol"], "kinds": dict(sorted(kinds.items()))}


def _without_deleted(cases: dict, now: dict) -> dict:
    return {name: values for name, values in cases.items() if name in now["cases"]}


def text(golden: dict) -> str:
    """The golden values as JSON with one line per case, so that diffs show the changed cases."""
    kinds = ",\n".join(f"  {json.dumps(kind)}: {_entry_text(**entry)}" for kind, entry in golden["kinds"].items())
    return f'{{\n "protocol": {golden["protocol"]},\n "kinds": {{\n{kinds}\n }}\n}}\n'


def _entry_text(versions: str, cases: dict) -> str:
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(values)}" for name, values in cases.items())
    return f'{{\n   "versions": {json.dumps(versions)},\n   "cases": {{\n{lines}\n   }}\n  }}'


def main() -> None:
    try:
        now = measured(*SCRIPTS)
        write_atomic(FILE, text(updated(read(), now)).encode())
    except (Misuse, Failure) as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    print(f"{len(now['cases'])} cases on {now['kind']}: {FILE.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
