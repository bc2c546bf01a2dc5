"""How people write a duration: `90`, `5m`, `1h30m`."""

from __future__ import annotations

import re

from .errors import InvalidRequest

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
LONGEST_S = 3650 * 86400.0  # arbitrary: what lasts longer was not meant, and soon has no date any more
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def too_long(seconds: float) -> str:
    """What is wrong with a duration that is over the longest; "" where it is not."""
    return "" if seconds <= LONGEST_S else f"{seconds:g} s is over the longest duration, 10 years ({LONGEST_S:.0f} s)"


def parse_span(value: object) -> float:
    """Seconds. Raises: InvalidRequest."""
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(rf"(?:{_PART.pattern}\s*)+", text):
        raise InvalidRequest(f"{value!r} is not a duration", hint="write 90, 30s, 5m, 8h, 1h30m or 2d")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
