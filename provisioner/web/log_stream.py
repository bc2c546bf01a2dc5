"""One job's log to one viewer: frames as they come, through all attempts, with bounded memory.

A frame is `HEADER` (stream u8, length u32, offset u64, attempt u32, unix seconds f64; little-endian) and `length`
bytes. Streams 1 and 2 are the job's output, 3 is JSON of ours: `{"ping": true}` or `{"end": true, "job": {...}}`.
A stream that stops without an end frame was cut: the viewer asks again from its offset.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from provisioner.domain.job import Job, JobPhase
from provisioner.domain.ports import LogSpan

from .services import Services
from .shape import plain

HEADER = struct.Struct("<BIQId")
CONTROL = 3
_READ = 2**20  # bytes read at once; arbitrary
_PING_S = 10.0
# How often the job is looked at while its log is still: soon after output, rarely after a long silence. Arbitrary.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 0.5
_SAME_MOMENT_S = 0.02  # spans of one stream this close together share a frame


@dataclass(frozen=True, slots=True)
class View:
    """What a viewer asked for. `number` is where to begin; `more` to go on to later attempts that exist."""

    number: int
    offset: int
    follow: bool
    more: bool = False


Part = tuple[int, Sequence[LogSpan], bytes]  # attempt, spans, their bytes


async def frames(services: Services, job: Job, view: View) -> AsyncIterator[bytes]:
    """The framed stream."""
    last_sent = services.clock.monotonic()
    async for part in _parts(services, job, view):
        now = services.clock.monotonic()
        if isinstance(part, Job):
            yield _control({"end": True, "job": plain(part)}, part.attempts, services)
        elif part is not None:
            yield _framed(*part)
        elif now - last_sent >= _PING_S:
            yield _control({"ping": True}, view.number, services)
        else:
            continue
        last_sent = now


async def text(services: Services, job: Job, view: View) -> AsyncIterator[bytes]:
    """The bytes alone."""
    async for part in _parts(services, job, view):
        if part is not None and not isinstance(part, Job):
            yield part[2]


async def _parts(services: Services, job: Job, view: View) -> AsyncIterator[Part | Job | None]:
    """Output as it is there, None now and then while there is none, and the job when it is done and all was sent."""
    number, offset = view.number, view.offset
    pause_s = _FIRST_PAUSE_S
    while True:
        before = offset
        async for part in _stored(services, job.id, number, offset):
            offset += len(part[2])
            yield part
        if job.attempts > number and (view.follow or view.more):
            number, offset = number + 1, 0
            continue
        if not view.follow:
            return
        if job.phase is JobPhase.DONE:
            yield job
            return
        pause_s = _FIRST_PAUSE_S if offset > before else min(pause_s * 1.5, _LAST_PAUSE_S)
        deadline = services.clock.monotonic() + pause_s
        while (left_s := deadline - services.clock.monotonic()) > 0:
            waiting = services.logs.wait(job.id, number, offset, left_s)
            size = await services.ending.hold(waiting)
            if size is None:
                return
            async for part in _stored(services, job.id, number, offset):
                offset += len(part[2])
                pause_s = _FIRST_PAUSE_S
                yield part
        yield None
        # Looked at before the log is read again: what was there when it was done is sent before the end.
        job = await services.store.jobs.get(job.id)


async def _stored(services: Services, job_id: str, number: int, offset: int) -> AsyncIterator[Part]:
    while True:
        spans, data = await services.logs.read(job_id, number, offset, _READ)
        if not data:
            return
        yield number, spans, data
        offset += len(data)


def _framed(number: int, spans: Sequence[LogSpan], data: bytes) -> bytes:
    """Neighbouring spans of one stream and one moment go as one frame: what is shown stays the same."""
    if not spans:
        return b""
    start = spans[0].offset
    pieces: list[bytes] = []
    stream, begun_at, first, size = spans[0].stream, spans[0].at, spans[0].offset, 0
    for span in spans:
        if span.stream != stream or abs(span.at - begun_at) > _SAME_MOMENT_S:
            pieces += (HEADER.pack(stream, size, first, number, begun_at), data[first - start : first - start + size])
            stream, begun_at, first, size = span.stream, span.at, span.offset, 0
        size += span.length
    pieces += (HEADER.pack(stream, size, first, number, begun_at), data[first - start : first - start + size])
    return b"".join(pieces)


def _control(message: dict[str, object], number: int, services: Services) -> bytes:
    body = json.dumps(message).encode()
    return HEADER.pack(CONTROL, len(body), 0, number, services.clock.now().timestamp()) + body
