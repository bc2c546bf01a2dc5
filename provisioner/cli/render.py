"""Tables and lines. Everything of ours goes to stderr, except what a command was asked to print."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .amounts import shown_size

_BARS = " ▁▂▃▄▅▆▇█"
_RED, _GREEN, _YELLOW, _BLUE = "31", "32", "33", "34"
_COLOURS = {
    "succeeded": _GREEN,
    "running": _BLUE,
    "queued": _YELLOW,
    "held": _YELLOW,
    **dict.fromkeys(("failed", "timed-out", "impossible", "over-budget", "expired"), _RED),
}
# What moves the cursor, changes colours, or turns the direction of writing; a lone surrogate cannot be printed at all.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("[\t\n]")
_REDRAW_S = 0.1


def say(text: str) -> None:
    """A line of ours, on stderr."""
    with contextlib.suppress(OSError):  # a terminal that has gone is no reason to leave a job alone
        print(plain(text), file=sys.stderr, flush=True)


def line(text: str) -> None:
    """What a command was asked to print, with text in it that came from elsewhere."""
    print(plain(text), flush=True)


def plain(text: str) -> str:
    """Without what a terminal would obey: that is written out."""
    return _CONTROL.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def as_json(value: object) -> None:
    print(json.dumps(value, indent=2))


@dataclass(frozen=True, slots=True)
class Coloured:
    """A word of ours, and the code of its colour."""

    word: str
    code: str

    def __str__(self) -> str:
        return f"\x1b[{self.code}m{self.word}\x1b[0m"


def state(word: str) -> str | Coloured:
    """A phase or outcome, coloured on a terminal unless NO_COLOR is set."""
    code = _COLOURS.get(word)
    if code is None or os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return plain(word)
    return Coloured(word, code)


class Progress:
    """How far something has come, in bytes, on a line of its own that is overwritten; on a terminal only."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._shown_s = time.monotonic()
        self._lock = threading.Lock()
        self._drawn = False
        self._on = sys.stderr.isatty()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now_s = time.monotonic()
            if self._on and now_s - self._shown_s >= _REDRAW_S:
                self._shown_s, self._drawn = now_s, True
                text = f"runner: {self._what} {shown_size(self._done)} of {shown_size(self._total)}"
                self._write(f"\r{text}\x1b[K")

    def end(self) -> None:
        """Take the line away again."""
        if self._drawn:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be, two blanks apart."""
    cells = [tuple(head), *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (f"{cell}{' ' * (width - _width(cell))}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())


def _cell(value: object) -> str | Coloured:
    if isinstance(value, Coloured):
        return value
    return "" if value is None else _BREAKS.sub(_written_out, plain(str(value)))


def _width(cell: str | Coloured) -> int:
    return len(cell.word if isinstance(cell, Coloured) else cell)


def ago(stamp: str | None) -> str:
    if not stamp:
        return ""
    return f"{lasted((datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())} ago"


def lasted(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def reason(value: dict[str, Any] | None) -> str:
    if not value or not value.get("why"):
        return ""
    why, detail = str(value["why"]), str(value.get("detail") or "")
    if detail == why or detail.startswith(f"{why} "):
        return detail
    return f"{why}: {detail}" if detail else why


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
