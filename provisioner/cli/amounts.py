"""How people write durations, sizes and "at least": read here, once."""

from __future__ import annotations

import re

from .failures import CliError

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$", re.IGNORECASE)
_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def duration(value: object, what: str) -> float:
    """Seconds of `90`, `5m`, `8h`, `1h30m`. Raises: CliError."""
    from provisioner.domain.errors import InvalidRequest
    from provisioner.domain.span import parse_span

    try:
        return parse_span(value)
    except InvalidRequest as error:
        raise CliError(f"{what}: {error.message}", error.hint, 2) from error


def size(value: object, what: str) -> int:
    """Bytes of `10GiB`. Raises: CliError."""
    match = _SIZE.match(str(value).strip())
    if not match:
        raise CliError(f"{what}: {value!r} is not a size", "write 500MiB or 10GiB")
    return int(float(match[1]) * _BYTES[(match[2] or "").lower()])


def at_least(value: object, what: str) -> float:
    """`8`, `8+` or `>=8`. Raises: CliError."""
    text = str(value).strip().removeprefix(">=").removesuffix("+").strip()
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise CliError(f"{what}: {value!r} is not a number", "write 8 or 8+")
    return float(text)


def shown_size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def shown_span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(count: int, noun: str) -> str:
    """As in: 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
