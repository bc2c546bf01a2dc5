"""Registrations under way. A forge lets only so many be made in a minute, so that in a burst one can take longer than
an agent waits for an answer. It asks again and gets what came of the first: made anew each time, none would be in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from provisioner.domain.errors import ForgeUnreachable
from provisioner.domain.forge import Registration


class Registering:
    """`patience_s` is how long one who asks is kept waiting, less than they would wait by themselves."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._under_way: dict[str, asyncio.Task[Registration]] = {}

    async def run(self, name: str, work: Callable[[], Coroutine[Any, Any, Registration]]) -> Registration:
        """What comes of the `work` that has begun under this name, else of this. Once told, it is made anew for whoever
        asks again. Raises: ForgeError, also while it is not done."""
        if (task := self._under_way.get(name)) is None:
            task = self._under_way[name] = asyncio.create_task(work(), name=f"register {name}")
            task.add_done_callback(_looked_at)
        await asyncio.wait([task], timeout=self._patience_s)
        if not task.done() or task.cancelled():
            raise ForgeUnreachable(f"{name} is still being registered", hint="ask again")
        if self._under_way.get(name) is task:
            del self._under_way[name]
        return task.result()

    def forget(self, name: str) -> None:
        """It is gone: what was made, and never told, is of no use."""
        if (task := self._under_way.get(name)) is not None and task.done():
            del self._under_way[name]

    async def close(self) -> None:
        """Nothing is lost: their rows say what was intended."""
        tasks, self._under_way = list(self._under_way.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _looked_at(task: asyncio.Task[Registration]) -> None:
    """Who asks next is told; if nobody does, nothing is said of it."""
    if not task.cancelled():
        task.exception()
