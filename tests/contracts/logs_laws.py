"""One test a law of the Logs port."""

from __future__ import annotations

import asyncio
import itertools
import random

from provisioner.domain.ports import Logs, LogSpan


def spans_of(offset: int, *lengths: int, stream: int = 1) -> list[LogSpan]:
    starts = itertools.accumulate(lengths, initial=offset)
    return [LogSpan(at, length, stream, 1.5) for at, length in zip(starts, lengths, strict=False)]


async def whole(logs: Logs, job: str = "j-1", number: int = 1, limit: int = 2**20) -> bytes:
    parts, offset = [], 0
    while True:
        spans, data = await logs.read(job, number, offset, limit)
        assert sum(span.length for span in spans) == len(data)
        if not data:
            return b"".join(parts)
        assert spans[0].offset == offset
        parts.append(data)
        offset += len(data)


async def settled(logs: Logs, size: int) -> None:
    async with asyncio.timeout(10):
        while (await logs.offsets("j-1", 1))[1] < size:  # noqa: ASYNC110  (what another task seals, seen from outside)
            await asyncio.sleep(0.01)


class LogsLaws:
    """Subclasses give `logs`, and `reopened`, which forgets everything that is not safe."""

    async def test_g1_resending_changes_nothing(self, logs: Logs) -> None:
        for _ in range(3):
            received, _ = await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
            assert received == 3
        assert await whole(logs) == b"abc"

    async def test_g1_an_overlap_is_cut(self, logs: Logs) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 4), b"abcd")
        received, _ = await logs.append("j-1", 1, 2, spans_of(2, 2, 3), b"cdefg")
        assert received == 7
        assert await whole(logs) == b"abcdefg"

    async def test_g1_a_gap_is_refused_with_the_offset_to_resume_from(self, logs: Logs) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
        received, _ = await logs.append("j-1", 1, 5, spans_of(5, 1), b"x")
        assert received == 3
        assert await whole(logs) == b"abc"

    async def test_g2_what_is_safe_survives(self, logs: Logs) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
        await settled(logs, 3)
        again = await self.reopened(logs)
        assert await again.offsets("j-1", 1) == (3, 3)
        assert await whole(again) == b"abc"

    async def test_g3_random_pieces_come_back_as_one(self, logs: Logs) -> None:
        chance = random.Random(7)
        data = chance.randbytes(300_000)
        offset = 0
        while offset < len(data):
            back = chance.randrange(0, min(offset, 5000) + 1)
            size = chance.randrange(1, 20_000)
            piece = data[offset - back : offset + size]
            offset, _ = await logs.append("j-1", 1, offset - back, spans_of(offset - back, len(piece)), piece)
        assert await whole(logs, limit=7777) == data

    async def test_g3_streams_are_told_apart(self, logs: Logs) -> None:
        await logs.append("j-1", 1, 0, [LogSpan(0, 2, 1, 1.0), LogSpan(2, 3, 2, 2.0)], b"ooeee")
        spans, _ = await logs.read("j-1", 1, 1)
        assert [(span.offset, span.length, span.stream) for span in spans] == [(1, 1, 1), (2, 3, 2)]

    async def test_attempts_are_apart(self, logs: Logs) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 1), b"a")
        await logs.append("j-1", 2, 0, spans_of(0, 1), b"b")
        assert (await whole(logs, number=1), await whole(logs, number=2)) == (b"a", b"b")
        await logs.delete("j-1", 1)
        assert (await whole(logs, number=1), await whole(logs, number=2)) == (b"", b"b")

    async def test_waiting_ends_when_there_is_more_or_time_is_over(self, logs: Logs) -> None:
        assert await logs.wait("j-1", 1, 0, 0.05) == 0
        waiting = asyncio.create_task(logs.wait("j-1", 1, 0, 10))
        await asyncio.sleep(0.02)
        await logs.append("j-1", 1, 0, spans_of(0, 1), b"a")
        assert await asyncio.wait_for(waiting, 5) == 1

    async def reopened(self, logs: Logs) -> Logs:
        raise NotImplementedError
