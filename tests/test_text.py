"""Names and numbers as messages show them."""

import pytest

from common import text


@pytest.mark.parametrize(
    ("received", "names", "hint"),
    [
        ("basline", ["baseline", "l2=1e-4"], " (did you mean 'baseline'?)"),
        ("SGD, 100 image", ["SGD, 100 images", "SGD, more images"], " (did you mean 'SGD, 100 images'?)"),
        ("SEDS", ["SEEDS", "SETTING"], " (did you mean 'SEEDS'?)"),
        ("adam", ["SGD", "Adam"], " (did you mean 'Adam'?)"),  # whatever the case
        ("steepest", ["baseline", "l2=1e-4"], ""),
        ("", ["baseline"], ""),
        (None, ["baseline"], ""),
        ("basline", [], ""),
    ],
)
def test_the_most_similar_name_is_suggested(received, names, hint):
    assert text.did_you_mean(received, names) == hint


def test_durations_and_sizes_have_units():
    assert [text.duration(seconds) for seconds in (89, 720, 5400)] == ["89 s", "12 min", "1.5 h"]
    assert [text.size(count) for count in (999, 531_000, 1.2e9)] == ["999 B", "531 kB", "1.2 GB"]
