"""Whether .venv can be used as it is: `venv.py LOCK …`, run by its own Python before every command, without imports of ours.

Ends with status 1 and one line where it must be set up again: its packages are not those of any of the lock files, because a lock
file is newer, a package was exchanged, or the Python that it rests on is another now. Else it sees to what its Python does at its
start: it finds common/ wherever a script lies, and TensorFlow keeps its logs to itself.
"""

import contextlib
import pathlib
import re
import sys
import sysconfig

START = '../../../..\nimport os; os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")\n'


def problem(lock: str, packages: pathlib.Path) -> str:
    """Why the packages in a folder are not those of a lock file's text; blank where they are. More may be there."""
    installed = {}
    for folder in packages.glob("*.dist-info"):
        name, _, version = folder.name[: -len(".dist-info")].rpartition("-")
        installed[_normal(name)] = version
    locked, everywhere = {}, set()
    for name, version, condition in re.findall(r"^([\w.-]+)==([^\s;\\]+)(\s*;)?", lock, re.MULTILINE):
        locked.setdefault(_normal(name), []).append(version)  # there is another for some versions of Python
        everywhere |= set() if condition else {_normal(name)}
    for name, versions in locked.items():
        if name not in installed and name in everywhere:
            return f"{name} is missing"
        if name in installed and installed[name] not in versions:
            return f"{name} {installed[name]} is installed, {' or '.join(versions)} is locked"
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    packages, own = pathlib.Path(sysconfig.get_path("purelib")), pathlib.Path(sys.prefix) / "installed.lock"
    text = own.read_text(encoding="utf-8") if own.exists() else ""
    if text not in [pathlib.Path(lock).read_text(encoding="utf-8") for lock in sys.argv[1:]]:
        sys.exit(print("other packages are locked" if text else "it is not complete") or 1)
    if said := problem(text, packages):
        sys.exit(print(said) or 1)
    path = packages / "project.pth"
    if not path.exists() or path.read_text(encoding="utf-8") != START:
        with contextlib.suppress(OSError):  # a folder of another user's
            path.write_text(START, encoding="utf-8")


if __name__ == "__main__":
    main()
