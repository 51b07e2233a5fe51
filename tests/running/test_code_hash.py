"""The hash of a script: which statements it covers, and that it is equal under all Python versions."""

import pathlib
import shutil
import subprocess

import pytest
from conftest import PROJECT

from common.running.code_hash import code_hash

SOURCE = '''"""Doc."""
import keras
RATE = 0.1
UNUSED = 1
ARMS = {"baseline": {}}

def helper(x):
    """Doc."""
    return x * RATE  # comment

def train(trial):
    return helper(trial)

experiment = Experiment(train, arms=ARMS, claims=[1])
'''
SYNTAX = '''
@decorate("a", b=1)
class Layer(keras.layers.Layer):
    """Doc."""
    size: int = 3
    def call(self, x, /, y=None, *rest, flag: bool = False, **more):
        """Doc."""
        async def wait(): await x
        global G
        with open("x") as f, open(f"{x!r:>{self.size}} {y=} {{}} {x:}" "tail") as g:
            pass
        try:
            assert x, f"no {x:.2f}"
        except (ValueError, TypeError) as error:
            raise KeyError(1_000, 1e-3, 2j, 0x10, b"\\x00", ..., None, True, -1) from error
        else:
            del x
        finally:
            [a, *b], c = (lambda q=1: q, 2), {**{"k": 1}, "é": "ü"}
        match c:
            case {"k": 1, **rest} if rest: return
            case [1, 2, *_] | (3 | 4) as z: pass
            case str(x=1): ...
        x[1:2, ::3, ...] = y if (n := 10) < 3 <= 4 not in (5,) else not ~n
        return {i: j for i in range(3) for j in "ab" if i if j}, {1, 2}, (yield), [*rest]

RATES: dict[str, float] = {"a": 1e-5}
RATES["c"] += 3 @ 4 // 5 ** -6 % 7 << 1 >> 2 & 3 ^ 4 | 5

def train(trial, *, rate=0.1):
    for i, _ in enumerate(RATES):
        while True:
            continue
        else:
            break
    return Layer
'''
LITERAL = "90a3253a13727680390ec2627a2d05d6b48e554efdbf6d03d298f6937c324d10"


def test_the_hash_covers_what_train_reaches_and_nothing_else():
    before = code_hash(SOURCE)
    for old, new in (
        ('"""Doc."""', '"""Other."""'),
        ("# comment", ""),
        ("claims=[1]", "claims=[2]"),
        ("UNUSED = 1", "UNUSED = 2"),
        ('{"baseline": {}}', '{"baseline": {}, "b": {}}'),
        ("\n\ndef train", "\n\n\n\ndef train"),
    ):
        assert code_hash(SOURCE.replace(old, new)) == before, old
    for old, new in (
        ("RATE = 0.1", "RATE = 0.2"),
        ("x * RATE", "x + RATE"),
        ("import keras\n", "import keras\nkeras.config.x()\n"),
    ):
        assert code_hash(SOURCE.replace(old, new)) != before, old


@pytest.mark.parametrize(
    ("added", "changed"),
    [
        ("def a():\n    return 1\n\ndef helper(x):\n    return globals()['a']()\n", "return 2"),
        ("if True:\n    logging.getLogger(__name__)\n    RATE = 1\n", "RATE = 2"),
        ("from a1 import *\n", "a2"),
        ("ALIAS = RATE\nALIAS[0] = 1\n", "[0] = 2"),
        ("def setup():\n    keras.x = 1\n\n_ = setup()\n", "keras.x = 2"),
        ("from keras import losses\nlosses.LIMIT = 1\n", "LIMIT = 2"),
    ],
    ids=[
        "globals()",
        "a branch with __name__",
        "a star",
        "another name",
        "a result that nothing uses",
        "an attribute of a module",
    ],
)
def test_the_hash_covers_what_changes_names_in_other_ways(added, changed):
    before = SOURCE.replace("def train", added + "\ndef train")
    assert "1" in changed.replace("2", "1") and changed.replace("2", "1") in before
    assert code_hash(before) != code_hash(before.replace(changed.replace("2", "1"), changed))


@pytest.mark.parametrize("helper", ["x * RATE", "vars(x)", "x, len(globals())"])
def test_other_arms_and_claims_change_freely_whatever_else_the_script_does(helper):
    script = SOURCE.replace("x * RATE", helper)
    with_arm = script.replace("def train", 'ARMS["b"] = {"l2": 1}\n\ndef train')
    assert code_hash(with_arm) == code_hash(with_arm.replace("claims=[1]", "claims=[2]"))
    if "globals" not in helper:
        assert code_hash(with_arm) == code_hash(script)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("y=None", "y=0"),
        ("1e-3", "0.002"),
        ('"tail"', '"tale"'),
        ("*rest,", "*others,"),
        ("<<", ">>"),
        ("flag: bool", "flag: int"),
    ],
)
def test_the_hash_covers_all_parts_of_the_syntax(old, new):
    assert code_hash(SYNTAX.replace(old, new, 1)) != code_hash(SYNTAX)


def test_the_hash_is_that_of_published_rows():
    assert code_hash(SYNTAX) == LITERAL


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_hash_is_equal_under_all_python_versions(version, tmp_path):
    """`ast.dump` differs, and Python 3.12 inserts empty strings into f-strings."""
    of_pyenv = pathlib.Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(of_pyenv))]
    python = next((one for one in candidates if one and not subprocess.run([one, "-V"], capture_output=True).returncode), None)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    (tmp_path / "syntax.py").write_text(SYNTAX)
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT / 'common' / 'running')!r})\n"
        "from code_hash import code_hash\n"
        "print(*[code_hash(open(path, encoding='utf-8').read()) for path in sys.argv[1:]])"
    )
    paths = [str(tmp_path / "syntax.py"), *map(str, sorted(PROJECT.glob("experiments/exp_*.py")))]
    done = subprocess.run([python, "-c", code, *paths], capture_output=True, text=True)
    assert done.stdout.split() == [code_hash(pathlib.Path(path).read_text()) for path in paths], done.stderr
