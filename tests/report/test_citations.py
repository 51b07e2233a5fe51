"""Sentences that cite rows: a claim's verdict and difference, or an arm's mean score."""

import dataclasses
import re

import pytest
from made import Made, around, claim

from common.errors import Failure
from common.report import markdown, page

PAGE = 'It helps ([{}](../REPORT.md#exp_90_made-mnist{} "{}")). [Rows](REPORT.md#exp_90_made-mnist), `[a](REPORT.md#b "")`.'
BOUNDS = r"\([+-]0\.\d+ to [+-]0\.\d+\)"


@pytest.fixture
def sections(tmp_path):
    made = Made(tmp_path)
    made.add("a", around(0.70))
    made.add("b", around(0.60))
    made.judge(claim("a beats b", "a", "b"), claim("b overfits less", "b", "a", kind="overfits less", metric="gap", within=0.02))
    return page.read(made.files.folder.parent)[0]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("a-beats-b", rf"supported, \+0\.100 {BOUNDS}"),
        ("b-overfits-less", rf"\w+, gap between training and test accuracy [+-]0\.\d+ {BOUNDS}, test accuracy -0\.100 {BOUNDS}"),
        ("a", r"0\.700"),
        ("b", r"0\.600"),
    ],
)
def test_a_citation_says_what_the_rows_say(sections, of, words):
    (section,) = sections
    assert section.place == "mnist"
    written = markdown.cited(PAGE.format("", "", of), sections, "page.md")
    said = written.removeprefix("It helps ([").partition("]")[0]
    assert re.fullmatch(words, said)
    assert written == PAGE.format(said, "", of)
    assert markdown.cited(written, sections, "page.md") == written


def test_a_citation_may_be_wrapped(sections):
    text = '[x](REPORT.md#exp_90_made-mnist\n  "a" )'
    assert markdown.cited(text, sections, "page.md") == '[0.700](REPORT.md#exp_90_made-mnist "a")'


def test_a_citation_of_a_demonstration_says_so(sections):
    (section,) = sections
    section.verdicts[0] = dataclasses.replace(section.verdicts[0], demonstration=True, changed=True)
    said = markdown.cited(PAGE.format("", "", "a-beats-b"), sections, "page.md")
    assert "[supported (demonstration; claim changed after rows were written), +0.100 (" in said


@pytest.mark.parametrize(("place", "of"), [("", "c"), ("-other", "a")])
def test_a_citation_of_nothing_is_an_error(sections, place, of):
    with pytest.raises(Failure, match="page.md: a citation must name a section of REPORT.md, and a claim or an arm of it"):
        markdown.cited(PAGE.format("", place, of), sections, "page.md")
