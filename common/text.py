"""Numbers and names as people and file systems read them."""

import math
import re


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def signed(value: float, form: str = "+.4f") -> str:
    """A difference as people read it: in thousands without decimals."""
    return f"{value:+,.0f}" if abs(value) >= 1000 else format(value, form)


def interval(low: float, high: float, form: str = "+.4f") -> str:
    """Its interval, likewise."""
    return f"{signed(low, form)} to {signed(high, form)}" if math.isfinite(low + high) else "endless"


def seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def printable(text: str) -> str:
    """A text as one line: what would end it, or move a terminal's cursor, is written as `\\n`."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: found[0].encode("unicode_escape").decode(), text)


def file_name(arm: str) -> str:
    """An arm's name with what file systems dislike replaced."""
    return "".join(c if c.isalnum() or c in "._=+-" else "_" for c in arm)


def to_id(text: str) -> str:
    """Its letters and digits in lower case, with a hyphen for whatever stands between them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def listed(values: dict) -> str:
    """Values by name, as part of a display name."""
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
