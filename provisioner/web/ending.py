"""Letting go of requests that only wait, so that a controller that ends does not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Ending:
    """`begin` is called once, when the listeners close; every `hold` then returns at once."""

    def __init__(self) -> None:
        self._held: set[asyncio.Task[object]] = set()
        self.begun = False

    @property
    def holding(self) -> int:
        """How many requests wait now."""
        return len(self._held)

    def begin(self) -> None:
        self.begun = True
        for task in list(self._held):
            task.cancel()

    async def hold(self, waiting: Awaitable[T]) -> T | None:
        """What `waiting` gives, or None once the end has begun."""
        task = asyncio.current_task()
        assert task is not None
        if self.begun:
            asyncio.ensure_future(waiting).cancel()
            return None
        self._held.add(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            if not self.begun:
                raise
            task.uncancel()
            return None
        finally:
            self._held.discard(task)
