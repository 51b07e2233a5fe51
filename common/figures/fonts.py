"""Which fonts draw a text, so that no name, in whatever script, becomes boxes.

The usual font draws what it can, other fonts of this machine what it lacks; what none of them has stands there as `\\u98de`.
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
"""In the names of fonts that have a glyph for everything, and draw nothing with it."""
MOST_ESCAPES = 3
"""Characters in a row that are written out."""
ESCAPE = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font that is there in one weight alone will do


class Font(NamedTuple):
    """A font of this machine."""

    family: str
    path: str
    face: int
    """Its number in the file."""

    def having(self, characters: frozenset[str]) -> frozenset[str]:
        """Those of some characters that it has a glyph for; none where it cannot be read."""
        try:
            face = FT2Font(self.path, face_index=self.face)
        except (OSError, RuntimeError):
            return frozenset()
        return frozenset(c for c in characters if face.get_char_index(ord(c)))


def files() -> str:
    """The font files of this machine, by name."""
    return "\n".join(sorted(font_manager.findSystemFonts()))


@functools.cache
def installed() -> tuple[Font, ...]:
    """The upright fonts of this machine, one of each family: those without serifs first, those of one width last, by name."""
    manager = font_manager.fontManager
    for path in sorted(set(font_manager.findSystemFonts()) - {entry.fname for entry in manager.ttflist}):
        try:
            manager.addfont(path)  # installed since matplotlib made its list
        except Exception:  # damaged, or made of bitmaps
            continue
    fonts = [entry for entry in manager.ttflist if entry.style == "normal" and not BOXES.search(entry.name)]

    def rank(entry):
        name = entry.name.lower()
        return "mono" in name, "sans" not in name, entry.name, abs(font_manager.weight_dict.get(entry.weight, entry.weight) - 400)

    ranked = {entry.name: Font(entry.name, entry.fname, entry.index) for entry in sorted(fonts, key=rank, reverse=True)}
    return tuple(reversed(ranked.values()))


def families(text: str) -> tuple[str, ...] | None:
    """The font families that draw a text together, the usual one first; None where this machine's fonts cannot."""
    usual = tuple(matplotlib.rcParams["font.family"])
    if (text.isascii() and text.isprintable()) or _draw(usual, text):
        return usual
    faces = [FT2Font(path, face_index=path.face_index) for path in _files(usual)]
    lacking = frozenset(c for c in text if not c.isspace() and not any(face.get_char_index(ord(c)) for face in faces))
    found = (*usual, *_covering(lacking, installed()))
    return found if _draw(found, text) else None


def _files(families: Sequence[str]) -> list[font_manager.FontPath]:
    """The files that matplotlib takes for some families."""
    return [font_manager.findfont(FontProperties(family=[family])) for family in families]


def _draw(families: Sequence[str], text: str) -> bool:
    """Whether some families have all glyphs of a text, once its letters are joined and put in order."""
    if any(unicodedata.category(c) == "Cs" for c in text):  # half a character: a file name in another encoding
        return False
    font = font_manager.get_font(_files(families))
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
    """Families that together have some characters: one that has them all, else few; those that no font has are left out."""
    found = {}
    for font in fonts:
        own = font.having(characters)
        if own == characters:
            return (font.family,)
        found[font.family] = own
    chosen, left = [], characters
    while left and (best := max(found, key=lambda family: len(found[family] & left), default=None)) and found[best] & left:
        chosen.append(best)
        left -= found[best]
    return tuple(chosen)


def drawable(text: str) -> str:
    """A text that this machine's fonts can draw: in a word with a character that none has, all but ASCII is written as `\\u98de`.

    Letters and their marks are joined where a character for both exists, as file names of macOS have them apart.
    """
    text = unicodedata.normalize("NFC", text)
    if families(text):
        return text
    words = [_word(part) for part in re.split(r"(\s+)", text)]
    return "".join(words) if families("".join(words)) else _escaped(text)


def _word(part: str) -> str:
    if families(part):
        return part
    return " " if part.isspace() else _escaped(part)


def _escaped(text: str) -> str:
    return re.sub(r"[^\x20-\x7e\n]+", lambda run: _short(run[0]), text)


def _short(run: str) -> str:
    """Characters as escapes; of many the first two and four digits that tell them from others, for nobody reads them."""
    if len(run) <= MOST_ESCAPES:
        return run.encode("unicode_escape").decode()
    return f"{run[:2].encode('unicode_escape').decode()}…{hashlib.sha256(run.encode('utf-8', 'surrogatepass')).hexdigest()[:4]}"


def class_names(names: Sequence[str]) -> list[str]:
    """Names of classes in order, `class 3` for one that this machine's fonts cannot draw."""
    composed = [unicodedata.normalize("NFC", " ".join(name.split())) for name in names]
    return [name if name and families(name) else f"class {number}" for number, name in enumerate(composed)]
