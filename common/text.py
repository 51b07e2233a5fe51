"""Numbers and names as people and file systems read them. Standard library alone, also that of older Pythons."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

FOUND = "Found"
"""Label of the part of an experiment's docstring that is written from published rows."""


def without_found(docstring: str) -> str:
    """An experiment's docstring, or the text of its script, without the part `FOUND`."""
    return re.sub(rf"^{FOUND} .*\n?(?: {{9}}.*\n?)*", "", docstring, flags=re.MULTILINE)


def duration(seconds: float) -> str:
    """A duration with its unit: `89 s`, `12 min`, `1.5 h`."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """A number of bytes with its unit: `531 kB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def signed(value: float, form: str = "+.4f") -> str:
    """A difference with its sign; from 1,000 on without decimals."""
    return f"{value:+,.0f}" if abs(value) >= 1000 else format(value, form)


def interval(low: float, high: float, form: str = "+.4f") -> str:
    """The interval of a difference; `unbounded` if a bound is infinite."""
    return f"{signed(low, form)} to {signed(high, form)}" if math.isfinite(low + high) else "unbounded"


class Unit(NamedTuple):
    """How numbers of a metric are written in sentences."""

    quantity: str = ""
    """What is measured: `test accuracy`."""
    name: str = ""
    """Plural of the unit; empty for bare numbers, such as accuracies."""

    def amount(self, value: float) -> str:
        """An amount with its unit: `0.015`, `1 epoch`."""
        number = f"{value:,.12g}"
        one = number == "1" and len(self.name) > 2  # not s, ms
        return f"{number} {self.name.removesuffix('s') if one else self.name}".rstrip()

    def change(self, value: float, margin: float) -> str:
        """A difference with its sign and without the unit, to a tenth of the first digit of a margin."""
        if math.isinf(value):
            return "+∞" if value > 0 else "-∞"
        decimals = max(0, 1 - math.floor(math.log10(margin) + 1e-9))
        return f"{round(value, decimals) + 0.0:+,.{decimals}f}"  # not -0.000


def coverage(alpha: float) -> str:
    """The level 1 − α of an interval in percent, with two digits of α: `99 %`, `98.5 %`, `99.67 %`."""
    decimals = max(0, 1 - math.floor(math.log10(100 * alpha) + 1e-9))
    return f"{round(100 * (1 - alpha), decimals):.12g} %"


def seeds(count: int) -> str:
    """A number of seeds: `1 seed`, `5 seeds`."""
    return f"{count} seed{'s' if count != 1 else ''}"


def printable(text: str) -> str:
    """A text as one line: what would end it, or move a terminal's cursor, is written as `\\n`."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: match[0].encode("unicode_escape").decode(), text)


def file_name(arm: str) -> str:
    """An arm's name with `_` for characters that not every file system takes."""
    return "".join(c if c.isalnum() or c in "._=+-" else "_" for c in arm)


def two_digits(number: str) -> str:
    """A number as experiments have it: 03 for 3 and for 003."""
    return number.lstrip("0").zfill(2)


def number_of(experiment: str) -> str:
    """The number in an experiment's name: 03 for exp_03_l2."""
    return two_digits(experiment.split("_")[1])


def to_id(text: str) -> str:
    """A text in lower case, with a hyphen for each run of characters other than letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def listed(values: dict) -> str:
    """Values by name, as part of an arm's display name: `learning_rate=0.1, width=8`."""
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())


def did_you_mean(received: object, names: "Iterable[str]") -> str:
    """The most similar of the known names, to end an error about an unknown one: ` (did you mean 'baseline'?)`.

    Blank where no name is similar. Case makes no difference.
    """
    known = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(received).lower(), known, n=1)
    return f" (did you mean {known[near[0]]!r}?)" if near else ""
