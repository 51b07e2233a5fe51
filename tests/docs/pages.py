"""README and docs as the tests read them: their fenced blocks, links and names of files."""

import re
from typing import NamedTuple

from conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """The blocks of a language, blank for commands, page by page."""
    found = [Block(path.name, *match) for path in PAGES for match in FENCED.findall(path.read_text(encoding="utf-8"))]
    return [block for block in found if block.language == language]


def prose(path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))
