"""Registrations under way. A forge lets only so many be made in a minute, so that in a burst one can take longer than
an agent waits for an answer. It asks again and gets what came of the first: made anew each time, none would be in time.

Whose turn has not come is called when it has, first come first served, whether or not its agent asks just then.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from provisioner.domain.errors import ForgeThrottled, ForgeUnreachable
from provisioner.domain.forge import Registration
from provisioner.domain.ports import Clock

_LEAST_S = 1.0  # arbitrary: that a forge is left alone which asks for patience, however short


class Registering:
    """`patience_s` is how long one who asks is kept waiting, less than they would wait by themselves."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._under_way: dict[str, asyncio.Task[Registration]] = {}
        self._lines: dict[Hashable, _Line] = {}
        self._numbers = itertools.count()
        self._in_line: set[str] = set()

    async def run(
        self, name: str, where: Hashable, work: Callable[[], Coroutine[Any, Any, Registration]]
    ) -> Registration:
        """What comes of the `work` that has begun under this name, else of this. Once told, it is made anew for whoever
        asks again. Work that is throttled is done again when `where` it is to be done lets it, in the order of who
        asked first. Raises: ForgeError, also while it is not done."""
        if (task := self._under_way.get(name)) is None:
            doing = self._at_its_turn(name, where, work)
            task = self._under_way[name] = asyncio.create_task(doing, name=f"register {name}")
            task.add_done_callback(_looked_at)
        await asyncio.wait([task], timeout=self._patience_s)
        if not task.done() or task.cancelled():  # by `close`: whoever asked is not what was cancelled
            raise ForgeUnreachable(f"{name} is still being registered", hint="ask again")
        if self._under_way.get(name) is task:
            del self._under_way[name]
        return task.result()

    async def _at_its_turn(
        self, name: str, where: Hashable, work: Callable[[], Coroutine[Any, Any, Registration]]
    ) -> Registration:
        line = self._lines.setdefault(where, _Line(self._clock))
        number = next(self._numbers)
        while True:
            self._in_line.add(name)
            try:
                await line.turn(number)
            finally:
                self._in_line.discard(name)
            try:
                return await work()
            except ForgeThrottled as error:
                line.close_for(max(error.retry_after_s, _LEAST_S))

    def forget(self, name: str) -> None:
        """It is gone: what was made, and never told, is of no use, and who waits to be made needs no turn any more."""
        task = self._under_way.get(name)
        if task is not None and (task.done() or name in self._in_line):
            del self._under_way[name]
            task.cancel()

    async def close(self) -> None:
        """Nothing is lost: their rows say what was intended."""
        tasks: list[asyncio.Task[Any]] = [*self._under_way.values()]
        tasks += [line.opener for line in self._lines.values() if line.opener is not None]
        self._under_way = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """Those who were told to come later, in the order of their numbers, and those who come meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opens_s = 0.0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.opener: asyncio.Task[None] | None = None

    def close_for(self, seconds: float) -> None:
        self._opens_s = max(self._opens_s, self._clock.monotonic() + seconds)

    async def turn(self, number: int) -> None:
        """At once while it is open."""
        if self._left_s() <= 0:
            return
        called = self._waiting[number] = asyncio.get_running_loop().create_future()
        if self.opener is None:
            self.opener = asyncio.create_task(self._open())
        try:
            await called
        finally:
            del self._waiting[number]

    async def _open(self) -> None:
        while (left_s := self._left_s()) > 0:
            await self._clock.sleep(left_s)
        self.opener = None
        for _, called in sorted(self._waiting.items()):
            if not called.done():
                called.set_result(None)

    def _left_s(self) -> float:
        return self._opens_s - self._clock.monotonic()


def _looked_at(task: asyncio.Task[Registration]) -> None:
    """Who asks next is told; if nobody does, nothing is said of it."""
    if not task.cancelled():
        task.exception()
