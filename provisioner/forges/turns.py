"""Work under one name at a time, and what has begun is ended even if nobody waits for it any more.

A registration that is given up half way would make its record while the next one under that name looks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


class Turns:
    def __init__(self) -> None:
        self._last: dict[str, asyncio.Task[object]] = {}

    async def run(self, name: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """What `work` returns or raises, once everything that was asked for under this name before has ended."""
        before = self._last.get(name)
        task = asyncio.ensure_future(_after(before, work))
        self._last[name] = task
        task.add_done_callback(lambda done: self._ended(name, task))
        return await asyncio.shield(task)

    def _ended(self, name: str, task: asyncio.Task[object]) -> None:
        if not task.cancelled():
            task.exception()  # who gave up waiting is told nothing, and nothing is said of it
        if self._last.get(name) is task:
            del self._last[name]

    async def close(self) -> None:
        while self._last:
            await asyncio.wait(self._last.values())


async def _after(before: asyncio.Task[object] | None, work: Callable[[], Awaitable[_T]]) -> _T:
    if before is not None:
        await asyncio.wait([before])
    return await work()
