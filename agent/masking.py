"""Secrets never reach a disk: every occurrence becomes `***` before anything is written.

A stream comes in pieces. What might be the beginning of a secret is held back until it is decided, so the result is the
same as masking the whole stream at once, wherever the pieces were cut.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from typing import Iterable, List

MASK = b"***"
SHORTEST = 6  # shorter values would mask half the log; they are refused at submission


def patterns(values: Iterable[str]) -> List[bytes]:
    """The values, each line of those with several, and their base64 and URL-quoted forms; longest first."""
    found = set()
    for value in values:
        raw = value.encode()
        forms = [raw, raw.strip(), *raw.splitlines()]
        forms += [base64.b64encode(raw), base64.urlsafe_b64encode(raw), urllib.parse.quote(value, safe="").encode()]
        found |= {form for form in forms if len(form) >= SHORTEST}
    return sorted(found, key=lambda form: (-len(form), form))


class Masker:
    """One stream. `feed` gives what may be written now; `flush` the rest, at the stream's end."""

    def __init__(self, forms: List[bytes]) -> None:
        self._forms = forms
        self._regex = re.compile(b"|".join(re.escape(form) for form in forms)) if forms else None
        self._longest = max((len(form) for form in forms), default=0)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        if self._regex is None:
            return data
        buffer = self._held + data
        out: List[bytes] = []
        position, cut = 0, self._undecided(buffer, 0)
        if any(form in buffer for form in self._forms):
            match = self._regex.search(buffer, position)
            while match is not None and match.start() < cut:
                out += (buffer[position : match.start()], MASK)
                position = match.end()
                if position > cut:
                    cut = self._undecided(buffer, position)
                match = self._regex.search(buffer, position)
        out.append(buffer[position:cut])
        self._held = buffer[cut:]
        return b"".join(out)

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return self._regex.sub(MASK, held) if self._regex is not None else held

    def _undecided(self, buffer: bytes, start: int) -> int:
        """Where the longest suffix begins that more bytes could turn into a secret."""
        tail = buffer[max(start, len(buffer) - self._longest + 1) :]
        best = 0
        for form in self._forms:
            for length in range(min(len(form) - 1, len(tail)), best, -1):
                if tail.endswith(form[:length]):
                    best = length
                    break
        return len(buffer) - best
