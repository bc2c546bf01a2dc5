"""A log's index: one record a span, in the order of the bytes, without a gap.

Records are written whole or not at all. What power loss or an older release left otherwise (a torn record, and whole
ones out of step behind it) is `healed`: spans that cannot be read any more are told as one that covers their bytes.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.domain.ports import LogSpan

_SPAN = struct.Struct("<QIBd")  # offset, length, stream, unix seconds
_STREAMS = (1, 2)
SIZE = _SPAN.size


@dataclass(frozen=True, slots=True)
class Healed:
    """`spans` cover the first `size` bytes of the log; `prefix` when they are simply how the index begins."""

    spans: Sequence[LogSpan]
    size: int
    prefix: bool


def packed(spans: Sequence[LogSpan]) -> bytes:
    """Index records, 21 bytes each."""
    return b"".join(_SPAN.pack(s.offset, s.length, s.stream, s.at) for s in spans)


def unpacked(data: bytes) -> list[LogSpan]:
    """The spans of `packed`."""
    return [LogSpan(*one) for one in _SPAN.iter_unpack(data)]


def cut(spans: Sequence[LogSpan], start: int, end: int) -> list[LogSpan]:
    """The parts of `spans` within [start, end)."""
    cut = []
    for span in spans:
        first, last = max(span.offset, start), min(span.offset + span.length, end)
        if first < last:
            cut.append(LogSpan(first, last - first, span.stream, span.at))
    return cut


def write(index: int, records: int, spans: Sequence[LogSpan]) -> int:
    """Put `spans` behind `records` records; how many there are then. All of them are there, or none.

    Raises: OSError.
    """
    at, rest = records * SIZE, packed(spans)
    try:
        while rest:
            done = os.pwrite(index, rest, at)
            rest, at = rest[done:], at + done
    except OSError:
        os.ftruncate(index, records * SIZE)
        raise
    return records + len(spans)


def ends_well(index: int, stored: int) -> int | None:
    """The bytes that the index covers, where its end shows no damage beside `stored` bytes of log; else None."""
    size = os.fstat(index).st_size
    if size % SIZE:
        return None
    last = [_record(index, number) for number in range(max(0, size // SIZE - 2), size // SIZE)]
    if not all(_sound(span, stored) for span in last) or (len(last) == 2 and _end(last[0]) != last[1].offset):
        return None
    return _end(last[-1]) if last else 0


def healed(data: bytes, stored: int) -> Healed:
    """All of an index in which something is wrong, and `stored` bytes of log beside it."""
    spans: list[LogSpan] = []
    at = size = 0
    prefix = True
    while (found := _next(data, at, size, stored)) is not None:
        at, span = found
        if span.offset > size:
            prefix = False
            spans.append(LogSpan(size, span.offset - size, span.stream, span.at))
        spans.append(span)
        at, size = at + SIZE, _end(span)
    return Healed(spans, size, prefix)


def search(index: int, records: int, offset: int) -> int:
    """The number of the record that covers `offset`."""
    low, high = 0, records
    while low < high:
        middle = (low + high) // 2
        if _end(_record(index, middle)) <= offset:
            low = middle + 1
        else:
            high = middle
    return low


def _next(data: bytes, at: int, size: int, stored: int) -> tuple[int, LogSpan] | None:
    """The first record from `at` on that can be one, and where it is."""
    for place in range(at, len(data) - SIZE + 1):
        span = LogSpan(*_SPAN.unpack_from(data, place))
        if span.offset >= size and _sound(span, stored):
            return place, span
    return None


def _sound(span: LogSpan, stored: int) -> bool:
    return span.length > 0 and span.stream in _STREAMS and _end(span) <= stored and math.isfinite(span.at)


def _end(span: LogSpan) -> int:
    return span.offset + span.length


def _record(index: int, number: int) -> LogSpan:
    return LogSpan(*_SPAN.unpack(os.pread(index, SIZE, number * SIZE)))
