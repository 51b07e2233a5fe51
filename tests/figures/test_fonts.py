"""Names in any script are drawn by an installed font that has the characters, else escaped; never drawn as boxes."""

import unicodedata
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from made import Made, around
from matplotlib import font_manager
from matplotlib.text import Text

from common.figures import cache, draw, fonts, predictions, samples, scores, style

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # such as "Glyph missing from font"

QUESTION = "exp_90_x: 飞机?"
ARMS = ["baseline", "飞机", "飞机, longer", "飞", "🐈 猫", "costs $a_b$ \\foo, $5"]


def font_file(folder, family, characters):
    """Path of a font whose glyphs for the characters are squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(c):X}" for c in characters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = folder / f"{family}.ttf"
    builder.save(path)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that replaces the installed fonts: Matplotlib's and those given as family -> characters."""

    def have(**families):
        own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
        files = [str(font_file(tmp_path, family, characters)) for family, characters in families.items()]
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
        fonts.installed.cache_clear()

    yield have
    monkeypatch.undo()
    fonts.installed.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def figures():
    """Figures with arm names in ticks, legends, titles and texts."""
    rows = [
        {"arm": arm, "entry": arm, "rate": "own", "seed": s, "status": "done", "test_accuracy": 0.8 + s / 50, "seconds": 1.0 + i}
        for i, arm in enumerate(ARMS)
        for s in range(2)
    ]
    yield scores.final_scores(pd.DataFrame(rows), ARMS, QUESTION, "飞机: 2 seeds")
    yield scores.cost(pd.DataFrame(rows), ARMS, "seconds", "seconds of 飞机", QUESTION, "caption")
    values = pd.DataFrame([{"arm": arm, "name": name, "value": 1.0, "unit": "机"} for arm in ARMS for name in ("a", "飞 b")])
    yield scores.measured(values, ARMS, QUESTION, "caption")
    images = {arm: np.full((2, 4, 4, 1), i, np.uint8) for i, arm in enumerate(ARMS)}
    yield samples.sample_sheet(images, ARMS, QUESTION, "caption")
    counts = 10 * np.eye(3, dtype=int)
    yield predictions.confusions({"飞机": counts, "猫": counts}, QUESTION, "caption")
    mistake = predictions.Mistake(np.zeros((4, 4, 1), np.uint8), "飞机", "cat", 0.9)
    yield predictions.most_confident({"飞机": [mistake], "猫": [mistake]}, QUESTION, "caption")


def drawn(figure, path):
    """Save a figure. Returns its texts."""
    style.save(path, figure)
    return {text.get_text() for text in figure.findobj(Text)}


def test_characters_are_drawn_by_an_installed_font(machine, tmp_path):
    machine(Made="飞机猫🐈秒")
    for i, figure in enumerate(figures()):
        texts = drawn(figure, tmp_path / f"{i}.png")
        assert QUESTION in texts
        assert not any("\\u" in text for text in texts)
    assert {"飞机", "猫"} <= texts


def test_without_such_a_font_names_are_escaped_and_the_caption_explains(machine, tmp_path):
    machine()
    for i, figure in enumerate(figures()):
        texts = drawn(figure, tmp_path / f"{i}.png")
        assert "exp_90_x: \\u98de\\u673a?" in texts
        assert all(fonts.families(text) == ("sans-serif",) for text in texts)
        (caption,) = [text for text in texts if "no installed font" in " ".join(text.split())]
        assert caption.startswith(("\\u98de\\u673a: 2 seeds", "caption; "))
        assert "\\u…" in caption
        if i < 2:
            assert {"baseline", "\\u98de\\u673a", "\\u98de\\u673a, longer", "\\u98de", "\\U0001f408 \\u732b", ARMS[-1]} <= texts


def test_a_class_name_that_no_font_has_becomes_its_number(machine):
    machine(Made="飞机")
    names = ["飞机", "猫", "cat", "猫 cat", "tab\there"]
    assert fonts.class_names(names) == ["飞机", "class 1", "cat", "class 3", "tab here"]


NAMES = [
    "$x^{2",
    "a_b_{",
    "c\\frac",
    "飞机",
    "$\\undefined$",
    "%&<b>",
    "  ",
    "a very long name of a class 1",
    "a very long name of a class 2",
    "{",
]


@pytest.mark.parametrize(("families", "plane"), [({"Made": "飞机"}, "飞机"), ({}, "class 3")])
def test_class_names_on_both_axes_are_plain_text(machine, tmp_path, families, plane):
    machine(**families)
    counts = 10 * np.eye(len(NAMES), dtype=int)
    figure = predictions.confusions({"a": counts, "b": counts}, "title", "caption", NAMES)
    style.save(tmp_path / "it.png", figure)
    long = ["7 a very long nam…", "8 a very long nam…"]
    expected = [*NAMES[:3], plane, NAMES[4], NAMES[5], "class 6", *long, "{"]
    for axes in figure.axes[:2]:
        assert [label.get_text() for label in axes.get_xticklabels()] == expected
        assert [label.get_text() for label in axes.get_yticklabels()] == expected
        assert not any(label.get_parse_math() for label in (*axes.get_xticklabels(), *axes.get_yticklabels()))


def test_mistakes_show_the_numbers_of_undrawable_classes(machine, monkeypatch):
    machine()
    shares, labels = np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[1, 0]])
    monkeypatch.setattr(predictions, "shares", lambda *_: (shares, labels))
    monkeypatch.setattr(predictions, "cached_test_images", lambda *_: (np.zeros((2, 4, 4, 1), np.uint8), ["cat", "猫"]))

    rows = pd.DataFrame([{"entry": "a", "arm": "a", "seed": 0, "test_accuracy": 0.0}])
    checksum = {"data_checksum": "c"}
    table = SimpleNamespace(rows=rows, declaration={"baseline": "a"}, by_trial=[("a", 0)], of=lambda *_: checksum)
    first, second = predictions.surest_mistakes(table, ["a"])["a"]
    assert (first.label, first.predicted) == ("class 1", "cat")
    assert (second.label, second.predicted) == ("cat", "class 1")


def test_text_in_the_default_font_needs_no_other_fonts(monkeypatch):
    def never():
        raise AssertionError("fonts were looked for")

    monkeypatch.setattr(fonts, "installed", never)
    for text in ("l2=1e-4, $5\nmore", "×, ≤ and – are in the usual font", "Ελληνικά, русский, café"):
        assert fonts.drawable(text) == text
        assert fonts.families(text) == ("sans-serif",)


def test_the_fewest_fonts_that_cover_a_text_are_chosen(machine):
    machine(First="飞", Mono="飞机猫", Sans="机猫")
    assert fonts.families("飞机猫") == ("sans-serif", "Mono")
    assert fonts.families("飞 cat") == ("sans-serif", "First")
    machine(First="飞", Second="飞机", Third="猫")
    assert fonts.families("飞机猫") == ("sans-serif", "Second", "Third")
    assert fonts.families("狗") is None


def test_fonts_of_boxes_are_ignored(machine):
    assert "Last Resort High-Efficiency" in {entry.name for entry in font_manager.fontManager.ttflist}
    machine(Blank="飞")
    assert fonts.families("飞") is None


def test_damaged_fonts_are_ignored(machine, tmp_path, monkeypatch):
    machine(Made="飞")
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    files = [str(tmp_path / name) for name in ("broken.ttf", "Made.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    assert fonts.families("飞") == ("sans-serif", "Made")
    (tmp_path / "Made.ttf").unlink()
    assert fonts.Font("Made", files[1], 0).having(frozenset("飞")) == frozenset()


def test_words_that_cannot_be_drawn_are_escaped(machine):
    machine(Made="飞")
    assert fonts.drawable("飞 机 x") == "飞 \\u673a x"
    assert fonts.drawable("飞机") == "\\u98de\\u673a"  # a word is not written by halves
    assert fonts.drawable("a\tb\x07c") == "a b\\x07c"
    assert fonts.drawable("d\udcff") == "d\\udcff"  # a file name in an encoding of another system
    assert fonts.drawable("cafe\u0301") == unicodedata.normalize("NFC", "café")
    long, other = (fonts.drawable(f"l2={text}") for text in ("机机机机机猫", "机机机机机狗"))
    assert long.startswith("l2=\\u673a\\u673a…")
    assert len(long) == len(other) == len("l2=\\u673a\\u673a…1234")
    assert long != other


def test_letters_that_join_are_joined(machine):
    """An Arabic lam and an alef make one glyph; matplotlib joins them as of 3.11."""
    machine()
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))

    def width(text):
        font.set_text(text)
        return font.get_width_height()[0]

    assert fonts.families("لا") == ("sans-serif",)
    assert width("لا") < 0.8 * (width("ل") + width("ا"))


def test_wide_characters_take_two_columns(machine):
    machine(Made="飞机")
    assert [style.columns(text) for text in ("cat", "飞机", "한 x", "cafe\u0301")] == [3, 4, 4, 4]
    assert style.wrapped("cat 飞机飞机", 6).split("\n") == ["cat 飞", "机飞机"]
    assert style.wrapped("a cat and a dog", 9).split("\n") == ["a cat and", "a dog"]
    assert [style.shortened(text, 5) for text in ("cats and", "飞机飞机", "cat", "")] == ["cats ", "飞机", "cat", ""]


def test_figures_are_redrawn_when_fonts_change(tmp_path, machine):
    made = Made(tmp_path)
    made.add("baseline", around(0.9))
    made.add("飞机", around(0.8))
    made.judge()
    figure = made.files.folder / "exp_90_made_curves.png"
    machine()
    stamps = []
    for family in ({}, {}, {"Made": "飞机"}):
        machine(**family)
        (drawn,) = cache.redraw([made.files])
        assert drawn.error == ""
        stamps.append((figure.stat().st_mtime_ns, figure.read_bytes()))
    assert stamps[0] == stamps[1]
    assert stamps[1][1] != stamps[2][1]


def test_fonts_that_no_text_needs_do_not_make_figures_be_redrawn(tmp_path, machine, monkeypatch):
    made = Made(tmp_path)
    made.add("größer – ² × α", around(0.9))
    made.judge()
    machine()
    (drawn,) = cache.redraw([made.files])
    machine(Made="飞机")
    monkeypatch.setattr(draw, "draw", None)
    assert list(cache.redraw([made.files])) == [drawn]
