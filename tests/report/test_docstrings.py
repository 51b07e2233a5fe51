"""What experiments' docstrings say was found: written from rows, and no part of what determines a trial."""

from types import SimpleNamespace

import pytest

from common.files import experiment_scripts
from common.report.docstrings import with_answers
from common.running.code_hash import code_hash
from common.text import without_found

SCRIPT = '''"""Exp 90: is it?

Varies   nothing much,
         really.
Expect   no alert.

Arms: two.
"""


def train(trial):
    """Found elsewhere."""
    return trial
'''
FOUND = """Expect   no alert.
Found    small-cifar10: Supported: it is, by at least 0.015. Test accuracy +0.020 (99 % interval +0.010 to +0.030), 5 seeds. The
         sentence goes on, and on, for so long that it is wrapped.
         small-mnist: Open: it is.

Arms: two.
"""
ANSWER = (
    "Supported: it is, by at least 0.015. Test accuracy +0.020 (99 % interval +0.010 to +0.030), 5 seeds. The sentence goes on, "
)
SECTIONS = [
    SimpleNamespace(place="small-cifar10", answer=f"{ANSWER}and on, for so long that it is wrapped.", demonstration=False),
    SimpleNamespace(place="quick-digits", answer="Open: it is.", demonstration=True),
    SimpleNamespace(place="small-mnist", answer="Open: it is.", demonstration=False),
]


def test_the_answers_of_rows_that_decide_stand_below_the_notes():
    written = with_answers(SCRIPT, SECTIONS)
    assert FOUND in written
    assert with_answers(written, SECTIONS) == written
    assert with_answers(written, []) == without_found(written) == SCRIPT


def test_the_notes_may_end_the_docstring():
    script = SCRIPT.replace("\nArms: two.\n", "")
    written = with_answers(script, SECTIONS[2:])
    assert '\nExpect   no alert.\nFound    small-mnist: Open: it is.\n"""\n' in written
    assert with_answers(written, []) == script


def test_a_trial_does_not_depend_on_what_was_found():
    assert code_hash(with_answers(SCRIPT, SECTIONS)) == code_hash(SCRIPT)


@pytest.mark.parametrize("path", experiment_scripts(), ids=lambda path: path.stem)
def test_every_experiment_takes_answers(path):
    script = path.read_text(encoding="utf-8")
    written = with_answers(script, SECTIONS)
    assert written.count("\nFound    small-cifar10: Supported") == 1
    assert max(map(len, written.splitlines())) <= 130
    assert with_answers(written, []) == without_found(script)
