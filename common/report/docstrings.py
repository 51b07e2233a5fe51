"""The part `Found` of experiments' docstrings: their answers from the published rows."""

import textwrap

from common.report.section import Section
from common.text import FOUND, without_found

WIDTH = 130
"""Length of a line."""


def with_answers(script: str, sections: list[Section]) -> str:
    """A script with the answers of its sections whose rows decide, below the notes of its docstring.

    Args:
        script: the text of the file, whose docstring is a first line, a blank line and the notes.
    """
    lines = without_found(script).split("\n")
    end = next(number for number, line in enumerate(lines) if number > 1 and line in ("", '"""'))
    answers = [f"{section.place}: {section.answer}" for section in sections if not section.demonstration]
    label, indent = FOUND.ljust(9), " " * 9
    wrapped = [line for answer in answers for line in textwrap.wrap(answer, WIDTH - 9, break_on_hyphens=False)]
    found = [(indent if number else label) + line for number, line in enumerate(wrapped)]
    return "\n".join([*lines[:end], *found, *lines[end:]])
