"""The fonts of a text, so that names in any script are readable.

The default font is used where it has the characters, installed fonts where it lacks them; characters that none has are escaped
as `\\u98de`.
"""

import functools
import hashlib
import logging
import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

BOXES = re.compile("last ?resort|blank|fallback", re.IGNORECASE)
"""Names of fonts whose glyphs are all boxes or blanks."""
MOST_ESCAPES = 3
"""Consecutive characters, at most, that are all escaped; longer runs are shortened."""
ESCAPE = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # no warnings about missing weights


class Font(NamedTuple):
    """An installed font."""

    family: str
    path: str
    face: int
    """Index of the font in its file."""

    def having(self, characters: frozenset[str]) -> frozenset[str]:
        """The characters that the font has glyphs for; none if its file cannot be read."""
        try:
            face = FT2Font(self.path, face_index=self.face)
        except (OSError, RuntimeError):
            return frozenset()
        return frozenset(c for c in characters if face.get_char_index(ord(c)))


def files() -> str:
    """The paths of all installed font files, one per line."""
    return "\n".join(sorted(font_manager.findSystemFonts()))


@functools.cache
def installed() -> tuple[Font, ...]:
    """The installed upright fonts, one per family: sans-serif ones first, monospaced ones last, by name."""
    manager = font_manager.fontManager
    for path in sorted(set(font_manager.findSystemFonts()) - {entry.fname for entry in manager.ttflist}):
        try:
            manager.addfont(path)  # installed after Matplotlib built its cache
        except Exception:  # damaged, or a bitmap font
            continue
    fonts = [entry for entry in manager.ttflist if entry.style == "normal" and not BOXES.search(entry.name)]

    def rank(entry):
        name = entry.name.lower()
        return "mono" in name, "sans" not in name, entry.name, abs(font_manager.weight_dict.get(entry.weight, entry.weight) - 400)

    ranked = {entry.name: Font(entry.name, entry.fname, entry.index) for entry in sorted(fonts, key=rank, reverse=True)}
    return tuple(reversed(ranked.values()))


def families(text: str) -> tuple[str, ...] | None:
    """The font families that together draw a text, the default one first; None if the installed fonts cannot."""
    usual = tuple(matplotlib.rcParams["font.family"])
    if (text.isascii() and text.isprintable()) or _draw(usual, text):
        return usual
    faces = [FT2Font(path, face_index=path.face_index) for path in _files(usual)]
    lacking = frozenset(c for c in text if not c.isspace() and not any(face.get_char_index(ord(c)) for face in faces))
    together = (*usual, *_covering(lacking, installed()))
    return together if _draw(together, text) else None


def _files(families: Sequence[str]) -> list[font_manager.FontPath]:
    """The font files that Matplotlib uses for families."""
    return [font_manager.findfont(FontProperties(family=[family])) for family in families]


def _draw(families: Sequence[str], text: str) -> bool:
    """Whether families have all glyphs of a text after shaping."""
    if any(unicodedata.category(c) == "Cs" for c in text):  # a surrogate, from a file name in another encoding
        return False
    return _have_glyphs(tuple(_files(families)), text)


@functools.cache
def _have_glyphs(files: tuple[font_manager.FontPath, ...], text: str) -> bool:
    """Whether font files have all glyphs of a text after shaping, which takes a millisecond."""
    font = font_manager.get_font(files)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for line in text.split("\n"):
                font.set_text(line)
    except UserWarning:  # a glyph is missing
        return False
    return True


@functools.cache
def _covering(characters: frozenset[str], fonts: tuple[Font, ...]) -> tuple[str, ...]:
    """Families that together cover the characters: a single one if possible, else chosen greedily.

    Characters that no font has stay uncovered.
    """
    covered = {}
    for font in fonts:
        covered[font.family] = font.having(characters)
        if covered[font.family] == characters:
            return (font.family,)
    chosen, left = [], characters
    while left and (best := max(covered, key=lambda family: len(covered[family] & left), default=None)) and covered[best] & left:
        chosen.append(best)
        left -= covered[best]
    return tuple(chosen)


def drawable(text: str) -> str:
    """A text that the installed fonts can draw: words with a character that no font has are escaped, as `\\u98de`.

    Letters and combining marks are composed (NFC), as file names of macOS are decomposed.
    """
    text = unicodedata.normalize("NFC", text)
    if families(text):
        return text
    words = [_word(part) for part in re.split(r"(\s+)", text)]
    return "".join(words) if families("".join(words)) else _escaped(text)


def _word(part: str) -> str:
    """A word, escaped if no fonts draw it; other white space than a space becomes one."""
    if families(part):
        return part
    return " " if part.isspace() else _escaped(part)


def _escaped(text: str) -> str:
    """A text in printable ASCII."""
    return re.sub(r"[^\x20-\x7e\n]+", lambda run: _short(run[0]), text)


def _short(run: str) -> str:
    """Characters as escapes; of more than `MOST_ESCAPES` the first two, and four digits of a hash of all."""
    if len(run) <= MOST_ESCAPES:
        return run.encode("unicode_escape").decode()
    return f"{run[:2].encode('unicode_escape').decode()}…{hashlib.sha256(run.encode('utf-8', 'surrogatepass')).hexdigest()[:4]}"


def class_names(names: Sequence[str]) -> list[str]:
    """Class names that the installed fonts can draw; the others become `class 3` and so on."""
    composed = [unicodedata.normalize("NFC", " ".join(name.split())) for name in names]
    return [name if name and families(name) else f"class {number}" for number, name in enumerate(composed)]
