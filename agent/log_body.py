"""A piece of a log on its way, as `wire` has it: an index of spans, then the raw bytes that they cover."""

from __future__ import annotations

import struct

STDOUT, STDERR = 1, 2
LogSpan = tuple[int, int, int, float]
_SPAN = struct.Struct("<QIBd")
_COUNT = struct.Struct("<I")


def pack_spans(spans: list[LogSpan]) -> bytes:
    """Index records as on disk, little-endian: offset u64, length u32, stream u8, unix seconds f64: 21 bytes."""
    return b"".join(_SPAN.pack(*span) for span in spans)


def unpack_spans(data: bytes) -> list[LogSpan]:
    """The records of `pack_spans`; a torn last record is left out."""
    whole = len(data) - len(data) % _SPAN.size
    return [(o, n, s, t) for o, n, s, t in _SPAN.iter_unpack(data[:whole])]


def pack_log(spans: list[LogSpan], data: bytes) -> bytes:
    """A log request's body: count u32, the spans, then the raw bytes they cover without a gap."""
    return b"".join((_COUNT.pack(len(spans)), pack_spans(spans), data))


def unpack_log(body: bytes) -> tuple[list[LogSpan], memoryview]:
    """Raises: ValueError when the spans do not cover exactly the bytes."""
    if len(body) < _COUNT.size:
        raise ValueError("log body too short")
    (count,) = _COUNT.unpack_from(body)
    start = _COUNT.size + count * _SPAN.size
    if start > len(body):
        raise ValueError("log index longer than the body")
    spans = unpack_spans(body[_COUNT.size : start])
    data = memoryview(body)[start:]
    if sum(span[1] for span in spans) != len(data):
        raise ValueError("log index does not cover the bytes")
    return spans, data
