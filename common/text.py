"""Formatting of numbers and names for display, and names for files and claims."""

import math
import re


def duration(seconds: float) -> str:
    """Seconds as text in a suitable unit, such as "45 s", "12 min" or "1.5 h"."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """A number of bytes as text in a suitable unit, such as "512 B" or "3 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def signed(value: float, form: str = "+.4f") -> str:
    """A difference with its sign: from 1000 on without decimals and with separators of thousands."""
    return f"{value:+,.0f}" if abs(value) >= 1000 else format(value, form)


def interval(low: float, high: float, form: str = "+.4f") -> str:
    """An interval of a difference, such as "+0.0120 to +0.0345", or "unbounded"."""
    return f"{signed(low, form)} to {signed(high, form)}" if math.isfinite(low + high) else "unbounded"


def seeds(count: int) -> str:
    """A number of seeds with its noun: "1 seed", "5 seeds"."""
    return f"{count} seed{'s' if count != 1 else ''}"


def printable(text: str) -> str:
    """A text as one line: what would end it, or move a terminal's cursor, is written as `\\n`."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: found[0].encode("unicode_escape").decode(), text)


def file_name(arm: str) -> str:
    """An arm's name with "_" for all characters but letters, digits and "._=+-"."""
    return "".join(c if c.isalnum() or c in "._=+-" else "_" for c in arm)


def to_id(text: str) -> str:
    """An identifier made of a text: its letters and digits in lower case, all else replaced by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def listed(values: dict) -> str:
    """Names and values as text, such as "l2=0.001, depth=3"."""
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
