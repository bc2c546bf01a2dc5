"""Logs that several controllers share: sealed into the object store, the index of segments in the database.

What is not sealed yet is in memory, counts as received but not as safe, and is sent again by its agent when it is lost.
Two controllers that hold the same attempt both begin at its sealed end, so the key of the row lets only one seal it;
the other drops its tail and starts again from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from provisioner.domain.ports import LogSpan, Objects

from .log_index import cut, packed, unpacked
from .schema import segments
from .sql import Database

_SEAL_BYTES = 4 * 2**20
_SEAL_AFTER_S = 0.5  # arbitrary: how long output may wait for company before it is sealed
_LOOK_AGAIN_S = 0.5  # how often another controller's segments are looked for
_TAILS = 1024

Key = tuple[str, int]


@dataclass
class _Tail:
    """What was received beyond `base`, the sealed end."""

    base: int
    data: bytearray = field(default_factory=bytearray)
    spans: list[LogSpan] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timer: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        return self.base + len(self.data)


class SealedLogs:
    """The Logs port over a database and an object store."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._db = database
        self._objects = objects
        self._tails: dict[Key, _Tail] = {}
        self._grown: dict[Key, asyncio.Event] = {}

    async def append(
        self, job_id: str, number: int, offset: int, spans: Sequence[LogSpan], data: bytes | memoryview
    ) -> tuple[int, int]:
        key = (job_id, number)
        tail = await self._tail(key)
        async with tail.lock:
            skip = tail.size - offset
            if 0 <= skip < len(data):
                tail.spans += cut(spans, tail.size, offset + len(data))
                tail.data += memoryview(data)[skip:]
                self._wake(key)
            if len(tail.data) >= _SEAL_BYTES:
                await self._seal(key, tail)
            elif tail.data and (tail.timer is None or tail.timer.done()):
                tail.timer = asyncio.create_task(self._seal_later(key, tail))
            return tail.size, tail.base

    async def offsets(self, job_id: str, number: int) -> tuple[int, int]:
        tail = self._tails.get((job_id, number))
        end = await self._sealed_end((job_id, number)) if tail is None or not tail.data else tail.base
        return (max(end, tail.size), max(end, tail.base)) if tail else (end, end)

    async def read(self, job_id: str, number: int, offset: int = 0, limit: int = 2**20) -> tuple[list[LogSpan], bytes]:
        key = (job_id, number)
        tail = self._tails.get(key)
        if tail is not None and tail.base <= offset < tail.size:
            first = offset - tail.base
            data = bytes(tail.data[first : first + limit])
            return cut(tail.spans, offset, offset + len(data)), data
        row = await self._db.run(lambda c: c.execute(_covering(key, offset)).mappings().first())
        if row is None:
            return [], b""
        start, end = offset - row["offset"], min(offset - row["offset"] + limit, row["length"])
        data = b"".join([chunk async for chunk in self._objects.get(row["key"], start=start, end=end)])
        return cut(unpacked(row["spans"]), offset, offset + len(data)), data

    async def wait(self, job_id: str, number: int, beyond: int, timeout_s: float) -> int:
        key = (job_id, number)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            size, _ = await self.offsets(job_id, number)
            left_s = deadline - loop.time()
            if size > beyond or left_s <= 0:
                return size
            grown = self._grown.setdefault(key, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(grown.wait(), min(left_s, _LOOK_AGAIN_S))

    async def rest(self, job_id: str, number: int) -> None:
        """Nothing is open between two calls, and a tail that is sealed holds nothing."""

    async def delete(self, job_id: str, number: int) -> None:
        self._tails.pop((job_id, number), None)
        mine = (segments.c.job_id == job_id) & (segments.c.number == number)
        keys = await self._db.run(lambda c: list(c.scalars(select(segments.c.key).where(mine))))
        await self._objects.delete(keys)
        await self._db.run(lambda c: c.execute(delete(segments).where(mine)) and None)

    async def _tail(self, key: Key) -> _Tail:
        if key not in self._tails:
            base = await self._sealed_end(key)
            if len(self._tails) >= _TAILS:
                self._tails = {k: t for k, t in self._tails.items() if t.data}
            self._tails.setdefault(key, _Tail(base))
        return self._tails[key]

    async def _sealed_end(self, key: Key) -> int:
        query = select(func.max(segments.c.offset + segments.c.length)).where(
            segments.c.job_id == key[0], segments.c.number == key[1]
        )
        return int(await self._db.run(lambda c: c.scalar(query)) or 0)

    async def _seal_later(self, key: Key, tail: _Tail) -> None:
        await asyncio.sleep(_SEAL_AFTER_S)
        async with tail.lock:
            await self._seal(key, tail)

    async def _seal(self, key: Key, tail: _Tail) -> None:
        if not tail.data:
            return
        data, spans = bytes(tail.data), packed(tail.spans)
        name = f"logs/{key[0]}/{key[1]}/{tail.base:016d}-{secrets.token_hex(4)}"
        await self._objects.put(name, data)
        row: dict[str, Any] = {"job_id": key[0], "number": key[1], "offset": tail.base, "length": len(data)}
        try:
            statement = insert(segments).values(**row, spans=spans, key=name)
            await self._db.run(lambda c: c.execute(statement) and None)
            tail.base += len(data)
        except IntegrityError:  # another controller was first
            await self._objects.delete([name])
            tail.base = await self._sealed_end(key)
        tail.data.clear()
        tail.spans.clear()

    def _wake(self, key: Key) -> None:
        if grown := self._grown.pop(key, None):
            grown.set()


def _covering(key: Key, offset: int) -> Any:
    """The segment that holds the byte at `offset`."""
    return (
        select(segments)
        .where(
            segments.c.job_id == key[0],
            segments.c.number == key[1],
            segments.c.offset <= offset,
            segments.c.offset + segments.c.length > offset,
        )
        .limit(1)
    )
