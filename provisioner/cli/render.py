"""Tables and lines. Everything of ours goes to stderr, except what a command was asked to print."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_BARS = " ▁▂▃▄▅▆▇█"


def say(text: str) -> None:
    """A line of ours, on stderr."""
    with contextlib.suppress(OSError):  # a terminal that has gone is no reason to leave a job alone
        print(text, file=sys.stderr, flush=True)


def as_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be, two blanks apart."""
    cells = [tuple(head), *(tuple("" if one is None else str(one) for one in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ago(stamp: str | None) -> str:
    if not stamp:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def reason(value: dict[str, Any] | None) -> str:
    if not value or not value.get("why"):
        return ""
    return f"{value['why']}: {value['detail']}" if value.get("detail") else str(value["why"])


def usd(value: str | None, unknown: bool = False) -> str:
    if value is None:
        return "unknown"
    amount = float(value)
    shown = f"${amount:.4f}" if 0 < amount < 0.01 else f"${amount:.2f}"
    return f"{shown} and an unknown part" if unknown else shown


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The values as bars, thinned to `width`."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    thinned = [max(values[start : start + step]) for start in range(0, len(values), step)]
    top = max(thinned) or 1.0
    return "".join(_BARS[min(8, round(value / top * 8))] for value in thinned)
