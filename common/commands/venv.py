"""`venv.py LOCK … --with|--or-with EXTRA`: checks that .venv has the packages of one of the lock files, and of an extra one.
With `--or-with` that may be missing. Run by make before every command.

If not, prints the reason and exits with status 1, and make sets .venv up again. Otherwise it writes a `.pth` file by which
.venv's Python finds common/ from any folder, and which silences TensorFlow's log. It imports nothing of the project.
"""

import contextlib
import pathlib
import re
import sys
import sysconfig

START = '../../../..\nimport os; os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")\n'


def problem(lock: str, packages: pathlib.Path) -> str:
    """Reason why the packages in a folder are not those of a lock file; empty if they are. Further packages are ignored.

    Args:
        lock: the lock file's text.
    """
    installed = {}
    for folder in packages.glob("*.dist-info"):
        name, _, version = folder.name[: -len(".dist-info")].rpartition("-")
        installed[_normal(name)] = version
    locked, everywhere = {}, set()
    for name, version, condition in re.findall(r"^([\w.-]+)==([^\s;\\]+)(\s*;)?", lock, re.MULTILINE):
        locked.setdefault(_normal(name), []).append(version)  # several if it depends on the version of Python
        everywhere |= set() if condition else {_normal(name)}
    for name, versions in locked.items():
        if name not in installed and name in everywhere:
            return f"{name} is missing"
        if name in installed and installed[name] not in versions:
            return f"{name} {installed[name]} is installed, {' or '.join(versions)} is locked"
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def accepted(arguments: list[str]) -> list[str]:
    """The texts of lock files, one after the other, with which .venv may have been installed.

    Args:
        arguments: of the command line.
    """
    *locks, how, extra = arguments
    texts = [pathlib.Path(lock).read_text(encoding="utf-8") for lock in locks]
    more = pathlib.Path(extra).read_text(encoding="utf-8")
    return [text + more for text in texts] + (texts if how == "--or-with" else [])


def main() -> None:
    packages, installed = pathlib.Path(sysconfig.get_path("purelib")), pathlib.Path(sys.prefix) / "installed.lock"
    text = installed.read_text(encoding="utf-8") if installed.exists() else ""
    if text not in accepted(sys.argv[1:]):
        sys.exit(print("the lock file has changed" if text else "it is incomplete") or 1)
    if reason := problem(text, packages):
        sys.exit(print(reason) or 1)
    path = packages / "project.pth"
    if not path.exists() or path.read_text(encoding="utf-8") != START:
        with contextlib.suppress(OSError):  # the folder of another user
            path.write_text(START, encoding="utf-8")


if __name__ == "__main__":
    main()
