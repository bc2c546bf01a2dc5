"""Secrets never reach a disk: every occurrence becomes `***` before anything is written.

A stream comes in pieces. What might be the beginning of a secret is held back until it is decided, so the result is the
same as masking the whole stream at once, wherever the pieces were cut. Where forms overlap, the leftmost is masked, and
of those that begin there the longest.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable

MASK = b"***"
SHORTEST = 6  # shorter values would mask half the log; they are refused at submission
_WRAP = 57  # bytes that base64(1) puts on a line. Source: base64(1), --wrap=76


def patterns(values: Iterable[str]) -> list[bytes]:
    """The values, each line of those with several, and their base64 and URL-quoted forms; longest first."""
    found = set()
    for value in values:
        raw = value.encode(errors="surrogateescape")
        if len(raw) < SHORTEST:
            continue
        forms = [raw, raw.strip(), *(line.strip() for line in raw.splitlines())]
        forms += _base64(raw) + _base64(raw + b"\n") + _quoted(raw)
        found |= {form for form in forms if len(form) >= SHORTEST}
    return sorted(found, key=lambda form: (-len(form), form))


def _base64(raw: bytes) -> list[bytes]:
    """In both alphabets, with and without padding; of what is long also the lines that base64(1) breaks it into."""
    whole = binascii.b2a_base64(raw, newline=False)
    forms = [whole, whole.rstrip(b"="), whole.translate(bytes.maketrans(b"+/", b"-_"))]
    forms.append(forms[-1].rstrip(b"="))
    if len(raw) > _WRAP:
        forms += [binascii.b2a_base64(raw[i : i + _WRAP], newline=False) for i in range(0, len(raw), _WRAP)]
    return forms


def _quoted(raw: bytes) -> list[bytes]:
    from urllib.parse import quote_from_bytes  # most attempts have no secrets, and start sooner without

    strict = quote_from_bytes(raw, "")
    return [form.encode() for form in (strict, strict.replace("%20", "+"), quote_from_bytes(raw))]


def _common(forms: list[bytes]) -> bytes:
    """What all of them begin with."""
    first, last = min(forms), max(forms)
    return first[: next((i for i, pair in enumerate(zip(first, last)) if pair[0] != pair[1]), len(first))]


class Masker:
    """One stream. `feed` gives what may be written now; `flush` the rest, at the stream's end."""

    def __init__(self, forms: list[bytes]) -> None:
        """`forms` longest first, each of at least `SHORTEST` bytes."""
        heads: dict[bytes, list[bytes]] = {}
        for form in forms:
            heads.setdefault(form[:SHORTEST], []).append(form)
        # One search finds all forms that begin alike, and a longer needle is found faster.
        self._groups = [(_common(alike), alike) for alike in heads.values()]
        self._regex = re.compile(b"|".join(map(re.escape, forms))) if forms else None
        self._forms = forms
        self._stubs = {head[:length] for head in heads for length in range(1, SHORTEST)}
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        if not self._forms:
            return data
        buffer = self._held + data
        masked, self._held = self._mask(buffer, self._undecided(buffer, 0))
        return masked

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return self._mask(held, len(held))[0] if held else held

    def _mask(self, buffer: bytes, cut: int) -> tuple[bytes, bytes]:
        """What is decided, masked, and what is not: all forms that begin before `cut` are whole."""
        if self._regex is None or not self._any(buffer):
            return buffer[:cut], buffer[cut:]
        out: list[bytes] = []
        position = 0
        for match in self._regex.finditer(buffer):
            if match.start() >= cut:
                break
            out += (buffer[position : match.start()], MASK)
            position = match.end()
            if position > cut:
                cut = self._undecided(buffer, position)
        out.append(buffer[position:cut])
        return b"".join(out), buffer[cut:]

    def _any(self, buffer: bytes) -> bool:
        """Several times as fast as the regular expression, and nearly always the end of it."""
        return any(form in buffer for head, alike in self._groups if head in buffer for form in alike)

    def _undecided(self, buffer: bytes, start: int) -> int:
        """Where the longest suffix of `buffer[start:]` begins that more bytes could turn into a form."""
        size = cut = len(buffer)
        for form in self._forms:
            at = buffer.find(form[:SHORTEST], max(start, size - len(form) + 1))
            while 0 <= at < cut:
                if form.startswith(buffer[at:]):
                    cut = at
                at = buffer.find(form[:SHORTEST], at + 1)
        if cut < size:
            return cut
        for length in range(min(SHORTEST - 1, size - start), 0, -1):
            if buffer[size - length :] in self._stubs:
                return size - length
        return size
