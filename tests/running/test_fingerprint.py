"""What part of a script decides its results."""

from common.running import fingerprint

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


def test_the_code_hash_sees_what_train_reaches_and_nothing_else():
    before = fingerprint.code_hash(SOURCE)
    for old, new in (
        ('"""Doc."""', '"""Other."""'),
        ("# comment", ""),
        ("claims=[1]", "claims=[2]"),
        ("UNUSED = 1", "UNUSED = 2"),
        ('{"baseline": {}}', '{"baseline": {}, "b": {}}'),
        ("\n\ndef train", "\n\n\n\ndef train"),
    ):
        assert fingerprint.code_hash(SOURCE.replace(old, new)) == before, old
    for old, new in (
        ("RATE = 0.1", "RATE = 0.2"),
        ("x * RATE", "x + RATE"),
        ("import keras\n", "import keras\nkeras.config.x()\n"),
    ):
        assert fingerprint.code_hash(SOURCE.replace(old, new)) != before, old
